"""A model before something that changes it, to be put back exactly.

    before = Snapshot(model)
    train(model)
    before.restore()        # weights, gradients, modules, hooks and random numbers as they were

Trained weights and buffers are copied to main memory; frozen weights are not, as nothing changes them. Gradients are
taken away: before a training there are none.

Worst bug: something that is not put back, so that a trial changes the training after it (tests/learn/test_probing.py).
"""

from __future__ import annotations

import torch
from torch import nn

from .undisturbed import RandomStates

CONTAINERS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_buffers")


class Snapshot:
    """A model as it is now."""

    def __init__(self, model: nn.Module) -> None:
        self._random = RandomStates.now()
        kept = [*(weight for weight in model.parameters() if weight.requires_grad), *model.buffers()]
        self._values = [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in kept]
        self._modules = [
            (module, dict(vars(module)), {name: dict(vars(module)[name]) for name in CONTAINERS})
            for module in model.modules()
        ]

    def restore(self) -> None:
        """Make everything as it was; can be called again and again."""
        for module, attributes, contents in self._modules:
            vars(module).clear()  # what a pass has left there, too: lengths seen, cached tensors
            vars(module).update(attributes)
            for name, content in contents.items():
                vars(module)[name].clear()
                vars(module)[name].update(content)
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
                tensor.grad = None
        self._random.restore()
