"""The LoRA adapter on a base: which layers get one, attaching it, and loading it back.

In comes a loaded base (plain or 4-bit) and the LoRA section; out goes a `PeftModel` whose adapter weights are float32.
Layers are found in the module tree, never by the model's name: a linear layer is one that is an `nn.Linear` (the 4-bit
ones of bitsandbytes are, too) or GPT-2's `Conv1D`. Saving is the business of tuned.py, folding in that of merge.py.

    find_target_modules(llama, "attn")  ->  ["k_proj", "o_proj", "q_proj", "v_proj"]

Worst bug: a layer that was asked for and gets no adapter, without a word (tests/model/test_adapters.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .. import console
from ..config.schema import LoraSection
from ..errors import ConfigError, MixError, ModelError
from ..files import read_json
from .kind import kind_of
from .offloading import offload_checkpoints

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ROUTERS = ("gate", "router")  # of mixture-of-experts layers: which expert answers, no part of attention or MLP


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter folder says about itself, read without loading weights.

    `scaling` is the factor before B @ A: alpha / r, or alpha / sqrt(r) for rank-stabilised adapters.
    """

    folder: Path
    base_name: str
    r: int
    alpha: float
    use_rslora: bool
    fan_in_fan_out: bool
    target_modules: tuple[str, ...]

    @property
    def scaling(self) -> float:
        return self.alpha / (self.r**0.5 if self.use_rslora else self.r)


def find_target_modules(model: nn.Module, spec: str | list[str]) -> list[str]:
    """Names that pick exactly the layers which `spec` means: short endings if they suffice, whole paths otherwise.

    Args:
        spec: `attn` (linear layers inside an attention module), `attn_mlp` (linear layers of the repeated blocks,
            routers left out), `all-linear` or `auto` (every linear layer but the output head), or a list of endings.
    """
    linear = _linear_layers(model)
    head = _head_name(model)
    if isinstance(spec, list):
        chosen = _named(model, linear, head, spec)
    elif spec == "attn":
        chosen = {name for name in linear if name != head and _is_in_attention(model, name)}
    elif spec == "attn_mlp":
        chosen = {name for name in linear if name != head and _is_in_block(model, name) and _leaf(name) not in ROUTERS}
    else:
        chosen = linear - {head}
    if not chosen:
        raise ConfigError(
            f"{type(model).__name__} has no layer that `{spec}` means.", where="tuning.lora.target_modules",
            expected=f"one of its linear layers: {', '.join(sorted({_leaf(n) for n in linear})) or 'it has none'}",
            cure="Name the layers in a list.",
        )  # fmt: skip
    endings = sorted({_leaf(name) for name in chosen})
    picked = {name for name, _ in model.named_modules() if any(_ends_with(name, ending) for ending in endings)}
    return endings if picked == chosen else sorted(chosen)


def attach_adapter(model: PreTrainedModel, lora: LoraSection, *, seed: int) -> PeftModel:
    """Freeze the base and put a fresh adapter on it: A random by `seed`, B zero, so that nothing changes at first."""
    from peft import LoraConfig, get_peft_model

    from .fused import fuse

    targets = find_target_modules(model, lora.target_modules)
    has_conv1d = any(
        type(m).__name__ == "Conv1D" for n, m in model.named_modules() if any(_ends_with(n, t) for t in targets)
    )
    settings = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_rslora=lora.use_rslora,
        target_modules=targets, fan_in_fan_out=has_conv1d, bias="none",
        task_type=kind_of(model.config.to_dict()).task_type,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, settings, autocast_adapter_dtype=True)
    _leave_casts_to_autocast(adapted)
    fuse(adapted)
    trainable, total = adapted.get_nb_trainable_parameters()
    layers = sum(1 for name, _ in adapted.named_parameters() if name.endswith("lora_A.default.weight"))
    console.note(
        f"Adapter of rank {lora.r} on {layers} linear layers ({', '.join(sorted({_leaf(t) for t in targets}))}): "
        f"{trainable:,} trainable of {total:,} parameters ({trainable / total:.2%})."
    )
    return adapted


def enable_gradient_checkpointing(model: PreTrainedModel | PeftModel, *, offload: bool = False) -> None:
    """Recompute activations in the backward pass, block by block (non-reentrant).

    offload: the input of each block, which is all that is stored, waits in pinned main memory (offloading.py).
    The inputs of a frozen base need no gradient by themselves; they are made to, so that no block is skipped.
    """
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if offload:
        offload_checkpoints(model)
    if not model.get_input_embeddings().weight.requires_grad:
        model.enable_input_require_grads()


def read_adapter_info(folder: str | Path) -> AdapterInfo:
    """Read an adapter's settings. ModelError when it is missing, MixError never: the base is not looked at here."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        what = "is no adapter folder: it has no adapter_config.json" if folder.is_dir() else "does not exist"
        raise ModelError(
            f"The adapter {folder} {what}.", where=str(folder), expected=f"a folder with {CONFIG} and {WEIGHTS}",
            cure="Run `make train` first, or name another adapter. The base model is never taken in its place.",
        )  # fmt: skip
    if not (folder / WEIGHTS).is_file():
        found = "only pickled weights, which are never loaded" if list(folder.glob("*.bin")) else "no weights"
        raise ModelError(
            f"The adapter {folder} has {found}.", where=str(folder), expected=WEIGHTS,
            cure="Train or download it again.",
        )  # fmt: skip
    settings = read_json(folder / CONFIG)
    targets = settings.get("target_modules") or ()
    return AdapterInfo(
        folder=folder,
        base_name=settings.get("base_model_name_or_path") or "",
        r=settings.get("r", 0),
        alpha=settings.get("lora_alpha", 0),
        use_rslora=bool(settings.get("use_rslora")),
        fan_in_fan_out=bool(settings.get("fan_in_fan_out")),
        target_modules=tuple([targets] if isinstance(targets, str) else sorted(targets)),
    )


def load_adapter(base: PreTrainedModel, folder: str | Path, *, trainable: bool = False) -> PeftModel:
    """Put a saved adapter on its base. MixError when its shapes are those of another base."""
    from peft import PeftModel

    from .fused import fuse

    info = read_adapter_info(folder)
    _check_shapes(base, info)
    model = PeftModel.from_pretrained(
        base, str(folder), is_trainable=trainable, autocast_adapter_dtype=True, local_files_only=True
    )
    fuse(model)
    return model


def lora_pairs(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Layer path in the base -> names of its A and B in the adapter file.

    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` belongs to `model.layers.0.self_attn.q_proj`.
    ModelError when there is anything else than such pairs (DoRA, trained embeddings, other kinds of adapter).
    """
    pairs = {}
    for name in names:
        path, found, _ = name.partition(".lora_A.weight")
        if found:
            pairs[path.removeprefix("base_model.model.")] = (name, f"{path}.lora_B.weight")
    known = {part for pair in pairs.values() for part in pair}
    if odd := sorted(set(names) ^ known):
        raise ModelError(
            f"The adapter is not made of LoRA pairs alone: {odd[0]}.", expected="lora_A and lora_B of linear layers",
            cure="Use peft itself for DoRA, trained embeddings and other kinds of adapter.",
        )  # fmt: skip
    return pairs


class _OutsideAutocast:
    """True where autocast does not compute, asked in each pass."""

    def __bool__(self) -> bool:
        return not any(map(torch.is_autocast_enabled, ("cuda", "cpu", "mps")))


def _leave_casts_to_autocast(model: nn.Module) -> None:
    """Keep peft from casting what each adapter reads to float32 where autocast would cast it back at once.

    The product is the same to the bit; what is saved is two copies of every input, and of its gradient, a layer.
    Outside of autocast the adapter computes in its own float32, and needs the cast.
    """
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = _OutsideAutocast()


def _check_shapes(base: nn.Module, info: AdapterInfo) -> None:
    from safetensors import safe_open

    layers = dict(base.named_modules())
    with safe_open(info.folder / WEIGHTS, framework="pt") as weights:
        for path, (name_a, name_b) in lora_pairs(weights.keys()).items():
            layer = layers.get(path)
            if layer is None:
                problem = f"it has weights for the layer {path}, which {type(base).__name__} does not have"
            else:
                wide, tall = weights.get_slice(name_a).get_shape()[1], weights.get_slice(name_b).get_shape()[0]
                size_in, size_out = _sizes(layer)
                if (wide, tall) == (size_in, size_out):
                    continue
                problem = f"{path} is {size_in} -> {size_out} in the base and {wide} -> {tall} in the adapter"
            raise MixError(
                f"This adapter belongs to another base: {problem}.", where=str(info.folder),
                expected=f"the base {info.base_name or 'it was trained on'}", cure="Set model.name to that base.",
            )  # fmt: skip


def _sizes(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return tuple(layer.weight.shape)  # Conv1D: in, out


def _linear_layers(model: nn.Module) -> set[str]:
    return {n for n, m in model.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}


def _head_name(model: nn.Module) -> str | None:
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), None) if head is not None else None


def _named(model: nn.Module, linear: set[str], head: str | None, spec: list[str]) -> set[str]:
    chosen: set[str] = set()
    for ending in spec:
        matching = {name for name in linear if _ends_with(name, ending)}
        if not matching:
            leaves = sorted({_leaf(name) for name in linear} | linear)
            near = difflib.get_close_matches(ending, leaves, n=3, cutoff=0.5) or sorted({_leaf(n) for n in linear})
            raise ConfigError(
                f"No linear layer of {type(model).__name__} ends in `{ending}`.", where="tuning.lora.target_modules",
                expected=f"such as {', '.join(near)}",
            )  # fmt: skip
        chosen |= matching
    if head in chosen and model.get_output_embeddings().weight is model.get_input_embeddings().weight:
        raise ConfigError(
            f"The output head `{head}` shares its weight with the input embeddings of this model.",
            where="tuning.lora.target_modules", expected="layers with weights of their own",
            cure=f"Leave `{head}` out.",
        )  # fmt: skip
    return chosen


def _is_in_attention(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    for depth in range(1, len(parts)):
        path = ".".join(parts[:depth])
        kind = type(model.get_submodule(path)).__name__.lower()
        if any(word in kind or word in parts[depth - 1].lower() for word in ("attention", "attn")):
            return True
    return False


def _is_in_block(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    return any(
        isinstance(model.get_submodule(".".join(parts[:depth])), nn.ModuleList) for depth in range(1, len(parts))
    )


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _ends_with(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
