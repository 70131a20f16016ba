"""Activation offload moves the input of every block and nothing else, and changes no weight; played without a GPU."""

from __future__ import annotations

import pytest
import torch
from memory_parts import a_pass, autocast, batch, load, make

from sftlib.learn.logprobs import hidden_states
from sftlib.memory.activations import offloaded_bytes
from sftlib.model.adapters import enable_gradient_checkpointing
from sftlib.model.offloading import _Travel


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of everything that is moved away."""
    sizes, send = [], _Travel.send

    def watched(self: _Travel, tensor: torch.Tensor) -> object:
        sizes.append(tensor.untyped_storage().nbytes())
        return send(self, tensor)

    monkeypatch.setattr(_Travel, "send", watched)
    return sizes


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "phi3"])
@pytest.mark.parametrize(
    ("mode", "precision"), [("lora", "bf16"), ("full", "bf16"), ("lora", "fp32"), ("qlora", "bf16")]
)
def test_what_is_moved_is_what_the_estimate_says(family, mode, precision, moved, tmp_path):
    model, shape = load(make(family, tmp_path), mode, precision)
    enable_gradient_checkpointing(model, offload=True)
    with autocast(precision):
        hidden_states(model, batch(2, 40)).sum().backward()
    assert sum(moved) == offloaded_bytes(shape, a_pass(mode, precision, 2, 40)) > 0


def test_the_gradients_are_the_same(moved, tmp_path):
    gradients = []
    for offload in (False, True):
        model, _ = load(make("llama", tmp_path / str(offload)), "lora", "fp32")
        enable_gradient_checkpointing(model, offload=offload)
        hidden_states(model, batch(2, 40)).square().sum().backward()
        assert bool(moved) == offload
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    assert all(map(torch.equal, *gradients))
