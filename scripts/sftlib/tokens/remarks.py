"""What is said of a split whenever it is used, found while its rows go by on their way to examples, and kept with them.

In: the streams between the steps of the way; each method passes one on and counts. Out: notes and warnings, which are
the same when the examples come from the cache, without reading a row.

    remarks = Remarks()
    rows = remarks.watch_rows(split_rows(path), template.markers)   ->  the same rows
    ...
    remarks.say("train")       "2 of 100 rows of the train split are left out, as they cannot be rendered."

Worst bug: a warning that only the first start gives (tests/tokens/test_remarks.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import console
from ..chat.conversation import Conversation
from ..chat.pairs import answer_of, up_to_each_answer
from ..chat.rendering import Rendered, special_text_in
from ..chat.stored import Row
from ..chat.trained import LossOn, is_flagged

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
class Shortened:
    """What became of the rows that were too long, where that was decided on the way (shortening.py).

    whole, made: how many have so many tokens, of the rows as they were and of the examples that they became.
    supervised, supervised_made: tokens that are trained in them. tokens_lost, supervised_lost: those in no example.
    repeated: tokens of prompts and context that stand in more than one. turns_lost: of the rows in `turned`.
    split, turned, dropped, untaught: rows by what became of them; of the last nothing was to be learnt.
    """

    whole: dict[int, int] = field(default_factory=dict)
    made: dict[int, int] = field(default_factory=dict)
    supervised: int = 0
    supervised_made: int = 0
    tokens_lost: int = 0
    supervised_lost: int = 0
    repeated: int = 0
    turns_lost: int = 0
    split: Found = field(default_factory=Found)
    turned: Found = field(default_factory=Found)
    dropped: Found = field(default_factory=Found)
    untaught: Found = field(default_factory=Found)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Shortened:
        """What JSON kept of it."""
        found = {name: Found(**kept[name]) for name in ("split", "turned", "dropped", "untaught")}
        counts = {name: {int(length): rows for length, rows in kept[name].items()} for name in ("whole", "made")}
        return cls(**{**kept, **found, **counts})

    def add(self, whole: Example, made: Sequence[Example]) -> None:
        """Count a row and the examples that it became."""
        lengths = [len(example.input_ids) for example in made]
        self.whole[len(whole.input_ids)] = self.whole.get(len(whole.input_ids), 0) + 1
        for length in lengths:
            self.made[length] = self.made.get(length, 0) + 1
        supervised = sum(example.supervised for example in made)
        self.supervised += whole.supervised
        self.supervised_made += supervised
        more = sum(lengths) - len(whole.input_ids)
        self.tokens_lost += max(0, -more)
        self.repeated += max(0, more)
        self.supervised_lost += max(0, whole.supervised - supervised)


@dataclass(slots=True)
class Remarks:
    """Of one split.

    rows: of its file. asked: texts that were to be rendered, of an encoder-decoder one an answer; encoded: those that
    were. marked: rows with the text of a special token. flagged: rows whose flags nobody heeds. unlearnt: rows of an
    encoder-decoder of which no answer is learnt. unknown, broken: answers that its tokenizer cannot spell.
    """

    rows: int = 0
    asked: int = 0
    encoded: int = 0
    marked: Found = field(default_factory=Found)
    flagged: Found = field(default_factory=Found)
    unlearnt: Found = field(default_factory=Found)
    unknown: Found = field(default_factory=Found)
    broken: Found = field(default_factory=Found)
    shortened: Shortened = field(default_factory=Shortened)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Remarks:
        """What `dataclasses.asdict` made of remarks."""
        found = {name: Found(**kept[name]) for name in ("marked", "flagged", "unlearnt", "unknown", "broken")}
        return cls(**{**kept, **found, "shortened": Shortened.from_dict(kept["shortened"])})

    def watch_rows(
        self, rows: Iterable[Row], special_tokens: Collection[str], loss_on: LossOn = "assistant"
    ) -> Iterator[Row]:
        """The rows of a split: how many, in which of them somebody wrote a special token, and flags without effect."""
        for row in rows:
            self.rows += 1
            if isinstance(row, Conversation):
                if special_text_in(row, special_tokens):
                    self.marked.add(row.source)
                if loss_on != "flagged" and is_flagged(row):
                    self.flagged.add(row.source)
            yield row

    def watch_learnt(self, rows: Iterable[Row], loss_on: LossOn) -> Iterator[Row]:
        """Rows of an encoder-decoder, without those of which no answer is learnt: these are counted."""
        for row in rows:
            if isinstance(row, Conversation) and not up_to_each_answer(row, loss_on):
                self.unlearnt.add(row.source)
            else:
                yield row

    def watch_asked(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows that are to be rendered: how many."""
        for row in rows:
            self.asked += 1
            yield row

    def watch_encoded(self, rendered: Iterable[Rendered]) -> Iterator[Rendered]:
        """The texts that become examples: how many."""
        for one in rendered:
            self.encoded += 1
            yield one

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

    def say(self, split: str) -> None:
        """Note and warn of all that was found."""
        if self.asked > self.rows:
            console.note(
                f"The {self.rows} conversations of the {split} split hold {self.asked} answers: an example each."
            )
        if self.flagged.count:
            console.warn(
                f"{self.flagged.count} rows of the {split} split flag answers as not to be learnt, such as "
                f"{self.flagged.first[0]}, and these are learnt all the same; data.loss_on: flagged heeds the flags."
            )
        if self.unlearnt.count:
            console.warn(
                f"{self.unlearnt.count} rows of the {split} split have no answer that is learnt, and are left out: "
                f"{', '.join(self.unlearnt.first)}{', ...' if self.unlearnt.count > NAMED else '.'}"
            )
        if missing := self.asked - self.encoded:
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
