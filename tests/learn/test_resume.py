"""A run that was stopped and taken up again ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import llama, make_rows, with_lora
from torch import nn
from transformers import TrainerCallback

from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.samples import SampleAnswers, SampleRow

ROWS = 13  # 4 micro-batches of 4 (the last of one row), so 2 steps an epoch with an accumulation of 2, the last smaller


class StopAt(TrainerCallback):
    """Ends training after a step, as if it had been killed there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_training_stop |= state.global_step == self.step


def make_lora() -> nn.Module:
    return with_lora(llama(), dropout=0.3)


def make_full() -> nn.Module:
    return llama(tie_word_embeddings=True, attention_dropout=0.3)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def samples(scores: list[float]) -> SampleAnswers:
    left = iter(scores)
    return SampleAnswers([SampleRow("p", "q", "r")], lambda prompts: ["a"], lambda given, wanted: next(left))


def run(make_trainer, model: nn.Module, *, name: str, stop: int | None = None, resume: bool = False, **options: Any):
    train = {
        "epochs": 4.0,
        "grad_accum": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "warmup_ratio": 0.3,
    } | options.pop("train", {})
    trainer = make_trainer(model, make_rows(ROWS), train=train, name=name, **options)
    if stop:
        trainer.add_callback(StopAt(stop))
    return trainer, fit(trainer, newest_checkpoint(trainer.run.path) if resume else None)


@pytest.mark.parametrize("make_model", [make_lora, make_full])
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_resumed_weights_are_bit_identical(make_trainer, make_model, stop: int) -> None:
    whole, report = run(make_trainer, make_model(), name="whole", train={"save_strategy": "no"})
    assert (report.steps, report.resumed_from) == (8, 0)
    run(make_trainer, make_model(), name="cut", stop=stop)
    again, report = run(make_trainer, make_model(), name="cut", resume=True)
    assert (report.steps, report.resumed_from) == (8, stop)
    expected, given = weights(whole.model), weights(again.model)
    for name in expected:
        assert torch.equal(expected[name], given[name]), name


def test_resume_goes_on_from_the_last_save_when_the_stop_came_later(make_trainer) -> None:
    whole, _ = run(make_trainer, make_lora(), name="whole", train={"save_strategy": "no"})
    run(make_trainer, make_lora(), name="cut", stop=5, train={"save_steps": 3})
    again, report = run(make_trainer, make_lora(), name="cut", resume=True, train={"save_steps": 3})
    assert report.resumed_from == 3
    for (name, expected), (_, given) in zip(weights(whole.model).items(), weights(again.model).items(), strict=True):
        assert torch.equal(expected, given), name
    steps = [record["step"] for record in again.state.log_history if "loss" in record]
    assert steps == list(range(1, 9))


def test_resume_with_evaluations_keeps_the_best(make_trainer) -> None:
    train = {
        "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True,
        "metric_for_best_model": "eval_rougeL",
        "save_total_limit": 1,
    }  # fmt: skip
    scores = [0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.6, 0.7]
    options = {"eval_set": make_rows(5, seed=8), "train": train}
    whole, _ = run(make_trainer, make_lora(), name="whole", samples=samples(scores), **options)
    run(make_trainer, make_lora(), name="cut", stop=5, samples=samples(scores), **options)
    again, report = run(make_trainer, make_lora(), name="cut", resume=True, samples=samples(scores[5:]), **options)
    assert report.best["checkpoint"] == "checkpoint-3"
    assert report.is_best_loaded
    for (name, expected), (_, given) in zip(weights(whole.model).items(), weights(again.model).items(), strict=True):
        assert torch.equal(expected, given), name


def test_a_run_that_ended_before_its_summary_takes_no_further_step(make_trainer) -> None:
    train = {"max_steps": 3}  # in the middle of an epoch
    whole, _ = run(make_trainer, make_lora(), name="cut", train=train)
    again, report = run(make_trainer, make_lora(), name="cut", resume=True, train=train)
    assert (report.steps, report.resumed_from, report.times["steps"]) == (3, 3, 0)
    for (name, expected), (_, given) in zip(weights(whole.model).items(), weights(again.model).items(), strict=True):
        assert torch.equal(expected, given), name


def test_the_patience_used_up_is_remembered(make_trainer) -> None:
    train = {
        "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True,
        "metric_for_best_model": "eval_rougeL",
        "early_stopping_patience": 3,
    }  # fmt: skip
    scores = [0.5, 0.4, 0.4, 0.4, 0.9, 0.9, 0.9, 0.9]
    options = {"eval_set": make_rows(5, seed=8), "train": train}
    run(make_trainer, make_lora(), name="cut", stop=3, samples=samples(scores), **options)
    _, report = run(make_trainer, make_lora(), name="cut", resume=True, samples=samples(scores[3:]), **options)
    assert report.steps == 4
    _, report = run(make_trainer, make_lora(), name="cut", resume=True, samples=samples([]), **options)
    assert (report.steps, report.times["steps"]) == (4, 0)  # it had stopped early, and stays so


def test_a_torn_checkpoint_is_passed_over(make_trainer, capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = run(make_trainer, make_lora(), name="whole", train={"save_strategy": "no"})
    cut, _ = run(make_trainer, make_lora(), name="cut", stop=5)
    torn: Path = cut.run.path / "checkpoint-5" / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    again, report = run(make_trainer, make_lora(), name="cut", resume=True)
    assert report.resumed_from == 4
    assert "checkpoint-5 is passed over: optimizer.pt has 100 bytes" in capsys.readouterr().err.replace("\n", " ")
    for (name, expected), (_, given) in zip(weights(whole.model).items(), weights(again.model).items(), strict=True):
        assert torch.equal(expected, given), name
