"""Watching a few steps of a real training: first by a clock alone, then by PyTorch's profiler.

In comes a trainer that is about to train `steps_needed(steps)` steps; out go the seconds of `steps` of them without the
profiler, what was in their batches, and the events of as many with it. The trainer's code knows nothing of it: parts
of a step are named by wrapping methods of this one trainer and hooking its model, and only while the profiler looks.

    with watching(trainer, steps=3) as watch:       2 steps to warm up, 3 timed, 1 with the profiler unread, 3 profiled
        fit(trainer)
    watch.timed                                     [TimedStep(seconds=1.71, batches=[SeenBatch(...)]), ...]
    watch.profiler.events()                         for breakdown.py

On a GPU the clock is read when all work is done, once a step.

Worst bug: a wrapped method left behind, or a timed step that the profiler slowed (tests/learn/test_profiling.py).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function, schedule
from transformers import TrainerCallback

from ..memory.arithmetic import SeenBatch
from ..tokens.examples import IGNORED
from .tally import MASKS
from .trainer import SftTrainer

WARM_STEPS = 2  # the first makes the optimizer's state, the second finds its memory there
UNREAD_STEPS = 1  # with the profiler on, whose own start falls into it
PREFIX = "sft:"  # of the ranges in the trace
PHASES = ("data", "forward", "loss and head", "backward", "optimizer")
ROUND_SECONDS, ROUNDS = 0.2, 5  # of the same product over and over; the fastest round counts


@dataclass(frozen=True, slots=True)
class TimedStep:
    """Seconds from the end of the step before to its own, and its micro-batches."""

    seconds: float
    batches: list[SeenBatch]

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(batch.tokens for batch in self.batches)


def steps_needed(steps: int) -> int:
    """Steps that the trainer must take for so many to be profiled."""
    return WARM_STEPS + steps + UNREAD_STEPS + steps


@contextlib.contextmanager
def watching(trainer: SftTrainer, steps: int) -> Iterator[Watch]:
    """Watch the training that is run inside the block; afterwards the trainer is as it was."""
    with contextlib.ExitStack() as stack:
        watch = Watch(trainer, steps, stack)
        trainer.add_callback(watch)
        stack.callback(trainer.remove_callback, watch)
        stack.enter_context(_wrapped(trainer, "get_batch_samples", watch.keep_batches))
        yield watch


class Watch(TrainerCallback):
    """The clock, the batches and the profiler of one training; `watching` makes it."""

    def __init__(self, trainer: SftTrainer, steps: int, stack: contextlib.ExitStack) -> None:
        self.trainer, self.steps = trainer, steps
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        plan = schedule(wait=0, warmup=UNREAD_STEPS, active=steps, repeat=1)
        self.profiler = profile(activities=activities, schedule=plan, acc_events=True)
        self._stack = stack
        self._kept: list[list[dict[str, Any]]] = []  # of each step; read afterwards, as reading makes a GPU wait
        self._seconds: list[float] = []
        self._started = 0.0

    @property
    def timed(self) -> list[TimedStep]:
        """The steps without the profiler."""
        return self._part(WARM_STEPS)

    @property
    def profiled(self) -> list[TimedStep]:
        """The steps of the profiler's events."""
        return self._part(WARM_STEPS + self.steps + UNREAD_STEPS)

    def keep_batches(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call `get_batch_samples`, and keep what it gave."""
        batches, count = method(*args)
        self._kept.append(batches)
        return batches, count

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Start the clock of the first step."""
        self._started = _now()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Stop the clock; turn the profiler on and forward when its time has come."""
        self._seconds.append(_now() - self._started)
        before = WARM_STEPS + self.steps
        if state.global_step == before:
            self._stack.enter_context(named_ranges(self.trainer))
            self._stack.enter_context(self.profiler)
        elif state.global_step > before:
            self.profiler.step()
        self._started = _now()

    def _part(self, first: int) -> list[TimedStep]:
        return [
            TimedStep(self._seconds[step], [_seen(batch, self.trainer.packs) for batch in self._kept[step]])
            for step in range(first, first + self.steps)
        ]


@contextlib.contextmanager
def named_ranges(trainer: SftTrainer) -> Iterator[None]:
    """Inside the block every phase of a step is a range of the trace, PREFIX before its name."""
    data, forward, loss, backward, optimizer = PHASES
    wrapped = [
        (trainer, "get_batch_samples", data), (trainer, "_prepare_inputs", data), (trainer, "compute_loss", loss),
        (trainer.accelerator, "backward", backward), (trainer, "_clip_grad_norm", optimizer),
        (trainer.optimizer, "step", optimizer), (trainer.model, "zero_grad", optimizer),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for owner, name, phase in wrapped:
            stack.enter_context(_wrapped(owner, name, _in_range(phase)))
        stack.enter_context(_hooked(trainer.model, forward))
        yield


def products_a_second(rows: int, size_in: int, size_out: int, dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a linear layer over so many rows, here and now."""
    x_NI = torch.randn(rows, size_in, device=device).to(dtype)
    weight_OI = torch.randn(size_out, size_in, device=device).to(dtype)

    def seconds(times: int) -> float:
        started = _now()
        for _ in range(times):
            F.linear(x_NI, weight_OI)
        return _now() - started

    with torch.no_grad():
        seconds(1)
        times = max(1, int(ROUND_SECONDS / max(seconds(1), 1e-9)))
        fastest = min(seconds(times) for _ in range(ROUNDS))
    return 2 * rows * size_in * size_out * times / fastest


def _in_range(phase: str) -> Callable[..., Any]:
    def call(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with record_function(PREFIX + phase):
            return method(*args, **kwargs)

    return call


@contextlib.contextmanager
def _wrapped(owner: Any, name: str, call: Callable[..., Any]) -> Iterator[None]:
    """Inside the block `owner.name(...)` is `call(the method, ...)`."""
    method, before = getattr(owner, name), vars(owner).get(name)
    setattr(owner, name, lambda *args, **kwargs: call(method, *args, **kwargs))
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextlib.contextmanager
def _hooked(model: nn.Module, phase: str) -> Iterator[None]:
    """Inside the block a forward pass of the model is a range."""
    open_ranges: list[Any] = []

    def begin(module: nn.Module, args: Any) -> None:
        open_ranges.append(record_function(PREFIX + phase).__enter__())

    def end(module: nn.Module, args: Any, output: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    hooks = (model.register_forward_pre_hook(begin), model.register_forward_hook(end, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _seen(batch: dict[str, Any], packs: bool) -> SeenBatch:
    masks, labels_BT = [batch[name] for name in MASKS if name in batch], batch["labels"]
    supervised = int((labels_BT[:, 1:] != IGNORED).sum())
    lengths = tuple(sum(mask_BT.sum(dim=1) for mask_BT in masks).tolist())
    return SeenBatch(lengths, supervised, sum(lengths) if packs else sum(mask_BT.numel() for mask_BT in masks))


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
