"""A real trial of a micro-batch: forward, backward and optimizer steps on the longest rows, timed and weighed.

In come the model that is going to be trained and what its trainer is built from; out goes the function that
memory/search.py asks: size, gradient checkpointing, offload -> seconds, bytes. It goes through the trainer's own loss,
collation and optimizer. The first step makes the optimizer's state and is not timed; the bytes are the peak of both: on
a GPU what PyTorch's allocator took from the card, and what libraries took beside it since the probing began.

    with probing(model, train=config.train, run=run, train_set=rows, ...) as trial:
        found = search(trial, ...)

    trial(4, True, False)  ->  (0.41, 6123683840)

Worst bug: a trial that changes the training after it (tests/learn/test_probing.py).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..config.schema import LoggingSection, TrainSection
from ..model.adapters import enable_gradient_checkpointing
from ..run.folder import RunFolder
from ..tokens.dataset import ExampleDataset
from ..tokens.examples import IGNORED
from .fitting import build_trainer
from .snapshot import Snapshot
from .tally import memory_bytes
from .trainer import SftTrainer

Enable = Callable[..., None]  # of the model, and offload


@contextlib.contextmanager
def probing(
    model: nn.Module, *, train: TrainSection, run: RunFolder, precision: str, device: str, seed: int,
    train_set: ExampleDataset, pad_id: int, effective: int, enable: Enable = enable_gradient_checkpointing,
) -> Iterator[Trial]:  # fmt: skip
    """Inside the block trials may be run; afterwards everything is as if none had been.

    train: settled but for the batch.
    effective: rows that a step of this process has.
    enable: switches gradient checkpointing on, with offload or without. The other arguments are build_trainer's.
    """
    before = Snapshot(model)
    bare = {
        "batch_size": 1, "grad_accum": 1, "gradient_checkpointing": False, "activation_offload": False,
        "max_minutes": None, "metric_for_best_model": "eval_loss", "greater_is_better": None,
    }  # fmt: skip
    trainer = build_trainer(
        model, train=train.without_interruptions().model_copy(update=bare), logging=LoggingSection(backend="none"),
        run=run, precision=precision, device=device, seed=seed, train_set=train_set, eval_set=None, pad_id=pad_id,
    )  # fmt: skip
    try:
        yield Trial(trainer, before, effective, enable)
    finally:
        trainer.optimizer = None
        before.restore()
        _free()


class Trial:
    """Tries one micro-batch after another on the same model, each from the same start."""

    def __init__(self, trainer: SftTrainer, before: Snapshot, effective: int, enable: Enable) -> None:
        self.trainer, self.effective, self.enable = trainer, effective, enable
        self._before = before
        self._others = _beside_allocator()

    def __call__(self, size: int, checkpointing: bool, offload: bool) -> tuple[float, int]:
        """Seconds that a micro-batch takes, its share of the optimizer step included, and bytes at the peak."""
        trainer, accumulation = self.trainer, self.effective // size
        trainer.optimizer = None
        self._before.restore()
        _free()
        if checkpointing:
            self.enable(trainer.model, offload=offload)
        trainer.model.train()
        trainer.create_optimizer()
        rows = longest_rows(trainer.train_dataset.lengths, size)
        batch = trainer.data_collator([trainer.train_dataset[row] for row in rows])
        self._micro_batch(batch)
        self._step()
        seconds = self._micro_batch(batch)
        if accumulation > 1:  # most of them find the gradients of earlier ones in memory
            self._micro_batch(batch)
        return seconds + self._step() / accumulation, self._peak()

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
