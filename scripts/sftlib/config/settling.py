"""What a valid config still leaves to be said: checkpoints that fit the evaluations, and settings without effect.

Comes in: a `Config`. Goes out: a settled `Config` and sentences for the user. What depends on the machine, the model or
the number of rows is settled in build.py.

    settle_schedule(evaluated every epoch, saved every 50 steps)  ->  saved every epoch, ["Checkpoints are saved ..."]
    settled_keys(asked, settled)                                  ->  [("train.bf16", "auto", "true"), ...]

Worst bug: a best checkpoint that was never saved (tests/config/test_settling.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .schema import Config, TrainSection
from .writing import scalar

ON_GPU = ("flex_attention", "flash_attention_2", "flash_attention_3")  # kernels that no other device trains with
PACKED = ("varlen", *ON_GPU)  # these leave out what is not seen


def settle_schedule(config: Config) -> tuple[Config, list[str]]:
    """Save when the model is evaluated, where the best checkpoint is to be loaded; a change is said in a sentence.

    A best checkpoint is one that was both evaluated and saved; saving at every second evaluation could miss it.
    """
    train = config.train
    if not train.load_best_model_at_end or train.eval_strategy == "no":
        return config, []
    saves = train.save_strategy, train.save_steps, train.saves_per_epoch
    evaluations = train.eval_strategy, train.eval_steps, train.evals_per_epoch
    if saves == evaluations:
        return config, []
    asked, given = _rhythm(*saves), _rhythm(*evaluations)
    follows = dict(zip(("save_strategy", "save_steps", "saves_per_epoch"), evaluations, strict=True))
    message = (
        f"Checkpoints are saved {given}, when the model is evaluated, instead of {asked}: "
        "train.load_best_model_at_end needs a checkpoint where there is an evaluation."
    )
    return config.model_copy(update={"train": train.model_copy(update=follows)}), [message]


def settled_keys(asked: Config, settled: Config) -> list[tuple[str, str, str]]:
    """(key, what was asked, what holds) of each key that settling has changed, in the order of the schema."""
    before, after = (_flat(config.model_dump()) for config in (asked, settled))
    return [(key, scalar(before[key]), scalar(after[key])) for key in before if before[key] != after[key]]


def settle_stated_batch(
    train: TrainSection,
    device: str,
    processes: int = 1,
    *,
    checkpoints_itself: bool = False,
    can_page: bool = False,
    can_stream: bool = True,
) -> tuple[TrainSection, list[str]]:
    """The batch as far as a device (cuda, cpu, mps) says; what it cannot have is said in a sentence.

    Where train.batch_size stays `auto`, a look at the memory decides it, and with it the `auto` of accumulation,
    checkpointing, offload, optimizer and layer streaming (build_batch.py).
    processes: that share a step. ConfigError where they cannot share it evenly.
    checkpoints_itself: the backend sets checkpointing and offload up while it loads the model (unsloth).
    can_page: a paged optimizer is there. can_stream: there are frozen weights, and blocks of transformers' own.
    """
    size, accumulation, effective = train.batch_size, train.grad_accum, train.effective_batch_size
    checkpointing, offload, messages = train.gradient_checkpointing, train.activation_offload, []
    if offload is True and device != "cuda":
        messages = [
            f"train.activation_offload is left out: it moves what a GPU stores to main memory, and this is a {device}."
        ]
    if device != "cuda":
        offload = False
    elif checkpoints_itself:
        checkpointing = True if checkpointing == "auto" else checkpointing
        offload = False
    elif offload is True:
        checkpointing = True
    optim, stream = train.optim, train.stream_layers
    if stream is True and processes > 1:
        raise ConfigError(
            f"Layers are streamed by one process alone, and {processes} take part.", where="train.stream_layers",
            expected="one process, or a model that is cut up over all of them",
            cure="Set train.stream_layers to false, or train with ACCELERATE=fsdp2.",
        )  # fmt: skip
    if stream is True and device != "cuda":
        messages.append(f"train.stream_layers saves nothing on a {device}, whose memory is main memory: it only costs.")
    if stream == "auto" and (device != "cuda" or processes > 1 or checkpoints_itself or not can_stream):
        stream = False
    if optim == "auto" and (device != "cuda" or processes > 1 or not can_page):
        optim = "adamw_torch"
    if size == "auto" and accumulation != "auto":
        size = effective // accumulation
    elif size == "auto" and effective % processes:
        turns = effective + processes - effective % processes
        raise ConfigError(
            f"A step of {effective} examples cannot be shared by {processes} processes.",
            where="train.effective_batch_size", expected=f"a multiple of {processes}",
            cure=f"Set train.effective_batch_size to {turns}.",
        )  # fmt: skip
    if size != "auto":
        accumulation, effective = cut_step(train.model_copy(update={"batch_size": size}), processes)
        checkpointing = device == "cuda" if checkpointing == "auto" else checkpointing
        offload = False if offload == "auto" else offload
        stream = False if stream == "auto" else stream
        optim = "adamw_torch" if optim == "auto" else optim
    settled = {
        "batch_size": size, "grad_accum": accumulation, "effective_batch_size": effective,
        "gradient_checkpointing": checkpointing, "activation_offload": offload,
        "optim": optim, "stream_layers": stream,
    }  # fmt: skip
    return train.model_copy(update=settled), messages


def settle_packing(config: Config, device: str) -> bool:
    """train.packing, settled: on where attention leaves out what one example of a row does not see of another.

    Raises ConfigError where the device (cuda, cpu, mps) has not the kernel that model.attn_implementation names.
    """
    kernel = config.model.attn_implementation
    if kernel in ON_GPU and device != "cuda":
        raise ConfigError(
            f"{kernel} trains on a CUDA GPU only, and this machine trains on {device}.",
            where="model.attn_implementation", expected="auto, sdpa, eager or varlen",
            cure="Set model.attn_implementation to auto.",
        )  # fmt: skip
    if config.train.packing != "auto":
        return config.train.packing
    return kernel in PACKED and config.model.type == "causal" and config.tuning.backend != "unsloth"


def cut_step(train: TrainSection, processes: int = 1) -> tuple[int, int]:
    """Micro-batches a step of each process, and examples a step of all: it is kept when processes are added.

    Raises ConfigError when the step cannot be cut evenly.
    """
    micro, accumulation = train.batch_size, train.grad_accum
    asked = train.effective_batch_size
    if asked is None:
        asked = micro * (processes if accumulation == "auto" else accumulation)
    if asked % (micro * processes):
        fits = [size for size in range(micro, 0, -1) if asked % (size * processes) == 0]
        turn = micro * processes
        cure = f"Set train.effective_batch_size to {asked + turn - asked % turn}"
        raise ConfigError(
            f"A step of {asked} examples cannot be cut into micro-batches of {micro} for {processes} processes.",
            where="train.effective_batch_size, train.batch_size", expected=f"a multiple of {micro} x {processes}",
            cure=f"{cure}, or train.batch_size to {fits[0]}." if fits else f"{cure}.",
        )  # fmt: skip
    return asked // (micro * processes), asked


def unheeded(config: Config) -> list[str]:
    """A sentence for each setting that has no effect beside the others, so that none is ignored in silence."""
    infer, train, data = config.infer, config.train, config.data
    said = [
        f"infer.{name} {value:g} has no effect: infer.temperature is 0, which is greedy."
        for name, value, neutral in (("top_p", infer.top_p, 1), ("top_k", infer.top_k, 0))
        if infer.temperature == 0 and value != neutral
    ]
    if train.lr_scheduler_type == "constant" and train.warmup_ratio:
        said.append(
            f"train.warmup_ratio {train.warmup_ratio:g} has no effect with train.lr_scheduler_type constant; "
            "constant_with_warmup heeds it."
        )
    policies = [data.truncation, *(one.truncation for one in data.datasets.values())]
    if data.truncation_side == "start" and "truncate" not in policies:
        said.append(
            f"data.truncation_side start has no effect: data.truncation is {data.truncation}, which cuts nothing."
        )
    return said


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _rhythm(strategy: str, steps: int | None, times: int | None) -> str:
    """How often, in words."""
    if strategy == "no":
        return "never"
    if strategy == "epoch" or times == 1:
        return "once an epoch"
    return f"{times} times an epoch" if times else f"every {steps} steps"
