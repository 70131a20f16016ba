"""Tokens of one answer in, certain pieces of its text out.

A piece is certain when no later token can change it: half a character, white space at the end, the beginning of a stop
string and the lead (what a template has the model say before its answer) are held back. The pieces joined are exactly
the text that `generate_answers` gives for the same tokens.

    stop string "END":   tokens "a" " E" "ND"  ->  on_text("a")       and nothing else

Worst bug: a stop string that is shown, or text that is lost at the end (tests/measure/test_stream.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from transformers.generation.streamers import BaseStreamer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

HALF_CHARACTER = "\ufffd"  # what decoders give for bytes that are no character yet


def trim(ids: Sequence[int], stop_ids: Sequence[int]) -> tuple[list[int], bool]:
    """The ids before the first stop id, and whether there was one."""
    for index, token in enumerate(ids):
        if token in stop_ids:
            return list(ids[:index]), True
    return list(ids), False


def cut_at_stop(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of the stop strings, and whether there was one."""
    places = [place for place in (text.find(stop) for stop in stop_strings) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


def without_lead(text: str, lead: str) -> str:
    """The text without the white space around it and without what the template has the model say before its answer."""
    return text.strip().removeprefix(lead).lstrip()


class TextStream(BaseStreamer):
    """A streamer for `generate`: prompt first, then a token at a time; `finish` hands out what was held back."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        on_text: Callable[[str], None],
        stop_ids: Sequence[int],
        stop_strings: Sequence[str],
        lead: str = "",
    ) -> None:
        self.tokenizer, self.on_text = tokenizer, on_text
        self.stop_ids, self.stop_strings, self.lead = stop_ids, stop_strings, lead
        self.ids: list[int] = []
        self.given = ""
        self._prompt_is_next = True

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (the first call) or one more token."""
        if self._prompt_is_next:
            self._prompt_is_next = False
            return
        self.ids += value.flatten().tolist()
        ids, _ = trim(self.ids, self.stop_ids)
        text, is_cut = cut_at_stop(self.tokenizer.decode(ids, skip_special_tokens=True), self.stop_strings)
        if not is_cut:
            text = text[: len(text) - self._uncertain(text)]
        if not self.lead.startswith(text.strip()):  # it may be the lead, and that is not shown
            self._give(without_lead(text, self.lead))

    def end(self) -> None:
        """`generate` is done; the rest comes with `finish`, which knows the whole answer."""

    def finish(self, text: str) -> None:
        """Hand out what is left of the whole text."""
        self._give(text)

    def _give(self, text: str) -> None:
        if len(text) > len(self.given):
            piece, self.given = text[len(self.given) :], text
            self.on_text(piece)

    def _uncertain(self, text: str) -> int:
        """Characters at the end that a later token may change or remove."""
        half = len(text) - len(text.rstrip(HALF_CHARACTER))
        begun = [size for stop in self.stop_strings for size in range(1, len(stop)) if text.endswith(stop[:size])]
        return max([half, *begun])
