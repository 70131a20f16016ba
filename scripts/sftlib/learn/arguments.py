"""From our settings to `transformers.TrainingArguments`.

In come settled sections (no `auto` left) and what they do not say: the run's folder, the precision, the device, the
number of rows. Out go the arguments, with epochs, shares and "times an epoch" turned into steps. Checkpoint rotation,
logging to files and curves are ours (checkpoints, records, curves), so the arguments switch transformers' own off.

    plan_steps(train, rows=100)  ->  StepPlan(an_epoch=7, total=21, warmup=1)      16 rows a step, 3 epochs

Worst bug: a key of the config that never reaches the optimizer (tests/learn/test_arguments.py mutates each).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import TrainingArguments

from ..config.schema import TrainSection
from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Optimizer steps: of one epoch (the last may be smaller), of the whole training, of the warm-up."""

    an_epoch: int
    total: int
    warmup: int


def plan_steps(train: TrainSection, rows: int, *, processes: int = 1) -> StepPlan:
    """Count the steps as the trainer will take them."""
    micro_batches = math.ceil(rows / (train.batch_size * processes))
    an_epoch = math.ceil(micro_batches / _settled(train.grad_accum, "train.grad_accum"))
    total = train.max_steps or math.ceil(train.epochs * an_epoch)
    return StepPlan(an_epoch, total, math.ceil(total * train.warmup_ratio))


def plan_saves(train: TrainSection, rows: int) -> int:
    """How many checkpoints a training writes, the deleted ones included."""
    plan = plan_steps(train, rows)
    save = _interval("save", train.save_strategy, train.save_steps, train.saves_per_epoch, plan)
    if save.strategy == "no":
        return 0
    return math.ceil(plan.total / (save.steps or plan.an_epoch))


def training_arguments(
    train: TrainSection,
    *,
    run_folder: Path,
    precision: Literal["bf16", "fp16", "fp32"],
    device: Literal["cuda", "cpu", "mps"],
    seed: int,
    rows: int,
    has_validation: bool,
    processes: int = 1,
    sharded: bool = False,
) -> TrainingArguments:
    """The arguments of one training.

    rows: of the training split, after the length policy.
    sharded: no process holds the whole model; gradients are then spread after every micro-batch, not kept whole.
    Evaluation sees micro-batches of train.batch_size, so that its memory stays below that of training.
    Raises ConfigError when an evaluation is scheduled and there is nothing to evaluate on, or the other way round.
    """
    plan = plan_steps(train, rows, processes=processes)
    evaluate = _interval("eval", train.eval_strategy, train.eval_steps, train.evals_per_epoch, plan)
    save = _interval("save", train.save_strategy, train.save_steps, train.saves_per_epoch, plan)
    if evaluate.strategy != "no" and not has_validation:
        raise ConfigError(
            "Evaluations are scheduled, but there are no validation rows.", where="train.eval_strategy",
            expected="no, or validation rows", cure="Give data.val_path, or set train.eval_strategy to no.",
        )  # fmt: skip
    if evaluate.strategy == "no" and (train.load_best_model_at_end or train.early_stopping_patience):
        raise ConfigError(
            "The best checkpoint is asked for, but nothing is evaluated.", where="train.eval_strategy",
            expected="steps or epoch with load_best_model_at_end or early_stopping_patience",
            cure="Set train.eval_strategy to epoch, or load_best_model_at_end to false and early_stopping_patience to "
            "null.",
        )  # fmt: skip
    return TrainingArguments(
        output_dir=str(run_folder),
        run_name=run_folder.name,
        num_train_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        per_device_train_batch_size=_settled(train.batch_size, "train.batch_size"),
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=_settled(train.grad_accum, "train.grad_accum"),
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=plan.warmup,  # a ratio of exactly 1 would be read as one step
        weight_decay=train.weight_decay,
        optim=train.optim,
        max_grad_norm=train.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        gradient_checkpointing=False,  # the backend has enabled it; the Trainer would do it in its own way once more
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # a NaN must be seen, not replaced by the mean
        eval_strategy=evaluate.strategy,
        eval_steps=evaluate.steps,
        save_strategy=save.strategy,
        save_steps=save.steps or 1,
        save_total_limit=None,  # checkpoints.rotate deletes, after the new one is complete
        load_best_model_at_end=train.load_best_model_at_end,
        metric_for_best_model=train.metric_for_best_model if evaluate.strategy != "no" else None,
        greater_is_better=_greater_is_better(train),
        restore_callback_states_from_checkpoint=True,  # the patience already used up
        seed=seed,
        use_cpu=device == "cpu",
        dataloader_num_workers=0,
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False if processes > 1 else None,  # every trainable tensor is used in every pass
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}} if sharded else None,
        report_to="none",
        disable_tqdm=True,
        log_level="warning",
    )


@dataclass(frozen=True, slots=True)
class _Interval:
    strategy: Literal["no", "steps", "epoch"]
    steps: int | None = None


def _interval(name: str, strategy: str, steps: int | None, times_an_epoch: int | None, plan: StepPlan) -> _Interval:
    if strategy == "no":
        return _Interval("no")
    if times_an_epoch is not None:
        return _Interval("steps", max(1, round(plan.an_epoch / times_an_epoch)))
    if strategy == "epoch":
        return _Interval("epoch")
    if steps is None:
        raise ConfigError(
            f"train.{name}_strategy is steps, but it is not said how many.", where=f"train.{name}_steps",
            expected=f"a number of steps, or train.{name}s_per_epoch",
            cure=f"Set train.{name}_steps, e.g. to {plan.an_epoch}.",
        )  # fmt: skip
    return _Interval("steps", steps)


def _greater_is_better(train: TrainSection) -> bool:
    if train.greater_is_better is not None:
        return train.greater_is_better
    return train.metric_for_best_model != "eval_loss"


def _settled(value: int | bool | str, key: str) -> int | bool:
    assert value != "auto", f"{key} must be settled before training"
    return value
