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

CHECKPOINTING = "gradient_checkpointing"  # the switch of transformers' models and blocks


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards the mode of every module and every random state are as before.

    Gradient checkpointing belongs to the mode: Unsloth's `generate` switches it off, and after an evaluation not on.
    """
    modes = [(module, module.training, vars(module).get(CHECKPOINTING)) for module in model.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            for module, was_training, checkpointing in modes:
                module.training = was_training
                if checkpointing is not None:
                    module.gradient_checkpointing = checkpointing
            random.setstate(python_state)
            np.random.set_state(numpy_state)
