"""What Axolotl's keys are that are not converted: those that are refused, and those that are left out, with the reason.

From the config reference of Axolotl: src/axolotl/utils/schemas/ (config.py at 70be5461, peft.py at 00564c8f,
training.py at 002a637c, datasets.py at 07e83ab8, model.py at 04980d49, of 0.8 to 0.16). A key that neither these
tables nor axolotl.py know is reported as unknown.

Worst bug: a key in the wrong table: left out, though it changes what is learned (tests/config/converting/).
"""

from __future__ import annotations

from collections.abc import Mapping

_RL = ("this is no supervised fine-tuning.", "Train on the answers that are preferred, as an ordinary data set.")
_WEIGHTS = ("it trains other weights than the adapter.", "Take the line away to train the adapter alone.")
_ADAPTER = ("it is another kind of adapter.", "Take the line away for a plain LoRA.")
_UPDATE = ("it changes the update of the weights.", "Take the line away to train without it.")
_MODEL = ("it changes the model that is trained.", "Take the line away to train the model as it is.")
_ORDER = ("it changes which rows are seen when.", "Take the line away: rows come in a seeded random order.")
_LAYERS = ("only some layers would get an adapter.", "Name the modules with lora_target_modules.")

REFUSED: Mapping[str, tuple[str, str]] = {  # key -> why, what to do
    "rl": _RL, "reward_model": _RL, "process_reward_model": _RL, "trl": _RL, "orpo_alpha": _RL, "dpo_beta": _RL,
    "rl_beta": _RL, "rpo_alpha": _RL, "simpo_gamma": _RL, "cpo_alpha": _RL, "kto_desirable_weight": _RL,
    "kto_undesirable_weight": _RL, "diffusion": _RL,
    "num_labels": ("this is a classifier.", "Have the model answer with the name of the class."),
    "pretraining_dataset": ("pre-training is no supervised fine-tuning.", "Give questions and answers."),
    "processor_type": ("images and sound cannot be trained on here.", "Take a model of text and data of text."),
    "is_multimodal": ("images and sound cannot be trained on here.", "Take a model of text and data of text."),
    "image_size": ("images and sound cannot be trained on here.", "Take a model of text and data of text."),
    "lora_model_dir": (
        "it goes on with an adapter that is trained already.", "Merge that adapter, and name the merged model."
    ),
    "resume_from_checkpoint": (
        "a checkpoint of Axolotl cannot be gone on with.", "Finish there, or begin anew: take the line away."
    ),
    "lora_modules_to_save": _WEIGHTS, "unfrozen_parameters": _WEIGHTS, "peft_trainable_token_indices": _WEIGHTS,
    "lora_target_parameters": _WEIGHTS, "lora_on_norm": _WEIGHTS,
    "peft_use_dora": _ADAPTER, "peft_layer_replication": _ADAPTER, "relora": _ADAPTER, "relora_steps": _ADAPTER,
    "peft": _ADAPTER, "loftq": _ADAPTER,
    "peft_layers_to_transform": _LAYERS, "peft_layers_pattern": _LAYERS,
    "loraplus_lr_ratio": _UPDATE, "lr_groups": _UPDATE, "embedding_lr": _UPDATE, "embedding_lr_scale": _UPDATE,
    "neftune_noise_alpha": _UPDATE, "noisy_embedding_alpha": _UPDATE, "lisa_n_layers": _UPDATE,
    "optim_target_modules": _UPDATE, "label_smoothing_factor": _UPDATE, "use_eaft": _UPDATE,
    "use_pose": _MODEL, "s2_attention": _MODEL, "tokens": _MODEL, "added_tokens_overrides": _MODEL,
    "overrides_of_model_config": _MODEL, "overrides_of_model_kwargs": _MODEL, "reinit_weights": _MODEL,
    "gptq": _MODEL, "hqq": _MODEL, "qat": _MODEL, "quantization": _MODEL, "fp8": _MODEL, "nvfp4": _MODEL,
    "model_quantization_config": _MODEL, "mixture_of_depths": _MODEL, "llama4_linearized_experts": _MODEL,
    "curriculum_sampling": _ORDER, "dataset_shard_num": _ORDER, "sample_packing_sequentially": _ORDER,
}  # fmt: skip

_FASTER = "a faster kernel; the numbers stay"
_GPUS = "how several GPUs share the work: ACCELERATE=ddp, fsdp2, zero2 or zero3 (make help)"
_LOADING = "how the files of the data are read; that is found out here"
_DEVICE = "the device is chosen here: make check says which"
_EVAL = "make eval has its own settings, in the section eval"
_TRACKER = "no such tracker here: logging.backend is tensorboard or wandb"
_HUB = "nothing is sent to the hub"
_FILE_FORMAT = "adapters are always safetensors"
_GUARD = "a loss that is not finite always stops a run here"
_FAMILY = "found in the model's own files"
LEFT_OUT: Mapping[str, str] = {  # key, or the beginning of keys with a *
    "strict": "unknown keys are always errors", "model_type": _FAMILY, "tokenizer_type": _FAMILY,
    "is_falcon_derived_model": _FAMILY, "is_llama_derived_model": _FAMILY,
    "is_mistral_derived_model": _FAMILY, "is_qwen_derived_model": _FAMILY, "tokenizer_use_fast": _FAMILY,
    "tokenizer_legacy": _FAMILY, "cls_model_config": _FAMILY, "tokenizer_save_jinja_files": _FILE_FORMAT,
    "type_of_model": _FAMILY, "tokenizer_use_mistral_common": _FAMILY, "eot_tokens": "found in the chat template",
    "dataset_prepared_path": "what is prepared lies in data.prepared_dir", "dataset_processes": _LOADING,
    "dataset_num_proc": _LOADING, "dataset_keep_in_memory": _LOADING, "skip_prepare_dataset": _LOADING,
    "dataset_exact_deduplication": "rows that are equal are always counted and kept once",
    "dataloader_*": _LOADING, "remove_unused_columns": _LOADING, "preprocess_iterable": _LOADING,
    "push_dataset_to_hub": _HUB, "hub_*": _HUB, "hf_use_auth_token": "the token is that of `hf auth login`",
    "shuffle_merged_datasets": "training rows always come in a seeded random order",
    "shuffle_before_merging_datasets": "training rows always come in a seeded random order",
    "streaming*": _LOADING, "save_safetensors": _FILE_FORMAT,
    "save_only_model": "checkpoints can always be gone on with",
    "save_first_step": "checkpoints are saved at evaluations",
    "group_by_length": "rows of similar length are always put together", "min_sample_len": "short rows are kept",
    "eval_sequence_len": "as model.max_seq_len", "max_prompt_len": "of reinforcement learning",
    "pad_to_sequence_len": "what is padded is not computed where it can be left out",
    "pad_to_multiple_of": "what is padded is not computed where it can be left out",
    "eval_sample_packing": "the loss of an evaluation does not depend on packing", "multipack_real_batches": _FASTER,
    "sample_packing_group_size": _FASTER, "sample_packing_bin_size": _FASTER, "sample_packing_eff_est": _FASTER,
    "sample_packing_mp_start_method": _FASTER, "batch_flattening": "train.packing does the same",
    "total_num_tokens": "counted here", "total_supervised_tokens": "counted here",
    "flash_attn_*": _FASTER, "flash_optimum": _FASTER, "unsloth_*": "tuning.backend: unsloth has all of its kernels",
    "lora_mlp_kernel": _FASTER, "lora_qkv_kernel": _FASTER, "lora_o_kernel": _FASTER, "liger_*": _FASTER,
    "cut_cross_entropy": _FASTER, "use_kernels": _FASTER, "torch_compile*": _FASTER, "chunked_cross_entropy": _FASTER,
    "tiled_mlp*": _FASTER, "experts_implementation": _FASTER, "scaling_softmax": _FASTER, "tf32": _FASTER,
    "lora_embedding_kernel": _FASTER, "heads_k_stride": _GPUS, "ring_attn_func": _GPUS, "xformers_attention": _FASTER,
    "deepspeed": _GPUS, "fsdp*": _GPUS, "ddp*": _GPUS, "sequence_parallel_degree": _GPUS,
    "context_parallel_size": _GPUS,
    "tensor_parallel_size": _GPUS, "dp_shard_size": _GPUS, "dp_replicate_size": _GPUS, "accelerator_config": _GPUS,
    "world_size": _GPUS, "local_rank": _GPUS, "use_ray": _GPUS, "ray_*": _GPUS, "qlora_sharded_model_loading": _GPUS,
    "device": _DEVICE, "device_map": _DEVICE, "max_memory": _DEVICE, "gpu_memory_limit": _DEVICE,
    "low_cpu_mem_usage": _DEVICE, "lora_on_cpu": _DEVICE, "experimental_skip_move_to_device": _DEVICE,
    "auto_find_batch_size": "train.batch_size: auto", "gc_steps": _DEVICE, "bnb_config_kwargs": "4 bits are always nf4",
    "gradient_checkpointing_kwargs": "chosen here", "layer_offloading": "train.stream_layers",
    "eval_batch_size": "evaluations take train.batch_size; eval.batch_size is of make eval",
    "eval_table_size": _EVAL, "eval_max_new_tokens": _EVAL, "do_causal_lm_eval": _EVAL, "do_bench_eval": _EVAL,
    "eval_causal_lm_metrics": _EVAL, "bench_*": _EVAL, "lm_eval_*": _EVAL, "eval_on_start": _EVAL,
    "auto_resume_from_checkpoints": "train.resume: auto does that",
    "loss_watchdog_*": _GUARD, "profiler_*": "make profile", "include_tokens_per_second": "always measured",
    "include_tkps": "always measured", "use_otel_metrics": _TRACKER, "otel_*": _TRACKER, "mlflow_*": _TRACKER,
    "use_mlflow": _TRACKER, "comet_*": _TRACKER, "use_comet": _TRACKER, "gradio_*": "make infer",
    "swanlab_*": _TRACKER, "use_swanlab": _TRACKER, "trackio_*": _TRACKER, "use_trackio": _TRACKER,
    "wandb_project": "its name is taken from WANDB_PROJECT", "wandb_entity": "taken from WANDB_ENTITY",
    "wandb_name": "runs are named by run_name", "wandb_run_id": "runs are named by run_name",
    "wandb_watch": "gradients are not sent", "wandb_log_model": "models are not sent", "use_wandb": "see wandb_project",
    "wandb_mode": "taken from WANDB_MODE",
    "lora_fan_in_fan_out": _FAMILY, "loraplus_lr_embedding": "of loraplus_lr_ratio", "merge_lora": "make merge",
    "merge_method": "make merge", "peft_autocast_adapter_dtype": "the adapter is always in 32 bits",
    "peft_ensure_weight_tying": "the head gets no adapter", "mean_resizing_embeddings": "no tokens are added",
    "resize_token_embeddings_to_32x": "no tokens are added", "shrink_embeddings": "no tokens are added",
    "fix_untrained_tokens": "no tokens are added", "embeddings_skip_upcast": _FASTER, "vllm": "nothing is sampled",
    "kto_*": "of reinforcement learning", "dpo_*": "of reinforcement learning", "is_preprocess": "of the tool itself",
    "preprocess_shards": _LOADING, "cloud*": "of the tool itself", "axolotl_config_path": "of the tool itself",
    "pretrain_multipack_*": "of pre-training", "pretraining_sample_concatenation": "of pre-training",
    "pose_*": "of use_pose", "relora_*": "of relora", "jagged_restart_*": "of relora", "torchdistx_path": _FASTER,
    "base_model_ignore_patterns": _LOADING, "debug": "--debug", "seed_offset": "see seed",
}  # fmt: skip

DATASET_REFUSED: Mapping[str, tuple[str, str]] = {
    "logprobs_field": ("distillation is no supervised fine-tuning.", "Train on the answers alone."),
    "temperature": ("distillation is no supervised fine-tuning.", "Train on the answers alone."),
    "shards": ("only one of several parts would be read.", "Cut the files, or set max_rows for the data set."),
    "revision": ("the newest revision of a data set is read.", "Fetch that revision, and give its folder."),
    "message_field_training_detail": (
        "it trains parts of a message.", "Split the message into several, and mark those with train: false."
    ),
    "field_tools": ("tool definitions are not put into the text.", "Put them into the system message of each row."),
    "field_thinking": ("thinking is read from reasoning_content only.", "Rename the field in the data."),
    "template_thinking_key": ("thinking is read from reasoning_content only.", "Rename the field in the data."),
    "drop_system_message": ("system messages are kept.", "Take them out of the data."),
    "input_transform": ("rows are not rewritten by code.", "Rewrite them, and give the new file."),
    "images": ("images and sound cannot be trained on here.", "Take data of text."),
}  # fmt: skip
DATASET_LEFT_OUT: Mapping[str, str] = {
    "ds_type": "what a file holds is decided by what is in it", "trust_remote_code": "no code of a data set is run",
    "shards_idx": "of shards", "preprocess_shards": _LOADING, "split_thinking": "the template splits it, if any does",
    "input_format": _LOADING, "field": "of raw text", "skip": _LOADING, "text_column": "of raw text",
}  # fmt: skip
