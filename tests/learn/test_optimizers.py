"""Every optimizer of the schema trains on this machine, keeps its state in the format of its name, and resumes."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from tiny_training import llama, make_rows
from transformers import TrainerCallback

from sftlib.config.schema import TrainSection
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit

OPTIMIZERS = [optim for optim in get_args(TrainSection.model_fields["optim"].annotation) if optim != "auto"]
WIDE = {"hidden_size": 64, "intermediate_size": 128}  # bitsandbytes keeps tensors under 4,096 numbers in 32 bits


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_training_stop |= state.global_step == self.step


def train(make_trainer, optim: str, name: str, *, stop: int = 0, resume: bool = False):
    settings = {"optim": optim, "epochs": 5.0, "learning_rate": 3e-3, "save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(llama(**WIDE), make_rows(8), train=settings, name=name)
    if stop:
        trainer.add_callback(StopAt(stop))
    fit(trainer, newest_checkpoint(trainer.run.path) if resume else None)
    return trainer


def state_dtypes(trainer) -> set[torch.dtype]:
    """Of the state of the large linear layers, of what is as large as a weight; embeddings are always in 32 bits."""
    state = trainer.optimizer.optimizer.state  # that of Accelerate wraps the one of the name
    layers = [module.weight for module in trainer.model.modules() if isinstance(module, torch.nn.Linear)]
    held = [(weight, value) for weight in layers for value in state[weight].values() if torch.is_tensor(value)]
    return {value.dtype for weight, value in held if value.numel() == weight.numel() >= 4096}


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_it_learns_and_resumes_bit_for_bit(make_trainer, optim: str) -> None:
    whole = train(make_trainer, optim, "whole")
    losses = [record["loss"] for record in whole.state.log_history if "loss" in record]
    assert len(losses) == 10
    assert losses[-1] < losses[0] - 0.2
    train(make_trainer, optim, "cut", stop=4)
    again = train(make_trainer, optim, "cut", resume=True)
    for (name, expected), (_, given) in zip(
        whole.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(expected, given), name


@pytest.mark.parametrize(
    ("optim", "dtypes"),
    [
        ("adamw_torch", {torch.float32}), ("adamw_torch_fused", {torch.float32}), ("adamw_8bit", {torch.uint8}),
        ("paged_adamw_8bit", {torch.uint8}), ("paged_adamw_32bit", {torch.float32}),
    ],
)  # fmt: skip
def test_the_state_has_the_format_of_the_name(make_trainer, optim: str, dtypes: set[torch.dtype]) -> None:
    assert state_dtypes(train(make_trainer, optim, "run")) == dtypes


def test_adafactor_keeps_no_state_as_large_as_a_weight(make_trainer) -> None:
    assert state_dtypes(train(make_trainer, "adafactor", "run")) == set()
