"""What is said of a split whenever it is used, found while its rows go by on their way to examples, and kept with them.

In: the streams between the steps of the way; each method passes one on and counts. Out: notes and warnings, which are
the same when the examples come from the cache, without reading a row.

    remarks = Remarks()
    rows = remarks.watch_rows(split_rows(path), template.markers)   ->  the same rows
    ...
    remarks.say("train", encoded=98)       "2 of 100 rows of the train split are left out, as they cannot be rendered."

Worst bug: a warning that only the first start gives (tests/tokens/test_remarks.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import console
from ..chat.conversation import Conversation
from ..chat.pairs import answer_of
from ..chat.rendering import special_text_in
from ..chat.stored import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .examples import Example

NAMED = 5  # rows named a remark


@dataclass(slots=True)
class Found:
    """How many rows, and the sources of the first."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, source: str) -> None:
        """One more row."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(source)


@dataclass(slots=True)
class Remarks:
    """Of one split.

    rows: of its file. asked: texts that were to be rendered, of an encoder-decoder one an answer. marked: rows with the
    text of a special token. unknown, broken: answers that an encoder-decoder's tokenizer cannot spell.
    """

    rows: int = 0
    asked: int = 0
    marked: Found = field(default_factory=Found)
    unknown: Found = field(default_factory=Found)
    broken: Found = field(default_factory=Found)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Remarks:
        """What `dataclasses.asdict` made of remarks."""
        found = {name: Found(**kept[name]) for name in ("marked", "unknown", "broken")}
        return cls(kept["rows"], kept["asked"], **found)

    def watch_rows(self, rows: Iterable[Row], special_tokens: Collection[str]) -> Iterator[Row]:
        """The rows of a split: how many, and in which of them somebody wrote a special token."""
        for row in rows:
            self.rows += 1
            if isinstance(row, Conversation) and special_text_in(row, special_tokens):
                self.marked.add(row.source)
            yield row

    def watch_asked(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows that are to be rendered: how many."""
        for row in rows:
            self.asked += 1
            yield row

    def watch_answers(self, rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Row]:
        """Rows of one answer each: which answers hold line breaks that the tokenizer cannot spell."""
        ids = tokenizer("a\nb", add_special_tokens=False)["input_ids"]
        has_breaks = "\n" in tokenizer.decode(ids)
        for row in rows:
            if not has_breaks and "\n" in answer_of(row).strip():
                self.broken.add(row.source)
            yield row

    def watch_examples(self, examples: Iterable[Example], unknown_id: int | None) -> Iterator[Example]:
        """Examples: in which of them the unknown token is trained."""
        for example in examples:
            if unknown_id in example.labels:
                self.unknown.add(example.source)
            yield example

    def say(self, split: str, encoded: int) -> None:
        """Note and warn of all that was found; encoded: how many examples it became."""
        if self.asked > self.rows:
            console.note(
                f"The {self.rows} conversations of the {split} split hold {self.asked} answers: an example each."
            )
        if missing := self.asked - encoded:
            console.warn(
                f"{missing} of {self.asked} rows of the {split} split are left out, as they cannot be rendered."
            )
        if self.marked.count:
            console.warn(
                f"{self.marked.count} rows of the {split} split hold text that is a special token of this model, such "
                f"as {self.marked.first[0]}; the model reads it as the token."
            )
        for found, what, lost in (
            (self.unknown, "characters that this tokenizer does not know", "learnt as <unk>"),
            (self.broken, "line breaks", "which this tokenizer turns into blanks"),
        ):
            if found.count:
                named = ", ".join(found.first)
                console.warn(f"{found.count} answers of the {split} split hold {what}, {lost}, such as {named}.")
