"""What a valid config still leaves to be said: checkpoints that fit the evaluations, and settings without effect.

Comes in: a `Config`. Goes out: a settled `Config` and sentences for the user. What depends on the machine, the model or
the number of rows is settled in build.py.

    settle_schedule(evaluated every epoch, saved every 50 steps)  ->  saved every epoch, ["Checkpoints are saved ..."]

Worst bug: a best checkpoint that was never saved (tests/config/test_settling.py).
"""

from __future__ import annotations

from ..errors import ConfigError
from .schema import Config, TrainSection


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


def settle_batch(train: TrainSection, processes: int = 1) -> tuple[int, int]:
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
    infer, train = config.infer, config.train
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
    return said


def _rhythm(strategy: str, steps: int | None, times: int | None) -> str:
    """How often, in words."""
    if strategy == "no":
        return "never"
    if strategy == "epoch" or times == 1:
        return "once an epoch"
    return f"{times} times an epoch" if times else f"every {steps} steps"
