"""A training that ends on time, annealed: train.max_minutes.

The clock is that of training, over all sessions of the run, evaluations and checkpoints included; loading the model is
not. The schedule follows the share of the time that is used up, or that of the planned steps where these are ahead, so
that the rate has come down when the time is over. Training stops when less than half a step is left before the time
that the last evaluation and checkpoint will take: the longest pause between two steps so far or, before the first
evaluation, a guess. Of several processes the first holds the watch: a schedule by two clocks would give two rates.

    Budget(2700.0).share()  ->  0.5 after 22.5 minutes

Worst bug: a run that ends too late, or with a high rate (tests/learn/test_budget.py).
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from . import processes

RECENT = 8  # steps whose mean says how long the next one takes
FORWARD = 1 / 3  # time of a forward pass within forward and backward: the backward costs twice as much


class Budget(TrainerCallback, ExportableState):
    """Ends a training after `seconds`; what is used up is kept in the checkpoints.

    Args:
        evaluation_steps: rows of an evaluation by rows of a step, 0 without evaluations.
    """

    def __init__(self, seconds: float, evaluation_steps: float = 0.0) -> None:
        self.seconds, self.evaluation_steps = seconds, evaluation_steps
        self.is_over = self.has_evaluated = False
        self.spent = self.longest_pause = self.reached = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._started = self._began = self._ended = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "args": {"seconds": self.seconds, "evaluation_steps": self.evaluation_steps},
            "attributes": {
                "spent": self.elapsed(), "longest_pause": self.longest_pause, "reached": self.reached,
                "is_over": self.is_over, "has_evaluated": self.has_evaluated,
            },
        }  # fmt: skip

    def elapsed(self) -> float:
        """Seconds of training so far, over all sessions."""
        return self.spent + (0.0 if self._started is None else monotonic() - self._started)

    def share(self) -> float:
        """Share of the time for steps that is used up, in [0, 1]; it never falls."""
        for_steps = self.seconds - self._closing()
        self.reached = max(self.reached, min(1.0, self.elapsed() / for_steps) if for_steps > 0 else 1.0)
        self.reached = processes.first_says(self.reached)
        return self.reached

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Start the clock."""
        self._started = monotonic()

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """From now on the pauses say how long one takes."""
        self.has_evaluated = True

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        """Measure the pause since the last step: evaluation, checkpoint, logging."""
        self._began = monotonic()
        if self._ended is not None:
            self.longest_pause = max(self.longest_pause, self._began - self._ended)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Stop when the next step would end later than is early now; evaluate and save as at any end."""
        self._ended = monotonic()
        self._recent.append(self._ended - self._began)
        left = self.seconds - self._closing() - self.elapsed()
        is_late = processes.first_says(left < self._step_seconds() / 2)
        if is_late and not control.should_training_stop:
            self.is_over = control.should_training_stop = control.should_log = True
            control.should_evaluate |= args.eval_strategy == "steps"
            control.should_save |= args.save_strategy == "steps"

    def _step_seconds(self) -> float:
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    def _closing(self) -> float:
        guess = 0.0 if self.has_evaluated else self.evaluation_steps * FORWARD * self._step_seconds()
        return max(self.longest_pause, guess)


def follow_time(scheduler: LambdaLR, budget: Budget, steps: int) -> None:
    """Let a schedule of `steps` steps go by the time that is used up, where that is ahead of the steps."""

    def timed(rate: Any) -> Any:
        return lambda step: rate(max(step, budget.share() * steps))

    scheduler.lr_lambdas = [timed(rate) for rate in scheduler.lr_lambdas]
