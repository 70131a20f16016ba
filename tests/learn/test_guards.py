"""A broken step leaves no trace in the weights; a broken training stops, and says where to look."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import PAD, llama, make_rows, with_lora
from torch import nn
from transformers import TrainerCallback

from sftlib import console
from sftlib.errors import TrainingError
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.guards import BrokenSteps, refuse_non_finite_weights
from sftlib.run.folder import RunFolder
from sftlib.tokens.collate import collate


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


class BreakLoss(TrainerCallback):
    """Makes the weights of the head infinite during some steps, so that the losses of some rows are not finite."""

    def __init__(self, model: nn.Module, steps: set[int], token: int) -> None:
        self.head, self.steps, self.token = model.lm_head.weight, steps, token

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.kept = self.head.data.clone()
        if state.global_step + 1 in self.steps:
            self.head.data[self.token] = float("nan")

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.head.data.copy_(self.kept)


class BreakGradient(TrainerCallback):
    """Makes one gradient infinite at some steps, before the guard looks."""

    def __init__(self, model: nn.Module, steps: set[int]) -> None:
        self.steps, self.is_on = steps, False
        weight = next(weight for weight in model.parameters() if weight.requires_grad)
        weight.register_hook(lambda gradient: gradient * float("inf") if self.is_on else gradient)

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.is_on = state.global_step + 1 in self.steps


class Watch(TrainerCallback):
    """Keeps the weights and the optimizer's state before and after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, torch.Tensor], Any]] = []

    def on_step_end(self, args, state, control, model, optimizer, **kwargs) -> None:
        self.seen.append((weights(model), copy.deepcopy(optimizer.state_dict()["state"])))


def broken_run(make_trainer, breaker, *, rows: int = 20, **train: Any):
    model = llama()
    watch = Watch()
    trainer = make_trainer(model, make_rows(rows), train={"save_strategy": "steps", "save_steps": 1} | train)
    trainer.add_callback(breaker(model))
    trainer.add_callback(watch)
    return trainer, watch


def test_a_broken_row_is_found_among_its_batch() -> None:
    broken = BrokenSteps(RunFolder(Path("outputs"), "r"), is_scaled=False)
    inputs = {"sources": ["a:1", "b:2", "c:3", "d:4"]}
    logprobs = torch.tensor([-1.0, float("-inf"), -2.0, float("nan"), -1.0])
    rows = torch.tensor([0, 1, 1, 2, 3])
    assert broken.look(inputs, logprobs, rows)
    assert broken._lost == {"b:2", "c:3"}
    assert not broken.look(inputs, logprobs[[0, 2, 4]], rows[[0, 2, 4]])


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_broken_step_is_not_applied_and_its_rows_are_dumped(make_trainer, kind) -> None:
    rows = make_rows(20)
    token = rows[0].input_ids[-1]

    def breaker(model):
        return BreakLoss(model, {3}, token) if kind == "loss" else BreakGradient(model, {3})

    trainer, watch = broken_run(make_trainer, breaker, gradient_checkpointing=False)
    report = fit(trainer)
    assert report.steps == 10  # 5 an epoch
    (before, moments), (after, moments_after), (later, _) = watch.seen[1:4]
    for name in before:
        assert torch.equal(before[name], after[name]), name
    assert any(not torch.equal(after[name], later[name]) for name in after)
    for number, held in moments.items():
        for name, value in held.items():
            assert torch.equal(value, moments_after[number][name]), (number, name)
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())
    dumped = [json.loads(line) for line in trainer.run.non_finite.read_text().splitlines()]
    assert {row["step"] for row in dumped} == {3}
    by_source = {example.source: example.input_ids for example in rows.examples}
    assert all(by_source[row["source"]] == row["input_ids"] for row in dumped)
    assert len(dumped) == 4
    said = console.warnings()[-1]
    assert f"Step 3 is not applied: the {kind}" in said
    assert all(row["source"] in said for row in dumped)
    # what is logged is the mean over the steps that were applied: none for step 3, numbers for all the others
    losses = {record["step"]: record["loss"] for record in trainer.state.log_history if "loss" in record}
    assert sorted(losses) == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert all(math.isfinite(loss) for loss in losses.values())


def test_the_logged_loss_is_the_mean_over_the_steps_that_were_applied(make_trainer) -> None:
    runs = []
    for every in (1, 5):
        trainer, _ = broken_run(
            make_trainer, lambda model: BreakGradient(model, {3}), logging_steps=every, save_strategy="no"
        )
        fit(trainer)
        runs.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
    each, mean = runs
    assert len(each) == 9  # without step 3
    assert mean == pytest.approx([sum(each[:4]) / 4, sum(each[4:]) / 5], rel=1e-5)


def test_only_the_rows_whose_loss_is_broken_are_named(make_trainer) -> None:
    rows = make_rows(8)
    model = llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[rows[0].input_ids[0]] = float("nan")
    broken = {example.source for example in rows.examples if rows[0].input_ids[0] in example.input_ids}
    assert 0 < len(broken) < 8
    trainer = make_trainer(model, rows, train={"batch_size": 8, "epochs": 4.0})
    with pytest.raises(TrainingError, match="3 steps in a row, up to step 3, could not be applied: the loss is not"):
        fit(trainer)
    dumped = [json.loads(line) for line in trainer.run.non_finite.read_text().splitlines()]
    assert {row["step"] for row in dumped} == {1, 2, 3}
    assert {row["source"] for row in dumped} <= broken


def test_three_in_a_row_end_the_run_and_two_do_not(make_trainer) -> None:
    trainer, _ = broken_run(make_trainer, lambda model: BreakGradient(model, {2, 3, 5, 6, 7, 8}))
    with pytest.raises(TrainingError, match=r"3 steps in a row, up to step 7, .* raw\.jsonl:\d+, ") as caught:
        fit(trainer)
    assert caught.value.where == str(trainer.run.non_finite)
    assert newest_checkpoint(trainer.run.path).name == "checkpoint-6"
    for folder in trainer.run.path.glob("checkpoint-*"):
        assert all(torch.isfinite(weight).all() for weight in load_file(folder / "model.safetensors").values())
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())


def test_an_infinite_loss_reaches_every_gradient(make_trainer, monkeypatch) -> None:
    """By itself it may leave all of them finite; other processes, which do not see the row, must leave the step out."""
    rows = make_rows(4)
    model = llama()
    trainer = make_trainer(model, rows)
    right = trainer._logprobs

    def with_infinity(model, inputs):
        logprobs_N, rows_N = right(model, inputs)
        return logprobs_N.masked_fill(torch.arange(len(logprobs_N)) == 0, float("-inf")), rows_N

    monkeypatch.setattr(trainer, "_logprobs", with_infinity)
    inputs = collate(rows.examples, PAD) | {"sources": [example.source for example in rows.examples]}
    trainer.compute_loss(model, inputs).backward()
    gradients = [weight.grad for weight in model.parameters()]
    assert all(torch.isnan(gradient).any() for gradient in gradients)


def test_a_step_that_is_left_out_is_not_asked_for_gradients(make_trainer) -> None:
    """It comes where silent tensors are looked for: after the first update."""
    model = with_lora(llama())
    trainer = make_trainer(model, make_rows(20))
    trainer.add_callback(BreakGradient(model, {2}))
    trainer.callback_handler.callbacks.insert(0, trainer.callback_handler.callbacks.pop())
    assert fit(trainer).steps == 10


def test_the_scaler_of_fp16_looks_at_gradients_itself(make_trainer) -> None:
    """A step that it leaves out while it looks for its scale is none of ours; one with a broken loss is."""
    broken = BrokenSteps(RunFolder(Path("outputs"), "r"), is_scaled=True)
    model = llama()
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, float("inf"))
    broken.on_step_begin(None, None, None)
    broken.on_pre_optimizer_step(None, None, None, model)
    assert not broken.is_left_out


def test_lora_starts_with_half_its_gradients_at_zero_and_that_is_right(make_trainer) -> None:
    first: dict[str, torch.Tensor] = {}

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
            first.update(
                {name: w.grad.clone() for name, w in model.named_parameters() if w.requires_grad and name not in first}
            )

    # warm-up: the rate of the first step is 0, so B has not moved at the second either
    trainer = make_trainer(with_lora(llama()), make_rows(16), train={"warmup_ratio": 0.25})
    trainer.add_callback(Watch())
    assert fit(trainer).steps == 8
    assert {name for name, gradient in first.items() if not gradient.any()} == {
        name for name in first if "lora_A" in name
    }


def test_a_tensor_that_never_gets_a_gradient_is_named(make_trainer) -> None:
    model = with_lora(llama())
    model.register_parameter("forgotten", nn.Parameter(torch.zeros(3)))
    with pytest.raises(TrainingError, match=r"^1 of 9 trainable tensors got no gradient up to step 2: forgotten\.\n"):
        fit(make_trainer(model, make_rows(16)))


def test_when_nothing_gets_a_gradient_training_stops(make_trainer) -> None:
    model = llama()
    trainer = make_trainer(model, make_rows(16))
    for weight in model.parameters():
        weight.register_hook(torch.zeros_like)
    with pytest.raises(TrainingError, match="21 of 21 trainable tensors got no gradient"):
        fit(trainer)


def test_non_finite_weights_are_named() -> None:
    model = llama()
    refuse_non_finite_weights(model, 4)
    model.lm_head.weight.data[0, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"1 trainable tensors are not finite at step 4.*lm_head\.weight"):
        refuse_non_finite_weights(model, 4)
    model.lm_head.weight.requires_grad_(False)
    refuse_non_finite_weights(model, 4)


def test_an_evaluation_without_a_loss_ends_the_run_with_its_rows_and_a_checkpoint(make_trainer, monkeypatch) -> None:
    """A comparison with NaN would call the first checkpoint the best, and no later one better."""
    train = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 100}
    trainer = make_trainer(llama(), make_rows(20), train=train, eval_set=make_rows(6, seed=1))
    right = trainer._logprobs

    def with_infinity(model, inputs):
        logprobs_N, rows_N = right(model, inputs)
        if model.training or trainer.state.global_step < 6 or "raw.jsonl:5" not in inputs["sources"]:
            return logprobs_N, rows_N
        return logprobs_N.masked_fill(rows_N == inputs["sources"].index("raw.jsonl:5"), float("-inf")), rows_N

    monkeypatch.setattr(trainer, "_logprobs", with_infinity)
    with pytest.raises(TrainingError, match=r"evaluation after step 6 is not finite\. Rows: raw\.jsonl:5\.") as caught:
        fit(trainer)
    assert "checkpoint-6" in caught.value.cure
    assert newest_checkpoint(trainer.run.path).name == "checkpoint-6"
