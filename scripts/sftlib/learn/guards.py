"""What stops a training that is broken, before it costs a night or a checkpoint.

`refuse_non_finite` looks at the log-probabilities of every micro-batch and names the rows behind a NaN;
`GradientGuard` looks at the gradients before every optimizer step, and once, as soon as an update has been made,
asks that every trainable tensor gets some; `refuse_non_finite_weights` stands before every save.

    error: The loss is not finite at step 12. Rows: raw.jsonl:17.

Worst bug: NaN weights in a checkpoint (tests/learn/test_guards.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from ..errors import TrainingError
from .tally import Tally

NAMED = 10  # rows or tensors named in a message


def refuse_non_finite(logprobs_N: Tensor, rows_N: Tensor, sources: Sequence[str], step: int) -> None:
    """Raise TrainingError, naming the rows, unless every log-probability is finite."""
    broken_N = ~torch.isfinite(logprobs_N.detach())
    if broken_N.any():
        rows = [sources[row] for row in rows_N[broken_N].unique().tolist()]
        raise TrainingError(
            f"The loss is not finite at step {step}. Rows: {_some(rows)}.",
            expected="finite log-probabilities",
            cure="Look at these rows; if they are sound, lower train.learning_rate, or train in bf16 instead of fp16.",
        )


def refuse_non_finite_weights(model: nn.Module, step: int) -> None:
    """Raise TrainingError if a trainable weight is NaN or infinite."""
    broken = [name for name, weight in _trainable(model) if not torch.isfinite(weight).all()]
    if broken:
        raise TrainingError(
            f"{len(broken)} trainable tensors are not finite at step {step}, so they are not saved: {_some(broken)}.",
            expected="finite weights",
            cure="Lower train.learning_rate and go on from the newest checkpoint: train.resume=auto.",
        )


class GradientGuard(TrainerCallback):
    """Stops on a non-finite gradient, and on a trainable tensor that gets none.

    The second question is asked at the first step after an update that changed the weights: LoRA starts with B = 0,
    which makes the gradient of A exactly zero until B has moved, and under warm-up the first rate may be 0.
    Under fp16 the loss scaler deals with non-finite gradients itself: it skips the step and lowers the scale.
    """

    def __init__(self, tally: Tally, *, is_scaled: bool) -> None:
        self.tally, self.is_scaled = tally, is_scaled
        self._silent: set[str] | None = None  # tensors without a gradient so far
        self._has_moved = self._is_checked = False

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        """Look at the gradients of the step."""
        step = state.global_step + 1
        if not self.is_scaled:
            self._refuse_non_finite_gradients(model, step)
        if not self._is_checked:
            self._look_for_silent_tensors(model, step)

    def on_optimizer_step(self, args, state, control, optimizer, **kwargs) -> None:
        """Note whether the step changed the weights."""
        was_skipped = getattr(optimizer, "step_was_skipped", False)
        self._has_moved |= not was_skipped and any(group["lr"] > 0 for group in optimizer.param_groups)

    def _refuse_non_finite_gradients(self, model: nn.Module, step: int) -> None:
        gradients = [weight.grad for _, weight in _trainable(model) if weight.grad is not None]
        is_finite = [torch.isfinite(gradient).all() for gradient in gradients]
        if is_finite and not torch.stack(is_finite).all():  # one wait for the GPU instead of one a tensor
            broken = [name for name, weight in _trainable(model) if not torch.isfinite(weight.grad).all()]
            raise TrainingError(
                f"{len(broken)} gradients are not finite at step {step}: {_some(broken)}. "
                f"Rows of the step: {_some(self.tally.step_sources)}.",
                expected="finite gradients",
                cure="Look at these rows; if they are sound, lower train.learning_rate.",
            )

    def _look_for_silent_tensors(self, model: nn.Module, step: int) -> None:
        tensors = dict(_trainable(model))
        names = tensors if self._silent is None else self._silent
        self._silent = {name for name in names if tensors[name].grad is None or not tensors[name].grad.any()}
        self._is_checked = self._has_moved
        if self._is_checked and self._silent:
            raise TrainingError(
                f"{len(self._silent)} of {len(tensors)} trainable tensors got no gradient up to step {step}: "
                f"{_some(sorted(self._silent))}.",
                expected="a gradient other than zero in each, or nothing is learned there",
                cure="Choose other tuning.lora.target_modules; `all-linear` suits most models.",
            )


def _trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
