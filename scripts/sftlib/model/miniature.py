"""Models with random weights: one of given sizes, and a small copy of a real one that speaks with its tokenizer.

In comes a folder with config.json and tokenizer; out goes a folder that every command takes for that model. The
architecture stays: activations, norms, biases, tied head, vocabulary, rotary kinds, which layers slide, queries to each
key head. Only the sizes shrink. No weight is read and no file but the folder's own.

    shrink({"model_type": "llama", "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3, ...})
    ->     {"model_type": "llama", "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, ...}

Worst bug: a miniature of another architecture than the model's, whose rehearsal proves nothing
(tests/model/test_miniature.py builds every family).
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError, first_line
from ..files import read_json
from .hub import TEXT
from .quiet import quiet

LAYERS = 2  # at least; as many as it takes to have every kind of layer
HEAD = 16  # numbers a head; even after a partial rotation of a quarter
WINDOW = 32  # of sliding attention, shorter than the rows, so that it does slide
VISION = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
OF_THE_WEIGHTS = ("config.json", "source.json")  # and *.index.json: what the miniature has of its own
CURE = "Train it without a rehearsal: make check, then make train SET=train.max_steps=2"


def write_miniature(source: Path, folder: Path, seed: int) -> Path:
    """Save a small random copy of the model described in `source` into `folder`, with the tokenizer of `source`.

    Raises ModelError when transformers does not know the architecture.
    """
    raw = read_json(source / "config.json")
    torch.manual_seed(seed)
    try:
        write_random_model(folder, shrink(raw))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        text = first_line(error)
        raise ModelError(
            f"No small copy of this {raw.get('model_type', 'nameless')} model can be made: {text}",
            where=str(source / "config.json"), expected="a causal language model that transformers knows", cure=CURE,
        ) from error  # fmt: skip
    copy_tokenizer(source, folder)
    return folder


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Give a model the tokenizer, template and generation config of another one."""
    for file in sorted(source.iterdir()):
        is_own = file.name in OF_THE_WEIGHTS or file.name.endswith(".index.json")
        if file.name.endswith(TEXT) and not is_own:
            shutil.copyfile(file, folder / file.name)


def write_random_model(folder: Path, numbers: dict[str, Any], device: str = "cpu") -> Path:
    """Save a model of these sizes with random weights in bfloat16, drawn on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet():
        config = AutoConfig.for_model(**numbers)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
    return folder


def shrink(raw: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a config.json, made small; what is no size stays."""
    small = {key: value for key, value in raw.items() if key != "quantization_config"}
    if "text_config" not in raw:
        return _shrink_decoder(small)
    small["text_config"] = _shrink_decoder(raw["text_config"])
    if "vision_config" in raw:
        small["vision_config"] = {**raw["vision_config"], **VISION}
    return small


def _shrink_decoder(raw: dict[str, Any]) -> dict[str, Any]:
    small = dict(raw)
    layers, heads, hidden = raw["num_hidden_layers"], raw["num_attention_heads"], raw["hidden_size"]
    kv_heads = raw.get("num_key_value_heads") or heads
    head = raw.get("head_dim") or hidden // heads
    kept = _layers_of_every_kind(raw, layers)
    for key, value in raw.items():
        if isinstance(value, list) and len(value) == layers:  # layer_types, no_rope_layers
            small[key] = value[:kept]
    small_kv = min(kv_heads, 2)
    small_heads = small_kv * (heads // kv_heads)
    small_hidden = _scaled(hidden, small_heads * HEAD / (heads * head), HEAD)
    sizes = {
        "num_hidden_layers": kept, "num_attention_heads": small_heads, "num_key_value_heads": small_kv,
        "head_dim": HEAD, "hidden_size": small_hidden, "max_window_layers": min(raw.get("max_window_layers", 0), kept),
        "intermediate_size": _scaled(raw.get("intermediate_size") or 4 * hidden, small_hidden / hidden, HEAD),
        "query_pre_attn_scalar": HEAD, "sliding_window": WINDOW,
    }  # fmt: skip
    small |= {key: size for key, size in sizes.items() if raw.get(key) is not None}
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(raw.get(key), dict):
            small[key] = _shrink_rotary(raw[key], head, raw)
    return small


def _layers_of_every_kind(raw: dict[str, Any], layers: int) -> int:
    """How many of the first layers hold every kind of layer that the lists of the config tell apart."""
    kept = min(LAYERS, layers)
    for value in raw.values():
        if isinstance(value, list) and len(value) == layers:
            kept = max(kept, *(value.index(kind) + 1 for kind in value))
    return kept


def _shrink_rotary(rotary: dict[str, Any], head: int, raw: dict[str, Any]) -> dict[str, Any]:
    """Long-context factors, one for each pair of rotated numbers, cut to the pairs of a small head."""
    share = rotary.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0
    pairs = int(head * share) // 2
    return {
        key: value[: int(HEAD * share) // 2] if isinstance(value, list) and len(value) == pairs else value
        for key, value in rotary.items()
    }


def _scaled(size: int, by: float, step: int) -> int:
    """A size, scaled and rounded up to a multiple of `step`."""
    return step * max(1, math.ceil(size * by / step))
