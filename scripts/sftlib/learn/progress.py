"""Progress of a training: a bar with ETA on a terminal, a plain line every logging.log_interval steps elsewhere.

    training: 40/300 in 1m 05s, 7m 02s left, loss 1.204, lr 1.9e-04, 512 tok/s

Worst bug: a bar left on the terminal after an error, so that the message is unreadable (tests/learn/test_progress.py).
"""

from __future__ import annotations

from transformers import TrainerCallback

from ..console import Meter


class Progress(TrainerCallback):
    """Shows how far training is. `close` must be called whatever happens; `fit` does.

    is_timed: the time ends it (train.max_minutes), so the planned steps say nothing of what is left.
    """

    def __init__(self, *, log_interval: int, is_timed: bool = False) -> None:
        self.log_interval, self.is_timed = log_interval, is_timed
        self._meter: Meter | None = None
        self._text = ""

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Open the display; a resumed run counts the steps that are left."""
        if state.is_world_process_zero:
            done = state.global_step
            description = f"training from step {done}" if done else "training"
            total = None if self.is_timed else state.max_steps - done
            self._meter = Meter(description, total, every=self.log_interval).__enter__()

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        """Remember the numbers to show."""
        if "loss" in logs:
            speed = f", {logs['tokens_per_second']:.0f} tok/s" if "tokens_per_second" in logs else ""
            self._text = f"loss {logs['loss']:.4g}, lr {logs['learning_rate']:.2g}{speed}"
        elif "eval_loss" in logs:
            self._text += f", eval loss {logs['eval_loss']:.4g}"

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Advance by one step."""
        if self._meter is not None:
            self._meter.advance(text=self._text)

    def close(self, error: BaseException | None = None) -> None:
        """Take the display away; after an error without a last line."""
        if self._meter is not None:
            self._meter.__exit__(type(error) if error else None, error, None)
            self._meter = None
