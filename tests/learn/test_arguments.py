"""Every key of the train section reaches the arguments, and steps are counted as the trainer takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_training import llama, make_rows, train_section
from transformers import TrainingArguments

from sftlib.config.schema import TrainSection
from sftlib.errors import ConfigError
from sftlib.learn.arguments import StepPlan, plan_saves, plan_steps, training_arguments
from sftlib.learn.fitting import fit

ELSEWHERE = {  # keys that other rooms read, and which
    "resume": "run.open_run, learn.choose_checkpoint", "output_dir": "run", "save_total_limit": "learn.trainer",
    "bf16": "model.precision", "fp16": "model.precision", "effective_batch_size": "build.settle",
    "early_stopping_patience": "learn.fitting", "max_minutes": "learn.fitting", "packing": "learn.trainer",
    "gradient_checkpointing": "model.backend", "activation_offload": "model.backend", "stream_layers": "build_backend",
}  # fmt: skip
MUTATIONS: dict[str, Any] = {
    "epochs": 3.0, "max_steps": 5, "learning_rate": 3e-3, "lr_scheduler_type": "cosine", "warmup_ratio": 0.5,
    "weight_decay": 0.1, "optim": "adafactor", "max_grad_norm": 0.3, "batch_size": 3, "grad_accum": 2,
    "logging_steps": 9, "eval_strategy": "steps", "eval_steps": 7,
    "evals_per_epoch": 3, "save_strategy": "steps", "save_steps": 8, "saves_per_epoch": 4,
    "load_best_model_at_end": True, "metric_for_best_model": "eval_rougeL", "greater_is_better": True,
}  # fmt: skip
SCHEDULED = {"eval_strategy": "epoch", "save_strategy": "epoch"}


def arguments(rows: int = 40, has_validation: bool = True, precision: str = "fp32", **train: Any) -> TrainingArguments:
    return training_arguments(
        train_section(**train), run_folder=Path("outputs/my-run"), precision=precision, device="cpu", seed=3, rows=rows,
        has_validation=has_validation,
    )  # fmt: skip


def test_every_key_is_accounted_for() -> None:
    assert set(MUTATIONS) | set(ELSEWHERE) == set(TrainSection.model_fields)
    assert not set(MUTATIONS) & set(ELSEWHERE)


@pytest.mark.parametrize("key", MUTATIONS)
def test_mutating_a_key_changes_the_arguments(key: str) -> None:
    base: dict[str, Any] = dict(SCHEDULED)
    if key in ("eval_steps", "evals_per_epoch"):
        base = {"eval_strategy": "steps", "eval_steps": 1}
    if key in ("save_steps", "saves_per_epoch"):
        base = {"save_strategy": "steps", "save_steps": 1}
    extra = {"eval_steps": 7} if key == "eval_strategy" else {"save_steps": 8} if key == "save_strategy" else {}
    before, after = arguments(**base), arguments(**{**base, **extra, key: MUTATIONS[key]})
    assert after.to_dict() != before.to_dict()


def test_values_arrive_as_they_are() -> None:
    given = arguments(
        learning_rate=3e-4, weight_decay=0.1, optim="adafactor", max_grad_norm=0.5, batch_size=3, grad_accum=2,
        lr_scheduler_type="cosine", gradient_checkpointing=True, logging_steps=6, epochs=1.5,
    )  # fmt: skip
    assert (given.learning_rate, given.weight_decay, given.optim, given.max_grad_norm) == (3e-4, 0.1, "adafactor", 0.5)
    assert (given.per_device_train_batch_size, given.per_device_eval_batch_size, given.gradient_accumulation_steps) == (
        3,
        3,
        2,
    )
    assert (given.lr_scheduler_type, given.logging_steps, given.num_train_epochs, given.max_steps) == (
        "cosine",
        6,
        1.5,
        -1,
    )
    assert given.gradient_checkpointing is False  # the backend enables it, and the Trainer not once more in its own way
    assert (given.seed, given.output_dir, given.run_name) == (3, "outputs/my-run", "my-run")
    assert (given.report_to, given.logging_nan_inf_filter, given.save_total_limit) == ([], False, None)
    assert (given.disable_tqdm, given.remove_unused_columns, given.dataloader_pin_memory) == (True, False, False)
    assert (given.bf16, given.fp16) == (False, False)
    assert arguments(precision="bf16").bf16


@pytest.mark.parametrize(
    ("rows", "train", "plan"),
    [
        (100, {"batch_size": 4, "grad_accum": 4, "epochs": 3.0, "warmup_ratio": 0.03}, StepPlan(7, 21, 1)),
        (1, {"batch_size": 4, "grad_accum": 4, "epochs": 1.0}, StepPlan(1, 1, 0)),
        (16, {"batch_size": 4, "grad_accum": 4, "epochs": 1.5}, StepPlan(1, 2, 0)),
        (17, {"batch_size": 4, "grad_accum": 2, "epochs": 2.0, "warmup_ratio": 0.5}, StepPlan(3, 6, 3)),
        (100, {"batch_size": 1, "max_steps": 10, "warmup_ratio": 1.0}, StepPlan(100, 10, 10)),
    ],
)
def test_steps(rows: int, train: dict[str, Any], plan: StepPlan) -> None:
    assert plan_steps(train_section(**train), rows) == plan
    assert arguments(rows=rows, **train).get_warmup_steps(plan.total) == plan.warmup


def test_the_trainer_takes_the_planned_steps(make_trainer) -> None:
    trainer = make_trainer(llama(), make_rows(11), train={"batch_size": 2, "grad_accum": 2, "epochs": 1.5})
    report = fit(trainer)
    assert plan_steps(train_section(batch_size=2, grad_accum=2, epochs=1.5), 11) == StepPlan(3, 5, 0)
    assert (report.steps, report.planned_steps) == (5, 5)


def test_processes_share_the_rows() -> None:
    assert plan_steps(train_section(batch_size=4, grad_accum=2), 64, processes=4) == StepPlan(2, 4, 0)


def test_times_an_epoch_become_steps() -> None:
    given = arguments(
        rows=40, evals_per_epoch=4, eval_strategy="steps", saves_per_epoch=3, save_strategy="steps"
    )  # 10 steps an epoch
    assert (given.eval_steps, given.save_steps) == (2, 3)
    often = arguments(rows=40, evals_per_epoch=99, eval_strategy="steps")
    assert often.eval_steps == 1


@pytest.mark.parametrize(
    ("metric", "asked", "meant"),
    [("eval_loss", None, False), ("eval_rougeL", None, True), ("eval_loss", True, True), ("eval_rougeL", False, False)],
)
def test_greater_is_better(metric: str, asked: bool | None, meant: bool) -> None:
    given = arguments(**SCHEDULED, metric_for_best_model=metric, greater_is_better=asked)
    assert (given.metric_for_best_model, given.greater_is_better) == (metric, meant)


@pytest.mark.parametrize(
    ("train", "has_validation", "said"),
    [
        ({"eval_strategy": "epoch"}, False, "no validation rows"),
        ({"load_best_model_at_end": True}, True, "nothing is evaluated"),
        ({"early_stopping_patience": 2}, True, "nothing is evaluated"),
        ({"eval_strategy": "steps"}, True, "train.eval_strategy is steps, but"),
        ({"save_strategy": "steps"}, True, "train.save_strategy is steps, but"),
    ],
)
def test_what_cannot_be_done_is_refused(train: dict[str, Any], has_validation: bool, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arguments(has_validation=has_validation, **train)


@pytest.mark.parametrize(
    ("settings", "saves"),
    [
        ({"save_strategy": "no"}, 0), ({"save_strategy": "epoch"}, 2),
        ({"save_strategy": "steps", "save_steps": 4}, 3),  # of 10 steps: 4, 8 and the last
        ({"save_strategy": "steps", "save_steps": 5}, 2), ({"save_strategy": "steps", "saves_per_epoch": 2}, 5),
        ({"save_strategy": "steps", "save_steps": 50}, 1),
    ],
)  # fmt: skip
def test_saves_are_counted_as_the_trainer_makes_them(make_trainer, settings: dict[str, Any], saves: int) -> None:
    assert plan_saves(train_section(**settings), 20) == saves  # 5 steps an epoch, 2 epochs
    trainer = make_trainer(llama(), make_rows(20), train={**settings, "save_total_limit": None})
    fit(trainer)
    assert len(list(trainer.run.path.glob("checkpoint-*"))) == saves
