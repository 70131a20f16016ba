"""Running cases that must not break: each ends clean or in an SftError, in time; anything else is a bug of ours.

A case is made of its number alone, so a failing one is run again by `make fuzz CASE=data:137` (or config:137).
`make test` runs every case; what they end in is counted, and printed by `make fuzz`.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sftlib.errors import SftError

CLEAN = "clean"


class Hang(BaseException):
    """The time of a case is over; no `except Exception` can swallow it."""


def chosen(kind: str, numbers: range) -> list[int]:
    """The cases of a kind that are run: all, or the one that CASE names."""
    case = os.environ.get("CASE")
    return [number for number in numbers if not case or case == f"{kind}:{number}"]


def draw(kind: str, number: int) -> random.Random:
    """The dice of one case: the same on every machine and in every order."""
    return random.Random(f"{kind}:{number}")


def run_cases(kind: str, numbers: Sequence[int], case: Callable[[int], None], seconds: float) -> Counter[str]:
    """What the cases end in, by the kind of the error; AssertionError with every case that broke or hung."""
    ends: Counter[str] = Counter()
    broken: list[str] = []
    for number in numbers:
        try:
            with time_limit(seconds):
                case(number)
            ends[CLEAN] += 1
        except SftError as error:
            str(error).encode("utf-8")  # it can be printed
            ends[type(error).__name__] += 1
        except (Exception, Hang) as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            broken.append(f"CASE={kind}:{number}: {type(error).__name__}: {str(error)[:300]}\n{where}")
    assert not broken, f"{len(broken)} of {len(numbers)} cases broke:\n\n" + "\n".join(broken[:20])
    return ends


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang after so many seconds; the timer of pytest-timeout goes on afterwards."""

    def ring(*_: object) -> None:
        raise Hang(f"still running after {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, ring)
    began, (left, _) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001))
