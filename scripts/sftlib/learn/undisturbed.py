"""Doing something with a model in the middle of its training, and leaving no trace.

    with undisturbed(model): evaluate(model)      # in evaluation mode; then everything is as it was
    states = RandomStates.now(); ...; states.restore()      # the random numbers since then are drawn again

Worst bug: an evaluation that changes the training after it (tests/learn/test_trainer.py).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class RandomStates:
    """The random state of Python, numpy, torch and each CUDA device."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    torch: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> RandomStates:
        """As they are."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return cls(random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Put them back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards the mode of every module and every random state are as before."""
    modes = [(module, module.training) for module in model.modules()]
    states = RandomStates.now()
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
        states.restore()
