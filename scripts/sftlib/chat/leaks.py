"""Questions that stand in two splits: what is trained on would be measured as if it were new.

In come splits as stored; out go the leaks. Two rows ask the same by the very rule by which `splitting` keeps them
together: the first user message, or the whole prompt where many rows share that message. Rendered pairs are compared
by their whole input.

    find_leaks({"train": split, "val": split})  ->  [Leak("train", "faq.csv:3", "val", "faq.csv:90")]

Worst bug: a leak that is not seen, and makes every score too good (tests/chat/test_leaks.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
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
    openings: dict[str, Counter[str]] = {}  # by data set, in the order in which their rows stand
    for split in splits.values():
        for row in split.rows:
            openings.setdefault(row.dataset, Counter())[_asked(row)[0]] += 1
    common = _common(openings.values())
    seen: dict[str, tuple[str, str]] = {}
    leaks = []
    for name, split in splits.items():
        own: set[str] = set()
        for row in split.rows:
            opening, prompt = _asked(row)
            question = f"prompt {prompt}" if opening in common else f"opening {opening}"
            if question in seen and seen[question][0] != name and question not in own:
                leaks.append(Leak(*seen[question], name, row.source))
            own.add(question)
            seen.setdefault(question, (name, row.source))
    return leaks


def count_repeats(split: StoredSplit) -> int:
    """Rows that say, to the letter, what an earlier row of the split says."""
    return len(split) - len({_content(row) for row in split.rows})


def _common(openings: Iterable[Counter[str]]) -> set[str]:
    """The openings that say nothing: common in a data set, or in all up to one, as splitting sees it."""
    common: set[str] = set()
    so_far: Counter[str] = Counter()
    for of_set in openings:
        so_far += of_set
        for counts in (of_set, so_far):
            limit = common_above(counts.total())
            common |= {opening for opening, count in counts.items() if count > limit}
    return common


def _asked(row: Conversation | RenderedPair) -> tuple[str, str]:
    if isinstance(row, Conversation):
        return asked(row.messages)
    return fold(row.input), fold(row.input)


def _content(row: Conversation | RenderedPair) -> str:
    return repr(row.messages) if isinstance(row, Conversation) else repr((row.input, row.target))
