"""A micro-batch that does not fit costs time, not the run: it is split and the step run again, to the same gradient.

In come the micro-batches of a step, as the trainer is handed them, and what is to be done with each; out goes the loss
of the step. When memory runs out, what the attempt held is freed, micro-batches are of half the size from now on, and
the step begins again:

    4 rows of 512 tokens do not fit  ->  Sizes.training = 1024: 2 + 2 rows of 512, and still 4 rows of 256 at once

Why the whole step and not the failed micro-batch alone: memory may run out in the middle of a backward pass, when some
weights have got its gradient on top of that of its predecessors, and others have not. To take it back needs a copy of
every gradient before every micro-batch: 4 bytes a trained weight, a quarter more in a full fine-tune, where memory is
what is lacking. Token ids and random states of the step weigh nothing. The loss is a sum over supervised tokens divided
by their count in the whole step (trainer.py), so halves add up to the whole. What had fitted is run again as it was,
with the random numbers (dropout) of the first time.

The size is in tokens, padding counted, as activations are: short rows still run together. It only ever shrinks, is kept
in the checkpoints, so that a run that was stopped goes on as if it had not been, and each time is a warning and a line
of out_of_memory.jsonl. A single row that does not fit ends the run, named. So does any micro-batch among several
processes: they wait for each other in the middle of a pass, and one of them alone cannot begin again.

What it does not do: an optimizer step that runs out of memory (fitting.py).

Worst bug: a row whose gradient is added twice (tests/learn/test_replay.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from .. import console, files
from ..errors import MachineError
from ..memory.out_of_memory import unless_out_of_memory
from ..run.folder import RunFolder
from ..tokens.examples import IGNORED
from .checkpoints import checkpoint_words
from .undisturbed import RandomStates

T = TypeVar("T")
Inputs = Mapping[str, Any]
Phase = Literal["training", "evaluation"]


class Sizes(TrainerCallback, ExportableState):
    """The largest micro-batches that are tried, in tokens, padding counted; None until one did not fit."""

    def __init__(self, training: int | None = None, evaluation: int | None = None) -> None:
        self.training, self.evaluation = training, evaluation

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {"training": self.training, "evaluation": self.evaluation}, "attributes": {}}


@dataclass(slots=True)
class _MicroBatch:
    inputs: Inputs
    states: RandomStates  # before it was first seen
    tokens: int | None  # that its pieces have at most


class Replay:
    """Runs the micro-batches of training and evaluation, in pieces where they do not fit.

    Args:
        forget: takes back what the step has left so far: gradients, counts, its part of the logged loss.
        is_alone: no other process takes part, so that a pass can be run again.
        is_checkpointed: train.gradient_checkpointing, which a row that does not fit would need.
        remember: told the rows and their length, padding counted, that training tries from now on.
    """

    def __init__(
        self, run: RunFolder, *, forget: Callable[[], None], is_alone: bool, is_checkpointed: bool,
        remember: Callable[[int, int], None] | None,
    ) -> None:  # fmt: skip
        self.run, self.forget, self.remember = run, forget, remember
        self.is_alone, self.is_checkpointed = is_alone, is_checkpointed
        self._step: list[_MicroBatch] = []

    def begin_step(self) -> None:
        """Forget the micro-batches of the last step."""
        self._step = []

    def train(self, inputs: Inputs, work: Callable[[Inputs], Tensor], sizes: Sizes, step: int) -> Tensor:
        """Forward and backward, `work`, of the step's next micro-batch.

        Returns the loss to add to what is logged: of this micro-batch or, after `forget`, of all of the step so far.
        """
        self._step.append(_MicroBatch(inputs, RandomStates.now(), sizes.training))
        losses, too_large = _attempt(inputs, work, sizes.training)
        failed = self._step[-1]
        while too_large is not None:
            self._shrink(too_large, sizes, "training", step)
            failed.tokens = sizes.training
            self.forget()
            losses = []
            for failed in self._step:
                failed.states.restore()
                more, too_large = _attempt(failed.inputs, work, failed.tokens)
                losses += more
                if too_large is not None:
                    break
        return torch.stack(losses).sum()

    def evaluate(self, inputs: Inputs, work: Callable[[Inputs], T], sizes: Sizes, step: int) -> list[T]:
        """What `work` gives for each piece of a micro-batch, after `step` steps."""
        results, too_large = _attempt(inputs, work, sizes.evaluation)
        while too_large is not None:
            self._shrink(too_large, sizes, "evaluation", step)
            results, too_large = _attempt(inputs, work, sizes.evaluation)
        return results

    def _shrink(self, piece: Inputs, sizes: Sizes, phase: Phase, step: int) -> None:
        rows, width = _shape(piece)
        when = f"in step {step}" if phase == "training" else f"in the evaluation after step {step}"
        if rows == 1 or not self.is_alone:
            raise self._too_large(piece, rows, width, when)
        fewer = -(-rows // 2)
        tokens = min(getattr(sizes, phase) or fewer * width, fewer * width)
        setattr(sizes, phase, tokens)
        record = {
            "step": step, "phase": phase, "rows": rows, "width": width, "tokens_from_now": tokens,
            "sources": piece["sources"],
        }  # fmt: skip
        files.append_text(self.run.out_of_memory, files.json_line(record))
        again = "the step is run again, to the same gradient" if phase == "training" else "they are seen again"
        console.warn(
            f"Memory ran out {when} with {rows} rows of {width} tokens; {again}. From now on {phase} "
            f"micro-batches have at most {tokens} tokens, padding counted. The next run is spared this by "
            f"train.batch_size={fewer}."
        )
        if self.remember is not None and phase == "training":
            self.remember(max(1, tokens // width), width)

    def _too_large(self, piece: Inputs, rows: int, width: int, when: str) -> MachineError:
        checkpointing = "" if self.is_checkpointed else "set train.gradient_checkpointing to true, "
        cure = f"Close what else uses the device, {checkpointing}lower model.max_seq_len, or set tuning.mode to qlora."
        cure += f" {checkpoint_words(self.run.path)}"
        if rows == 1:
            tokens = int(piece["attention_mask"].sum())
            return MachineError(
                f"Memory ran out {when} with a single row of {tokens} tokens.", where=piece["sources"][0],
                expected="memory for one row at a time", cure=cure, code="E409",
            )  # fmt: skip
        return MachineError(
            f"Memory ran out {when} with {rows} rows of {width} tokens, and among several processes none can run its "
            "part again alone: the others wait for it in the middle of theirs.", where=", ".join(piece["sources"]),
            expected="micro-batches that fit every process", cure=f"Lower train.batch_size. {cure}", code="E409",
        )  # fmt: skip


def _attempt(inputs: Inputs, work: Callable[[Inputs], T], tokens: int | None) -> tuple[list[T], Inputs | None]:
    """What `work` gives for each piece, and the piece that memory ran out with; None when all went well."""
    results = []
    for piece in pieces(inputs, tokens):
        result = unless_out_of_memory(partial(work, piece))
        if result is None:
            return [], piece
        results.append(result)
    return results, None


def pieces(inputs: Inputs, tokens: int | None) -> list[Inputs]:
    """A micro-batch in pieces of at most so many tokens, padding counted, or of one row; in order, about equal."""
    rows, width = _shape(inputs)
    if tokens is None or rows * width <= tokens:
        return [inputs]
    count = -(-rows // max(1, tokens // width))
    most = -(-rows // count)
    return [_rows(inputs, slice(first, first + most)) for first in range(0, rows, most)]


def _shape(inputs: Inputs) -> tuple[int, int]:
    """Rows and the width of the widest tensor: of the answers, in an encoder-decoder, where these are the longer."""
    widths = [value.shape[1] for value in inputs.values() if isinstance(value, Tensor) and value.ndim == 2]
    return len(inputs["input_ids"]), max(widths)


def _rows(inputs: Inputs, rows: slice) -> Inputs:
    """Some rows, without the padding that only the others needed; tensors of one width keep one width."""
    cut = {name: value[rows] for name, value in inputs.items()}
    used_BT = cut["attention_mask"] != 0
    if cut["labels"].shape == used_BT.shape:
        used_BT |= cut["labels"] != IGNORED
    width, whole = int(used_BT.any(dim=0).nonzero().max()) + 1, used_BT.shape[1]
    is_wide = {name: isinstance(value, Tensor) and value.shape[1:] == (whole,) for name, value in cut.items()}
    return {name: value[:, :width] if is_wide[name] else value for name, value in cut.items()}
