"""The search for the micro-batch: the fastest one that fits, without what slows it down unless that is needed.

In comes a way to try a micro-batch, the sizes that divide the batch and the bytes there are; out goes a `Found`. What a
trial is does not matter here: on a GPU real training steps (learn/probing.py), elsewhere the estimate. Sizes are
doubled until one does not fit, then what lies between is tried; of those that fit the fastest is taken.

    search(trial, sizes=[1, 2, 4, 8, 16], rungs=LADDER, room=7 * GIB, tokens=lambda size: size * 512)

    1 fits, 2 fits, 4 fits, 8 does not    ->  2 or 4, whichever gave more tokens a second
    not even 1 fits                       ->  the same again with gradient checkpointing, then with offload as well,
                                              then with a paged optimizer, and last with streamed layers

Worst bug: a choice that does not fit, or a batch that is not what was asked for (tests/memory/test_search.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .out_of_memory import unless_out_of_memory

SECONDS = 30.0  # that a search may take once something fits
LEAST_GAIN = 0.02  # of speed, below which a larger micro-batch is not worth its memory: less is noise
UNPAGED, PAGED = "adamw_torch", "paged_adamw_8bit"  # what train.optim `auto` becomes


class Means(NamedTuple):
    """What is done to make a training fit: in a config each is a key of its own.

    Args:
        checkpointing: activations are computed anew.
        offload: what is stored of them waits in main memory.
        paged: the state of the optimizer is in 8 bits, and in main memory when the card is full.
        stream: the frozen weights of the blocks wait in main memory.
    """

    checkpointing: bool = False
    offload: bool = False
    paged: bool = False
    stream: bool = False


class Choice(NamedTuple):
    """How a batch is cut, and with what means it fits."""

    size: int
    checkpointing: bool = False
    offload: bool = False
    paged: bool = False
    stream: bool = False

    @property
    def means(self) -> Means:
        """All but the size."""
        return Means(*self[1:])


LADDER = (  # what costs least first; the last resort moves every weight across the bus, twice a micro-batch
    Means(), Means(True), Means(True, True), Means(True, True, True), Means(True, True, True, True),
)  # fmt: skip
Trial = Callable[[int, bool, bool, bool, bool], tuple[float, int]]  # a Choice -> seconds of a micro-batch, peak bytes


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial; `peak` is None when memory ran out, and speed is in tokens a second."""

    choice: Choice
    speed: float | None
    peak: int | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; `chosen` is None when nothing fits."""

    chosen: Tried | None
    tried: tuple[Tried, ...]
    seconds: float
    is_cut_short: bool = field(default=False)


def candidate_sizes(effective: int, rows: int, most: int | None = None) -> list[int]:
    """Micro-batches that divide the batch of a step, up to the first that holds every row there is, or up to `most`."""
    sizes = [size for size in range(1, effective + 1) if effective % size == 0]
    enough = next((size for size in sizes if size >= rows), effective)
    return [size for size in sizes if size <= min(enough, most or effective)]


def rungs(
    checkpointing: bool | Literal["auto"], offload: bool | Literal["auto"], paged: bool | Literal["auto"] = False,
    stream: bool | Literal["auto"] = False,
) -> list[Means]:  # fmt: skip
    """The ladder with what the config states on every rung; the rest of it is left open."""
    stated = (checkpointing, offload, paged, stream)
    found = [Means(*(one if one != "auto" else own for one, own in zip(stated, rung, strict=True))) for rung in LADDER]
    for at, rung in enumerate(found):  # offload moves what checkpointing stores
        if rung.offload and not rung.checkpointing:
            found[at] = rung._replace(**({"offload": False} if checkpointing is False else {"checkpointing": True}))
    return list(dict.fromkeys(found))


def search(
    trial: Trial,
    *,
    sizes: Sequence[int],
    rungs: Sequence[Means],
    room: int,
    tokens: Callable[[int], int],
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """The fastest size that fits, on the first rung of the ladder on which any does.

    Args:
        trial: takes what a Choice holds; raises (see out_of_memory.py) when memory runs out.
        sizes: rising.
        room: bytes that a peak may be.
        tokens: of a micro-batch of this size.
        seconds: no larger size is begun when it would probably end later; it takes what it takes until one fits.
    """
    started = clock()
    tried: list[Tried] = []
    for means in rungs:
        fitting: list[Tried] = []
        fits_up_to, too_large, is_cut_short = 0, sizes[-1] + 1, False
        size: int | None = sizes[0]
        while size is not None:
            begun = clock()
            one = _try(trial, Choice(size, *means), room, tokens)
            tried.append(one)
            if one.fits:
                fitting.append(one)
                fits_up_to, seconds_a_row = size, (clock() - begun) / size
            else:
                too_large = size
            if not fitting:
                break
            size = _next(sizes, fits_up_to, too_large)
            if size is not None and clock() - started + size * seconds_a_row > seconds:
                size, is_cut_short = None, True
        if fitting:
            return Found(_fastest(fitting), tuple(tried), clock() - started, is_cut_short)
    return Found(None, tuple(tried), clock() - started)


def _try(trial: Trial, choice: Choice, room: int, tokens: Callable[[int], int]) -> Tried:
    measured = unless_out_of_memory(lambda: trial(*choice))
    if measured is None:
        return Tried(choice, None, None, fits=False)
    seconds, peak = measured
    return Tried(choice, tokens(choice.size) / seconds, peak, fits=peak <= room)


def _next(sizes: Sequence[int], fits_up_to: int, too_large: int) -> int | None:
    """Twice as much at least while all fit, else the middle of what is left."""
    left = [size for size in sizes if fits_up_to < size < too_large]
    if not left:
        return None
    if too_large > sizes[-1]:
        return next((size for size in left if size >= 2 * fits_up_to), left[-1])
    return left[len(left) // 2]


def _fastest(fitting: Sequence[Tried]) -> Tried:
    best, *larger = sorted(fitting, key=lambda one: one.choice.size)
    for one in larger:
        if one.speed > best.speed * (1 + LEAST_GAIN):
            best = one
    return best
