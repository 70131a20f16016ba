"""What LLaMA-Factory's keys are that are not converted: those that are refused, and those that are left out.

From its arguments: src/llamafactory/hparams/ (data_args.py at 072bfe29, finetuning_args.py and model_args.py at
00577a85; generating_args.py and training_args.py as of 0.9.5), and transformers.TrainingArguments. A key that neither
these tables nor llamafactory.py know is reported as unknown.

Worst bug: a key in the wrong table: left out, though it changes what is learned (tests/config/converting/).
"""

from __future__ import annotations

from collections.abc import Mapping

_WEIGHTS = ("it trains other weights than the adapter.", "Take the line away to train the adapter alone.")
_ADAPTER = ("it is another kind of adapter.", "Take the line away for a plain LoRA.")
_UPDATE = ("it changes the update of the weights.", "Take the line away to train without it.")
_MODEL = ("it changes the model that is trained.", "Take the line away to train the model as it is.")
_IMAGES = ("images and sound cannot be trained on here.", "Take a model of text and data of text.")

REFUSED: Mapping[str, tuple[str, str]] = {  # key -> why, what to do
    "adapter_name_or_path": (
        "it goes on with an adapter that is trained already.", "Merge that adapter, and name the merged model."
    ),
    "export_dir": ("this is a config for merging.", "Merge here with make merge."),
    "resume_from_checkpoint": (
        "a checkpoint of LLaMA-Factory cannot be gone on with.", "Finish there, or begin anew: take the line away."
    ),
    "eval_dataset": (
        "rows for evaluation come from the same data sets here.",
        "Say val_size instead; or `make process` those rows elsewhere, and name them with data.val_path.",
    ),
    "additional_target": _WEIGHTS, "use_llama_pro": _WEIGHTS,
    "use_dora": _ADAPTER, "pissa_init": _ADAPTER, "use_galore": _UPDATE, "use_apollo": _UPDATE, "use_badam": _UPDATE,
    "use_adam_mini": _UPDATE, "use_muon": _UPDATE, "use_dft_loss": _UPDATE, "use_asft_loss": _UPDATE,
    "use_eaft_loss": _UPDATE, "loraplus_lr_ratio": _UPDATE, "neftune_noise_alpha": _UPDATE,
    "label_smoothing_factor": _UPDATE, "use_adaclip": _UPDATE,
    "mixture_of_depths": _MODEL, "shift_attn": _MODEL, "rope_scaling": _MODEL, "train_from_scratch": _MODEL,
    "resize_vocab": _MODEL, "add_tokens": _MODEL, "add_special_tokens": _MODEL, "new_special_tokens_config": _MODEL,
    "moe_aux_loss_coef": _MODEL, "fp8": _MODEL, "reward_model": _MODEL, "split_special_tokens": _MODEL,
    "disable_shuffling": ("rows come in a seeded random order.", "Take the line away."),
    "image_max_pixels": _IMAGES, "image_min_pixels": _IMAGES, "video_max_pixels": _IMAGES, "video_min_pixels": _IMAGES,
    "video_fps": _IMAGES, "video_maxlen": _IMAGES, "audio_sampling_rate": _IMAGES, "use_audio_in_video": _IMAGES,
    "image_do_pan_and_scan": _IMAGES, "crop_to_patches": _IMAGES,
}  # fmt: skip

_FASTER = "a faster kernel; the numbers stay"
_GPUS = "how several GPUs share the work: ACCELERATE=ddp, fsdp2, zero2 or zero3 (make help)"
_LOADING = "how the files of the data are read; that is found out here"
_EVAL = "make eval has its own settings, in the section eval"
_INFER = "make infer has its own settings, in the section infer"
_RL = "of reinforcement learning"
_HUB = "nothing is sent to the hub"
_TRACKER = "no such tracker here: logging.backend is tensorboard or wandb"
_CHOSEN = "chosen here: make check says how"
LEFT_OUT: Mapping[str, str] = {  # key, or the beginning of keys with a *
    "do_train": "make train", "do_eval": "evaluations while training: train.eval_strategy", "do_predict": "make eval",
    "predict_with_generate": _EVAL, "compute_accuracy": _EVAL, "eval_num_beams": _EVAL, "eval_on_start": _EVAL,
    "eval_on_each_dataset": _EVAL, "eval_accumulation_steps": _EVAL, "eval_delay": _EVAL,
    "per_device_eval_batch_size": "evaluations take train.batch_size; eval.batch_size is of make eval",
    "batch_eval_metrics": _EVAL, "prediction_loss_only": _EVAL,
    "overwrite_cache": "what is cached is known by its contents", "preprocessing_*": _LOADING, "dataloader_*": _LOADING,
    "streaming": _LOADING, "buffer_size": _LOADING, "data_shared_file_system": _LOADING, "media_dir": _LOADING,
    "tokenized_path": "what is prepared lies in data.prepared_dir", "cache_dir": "models lie in model.local_dir",
    "remove_unused_columns": _LOADING, "ignore_pad_token_for_loss": "padding is never trained",
    "overwrite_output_dir": "a finished run is never overwritten; FRESH=1 trains beside it",
    "plot_loss": "TensorBoard shows the curves", "ddp_*": _GPUS, "deepspeed": _GPUS, "fsdp*": _GPUS,
    "local_rank": _GPUS, "ray_*": _GPUS, "use_ray": _GPUS, "master_*": _GPUS, "placement_strategy": _GPUS,
    "include_num_input_tokens_seen": "always counted", "include_effective_tokens_per_second": "always measured",
    "include_tokens_per_second": "always measured", "save_only_model": "checkpoints can always be gone on with",
    "save_safetensors": "adapters are always safetensors", "save_on_each_node": _GPUS, "data_seed": "see seed",
    "full_determinism": "two runs of a seed are the same on a CPU", "tf32": _FASTER, "use_cpu": _CHOSEN,
    "low_cpu_mem_usage": _CHOSEN, "use_fast_tokenizer": _CHOSEN, "enable_liger_kernel": _FASTER,
    "use_unsloth_gc": "train.activation_offload", "use_reentrant_gc": _CHOSEN, "gradient_checkpointing_kwargs": _CHOSEN,
    "gradient_checkpointing": "LLaMA-Factory goes by disable_gradient_checkpointing", "upcast_layernorm": _CHOSEN,
    "upcast_lmhead_output": _CHOSEN, "auto_find_batch_size": "train.batch_size: auto", "use_v1_kernels": _FASTER,
    "torch_compile*": _FASTER, "torch_empty_cache_steps": _CHOSEN,
    "group_by_length": "rows are always grouped by length",
    "infer_*": _INFER, "vllm_*": _INFER, "sglang_*": _INFER, "use_kv_cache": _INFER, "offload_folder": _INFER,
    "temperature": _INFER, "top_p": _INFER, "top_k": _INFER, "num_beams": _INFER, "max_length": _INFER,
    "max_new_tokens": _INFER, "do_sample": _INFER, "repetition_penalty": _INFER, "length_penalty": _INFER,
    "skip_special_tokens": _INFER, "export_*": "make merge", "quantization_method": "bitsandbytes holds 4 bits here",
    "double_quantization": "always done", "quantization_device_map": _CHOSEN, "quantization_type": "always nf4",
    "hf_hub_token": "the token is that of `hf auth login`", "ms_hub_token": _HUB, "om_hub_token": _HUB,
    "hub_*": _HUB, "push_to_hub*": _HUB, "print_param_status": "make check", "logging_dir": "outputs/tb",
    "logging_first_step": "see train.logging_steps", "logging_strategy": "see train.logging_steps",
    "log_level*": "--debug",
    "logging_nan_inf_filter": "a loss that is not finite always stops a run here", "disable_tqdm": "found out here",
    "swanlab_*": _TRACKER, "use_swanlab": _TRACKER, "trackio_*": _TRACKER, "project": _TRACKER,
    "freeze_trainable_*": "of finetuning_type freeze", "freeze_extra_modules": "of finetuning_type freeze",
    "oft_*": "of finetuning_type oft", "module_dropout": "of finetuning_type oft", "pissa_*": "of pissa_init",
    "freeze_vision_tower": "of images", "freeze_multi_modal_projector": "of images",
    "freeze_language_model": "of images",
    "create_new_adapter": "of adapter_name_or_path", "adapter_folder": "of adapter_name_or_path",
    "loraplus_lr_embedding": "of loraplus_lr_ratio", "galore_*": "of use_galore", "apollo_*": "of use_apollo",
    "badam_*": "of use_badam", "init_special_tokens": "no tokens are added", "adaclip_*": "of use_adaclip",
    "pref_*": _RL, "dpo_*": _RL, "kto_*": _RL, "simpo_*": _RL, "ppo_*": _RL, "ref_model*": _RL, "reward_model_*": _RL,
    "ld_alpha": _RL, "use_mca": _GPUS, "tool_format": "tool definitions are not put into the text",
    "quantization_calib*": _CHOSEN, "use_modelscope_hub": "models come from the Hugging Face hub",
    "fp16_*": _CHOSEN, "bf16_full_eval": _CHOSEN, "half_precision_backend": _CHOSEN, "jit_mode_eval": _CHOSEN,
    "preserve_thinking": "of a template with thinking",
}  # fmt: skip
