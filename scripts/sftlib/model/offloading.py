"""Activation offload: what gradient checkpointing stores waits in pinned main memory, and no copy holds up the device.

In comes a checkpointed model; afterwards the input of each block, all that is stored of it, leaves the device while the
block computes, and is on its way back while the block after it is computed anew. Two of them are on the device at once.
transformers' own way (5.17, `gradient_checkpointing_enable(offload=True)`) copies the same tensors on the stream that
computes, so that each block waits for two copies.

    model.gradient_checkpointing_enable(...)
    offload_checkpoints(model)          # until it is enabled anew

What is not here: weights (streaming.py). Without CUDA the same tensors are moved by plain copies: that is for tests.
Worst bug: an input overwritten or read before its copy is complete (tests/model/test_offloading.py).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .copying import Copier

LEAVING = 1  # inputs that may still be on their way out while the next one is stored


def offload_checkpoints(model: nn.Module) -> None:
    """Let every block that is checkpointed move its input away."""
    travel = _Travel(Copier(next(model.parameters()).device))

    def moved(function: Callable[..., Any], *args: Any) -> Any:
        with torch.autograd.graph.saved_tensors_hooks(travel.send, travel.fetch):
            return checkpoint(function, *args, use_reentrant=False)

    for module in model.modules():
        if hasattr(module, "_gradient_checkpointing_func"):
            module._gradient_checkpointing_func = moved


class _Away:
    """A tensor that left: where it waits, what of it is still or again on the device, and which one left before it."""

    def __init__(self, tensor: Tensor, before: weakref.ref[_Away] | None) -> None:
        self.before, self.device = before, tensor.device
        self.here: Tensor | None = tensor
        self.host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self.done: torch.cuda.Event | None = None


class _Travel:
    """To main memory and back, in the order of a forward and of its backward pass."""

    def __init__(self, copier: Copier) -> None:
        self._copier = copier
        self._leaving: deque[_Away] = deque()
        self._last: weakref.ref[_Away] | None = None
        self._coming: _Away | None = None  # its room must not be given away while it is filled

    def send(self, tensor: Tensor) -> _Away:
        """Begin to copy a tensor away; those that left before it are let go of."""
        if self._coming is not None:  # a backward pass that was broken off
            self._copier.wait(self._coming.done)
            self._coming = None
        one = _Away(tensor, self._last)
        one.done = self._copier.copy(one.host, tensor)
        self._last = weakref.ref(one)
        self._leaving.append(one)
        while len(self._leaving) > LEAVING:
            gone = self._leaving.popleft()
            self._copier.wait(gone.done)
            gone.here = None
        return one

    def fetch(self, one: _Away) -> Tensor:
        """The tensor, back on the device, and the one that is wanted next on its way."""
        self._leaving.clear()  # a backward pass has begun: nothing leaves any more
        self._bring(one)
        self._copier.wait(one.done)
        tensor, one.here = one.here, None
        self._coming = one.before() if one.before is not None else None
        if self._coming is not None:
            self._bring(self._coming)
        return tensor

    def _bring(self, one: _Away) -> None:
        if one.here is None:
            one.here = torch.empty(one.host.shape, dtype=one.host.dtype, device=one.device)
            one.done = self._copier.copy(one.here, one.host)
