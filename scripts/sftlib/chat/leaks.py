"""Questions that stand in two splits: what is trained on would be measured as if it were new.

In come splits as stored; out go the leaks. Two rows ask the same by the very rule by which `splitting` keeps them
together: the first user message, or the whole prompt where many rows share that message. Rendered pairs are compared
by their whole input.

    find_leaks({"train": split, "val": split})  ->  [Leak("train", "faq.csv:3", "val", "faq.csv:90")]

Worst bug: a leak that is not seen, and makes every score too good (tests/chat/test_leaks.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .conversation import Conversation
from .questions import asked, common_above, fold

if TYPE_CHECKING:
    from .stored import RenderedPair, StoredSplit


@dataclass(frozen=True, slots=True)
class Leak:
    """A question of two splits, by the first row of each that asks it."""

    split: str
    source: str
    other_split: str
    other_source: str

    def __str__(self) -> str:
        return f"{self.source} ({self.split}) and {self.other_source} ({self.other_split})"


def find_leaks(splits: Mapping[str, StoredSplit]) -> list[Leak]:
    """One leak for each question and each later split that asks it, in the order of the splits."""
    places = [(name, row.source) for name, split in splits.items() for row in split.rows]
    rows = [row for split in splits.values() for row in split.rows]
    openings, prompts = zip(*map(asked_by, rows), strict=True) if rows else ((), ())
    found = leaking([name for name, _ in places], [row.dataset for row in rows], openings, prompts)
    return [Leak(*places[first], *places[row]) for first, row in found]


def leaking(
    splits: Sequence[Hashable], sets: Sequence[Hashable], openings: Sequence[Hashable], prompts: Sequence[Hashable]
) -> Iterator[tuple[int, int]]:
    """The same by the numbers of the rows: the first that asks it, and the first of a later split that does.

    openings, prompts: as of `asked_by`, or digests of these; sets: the data set of each row.
    """
    counts: dict[Hashable, Counter[Hashable]] = {}  # by data set, in the order in which their rows stand
    for dataset, opening in zip(sets, openings, strict=True):
        counts.setdefault(dataset, Counter())[opening] += 1
    common = _common(counts.values())
    first_of: dict[tuple[bool, Hashable], int] = {}
    told: set[tuple[tuple[bool, Hashable], Hashable]] = set()
    for row, (split, opening, prompt) in enumerate(zip(splits, openings, prompts, strict=True)):
        question = (True, prompt) if opening in common else (False, opening)
        first = first_of.setdefault(question, row)
        if splits[first] != split and (question, split) not in told:
            told.add((question, split))
            yield first, row


def count_repeats(split: StoredSplit) -> int:
    """Rows that say, to the letter, what an earlier row of the split says."""
    return len(split) - len({_content(row) for row in split.rows})


def _common(openings: Iterable[Counter[Hashable]]) -> set[Hashable]:
    """The openings that say nothing: common in a data set, or in all up to one, as splitting sees it."""
    common: set[Hashable] = set()
    so_far: Counter[Hashable] = Counter()
    for of_set in openings:
        so_far += of_set
        for counts in (of_set, so_far):
            limit = common_above(counts.total())
            common |= {opening for opening, count in counts.items() if count > limit}
    return common


def asked_by(row: Conversation | RenderedPair) -> tuple[str, str]:
    """What a row asks, folded: its opening, and its whole prompt."""
    if isinstance(row, Conversation):
        return asked(row.messages)
    return fold(row.input), fold(row.input)


def _content(row: Conversation | RenderedPair) -> str:
    return repr(row.messages) if isinstance(row, Conversation) else repr((row.input, row.target))
