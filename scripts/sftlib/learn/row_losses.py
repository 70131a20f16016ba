"""The loss of every row at every step, written beside the training, and what made a step stand out.

In come the micro-batches of a step with the log-probabilities that their loss is made of; out goes a line of seen.jsonl
a step (run/seen.py) and, where the loss or the gradient norm of a step is far above those before it (spikes.py), a line
of spikes.jsonl with the texts of its rows and a warning that names the worst.

Nothing is computed for it but sums over a row of what is there anyway, and they leave the GPU once a step, where the
guard of the gradients makes it wait as well. Of several processes each has its own rows: process 0 writes those of all.

    {"step": 12, "loss": 1.6231, "grad_norm": 0.8104, "rows": [["raw.jsonl:17", 2.113, 14], ["raw.jsonl:4", 1.2, 60]]}

Worst bug: a loss under another row's name (tests/learn/test_row_losses.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from .. import console, files
from ..run.folder import RunFolder
from ..run.journal import cut_back
from ..run.seen import USUAL, SeenRow, SeenStep, read_seen, rounded
from ..tokens.examples import IGNORED
from . import processes
from .losses import nll_of_rows
from .spikes import Spike, Watch

SHOWN = 60  # characters of the worst row's text in the warning


class RowLosses(TrainerCallback):
    """Writes seen.jsonl and spikes.jsonl. decode: token ids to text."""

    def __init__(self, run: RunFolder, decode: Callable[[Sequence[int]], str]) -> None:
        self.run, self.decode = run, decode
        self.grad_norm: Tensor | float | None = None  # of the current step, before clipping
        self._inputs: list[Mapping[str, Any]] = []  # micro-batches of the current step
        self._sums: list[Tensor] = []  # loss and supervised tokens of each of their rows, on their device
        self._watch = Watch()

    def count(self, inputs: Mapping[str, Any], logprobs_N: Tensor, rows_N: Tensor) -> None:
        """Take in one micro-batch."""
        self._inputs.append(inputs)
        self._sums.append(nll_of_rows(logprobs_N.detach(), rows_N, len(inputs["sources"])))

    def forget_step(self) -> None:
        """Begin the step with nothing, also when it is run again."""
        self._inputs, self._sums, self.grad_norm = [], [], None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Cut both files back to the step training starts from; what was usual before it is usual still."""
        if state.is_world_process_zero:
            for path in (self.run.seen, self.run.spikes):
                cut_back(path, state.global_step)
        self._watch = Watch(processes.first_says(deque(read_seen(self.run), USUAL)))

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Begin with nothing."""
        self.forget_step()

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        """Write the step down, and look whether it stands out."""
        rows = [row for part in processes.gathered(self._own_rows()) for row in part if row.source and row.tokens]
        step = _step_of(state.global_step + 1, self.grad_norm, rows)
        if processes.is_first():
            files.append_text(self.run.seen, files.json_line(step.to_dict()))
        spike = self._watch.look(step)
        if spike is not None:
            self._tell(spike)

    def _own_rows(self) -> list[SeenRow]:
        """The rows of the step in this process, in the order of the micro-batches."""
        sources = [source for inputs in self._inputs for source in inputs["sources"]]
        sums = torch.cat(self._sums).tolist()
        return [
            SeenRow(source, rounded(nll / tokens) if tokens else None, int(tokens))
            for source, (nll, tokens) in zip(sources, sums, strict=True)
        ]

    def _tell(self, spike: Spike) -> None:
        """Write a step that stands out with the texts of its rows, and name the worst."""
        texts = {row: text for part in processes.gathered(self._own_texts()) for row, text in part.items()}
        if not processes.is_first():
            return
        files.append_text(self.run.spikes, files.json_line(spike.to_dict(texts)))
        worst = spike.rows[0]
        text = " ".join(texts[worst].split())
        console.warn(
            f"{spike.words()} Worst row: {worst.source}, {worst.loss:.2f} a token over {worst.tokens}: "
            f"...{text[-SHOWN:]!r}. The rows are in {self.run.spikes}; make why ROW={worst.source} tells its life."
        )

    def _own_texts(self) -> dict[SeenRow, str]:
        """By the whole of a row: pairs rendered from one conversation have one source."""
        texts = (self._text(inputs, row) for inputs in self._inputs for row in range(len(inputs["sources"])))
        return dict(zip(self._own_rows(), texts, strict=True))

    def _text(self, inputs: Mapping[str, Any], row: int) -> str:
        ids = inputs["input_ids"][row][inputs["attention_mask"][row] != 0].tolist()
        if "decoder_input_ids" not in inputs:
            return self.decode(ids)
        labels = inputs["labels"][row]
        return f"{self.decode(ids)}\n{self.decode(labels[labels != IGNORED].tolist())}"


def _step_of(number: int, grad_norm: Tensor | float | None, rows: list[SeenRow]) -> SeenStep:
    tokens = sum(row.tokens for row in rows)
    nll = sum(math.nan if row.loss is None else row.loss * row.tokens for row in rows)
    norm = grad_norm.item() if isinstance(grad_norm, Tensor) else grad_norm
    return SeenStep(number, rounded(nll / tokens) if tokens else None, rounded(norm), tuple(rows))
