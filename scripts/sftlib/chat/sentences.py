"""Where a long text may be cut: behind sentences and lines, behind lines of code, between words.

In: a text in any language. Out: places, the best kind first; a place is where the next part begins, and the white space
before it may go to either part. Sentences are found by sentencex (abbreviations, numbers, 250 languages); a line always
ends one. A code block (between lines of ```) is one piece, unless nothing else helps.

    cut_places("Add 1. Then 2.\\n```\\na\\n```\\n")
    ->  Places(sentences=[7, 15], lines=[7, 15, 19, 21], words=[4, 7, 12, 15, 19, 21])

    sentences("Add 1.\nThen\n2.")  ->  ["Add 1.\n", "Then\n2."]       whole ones: the end of a line alone ends none

Worst bug: a code block cut in two where a sentence could have been (tests/chat/test_sentences.py).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

FENCE = re.compile(r"^[ \t]*(```|~~~).*\n?", re.MULTILINE)
LINE = re.compile(r"\n+")
WORD = re.compile(r"\s+(?=\S)")
BLANKS = re.compile(r"\s*")
ODD_BLANK = re.compile(r"[^\S\n ]")
# Its rules are chosen by language; those of English know every script's full stops and split no other language worse.
LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class Places:
    """Ascending places in a text, by what they are behind; each kind has those of the kinds before it too."""

    sentences: list[int]
    lines: list[int]
    words: list[int]


def cut_places(text: str) -> Places:
    """Where a text may be cut, but at its ends."""
    blocks = _code_blocks(text)
    lines = {found.end() for found in LINE.finditer(text)}
    sentences = {
        place for place in lines | {_next(text, end) for end in _ends(text)}
        if not any(start < place < end for start, end in blocks)
    }  # fmt: skip
    sentences |= {edge for block in blocks for edge in block}
    words = {found.end() for found in WORD.finditer(text)}
    inside = range(1, len(text))
    found = (sentences, sentences | lines, sentences | lines | words)
    return Places(*(sorted(place for place in places if place in inside) for places in found))


def sentences(text: str) -> list[str]:
    """The sentences of a text with the white space behind them, so that joined they are the text."""
    found: list[str] = []
    for start, end in itertools.pairwise([0, *_ends(text)]):
        piece = text[start:end]
        if found and not (piece.strip() and found[-1].strip()):
            found[-1] += piece
        else:
            found.append(piece)
    return found


def _ends(text: str) -> list[int]:
    """Where sentences end, the last of them with the text."""
    import sentencex  # only rows that are too long need it

    plain = ODD_BLANK.sub(" ", text)  # sentencex 1.0.32 panics at some blanks of several bytes, such as U+2028
    ends = {int(found["end_index"]) for found in sentencex.get_sentence_boundaries(LANGUAGE, plain)}
    return sorted({*ends, len(text)} - {0})


def _code_blocks(text: str) -> list[tuple[int, int]]:
    """From the line that opens each block to behind the one that closes it, or to the end."""
    blocks: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1] == opened[1] and not fence[0].strip().strip("`~"):
            blocks.append((opened.start(), fence.end()))
            opened = None
    return [*blocks, (opened.start(), len(text))] if opened else blocks


def _next(text: str, place: int) -> int:
    """The first place from here that is not white space: the beginning of the next sentence."""
    return BLANKS.match(text, place).end()  # type: ignore[union-attr]  (it matches nothing, too)
