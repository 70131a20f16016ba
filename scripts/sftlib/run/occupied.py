"""Who is at work in a run's folder: one training at a time, and the file that asks it to stop.

In comes a `RunFolder`. The lock is the operating system's, on `outputs/<run>/.lock`: it ends with the process, however
that ends, so nothing stale is left behind. Of several processes of one training only the first holds it.

    with occupied(run): train          ask_to_stop(Path("outputs"))  ->  [RunFolder(outputs, "first-try")]

Worst bug: two trainings in one folder (tests/run/test_occupied.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .. import console, files
from ..errors import MixError, UsageError
from .folder import RunFolder

LOCK, STOP = ".lock", "stop"


@contextlib.contextmanager
def occupied(run: RunFolder) -> Iterator[RunFolder]:
    """Hold the run's folder, cleared of what a kill left half-written and of an old request to stop.

    Raises MixError when another process holds it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield run
        return
    handle = os.open(run.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _take(handle):
            raise MixError(
                f"Another process is training the run {run.name}.", where=str(run.path),
                expected="one training at a time in a folder",
                cure=f"Wait for it, stop it with: make stop RUN={run.name}. Or choose another name: RUN={run.name}-2",
            )  # fmt: skip
        (run.path / STOP).unlink(missing_ok=True)
        files.sweep(run.path)
        try:
            yield run
        finally:
            (run.path / STOP).unlink(missing_ok=True)
    finally:
        os.close(handle)


def ask_to_stop(root: Path, name: str | None = None) -> list[RunFolder]:
    """Ask the runs in progress under `root`, or the one of that name, to stop after their step; return them."""
    names = [name] if name else sorted(path.parent.name for path in root.glob(f"*/{LOCK}"))
    running = [run for run in (RunFolder(root, name) for name in names) if _is_occupied(run)]
    if not running:
        raise UsageError(
            f"The run {name} is not being trained." if name else "No training is in progress.", where=str(root),
            expected="a training in progress", cure="Begin one: make train",
        )  # fmt: skip
    for run in running:
        (run.path / STOP).touch()
    return running


def is_asked_to_stop(run: RunFolder) -> bool:
    """Whether the file that asks for it is there."""
    return (run.path / STOP).exists()


def _is_occupied(run: RunFolder) -> bool:
    try:
        handle = os.open(run.path / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _take(handle)
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some network file systems have no locks
        console.warn(f"The run's folder cannot be locked ({error.strerror}); see that one training at a time uses it.")
    return True
