"""What training has seen and how fast: tokens, supervised tokens, the memory in use.

In come the micro-batches, counted by the trainer as it sees them; out go rates for the log. The clock runs inside
optimizer steps only, so evaluations and checkpoints do not slow the tokens/s. Counts are of this session: a resumed
run starts again at zero. Of several processes each counts its own share, and what is told is the sum; memory is that of
the first.

    tally.count(batch, supervised=12)
    tally.rates()  ->  {"tokens_per_second": 512.3, "supervised_tokens": 96, "memory_gib": 1.6, "peak_memory_gib": 1.7}

A step that is run again counts once; the time of both attempts counts.

Worst bug: padding counted as tokens (tests/learn/test_tally.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from ..memory.probe import process_peak_bytes
from ..units import GIB
from . import processes

MASKS = ("attention_mask", "decoder_attention_mask")  # the second one of an encoder-decoder only


class Tally(TrainerCallback):
    """Counts the tokens of a training. `with_memory` adds memory to the rates (logging.gpu_stats)."""

    def __init__(self, *, with_memory: bool = True) -> None:
        self.with_memory = with_memory
        self.tokens = self.supervised = self.steps = 0  # of the session
        self.seconds = 0.0
        self._open_tokens: list[torch.Tensor] = []  # on their device: reading one would make the GPU wait
        self._before_step = (0, 0)  # micro-batches that wait to be settled, supervised tokens
        self._last = (0, 0, 0, 0.0)
        self._started: float | None = None

    def count(self, batch: Mapping[str, Any], supervised: int, blanks: int = 0) -> None:
        """Count one micro-batch. blanks: rows of one token that only fill it up."""
        self._open_tokens += [batch[mask].sum() - blanks for mask in MASKS if mask in batch]
        self.supervised += supervised

    def forget_step(self) -> None:
        """Count nothing of the step so far: it is run again."""
        waiting, self.supervised = self._before_step
        del self._open_tokens[waiting:]

    def rates(self) -> dict[str, float]:
        """Tokens a second (padding not counted), supervised tokens a step, both since the last call; memory in GiB."""
        self._settle()
        _, _, steps, seconds = self._last
        counts = [self.tokens - self._last[0], self.supervised - self._last[1]]
        tokens, supervised = processes.totals(counts)
        self._last = (self.tokens, self.supervised, self.steps, self.seconds)
        rates: dict[str, float] = {}
        if self.seconds > seconds:
            rates["tokens_per_second"] = tokens / (self.seconds - seconds)
        if self.steps > steps:
            rates["supervised_tokens"] = supervised / (self.steps - steps)
        if self.with_memory:
            used, peak = memory_bytes()
            rates |= {"memory_gib": used / GIB, "peak_memory_gib": peak / GIB}
        return rates

    def totals(self) -> dict[str, float | int | None]:
        """Counts of the whole session, for time_metrics.json."""
        self._settle()
        tokens, supervised = processes.totals([self.tokens, self.supervised])
        return {
            "steps": self.steps, "tokens": tokens, "supervised_tokens": supervised,
            "seconds_in_steps": round(self.seconds, 3),
            "tokens_per_second": round(tokens / self.seconds, 1) if self.seconds else None,
        }  # fmt: skip

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Start the clock of a step."""
        self._before_step = (len(self._open_tokens), self.supervised)
        self._started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Stop the clock of a step."""
        self.seconds += time.perf_counter() - self._started
        self.steps += 1

    def _settle(self) -> None:
        self.tokens += sum(int(tokens) for tokens in self._open_tokens)
        self._open_tokens = []


def memory_bytes() -> tuple[int, int]:
    """Bytes in use and at the peak: of the GPU where PyTorch has one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss, process_peak_bytes()
