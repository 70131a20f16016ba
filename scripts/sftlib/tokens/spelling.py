"""Where each token lies in its text, from what the tokens spell, and so which are trained; all rows at once.

In: rendered texts and their ids, cut without offsets, which takes a quarter less time. Out: `Columns`, and the rows of
which this cannot be told, for `encoding` to ask the tokenizer again.

If the bytes that the tokens stand for, one after another, are the bytes of the text, then each token lies behind the
one before it, and nothing else need be known of the tokenizer:

    text    <|user|>2+2?é         tokens   <|user|>  2  +  2  ?  Ã  ©      (byte-level: these two spell é)
                                  ends            8  9 10 11 12 13 14      in bytes of UTF-8
That holds of no row of a tokenizer that lowers letters or puts a blank before the text, and not of a row with
characters that a normalizer changes; each row is compared in full.

Worst bug: a token said to lie where it does not (tests/tokens/test_spelling.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .columns import Columns, joined, places

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ..chat.rendering import Rendered

NO_TEXT = b"\xff"  # stands in no UTF-8: what a token spells that spells nothing known
BYTE = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's tokens of one byte
# GPT-2's letters for bytes (its bytes_to_unicode): what can be printed is itself, the others follow from 256.
PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_OF = {chr(byte): byte for byte in PRINTED} | {
    chr(256 + place): byte for place, byte in enumerate(byte for byte in range(256) if byte not in PRINTED)
}


class Spelling:
    """What the tokens of one tokenizer spell, looked up once each."""

    def __init__(self, tokenizer: Tokenizer, special: Collection[int]) -> None:
        self._tokenizer = tokenizer
        parts = (tokenizer.pre_tokenizer, tokenizer.normalizer, tokenizer.decoder)
        self._is_byte_level = any("ByteLevel" in repr(part) for part in parts)
        self._added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
        self._special_ids = np.fromiter(special, np.int64, count=len(special))
        self._bytes = bytearray()
        self._begins, self._lengths, self._special = (np.zeros(0, kind) for kind in (np.int64, np.int64, np.bool_))

    def columns(self, rendered: Sequence[Rendered], ids: Sequence[Sequence[int]]) -> tuple[Columns, list[int]]:
        """The examples of these texts, and which rows are not spelt by their tokens: their labels mean nothing."""
        starts = places(map(len, ids))
        tokens = joined(ids, starts[-1])
        self._look_up(tokens)
        texts = _Texts.of([one.text for one in rendered])
        ends, is_spelt = self._ends(tokens, starts, texts)
        trained, straddling, stray = self._trained(rendered, tokens, starts, texts, ends)
        columns = Columns(
            tokens, trained, starts, [one.source for one in rendered], np.ones(len(rendered), np.bool_), straddling,
            stray, np.zeros(len(rendered), np.int32),
        )  # fmt: skip
        return columns, np.flatnonzero(~is_spelt).tolist()

    def _look_up(self, tokens: np.ndarray) -> None:
        most = int(tokens.max(initial=-1)) + 1
        if more := max(most - len(self._lengths), 0):
            self._begins, self._lengths, self._special = (
                np.concatenate((old, np.zeros(more, old.dtype))) for old in (self._begins, self._lengths, self._special)
            )
            self._special[self._special_ids[self._special_ids < most]] = True
        for number in np.unique(tokens[self._lengths[tokens] == 0]).tolist():
            spelt = self._spelt(number)
            self._begins[number], self._lengths[number] = len(self._bytes), len(spelt)
            self._bytes += spelt

    def _spelt(self, number: int) -> bytes:
        if number in self._added:
            return self._added[number].encode() or NO_TEXT
        token = self._tokenizer.id_to_token(number) or ""
        if self._is_byte_level:
            known = all(letter in BYTE_OF for letter in token)
            return bytes(BYTE_OF[letter] for letter in token) or NO_TEXT if known else NO_TEXT
        byte = BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode() or NO_TEXT

    def _ends(self, tokens: np.ndarray, starts: np.ndarray, texts: _Texts) -> tuple[np.ndarray, np.ndarray]:
        """Where each token ends in the bytes of all texts, and which rows are spelt; of the others, anywhere."""
        lengths = self._lengths[tokens]
        ends = np.cumsum(lengths)
        bounds = np.concatenate(([0], ends))[starts]
        is_spelt = np.diff(bounds) == np.diff(texts.starts)
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        if is_spelt.all():
            spelt, written = self._joined_bytes(tokens), texts.content
        else:
            ends = np.minimum(ends + (texts.starts - bounds)[rows], texts.starts[rows + 1])
            spelt = self._joined_bytes(tokens[is_spelt[rows]])
            written = texts.content[np.repeat(is_spelt, np.diff(texts.starts))]
        if not np.array_equal(spelt, written):
            kept = np.flatnonzero(is_spelt)
            own = np.concatenate(([0], np.cumsum(np.diff(texts.starts)[kept])))
            is_spelt[kept[np.searchsorted(own, np.flatnonzero(spelt != written), side="right") - 1]] = False
        return ends, is_spelt

    def _joined_bytes(self, tokens: np.ndarray) -> np.ndarray:
        lengths = self._lengths[tokens]
        ends = np.cumsum(lengths)
        shifts = self._begins[tokens] - (ends - lengths)
        count = int(ends[-1]) if len(ends) else 0
        return np.frombuffer(self._bytes, np.uint8)[np.repeat(shifts, lengths) + np.arange(count)]

    def _trained(
        self, rendered: Sequence[Rendered], tokens: np.ndarray, starts: np.ndarray, texts: _Texts, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rule of `encoding`, for all spans at once: which tokens are trained; straddling, stray ends a row."""
        counts = np.fromiter((len(one.spans) for one in rendered), np.int64, count=len(rendered))
        spans = np.array([span for one in rendered for span in one.spans], np.int64).reshape(-1, 2)
        row = np.repeat(np.arange(len(rendered)), counts)
        opening, closing = texts.places(row, spans[:, 0]), texts.places(row, spans[:, 1])
        begins = np.concatenate(([0], ends))[:-1]
        has_tokens = np.diff(starts) > 0
        begins[starts[:-1][has_tokens]] = texts.starts[:-1][has_tokens]  # where the row before is not spelt
        least, most = starts[row], starts[row + 1]
        first = np.clip(np.searchsorted(begins, opening), least, most)
        past = np.clip(np.searchsorted(begins, closing), first, most)
        changes = (np.bincount(at, minlength=len(tokens) + 1) for at in (first, past))
        trained = np.cumsum(np.subtract(*changes))[:-1] > 0

        def end_of(token: np.ndarray) -> np.ndarray:
            return ends[np.maximum(token, 0)] if len(ends) else token

        is_first_span = np.concatenate(([True], row[1:] != row[:-1])) if len(row) else row
        earlier = np.where(is_first_span, least, np.concatenate(([0], past[:-1])) if len(row) else row)
        across = (first > earlier) & (end_of(first - 1) > opening)
        is_special = self._special[tokens]
        last = past - 1
        over = (past > first) & (end_of(last) > closing)
        over[over] = ~is_special[last[over]]
        trained[last[over]] = False
        straddling = np.bincount(row, weights=across.astype(np.int64) + over, minlength=len(rendered))
        marks = np.flatnonzero(is_special & trained)
        span = np.searchsorted(first, marks, side="right") - 1
        strays = marks[(marks != last[span]) & (tokens[marks] == tokens[last[span]])]
        for whole in (place for place, one in enumerate(rendered) if one.taught_from is not None and one.spans):
            final = np.searchsorted(row, whole, side="right") - 1  # its last span
            begin = np.searchsorted(begins, texts.places(whole, rendered[whole].taught_from))
            trained[max(begin, starts[whole]) : past[final] - over[final]] = True
            straddling[whole] = over[final]
        trained[strays] = False
        stray = np.bincount(np.searchsorted(starts, strays, side="right") - 1, minlength=len(rendered))
        trained[starts[:-1][has_tokens]] = False
        return trained, straddling.astype(np.int32), stray.astype(np.int32)


@dataclass(slots=True)
class _Texts:
    """As one run of UTF-8. starts: where each begins and the last ends, in bytes. letters: the same in letters."""

    content: np.ndarray
    starts: np.ndarray
    letters: np.ndarray
    _bytes_before: np.ndarray | None  # each letter; None where each is a byte

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Texts:
        whole = "".join(texts)
        content = np.frombuffer(whole.encode(), np.uint8)
        letters = places(map(len, texts)).astype(np.int64)
        if whole.isascii():
            return cls(content, letters, letters, None)
        before = np.append(np.flatnonzero(content & 0xC0 != 0x80), len(content))  # all but those inside of a letter
        return cls(content, before[letters], letters, before)

    def places(self, row: np.ndarray, letter: np.ndarray) -> np.ndarray:
        """Where letters of these rows begin, in the bytes of all."""
        place = self.letters[row] + letter
        return place if self._bytes_before is None else self._bytes_before[place]
