"""A real trial of a micro-batch: forward, backward and optimizer steps on the longest rows, timed and weighed.

In come the model that is going to be trained and what its trainer is built from; out goes the function that
memory/search.py asks: a Choice -> seconds, bytes. It goes through the trainer's own loss,
collation and optimizer. The first step makes the optimizer's state and is not timed; the bytes are the peak of both: on
a GPU what PyTorch's allocator took from the card, and what libraries took beside it since the probing began.

    with probing(model, train=config.train, run=run, train_set=rows, ...) as trial:
        found = search(trial, ...)

    trial(4, True, False)                  ->  (0.41, 6123683840)
    trial.costs(Choice(4, True), room)     ->  {"checkpointing": (0.76, 512)}      of the speed without, rows of 512

Worst bug: a trial that changes the training after it (tests/learn/test_probing.py).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.training_args import OptimizerNames

from ..config.schema import LoggingSection, TrainSection
from ..memory.out_of_memory import unless_out_of_memory
from ..memory.probe import Device
from ..memory.search import PAGED, UNPAGED, Choice, Means
from ..model.adapters import enable_gradient_checkpointing
from ..model.streaming import stop_streaming, stream_layers, stream_of
from ..run.folder import RunFolder
from ..tokens.dataset import ExampleDataset
from ..tokens.examples import IGNORED
from .fitting import build_trainer
from .snapshot import Snapshot
from .tally import memory_bytes
from .trainer import SftTrainer

Enable = Callable[..., None]  # of the model, and offload
SHORTEST = 64  # tokens; of shorter rows the time says nothing about long ones


@contextlib.contextmanager
def probing(
    model: nn.Module, *, train: TrainSection, run: RunFolder, precision: str, device: str, seed: int,
    train_set: ExampleDataset, pad_id: int, effective: int, place: Device,
    enable: Enable = enable_gradient_checkpointing,
) -> Iterator[Trial]:  # fmt: skip
    """Inside the block trials may be run; afterwards everything is as if none had been.

    train: settled but for the batch.
    effective: rows that a step of this process has.
    place: where layers are streamed to.
    enable: switches gradient checkpointing on, with offload or without. The other arguments are build_trainer's.
    """
    before = Snapshot(model)
    bare = {
        "batch_size": 1, "grad_accum": 1, "gradient_checkpointing": False, "activation_offload": False,
        "stream_layers": False, "optim": UNPAGED if train.optim == "auto" else train.optim, "max_minutes": None,
        "metric_for_best_model": "eval_loss", "greater_is_better": None,
    }  # fmt: skip
    trainer = build_trainer(
        model, train=train.without_interruptions().model_copy(update=bare), logging=LoggingSection(backend="none"),
        run=run, precision=precision, device=device, seed=seed, train_set=train_set, eval_set=None, pad_id=pad_id,
    )  # fmt: skip
    trial = Trial(trainer, before, effective, enable, place)
    try:
        yield trial
    finally:
        trial.undo()


class Trial:
    """Tries one micro-batch after another on the same model, each from the same start."""

    def __init__(self, trainer: SftTrainer, before: Snapshot, effective: int, enable: Enable, place: Device) -> None:
        self.trainer, self.effective, self.enable, self.place = trainer, effective, enable, place
        self._before = before
        self._others = _beside_allocator()
        self._optim = trainer.args.optim
        self._was_streamed = stream_of(trainer.model) is not None

    def __call__(
        self, size: int, checkpointing: bool, offload: bool, paged: bool = False, stream: bool = False
    ) -> tuple[float, int]:
        """Seconds that a micro-batch takes, its share of the optimizer step included, and bytes at the peak."""
        batch = self._set_up(Choice(size, checkpointing, offload, paged, stream))
        accumulation = self.effective // size
        seconds = self._micro_batch(batch)
        if accumulation > 1:  # most of them find the gradients of earlier ones in memory
            self._micro_batch(batch)
        return seconds + self._step() / accumulation, self._peak()

    def costs(self, choice: Choice, room: int) -> dict[str, tuple[float, int]]:
        """Of each of the means of a choice: the speed with it as a share of that without it, and the rows' length.

        Without it the rows do not fit; both are timed on rows cut short, halved until they do. Layers are streamed
        beside themselves standing still, so their cost is that of the rows as they are.
        """
        found = {}
        longest = max(self.trainer.train_dataset.lengths)
        for name in Means._fields:
            if not getattr(choice, name):
                continue
            if name == "stream":
                found[name] = self._still_share(choice), longest
                continue
            length = longest // 2
            without = choice._replace(**{name: False} | ({"offload": False} if name == "checkpointing" else {}))
            own = choice._replace(**{"offload": False} if name == "checkpointing" else {})
            while length >= SHORTEST:
                seconds = [self._seconds(one, length, room) for one in (without, own)]
                if None not in seconds:
                    found[name] = seconds[0] / seconds[1], length
                    break
                length //= 2
        return found

    def undo(self) -> None:
        """Make everything as it was before the first trial."""
        self.trainer.optimizer = None
        if not self._was_streamed and stream_of(self.trainer.model) is not None:
            self.trainer.model.zero_grad()  # the weights that come back need the room
            _free()
            stop_streaming(self.trainer.model)
        self._before.restore()
        _free()

    def _set_up(self, choice: Choice, length: int | None = None) -> dict[str, Any]:
        """Everything on that a choice means, the optimizer's state made by a first step; the micro-batch is returned.

        length: the longest rows are cut to so many tokens, the last ones, which are supervised.
        """
        trainer = self.trainer
        self.undo()
        if choice.stream and not self._was_streamed:
            stream_layers(trainer.model, self.place)
        if choice.checkpointing:
            self.enable(trainer.model, offload=choice.offload)
        trainer.model.train()
        trainer.args.optim = OptimizerNames(PAGED) if choice.paged else self._optim
        trainer.create_optimizer()
        rows = [trainer.train_dataset[row] for row in longest_rows(trainer.train_dataset.lengths, choice.size)]
        if length is not None:
            rows = [replace(row, input_ids=row.input_ids[-length:], labels=row.labels[-length:]) for row in rows]
        batch = trainer.data_collator(rows)
        self._micro_batch(batch)
        self._step()
        return batch

    def _seconds(self, choice: Choice, length: int, room: int) -> float | None:
        """Of a micro-batch of rows cut short, and of its share of the step; None when it does not fit."""

        def measure() -> float:
            batch = self._set_up(choice, length)
            return self._micro_batch(batch) + self._step() / (self.effective // choice.size)

        seconds = unless_out_of_memory(measure)
        return seconds if seconds is not None and self._peak() <= room else None

    def _still_share(self, choice: Choice) -> float:
        batch = self._set_up(choice)
        moving = self._micro_batch(batch)
        with stream_of(self.trainer.model).standing_still():
            return self._micro_batch(batch) / moving

    def tokens(self, size: int) -> int:
        """Of a micro-batch as it is tried, padding not counted."""
        lengths = self.trainer.train_dataset.lengths
        return sum(lengths[row] for row in longest_rows(lengths, size))

    def room(self, total_bytes: int, kept_free: float) -> int:
        """What a peak may be on a card of so many bytes, of which a share stays free."""
        return int(total_bytes * (1 - kept_free)) - self._others

    def _micro_batch(self, batch: dict[str, Any]) -> float:
        """Forward and backward; seconds."""
        started, trainer = _now(), self.trainer
        inputs = trainer._prepare_inputs(batch)
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=_supervised(inputs["labels"]))
        trainer.accelerator.backward(loss)
        return _now() - started

    def _step(self) -> float:
        """Clip and update; seconds."""
        started, trainer = _now(), self.trainer
        if trainer.args.max_grad_norm:
            trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.model.zero_grad()
        return _now() - started

    def _peak(self) -> int:
        if not torch.cuda.is_available():
            return memory_bytes()[1]
        return torch.cuda.max_memory_reserved() + max(0, _beside_allocator() - self._others)


def longest_rows(lengths: list[int], size: int) -> list[int]:
    """The rows of the largest micro-batch there can be, one shorter where any is: an encoder then has a mask."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    rows = order[:size]
    shorter = next((row for row in order if lengths[row] < lengths[order[0]]), None)
    if len(rows) > 1 and shorter is not None and lengths[rows[-1]] == lengths[rows[0]]:
        rows[-1] = shorter
    return rows


def _supervised(labels_BT: Tensor) -> int:
    return int((labels_BT[:, 1:] != IGNORED).sum())


def _free() -> None:
    """Give back what is not in use, and begin to look for a peak anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _beside_allocator() -> int:
    """Bytes of the card in use that PyTorch's allocator did not take: contexts, kernels, other programs."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
