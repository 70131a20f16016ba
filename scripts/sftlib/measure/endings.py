"""Where an answer ends: generated ids in, the answer out.

    Ending(tokenizer, (2,), ("END",), "").answer([260, 905, 2])   ->  Answer(text="four", tokens=2, stopped=True)

A stop id is a token; a stop string is text, whichever tokens spell it, and is looked for in what was generated only.
White space at both ends belongs to the template and is stripped, and so is what the template has the model say first.

Worst bug: an answer that goes on behind its end (tests/measure/test_generate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .stream import cut_at_stop, trim, without_lead

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `tokens`: how many were generated, the end-of-turn not counted; `stopped`: it ended by itself."""

    text: str
    tokens: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends an answer: tokens and texts; `lead` is what the template has the model say before it."""

    tokenizer: PreTrainedTokenizerBase
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    lead: str

    def reached(self, ids: Sequence[int]) -> bool:
        """Whether the last of these ids ends the answer; asked after every token."""
        if ids[-1] in self.stop_ids:
            return True
        return bool(self.stop_strings) and self._text(ids[-self._tail :])[1]

    def answer(self, ids: Sequence[int]) -> Answer:
        """The answer that these ids spell."""
        text, stopped = self._text(ids)
        return Answer(without_lead(text, self.lead), len(trim(ids, self.stop_ids)[0]), stopped)

    @property
    def _tail(self) -> int:
        """As many tokens as the longest stop string can be spelled with (a byte each), and the one before them."""
        return max(len(text.encode()) for text in self.stop_strings) + 1

    def _text(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text up to the first stop id or stop string, and whether there was one."""
        ids, by_token = trim(ids, self.stop_ids)
        text, by_string = cut_at_stop(self.tokenizer.decode(ids, skip_special_tokens=True), self.stop_strings)
        return text, by_token or by_string
