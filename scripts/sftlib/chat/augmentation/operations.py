"""What is done to one row, in this order, each for its share of the rows:

    tags       answers that hold literal chat tags: kept and counted, cut, or left out                 tags.py
    style      answers said anew by a model elsewhere, where there are replies                         rewriting.py
    structure  lists and headings by rule                                                              structure.py
    split      long answers in several turns                                                           turns.py
    system     a system message of a pool: the row's own, or that of copies                            systems.py
    persona    before the system message                                                               systems.py

The answers come first, so that all copies of a row share the one that was paid for. Chance is the row's own
(chance.py): by what the row said before anything was done to it.
Worst bug: an operation on other rows than its share says, or a change that nobody counts
(tests/chat/augmentation/test_operations.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...errors import UsageError
from ..conversation import Conversation
from .chance import Chance
from .rewriting import Style
from .structure import add_structure
from .systems import Mode, from_pool, put_persona, variants
from .tags import tags_of, without_tags
from .turns import FOLLOW_UPS, Size, split_turns, words

TagPolicy = Literal["keep", "remove", "drop"]
TAG_POLICIES: tuple[TagPolicy, ...] = ("keep", "remove", "drop")
SHARED = ("style", "structure", "split", "system", "persona")  # what has a share of the rows
CHOSEN, CHANGED, SAME = "chosen", "changed", "left as they were"
IN_ANSWER, CUT, LEFT_OUT = "in an answer", "cut off", "rows left out"  # of tags
Rewrite = Callable[[Conversation], tuple[Conversation, str | None]]


@dataclass(frozen=True)
class Operations:
    """What is asked for. An empty pool, None or 0 is: nothing of that kind."""

    seed: int
    shares: Mapping[str, float] = field(default_factory=dict)  # those that are not named are for every row
    tags: TagPolicy = "keep"
    style: Style | None = None
    structure: bool = False
    split_over: int | None = None
    size: Size = words
    follow_ups: Sequence[str] = FOLLOW_UPS
    systems: Sequence[str] = ()
    system_mode: Mode = "only_if_missing"
    copies: int = 0
    personas: Sequence[str] = ()
    guard: int = 0

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            if name not in SHARED or not 0 <= share <= 1:
                raise UsageError(
                    f"--share {name}={share:g} cannot be.", expected=f"0 to 1 for one of {', '.join(SHARED)}",
                    cure="Such as --share persona=0.3; what is not named is done to every row.",
                )  # fmt: skip
        if self.copies > len(self.systems):
            raise UsageError(
                f"{self.copies} copies of a row need as many system messages, and the pool holds {len(self.systems)}.",
                where="--copies", cure="Give more by --system, or ask for fewer copies.",
            )  # fmt: skip

    @property
    def does_anything(self) -> bool:
        """Whether any row can come out other than it went in, or beside it."""
        wanted = (self.style, self.structure, self.split_over, self.systems, self.personas, self.guard)
        return any(wanted) or self.tags != "keep"

    def is_chosen(self, name: str, chance: Chance) -> bool:
        """Whether an operation is for the row that this chance belongs to."""
        return chance.falls(name, self.shares.get(name, 1.0))


class Counts:
    """Operation -> what -> rows."""

    def __init__(self) -> None:
        self.by: dict[str, dict[str, int]] = {}

    def add(self, name: str, what: str, rows: int = 1) -> None:
        """Count a row."""
        of = self.by.setdefault(name, {})
        of[what] = of.get(what, 0) + rows


@dataclass(frozen=True)
class Augmented:
    """A row of the output, and what was done to it."""

    conversation: Conversation
    done: tuple[str, ...]


def for_rewriting(conversation: Conversation, asked: Operations) -> Conversation | None:
    """The row as its answers are to be said anew; None when they are not."""
    is_for = asked.style and asked.is_chosen("style", Chance(asked.seed, conversation.to_dicts()))
    return _tags(conversation, asked, Counts())[0] if is_for else None


def augmented(conversation: Conversation, asked: Operations, rewrite: Rewrite, counts: Counts) -> list[Augmented]:
    """The rows that come out of one: none, itself, or itself and its copies."""
    chance = Chance(asked.seed, conversation.to_dicts())
    kept, done = _tags(conversation, asked, counts)
    if kept is None:
        return []
    row = Augmented(kept, done)
    if asked.style:
        row = _step("style", row, asked, chance, counts, rewrite)
    if asked.structure:
        row = _step("structure", row, asked, chance, counts, lambda one: (add_structure(one), "nothing to list"))
    if (limit := asked.split_over) is not None:
        row = _step(
            "split", row, asked, chance, counts,
            lambda one: (split_turns(one, limit, asked.size, asked.follow_ups, chance), "short, or all in one piece"),
        )  # fmt: skip
    rows = [row]
    if asked.systems and asked.copies:
        rows += _copies(row, asked, chance, counts)
    elif asked.systems:
        rows = [
            _step(
                "system", row, asked, chance, counts,
                lambda one: (from_pool(one, asked.systems, asked.system_mode, chance), "had one"),
            )
        ]  # fmt: skip
    if asked.personas:
        for number, one in enumerate(rows):
            own = Chance(asked.seed, conversation.to_dicts(), number)
            rows[number] = _step(
                "persona", one, asked, own, counts, lambda one, own=own: (put_persona(one, asked.personas, own), None)
            )
    return rows


def _step(name: str, row: Augmented, asked: Operations, chance: Chance, counts: Counts, change: Rewrite) -> Augmented:
    """The row after one operation, if it is among its share; counted either way."""
    if not asked.is_chosen(name, chance):
        return row
    counts.add(name, CHOSEN)
    changed, why = change(row.conversation)
    if changed == row.conversation:
        counts.add(name, why or SAME)
        return row
    counts.add(name, CHANGED)
    return Augmented(changed, (*row.done, name))


def _copies(row: Augmented, asked: Operations, chance: Chance, counts: Counts) -> list[Augmented]:
    if not asked.is_chosen("system", chance):
        return []
    counts.add("system", CHOSEN)
    made = variants(row.conversation, asked.systems, asked.system_mode, asked.copies, chance)
    counts.add("system", "copies", len(made))
    if len(made) < asked.copies:
        counts.add("system", "fewer copies than asked for")
    return [Augmented(one, (*row.done, "system")) for one in made]


def _tags(conversation: Conversation, asked: Operations, counts: Counts) -> tuple[Conversation | None, tuple[str, ...]]:
    """The row as the policy for tags leaves it, None when it goes."""
    for role in ("system", "user", "tool"):
        if tags_of(conversation, role):
            counts.add("tags", f"in a {role} message, kept")
    if not tags_of(conversation):
        return conversation, ()
    counts.add("tags", IN_ANSWER)
    if asked.tags == "keep":
        return conversation, ()
    cut = without_tags(conversation) if asked.tags == "remove" else None
    counts.add("tags", CUT if cut else LEFT_OUT)
    return cut, ("tags",)
