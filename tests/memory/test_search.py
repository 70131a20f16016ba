"""The search as a pure function: every card from too small to ample, played by numbers."""

from __future__ import annotations

import itertools

import pytest
import torch

from sftlib.memory.search import LADDER, Choice, Found, Means, candidate_sizes, rungs, search

BOTH = [Means(), Means(True), Means(True, True)]  # where the optimizer is stated and nothing is streamed


class Card:
    """A card of `room` bytes on which a row needs `need[rung]`; speed by size, and a clock that trials move."""

    raises = True  # far beyond the room; each time is a collection of garbage, 0.1 s

    def __init__(self, room: int, needs: dict[Means, int], seconds: dict[int, float] | None = None) -> None:
        self.room, self.needs, self.seconds, self.now = room, needs, seconds or {}, 0.0
        self.asked: list[Choice] = []

    def trial(self, size: int, *means: bool) -> tuple[float, int]:
        self.asked.append(Choice(size, *means))
        peak = size * self.needs[means]
        self.now += self.seconds.get(size, 0.001)
        if self.raises and peak > 2 * self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.seconds.get(size, 1.0), peak

    def search(self, sizes: list[int], ladder=LADDER, **options) -> Found:
        return search(
            self.trial, sizes=sizes, rungs=ladder, room=self.room, tokens=lambda size: size, clock=lambda: self.now,
            **options,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("effective", "rows", "most", "sizes"),
    [
        (16, 1000, None, [1, 2, 4, 8, 16]), (12, 1000, None, [1, 2, 3, 4, 6, 12]), (7, 1000, None, [1, 7]),
        (1, 1000, None, [1]), (16, 3, None, [1, 2, 4]), (16, 4, None, [1, 2, 4]), (16, 1, None, [1]),
        (16, 1000, 4, [1, 2, 4]), (15, 1000, 4, [1, 3]), (7, 1000, 4, [1]),
    ],
)  # fmt: skip
def test_sizes_divide_the_batch(effective, rows, most, sizes):
    assert candidate_sizes(effective, rows, most) == sizes


@pytest.mark.parametrize(
    ("checkpointing", "offload", "ladder"),
    [
        ("auto", "auto", BOTH), ("auto", False, BOTH[:2]), (True, "auto", BOTH[1:]), (True, False, BOTH[1:2]),
        (True, True, BOTH[2:]), (False, "auto", BOTH[:1]), (False, False, BOTH[:1]), ("auto", True, BOTH[2:]),
    ],
)  # fmt: skip
def test_what_the_config_states_is_not_searched(checkpointing, offload, ladder):
    assert rungs(checkpointing, offload) == ladder


@pytest.mark.parametrize(
    ("stated", "ladder"),
    [
        (("auto", "auto", "auto", "auto"), ["", "c", "co", "cop", "cops"]),
        (("auto", "auto", False, "auto"), ["", "c", "co", "cos"]),
        (("auto", False, "auto", "auto"), ["", "c", "cp", "cps"]),
        ((False, False, False, "auto"), ["", "s"]),
        ((False, "auto", "auto", False), ["", "p"]),
        (("auto", "auto", False, True), ["s", "cs", "cos"]),
        ((True, True, False, True), ["cos"]),
    ],
)  # fmt: skip
def test_streaming_is_the_last_resort_whatever_else_is_stated(stated, ladder):
    found = rungs(*stated)
    assert ["".join(name[0] for name, is_on in rung._asdict().items() if is_on) for rung in found] == ladder


@pytest.mark.parametrize("effective", range(1, 41))
def test_on_every_card_the_choice_is_the_largest_that_fits_on_the_first_rung_that_any_does(effective, monkeypatch):
    """Where speed grows with size; found by trying everything."""
    needs = {rung: 10 - 2 * at for at, rung in enumerate(LADDER)}
    sizes = candidate_sizes(effective, 1000)
    monkeypatch.setattr(Card, "raises", False)
    for room in range(10 * effective + 11):
        found = Card(room, needs).search(sizes)
        fitting = (
            (size, *rung) for rung, size in itertools.product(LADDER, reversed(sizes)) if size * needs[rung] <= room
        )
        expected = next(fitting, None)
        assert (found.chosen and tuple(found.chosen.choice)) == expected, room
        assert effective % (found.chosen.choice.size if found.chosen else 1) == 0


def test_sizes_are_doubled_and_what_lies_between_is_tried():
    card = Card(70, {Means(): 10})
    found = card.search([1, 2, 3, 4, 6, 12], LADDER[:1])
    assert [choice.size for choice in card.asked] == [1, 2, 4, 12, 6]
    assert found.chosen.choice == Choice(6, False, False)
    assert [(one.peak, one.fits) for one in found.tried] == [
        (10, True), (20, True), (40, True), (120, False), (60, True),
    ]  # fmt: skip


def test_memory_that_runs_out_and_a_peak_above_the_room_are_both_no_fit():
    found = Card(10, {Means(): 10}).search([1, 2, 4], LADDER[:1])
    assert [(one.choice.size, one.peak, one.speed) for one in found.tried] == [(1, 10, 1.0), (2, 20, 2.0)]
    found = Card(10, {Means(): 21}).search([1, 2, 4], LADDER[:1])
    assert [(one.choice.size, one.peak, one.speed) for one in found.tried] == [(1, None, None)]
    assert found.chosen is None


def test_the_fastest_is_taken_and_not_the_largest():
    seconds = {1: 1.0, 2: 1.5, 4: 2.5, 8: 6.0}  # 1, 1.33, 1.6, 1.33 rows a second
    found = Card(1000, {Means(): 1}, seconds).search([1, 2, 4, 8], LADDER[:1])
    assert (found.chosen.choice.size, found.chosen.speed) == (4, 1.6)


def test_a_gain_that_is_noise_is_not_worth_the_memory():
    seconds = {1: 1.0, 2: 1.97, 4: 3.9}  # 1, 1.015, 1.026 rows a second
    found = Card(1000, {Means(): 1}, seconds).search([1, 2, 4], LADDER[:1])
    assert found.chosen.choice.size == 4
    found = Card(1000, {Means(): 1}, seconds).search([1, 2], LADDER[:1])
    assert found.chosen.choice.size == 1


def test_the_time_is_kept_once_something_fits():
    seconds = {1: 4.0, 2: 8.0, 4: 16.0, 8: 32.0}
    card = Card(1000, {Means(): 1}, seconds)
    found = card.search([1, 2, 4, 8], LADDER[:1], seconds=30)
    assert [choice.size for choice in card.asked] == [1, 2, 4]  # 28 s; 8 would end after 60
    assert (found.is_cut_short, found.seconds) == (True, 28.0)
    slow = Card(1000, {Means(): 1}, {1: 100.0})
    found = slow.search([1, 2], LADDER[:1], seconds=30)
    assert (found.chosen.choice.size, found.is_cut_short) == (1, True)


def test_until_something_fits_no_time_ends_it():
    card = Card(5, dict.fromkeys(LADDER, 100) | {LADDER[-1]: 5}, {1: 40.0})
    found = card.search([1, 2], seconds=30)
    assert found.chosen.choice == Choice(1, True, True, True, True)
    assert [choice.means for choice in card.asked] == list(LADDER)


def test_another_error_is_not_taken_for_memory():
    def trial(*choice: object) -> tuple[float, int]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        search(trial, sizes=[1], rungs=LADDER, room=1, tokens=lambda size: size)
