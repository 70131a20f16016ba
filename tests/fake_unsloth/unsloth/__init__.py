"""A stand-in for unsloth 2026.10.9 that trains on a CPU: its signatures, and what it does to the models it hands out.

It is put on the path by the tests of the unsloth backend (tests/model/test_unsloth.py holds its signatures against the
recorded ones, and against the real source where that is installed). FAKE_UNSLOTH in the environment says how it fails.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import warnings

__version__ = "2026.10.9"
FAULT = os.environ.get("FAKE_UNSLOTH", "")
HAS_XFORMERS = importlib.util.find_spec("xformers") is not None  # as its models/_utils.py finds out
CALLS: list[tuple[str, dict]] = []

if late := [name for name in ("trl", "transformers", "peft") if name in sys.modules]:
    warnings.warn(f"WARNING: Unsloth should be imported before [{', '.join(late)}] to ensure ...", stacklevel=2)
if FAULT == "no accelerator":
    raise NotImplementedError("Unsloth cannot find any torch accelerator? You need a GPU.")
if FAULT == "no torchvision":
    raise ImportError("Unsloth: torchvision is not installed.\nPlease install it.")
if FAULT == "crash":
    sys.stderr.write("Segmentation fault in a kernel\n")
    sys.stderr.flush()
    os._exit(139)
print("Unsloth: Will patch your computer to enable 2x faster free finetuning.")


class FastLanguageModel:
    @staticmethod
    def from_pretrained(
        model_name="unsloth/Llama-3.2-1B-Instruct", max_seq_length=2048, dtype=None, load_in_4bit=True,
        load_in_8bit=False, load_in_16bit=False, full_finetuning=False, token=None, device_map="sequential",
        device_map_planner_kwargs=None, rope_scaling=None, fix_tokenizer=True, trust_remote_code=False,
        use_gradient_checkpointing="unsloth", resize_model_vocab=None, revision=None, use_exact_model_name=False,
        offload_embedding="auto", float32_mixed_precision=None, fast_inference=False, gpu_memory_utilization=0.5,
        float8_kv_cache=False, random_state=3407, max_lora_rank=64, disable_log_stats=True, qat_scheme=None,
        load_in_fp8=False, unsloth_tiled_mlp=False, text_only=False, *args, on_model_resolved=None, **kwargs,
    ):  # fmt: skip
        CALLS.append(("from_pretrained", {**locals()}))
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

        print("==((====))==  Unsloth 2026.10.9: Fast Llama patching.")
        if FAULT == "refuses":
            raise RuntimeError("Unsloth: llama4 is not supported yet!\nMore words.")
        if FAULT == "no room":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if not use_exact_model_name or FAULT == "renames":
            model_name = "unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit"
        if on_model_resolved is not None:
            on_model_resolved(model_name)
        if FAULT == "renames":
            model_name = CALLS[-1][1]["model_name"]
        if load_in_4bit and FAULT != "16 bits":
            quant_type = "fp4" if FAULT == "fp4" else "nf4"
            kwargs["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type=quant_type, bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )  # fmt: skip
        dtype = torch.float16 if FAULT == "float16" else dtype
        weights = torch.float32 if full_finetuning and float32_mixed_precision else dtype
        model = AutoModelForCausalLM.from_pretrained(model_name, dtype=weights, **kwargs)
        if FAULT == "grows":
            model.resize_token_embeddings(model.config.vocab_size + 8, mean_resizing=False)
        model.config.model_name = model_name
        model.config.update({"unsloth_version": __version__})
        model.generation_config.update(max_length=model.config.max_position_embeddings)
        if full_finetuning and FAULT == "freezes":
            model.get_input_embeddings().weight.requires_grad_(False)
        _patch_trainer()
        _patch_generate(model)
        if use_gradient_checkpointing:
            _checkpoint(model)
        return model, AutoTokenizer.from_pretrained(model_name, local_files_only=True)

    @staticmethod
    def get_peft_model(
        model, r=16, target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        lora_alpha=16, lora_dropout=0.0, bias="none", layers_to_transform=None, layers_pattern=None,
        finetune_last_n_layers=None, use_gradient_checkpointing="unsloth", random_state=3407, max_seq_length=2048,
        use_rslora=False, modules_to_save=None, init_lora_weights=True, loftq_config={},  # noqa: B006
        temporary_location="_unsloth_temporary_saved_buffers", qat_scheme=None, target_parameters=None,
        ensure_weight_tying=None, offload_layers=None, checkpoint_skip_layers=0, **kwargs,
    ):  # fmt: skip
        CALLS.append(("get_peft_model", {**locals()}))
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import set_seed

        set_seed(random_state)
        settings = LoraConfig(
            r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules, bias=bias,
            use_rslora=use_rslora, task_type="CAUSAL_LM",
        )  # fmt: skip
        model = get_peft_model(model, settings)
        model.peft_config["default"].auto_mapping = {"unsloth_fixed": True}
        if use_gradient_checkpointing:
            _checkpoint(model.get_base_model())
        for name, weight in model.named_parameters():
            if FAULT == "coarse" and ".lora_A." in name:
                weight.data = weight.data.to(torch.bfloat16)
            if FAULT == "trains a norm" and name.endswith("norm.weight"):
                weight.requires_grad_(True)
            if FAULT == "step" and ".lora_B." in name:
                weight.register_hook(lambda gradient: gradient * float("nan"))
        if FAULT == "compiler":
            model.register_forward_pre_hook(_no_compiler)
        return model


def _no_compiler(*_):
    raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")


def _checkpoint(model):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()

    def must_be_on(module, args):
        if module.training and not any(vars(part).get("gradient_checkpointing") for part in module.modules()):
            raise RuntimeError("a training step without the checkpointing that was asked for")

    model.register_forward_pre_hook(must_be_on)


def _patch_generate(model):
    """As unsloth_fast_generate: checkpointing off, and on again only where training was going on."""

    def generate(self, *args, **kwargs):
        for module in self.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
        kwargs["pad_token_id"] = kwargs.pop("pad_token_id", self.config.eos_token_id)
        return self._old_generate(*args, **kwargs)

    model._old_generate = model.generate
    model.generate = types.MethodType(generate, model)


def _patch_trainer():
    """As its get_batch_samples where a forward has no **kwargs: the tokens of the step are not counted."""
    from transformers import Trainer

    original = Trainer.get_batch_samples
    Trainer.get_batch_samples = lambda self, *args, **kwargs: (original(self, *args, **kwargs)[0], None)
