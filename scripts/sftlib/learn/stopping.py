"""Stopping on request without losing anything: a signal, or the file that `make stop` writes.

The first Ctrl-C, SIGTERM or SIGUSR1 (what Slurm sends ahead of time) lets the step end, saves a full checkpoint and
ends the training; the second has its usual effect at once, which costs the steps since the last checkpoint and nothing
else. A stop in the middle of an epoch brings no evaluation with it: the run that goes on is the one that never stopped.
Several processes stop at the same step, whichever of them was asked. Their launcher passes on the signals that it gets,
so what comes within a moment of the first is no second one.

Worst bug: a run that is not the same after a stop (tests/test_never_lose_work.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from transformers import TrainerCallback

from .. import console
from ..run.folder import RunFolder
from ..run.launch import find_launch
from ..run.occupied import is_asked_to_stop
from . import processes

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}
FILE = "make stop"
REASONS = ("", FILE, *SIGNALS.values())
ECHO = 2.0  # seconds in which the launcher of several processes passes on what the terminal has sent them already


class Stopper(TrainerCallback):
    """Ends the training after the step in which it was asked to. `asked` says by what, empty when by nothing."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.asked = ""
        self.has_stopped = False
        self._is_said = False
        self._saved_step = -1
        self._before: dict[int, Any] = {}
        self._heard, self._echo = 0.0, ECHO if find_launch().processes > 1 else 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals inside the block; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            self._stop_listening()

    def on_substep_end(self, args, state, control, **kwargs) -> None:
        """Say that the request was heard; a step may be long."""
        self._look()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Stop here if it was asked for and the training goes on; what ends an epoch is saved after its evaluation."""
        self._look()
        if agreed := REASONS[processes.largest(REASONS.index(self.asked))]:  # another may come just now
            self.asked = agreed
            self._say()
        if agreed and not control.should_training_stop:
            self.has_stopped = control.should_training_stop = control.should_log = True
            control.should_save |= not _is_epoch_end(state)

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        """An epoch that was broken off is no reason to evaluate or to save again."""
        if self.has_stopped and _is_epoch_end(state):
            control.should_save |= self._saved_step != state.global_step
        elif self.has_stopped:
            control.should_evaluate = control.should_save = control.should_log = False

    def on_save(self, args, state, control, **kwargs) -> None:
        """Remember that this step is saved."""
        self._saved_step = state.global_step

    def _look(self) -> None:
        if not self.asked and is_asked_to_stop(self.run):
            self.asked = FILE
        if self.asked:
            self._say()

    def _say(self) -> None:
        if not self._is_said:
            self._is_said = True
            console.note(f"{self.asked}: stopping after this step, with a checkpoint. A second signal stops at once.")

    def _hear(self, number: int, frame: Any) -> None:
        # Nothing is printed here: the signal may have come in the middle of a print.
        if not self.asked:
            self.asked, self._heard = SIGNALS[signal.Signals(number)], time.monotonic()
        elif time.monotonic() - self._heard >= self._echo:
            self._stop_listening()
            os.kill(os.getpid(), number)

    def _stop_listening(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _is_epoch_end(state: Any) -> bool:
    return float(state.epoch).is_integer()
