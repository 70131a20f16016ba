"""Copies between the device and main memory that hold nothing up: of weights (streaming.py), of inputs (offloading.py).

    copier = Copier(device)
    done = copier.copy(target, source)      # begins when all that the device was told until now is done
    copier.wait(done)                       # what the device is told from now on begins when the copy is complete

On CUDA it is a stream of its own, and main memory must be pinned; elsewhere a plain copy, done at once.
Worst bug: something read or overwritten while it is copied (tests/model/test_streaming.py, test_offloading.py).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Copier:
    """Copies to and from one device, one after another."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, target: Tensor, source: Tensor) -> torch.cuda.Event | None:
        """Begin a copy. What the device was told before may make the source, or use the room of the target."""
        if self._stream is None:
            target.copy_(source)
            return None
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            return self._stream.record_event()

    def wait(self, done: torch.cuda.Event | None) -> None:
        """Let the device wait for a copy; the process goes on."""
        if done is not None:
            torch.cuda.current_stream(self._stream.device).wait_event(done)

    def finish(self) -> None:
        """Let the process wait for every copy."""
        if self._stream is not None:
            self._stream.synchronize()
