"""What keeps a broken step out of the weights, and stops a training that is broken, before it costs a night.

`BrokenSteps` looks at the log-probabilities of every micro-batch and at the gradients before every optimizer step: a
step with one that is not finite is not applied, its rows are named and dumped, and the third in a row ends the run.
`SilentTensors` asks once, as soon as an update has been made, that every trainable tensor gets a gradient;
`refuse_non_finite_weights` stands before every save. Of several processes each sees its own rows, and under FSDP2 its
own shards, so all of them agree before any acts.

    warning: Step 12 is not applied: its loss is not finite. Rows: raw.jsonl:17. They are in outputs/r/non_finite.jsonl.

Worst bug: NaN weights in a checkpoint (tests/learn/test_guards.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from .. import console, files
from ..errors import TrainingError
from ..run.folder import RunFolder
from ..units import some
from . import processes
from .checkpoints import checkpoint_words

NAMED = 10  # rows or tensors named in a message
IN_A_ROW = 3  # steps that were not applied, after which the run ends


def refuse_non_finite_weights(model: nn.Module, step: int) -> None:
    """Raise TrainingError if a trainable weight is NaN or infinite."""
    own = [name for name, weight in _trainable(model) if not torch.isfinite(processes.own_part(weight)).all()]
    if broken := _of_all(own):
        raise TrainingError(
            f"{len(broken)} trainable tensors are not finite at step {step}, so they are not saved: "
            f"{some(broken, NAMED)}.",
            expected="finite weights",
            cure="Lower train.learning_rate and go on from the newest checkpoint: train.resume=auto.",
            code="E703",
        )


def broken_evaluation(rows: Sequence[str], run: RunFolder, step: int) -> TrainingError:
    """What is wrong with an evaluation whose loss is not finite. rows: sources, as this process saw them.

    It ends the run: there is no loss to compare, and a comparison with NaN would call the first checkpoint the best.
    """
    named = sorted(set(_of_all(list(rows))))
    return TrainingError(
        f"The loss of the evaluation after step {step} is not finite. Rows: {some(named, NAMED)}.", where=str(run.path),
        expected="a finite loss of each row",
        cure="Look at these rows and take them out of the validation split; if they are sound, lower "
        f"train.learning_rate, or train in bf16, not fp16. {checkpoint_words(run.path)}", code="E703",
    )  # fmt: skip


class BrokenSteps(TrainerCallback):
    """Leaves out the steps whose loss or gradient is not finite; `is_left_out` says so of the current one.

    Under fp16 the loss scaler leaves out steps itself, and lowers the scale after a non-finite gradient, which is how
    it finds the right one: there only losses are looked at. DeepSpeed makes its step within the backward pass, where
    it cannot be left out: there (`can_leave_out` false) a loss that is not finite ends the run before it.
    """

    def __init__(self, run: RunFolder, *, is_scaled: bool, can_leave_out: bool = True) -> None:
        self.run, self.is_scaled, self.can_leave_out = run, is_scaled, can_leave_out
        self.is_left_out = False
        self._in_a_row = 0
        self._inputs: list[Mapping[str, Any]] = []  # micro-batches of the current step
        self._lost: set[str] = set()  # its rows whose loss is not finite

    @property
    def is_at_start(self) -> bool:
        """Whether no micro-batch of the step has been looked at."""
        return not self._inputs

    def look(self, inputs: Mapping[str, Any], logprobs_N: Tensor, rows_N: Tensor) -> bool:
        """Look at one micro-batch; whether it is broken."""
        self._inputs.append(inputs)
        broken_N = ~torch.isfinite(logprobs_N.detach())
        is_broken = bool(broken_N.any())
        if is_broken:
            self._lost |= {inputs["sources"][row] for row in rows_N[broken_N].unique().tolist()}
        if not self.can_leave_out and processes.any_of(is_broken):
            raise TrainingError(
                f"The loss is not finite. Rows: {some(_of_all(sorted(self._lost)), NAMED)}.",
                where="ACCELERATE=zero2, zero3",
                expected="finite losses: under DeepSpeed a step cannot be left out",
                cure="Look at these rows; if they are sound, lower train.learning_rate. What was learned before is in "
                "the newest checkpoint.",
            )  # fmt: skip
        return is_broken

    def forget_step(self) -> None:
        """Begin the step with nothing, also when it is run again."""
        self._inputs, self._lost, self.is_left_out = [], set(), False

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Begin with nothing."""
        self.forget_step()

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        """Take the gradients of a broken step away: an optimizer passes over a tensor that has none."""
        names = [] if self.is_scaled else _non_finite_gradients(model)
        self.is_left_out = processes.any_of(bool(names or self._lost))
        if not self.is_left_out:
            self._in_a_row = 0
            return
        names, self._lost = sorted(_of_all(names)), set(_of_all(sorted(self._lost)))
        self._in_a_row += 1
        step = state.global_step + 1
        rows = self._dump(step)
        what = "loss" if self._lost else f"gradient of {len(names)} tensors ({some(names, NAMED)})"
        if self._in_a_row == IN_A_ROW:
            raise TrainingError(
                f"{IN_A_ROW} steps in a row, up to step {step}, could not be applied: the {what} is not finite. "
                f"Rows: {some(rows, NAMED)}.",
                where=str(self.run.non_finite),
                expected="finite losses and gradients",
                cure="Look at these rows; if they are sound, lower train.learning_rate, or train in bf16, not fp16. "
                "What was learned before is in the newest checkpoint.",
                code="E703",
            )
        console.warn(
            f"Step {step} is not applied: the {what} is not finite. Rows: {some(rows, NAMED)}. "
            f"They are in {self.run.non_finite}."
        )
        if not self.is_scaled:
            for _, weight in _trainable(model):
                weight.grad = None

    def _dump(self, step: int) -> list[str]:
        """Append the rows behind it, or all of the step when only the gradient is broken; return their sources."""
        found = {
            source: {"step": step, "source": source, "input_ids": ids[seen > 0].tolist()}
            for inputs in self._inputs
            for source, ids, seen in zip(inputs["sources"], inputs["input_ids"], inputs["attention_mask"], strict=True)
            if source in self._lost or (source and not self._lost)
        }
        found = {source: row for part in processes.gathered(found) for source, row in part.items()}
        if processes.is_first():
            files.append_text(self.run.non_finite, "".join(map(files.json_line, found.values())))
        return list(found)


class SilentTensors(TrainerCallback):
    """Stops on a trainable tensor that gets no gradient.

    It is asked at the first step after an update that changed the weights: LoRA starts with B = 0, which makes the
    gradient of A exactly zero until B has moved, and under warm-up the first rate may be 0.
    """

    def __init__(self, broken: BrokenSteps) -> None:
        self.broken = broken
        self._silent: set[str] | None = None  # tensors without a gradient so far
        self._has_moved = self._is_checked = False

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        """Look at the gradients of the step."""
        if not self._is_checked and not self.broken.is_left_out:
            self._look_for_silent_tensors(model, state.global_step + 1)

    def on_optimizer_step(self, args, state, control, optimizer, **kwargs) -> None:
        """Note whether the step changed the weights."""
        was_skipped = self.broken.is_left_out or getattr(optimizer, "step_was_skipped", False)
        self._has_moved |= not was_skipped and any(group["lr"] > 0 for group in optimizer.param_groups)

    def _look_for_silent_tensors(self, model: nn.Module, step: int) -> None:
        tensors = dict(_trainable(model))
        names = tensors if self._silent is None else self._silent
        own = {name for name in names if _is_silent(tensors[name])}
        self._silent = set.intersection(*processes.gathered(own))
        self._is_checked = self._has_moved
        if self._is_checked and self._silent:
            raise TrainingError(
                f"{len(self._silent)} of {len(tensors)} trainable tensors got no gradient up to step {step}: "
                f"{some(sorted(self._silent), NAMED)}.",
                expected="a gradient other than zero in each, or nothing is learned there",
                cure="Choose other tuning.lora.target_modules; `all-linear` suits most models.",
                code="E702",
            )


def _non_finite_gradients(model: nn.Module) -> list[str]:
    named = [(name, weight.grad) for name, weight in _trainable(model) if weight.grad is not None]
    is_finite = [torch.isfinite(processes.own_part(gradient)).all() for _, gradient in named]
    if not is_finite or torch.stack(is_finite).all():  # one wait for the GPU instead of one a tensor
        return []
    return [name for (name, _), finite in zip(named, is_finite, strict=True) if not finite]


def _is_silent(weight: nn.Parameter) -> bool:
    return weight.grad is None or not processes.own_part(weight.grad).any()


def _of_all(names: Iterable[str]) -> list[str]:
    """The names found in any process, each once."""
    if not processes.any_of(bool(names)):
        return []
    return list(dict.fromkeys(name for part in processes.gathered(list(names)) for name in part))


def _trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
