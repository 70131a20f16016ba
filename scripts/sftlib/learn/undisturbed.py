"""Doing something with a model in the middle of its training, and leaving no trace.

    with undisturbed(model): evaluate(model)      # in evaluation mode; then everything is as it was

Worst bug: an evaluation that changes the training after it (tests/learn/test_trainer.py).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards the mode of every module and every random state are as before."""
    modes = [(module, module.training) for module in model.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            for module, was_training in modes:
                module.training = was_training
            random.setstate(python_state)
            np.random.set_state(numpy_state)
