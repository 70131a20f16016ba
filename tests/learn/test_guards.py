"""A broken training stops at once, and says where to look."""

from __future__ import annotations

import pytest
import torch
from tiny_training import llama, make_rows, with_lora
from torch import nn
from transformers import TrainerCallback

from sftlib.errors import TrainingError
from sftlib.learn.fitting import fit
from sftlib.learn.guards import refuse_non_finite, refuse_non_finite_weights


def test_a_non_finite_loss_names_its_rows_only() -> None:
    logprobs = torch.tensor([-1.0, float("-inf"), -2.0, float("nan"), -1.0])
    rows = torch.tensor([0, 1, 1, 2, 3])
    with pytest.raises(TrainingError, match=r"not finite at step 12\. Rows: b:2, c:3\.\n") as caught:
        refuse_non_finite(logprobs, rows, ["a:1", "b:2", "c:3", "d:4"], 12)
    assert "learning_rate" in caught.value.cure
    refuse_non_finite(logprobs[[0, 2, 4]], rows[[0, 2, 4]], ["a:1", "b:2", "c:3", "d:4"], 12)


def test_training_stops_at_the_row_that_breaks_it(make_trainer) -> None:
    rows = make_rows(8)
    model = llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[rows[0].input_ids[0]] = float("nan")
    broken = [example.source for example in rows.examples if rows[0].input_ids[0] in example.input_ids]
    assert 0 < len(broken) < 8
    with pytest.raises(TrainingError, match="not finite at step 1") as caught:
        fit(make_trainer(model, rows, train={"batch_size": 8}))
    assert set(caught.value.seen.split("Rows: ")[1].rstrip(".").split(", ")) <= set(broken)


class BreakGradient(TrainerCallback):
    """Makes one gradient infinite at a step, before the guard looks."""

    def __init__(self, model: nn.Module, step: int) -> None:
        self.weight = next(weight for weight in model.parameters() if weight.requires_grad)
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step + 1 == self.step:
            self.weight.register_hook(lambda gradient: gradient * float("inf"))


def test_a_non_finite_gradient_stops_before_the_weights_change(make_trainer) -> None:
    model = llama()
    trainer = make_trainer(model, make_rows(16), train={"save_strategy": "steps", "save_steps": 1})
    trainer.add_callback(BreakGradient(model, 3))
    with pytest.raises(TrainingError, match=r"gradients are not finite at step 3.*Rows of the step: raw\.jsonl:\d+, "):
        fit(trainer)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert sorted(path.name for path in trainer.run.path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]


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
