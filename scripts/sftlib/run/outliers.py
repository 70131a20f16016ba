"""What stands out among numbers, some of which are far off: the median, and a limit above it.

The spread is the median distance from the median (MAD), which a few wild values do not move, times SIGMA, which makes
it the standard deviation where the numbers are normal.

    usual_and_limit([1.0, 1.1, 0.9, 1.0, 9.0], spreads=6)   ->  (1.0, 1.89)

Worst bug: a limit that the value in question has raised (tests/run/test_outliers.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Collection

SIGMA = 1.4826  # 1 / the 75 % point of the normal distribution


def usual_and_limit(values: Collection[float], spreads: float) -> tuple[float, float]:
    """The median, and the median plus so many robust standard deviations."""
    usual = statistics.median(values)
    return usual, usual + spreads * SIGMA * statistics.median(abs(value - usual) for value in values)
