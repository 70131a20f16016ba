"""Numbers as people read them. GiB = 2^30 bytes, everywhere."""

from __future__ import annotations

from collections.abc import Sequence

GIB = 2**30


def gib(count: int | float) -> str:
    """Bytes as GiB with two decimals: `gib(3 * 2**29)` is `'1.50 GiB'`."""
    return f"{count / GIB:.2f} GiB"


def human_bytes(count: int | float) -> str:
    """Bytes in the largest binary unit that keeps the number at or above one: `human_bytes(2048)` is `'2.0 KiB'`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def human_duration(seconds: float) -> str:
    """`human_duration(3725)` is `'1h 02m'`, `human_duration(65)` is `'1m 05s'`, `human_duration(4.26)` is `'4.3s'`."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def percent(part: int | float, whole: int | float) -> str:
    """`percent(1, 3)` is `'33.3 %'`; of nothing it is `'-'`, never a made-up number."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def some(names: Sequence[str], most: int) -> str:
    """A list as far as anybody reads it: `some(["a", "b", "c"], 2)` is `'a, b and 1 more'`."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
