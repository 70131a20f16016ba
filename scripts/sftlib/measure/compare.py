"""How sure one may be that two systems differ on the same rows: the paired bootstrap (Efron 1979; Koehn 2004).

    paired_bootstrap([0.1, 0.2, 0.4], [0.3, 0.2, 0.5], samples=1000, seed=42)
        -> Interval(difference=0.1, low=0.0, high=0.2)

The rows are drawn with replacement, both systems' scores of a row together; the interval holds the middle 95 % of the
mean differences. It says what other rows of the same kind might have given, not what another training would.

Worst bug: scores of different rows compared with each other (tests/measure/test_compare.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 95  # percent


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean of (second - first), and the interval around it; `excludes_zero`: a difference beyond chance."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    first: Sequence[float | None], second: Sequence[float | None], *, samples: int, seed: int
) -> Interval | None:
    """Compare two systems row by row, without the rows where either has no score; None with fewer than two rows."""
    import numpy as np

    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < 2:
        return None
    difference_N = np.array([b - a for a, b in pairs], dtype=np.float64)
    draw = np.random.default_rng(seed)
    means_S = np.array([difference_N[draw.integers(0, len(pairs), len(pairs))].mean() for _ in range(samples)])
    low, high = np.percentile(means_S, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return Interval(float(difference_N.mean()), float(low), float(high))
