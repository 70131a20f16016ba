"""Rows that say again what others say: the same, nearly the same, or another answer to the same question.

In: a row at a time, as `Said`. Out: for each kind the numbers of the rows, and of the row that each is compared with.

    with Repeats(["train", "val", "test"], threshold=0.8) as repeats:
        repeats.add("train", "faq", said)       numbers them 0, 1, 2, ... split after split
        for one in repeats.found(): ...         Repeated("near_duplicate", row=17, other=3)

Equal means equal to the letter, or after `fold`; nearly equal is what `near_duplicates` finds, equal rows left out. A
question is the whole prompt, system message included: the same words after another conversation ask something else.
Leaks are found by the rule of `leaks`. Memory: about 250 bytes a row (five digests, near_duplicates' signatures).

Worst bug: rows that only look alike called duplicates (tests/chat/quality/test_repeats.py).
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from ..groups import Groups
from ..leaks import leaking
from ..near_duplicates import NearDuplicates


class Said(NamedTuple):
    """A row as far as others may repeat it. All but `whole` are folded."""

    whole: str
    folded: str
    opening: str
    prompt: str
    answer: str
    near: str  # what near_duplicates compares


class Repeated(NamedTuple):
    """A row, and the earlier or other one that makes it a finding."""

    kind: str
    row: int
    other: int


class Repeats:
    """Digests of all rows. threshold: of near duplicates; None looks for none."""

    def __init__(self, splits: Sequence[str], threshold: float | None) -> None:
        self._splits, self._threshold = list(splits), threshold
        self._near = NearDuplicates(threshold) if threshold is not None else None
        self._split_of = array("B")
        self._set_of: list[str] = []
        self._whole, self._folded, self._openings, self._prompts, self._answers = (array("Q") for _ in range(5))

    def __enter__(self) -> Repeats:
        if self._near is not None:
            self._near.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._near is not None:
            self._near.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._split_of)

    def add(self, split: str, dataset: str, said: Said) -> None:
        """One more row; splits come one after another."""
        self._split_of.append(self._splits.index(split))
        self._set_of.append(sys.intern(dataset))
        self._whole.append(_digest(said.whole))
        self._folded.append(_digest(said.folded))
        self._openings.append(_digest(said.opening))
        self._prompts.append(_digest(said.prompt))
        self._answers.append(_digest(said.answer))
        if self._near is not None:
            self._near.add(said.near)

    def found(self) -> Iterator[Repeated]:
        """All kinds, each row once a kind."""
        yield from self._duplicates()
        yield from self._conflicts()
        for other, row in leaking(self._split_of, self._set_of, self._openings, self._prompts):
            yield Repeated("leak", row, other)
        yield from self._near_duplicates()

    def _duplicates(self) -> Iterator[Repeated]:
        letters: dict[tuple[int, int], int] = {}
        folded: dict[tuple[int, int], int] = {}
        for row, split in enumerate(self._split_of):
            first = letters.setdefault((self._whole[row], split), row)
            alike = folded.setdefault((self._folded[row], split), row)
            if first != row:
                yield Repeated("duplicate", row, first)
            elif alike != row:
                yield Repeated("folded_duplicate", row, alike)

    def _conflicts(self) -> Iterator[Repeated]:
        first: dict[int, int] = {}
        disputed: dict[int, int] = {}  # question -> the first row that answers otherwise
        for row, prompt in enumerate(self._prompts):
            if self._answers[first.setdefault(prompt, row)] != self._answers[row]:
                disputed.setdefault(prompt, row)
        for row, prompt in enumerate(self._prompts):
            if prompt in disputed:
                agrees = self._answers[row] == self._answers[first[prompt]]
                yield Repeated("conflict", row, disputed[prompt] if agrees else first[prompt])

    def _near_duplicates(self) -> Iterator[Repeated]:
        if self._near is None:
            return
        groups = Groups(len(self))
        for pair in self._near.pairs():
            groups.join(pair.first, pair.second)
        for members in groups.members():
            seen: dict[int, dict[int, int]] = {}  # split -> folded text -> its first row
            for row in members:
                split, folded = self._split_of[row], self._folded[row]
                own = seen.setdefault(split, {})
                if own and folded not in own:
                    yield Repeated("near_duplicate", row, next(iter(own.values())))
                others = [texts for earlier, texts in seen.items() if earlier != split]
                if others and not any(folded in texts for texts in others):
                    yield Repeated("near_leak", row, next(iter(others[0].values())))
                own.setdefault(folded, row)


def _digest(text: str) -> int:
    """64 bits: among a million rows two are taken for one with a probability of 3 in 100 million."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
