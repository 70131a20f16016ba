"""Rows of a JSON file of any size, one at a time, each with the line it begins on.

In: the text of a file in blocks. Out: `(line, text of one row)`; the text is parsed by the caller, so that one broken
row is that row's business. The file may be an array of rows, one object, objects one after another, or an object that
wraps arrays of rows under a key of WRAPPERS, next to anything else:

    {"version": 2, "data": [{"q": "2+2?",       ->  (1, '{"q": "2+2?",\\n "a": "4"}'), (3, '{"q": ...}')
     "a": "4"},
     {"q": ...}]}

A pull parser (ijson) would stream too, but it does not know where a row begins, and one bad row ends the file for it.
So rows are cut by brackets and quotes alone. Where that cannot tell the end of a row, the file is refused.
Memory holds one block and the longest row.

Worst bug: a row cut in the wrong place, or a wrong line (tests/chat/test_readers.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..errors import DataError
from .decoding import MAX_ROW

# Keys that carry the rows in published files. Lists under other keys may be part of a row (messages, tools, history).
WRAPPERS = frozenset(
    [
        *("data", "dataset", "rows", "records", "items", "examples", "samples", "instances", "entries", "results"),
        *("questions", "faq", "faqs", "qa", "qas", "pairs"),
        *("train", "training", "val", "valid", "validation", "dev", "test", "eval"),
    ]
)
_SPACE = re.compile(r"[ \t\r\n]*")
_EDGE = re.compile(r'["\[\]{}]')
_STRING_EDGE = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[,\]}\s]")


def json_rows(blocks: Iterable[str], where: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every row."""
    text = _Text(blocks, where)
    while char := text.peek():
        if char == "[":
            yield from _elements(text)
        elif char == "{":
            yield from _object_or_wrapped(text)
        else:
            raise text.broken(f"A JSON file cannot go on with {char!r}", "an object or an array")


def _elements(text: _Text) -> Iterator[tuple[int, str]]:
    """The elements of the array that begins here. A comma too many loses nothing and is let through."""
    opened = text.line
    text.skip()
    while (char := text.peek()) != "]":
        if not char:
            raise text.broken(f"The file ends inside the array that begins on line {opened}", "a closing bracket ]")
        if char == ",":
            text.skip()
            continue
        line = text.line
        yield line, text.value()
        if text.peek() not in ("", ",", "]"):
            raise text.broken(f"After the row that begins on line {line} comes {text.peek()!r}", "a comma or ]")
    text.skip()


def _object_or_wrapped(text: _Text) -> Iterator[tuple[int, str]]:
    """The rows that the object beginning here wraps, or the object itself, as one row."""
    line, is_wrapper = text.line, False
    text.keep()
    separator = "{"
    while key := text.next_key(separator):
        separator = ","
        if text.peek() == "[" and key in WRAPPERS and text.begins_with_object():
            is_wrapper = True
            text.forget()
            yield from _elements(text)
        else:
            text.value()
    if not is_wrapper:
        text.go_back()
        yield line, text.value()
    elif text.peek() == "}":
        text.skip()
    else:
        raise text.broken(f"The object that begins on line {line} breaks off", "a comma and a key, or }")


class _Text:
    """A place in a text that comes in blocks. Places are counted in characters from the beginning of the file."""

    def __init__(self, blocks: Iterable[str], where: str) -> None:
        self._blocks, self._where = iter(blocks), where
        self._buffer, self._base = "", 0  # what is held, and the place of its first character
        self._at = 0
        self._kept: int | None = None  # the place that `go_back` returns to
        self._counted_at, self._counted_line = 0, 1

    @property
    def line(self) -> int:
        """Number of the line of this place."""
        low, high = sorted((self._counted_at, self._at))
        lines = self._buffer.count("\n", low - self._base, high - self._base)
        self._counted_line += lines if self._at > self._counted_at else -lines
        self._counted_at = self._at
        return self._counted_line

    def peek(self) -> str:
        """Go past white space and show the next character, "" at the end of the file."""
        while True:
            self._at = self._base + _SPACE.match(self._buffer, self._at - self._base).end()  # type: ignore[union-attr]
            if self._at < self._base + len(self._buffer):
                return self._buffer[self._at - self._base]
            if not self._more(self._at):
                return ""

    def skip(self) -> None:
        """Go past the character that `peek` showed."""
        self._at += 1

    def value(self) -> str:
        """The text of the value that begins here, and go past it."""
        opening, line, start = self.peek(), self.line, self._at
        if opening in ("{", "[", '"'):
            self._at = self._end_of_nested(start, line)
        else:
            self._at = self._find(_SCALAR_END, start + 1, start) or self._base + len(self._buffer)
        return self._buffer[start - self._base : self._at - self._base]

    def next_key(self, separator: str) -> str:
        """Inside an object: the next key in lower case, and go to its value; "" where none can be made out."""
        if self.peek() != separator:
            return ""
        self.skip()
        if self.peek() != '"':
            return ""
        key = self.value()
        if self.peek() != ":":
            return ""
        self.skip()
        return key.lower().strip('"') or " "

    def begins_with_object(self) -> bool:
        """Whether the first element of the array that begins here is an object."""
        start, kept = self._at, self._kept
        self._kept = start if kept is None else kept
        self.skip()
        first = self.peek()
        self._at, self._kept = start, kept
        return first == "{"

    def keep(self) -> None:
        """Remember this place for `go_back`, and hold the text from here on."""
        self._kept = self._at

    def forget(self) -> None:
        """Let go of the place of `keep`."""
        self._kept = None

    def go_back(self) -> None:
        """Return to the place of `keep`, and let go of it."""
        assert self._kept is not None
        self._at, self._kept = self._kept, None

    def broken(self, seen: str, expected: str) -> DataError:
        """The error for what is wrong at this place."""
        return DataError(
            f"{seen}: this is not valid JSON.",
            where=f"{self._where}:{self.line}",
            expected=expected,
            cure="The file may be cut short, or lack a quote or bracket; `python -m json.tool FILE` helps to find it.",
        )

    def _end_of_nested(self, start: int, line: int) -> int:
        """The place after the bracket or quote that closes what opens at `start`."""
        at, depth, in_string = start, 0, False
        while True:
            found = self._find(_STRING_EDGE if in_string else _EDGE, at, start)
            if found is None:
                raise self.broken(f"The row that begins on line {line} never ends", "a closing quote or bracket")
            char, at = self._buffer[found - self._base], found + 1
            if char == "\\":
                at += 1
            elif char == '"':
                in_string = not in_string
            else:
                depth += 1 if char in "{[" else -1
            if depth == 0 and not in_string:
                return at

    def _find(self, pattern: re.Pattern[str], at: int, start: int) -> int | None:
        """The place of the first match from `at` on, None when there is none; the text from `start` on stays held."""
        while (match := pattern.search(self._buffer, at - self._base)) is None:
            at = max(at, self._base + len(self._buffer))
            if not self._more(start):
                return None
        return self._base + match.start()

    def _more(self, start: int) -> bool:
        """Read on, letting go of what lies before `start`; False at the end of the file.

        What is held is doubled each time, so that a long row costs linear time.
        """
        line = self.line
        first = start if self._kept is None else self._kept
        pieces = [self._buffer[first - self._base :]]
        held = size = len(pieces[0])
        if held > MAX_ROW:
            raise self.broken(f"The row that goes through here is longer than {MAX_ROW:,} characters", "a shorter row")
        while size <= 2 * held and (block := next(self._blocks, "")):
            pieces.append(block)
            size += len(block)
        self._buffer, self._base = "".join(pieces), first
        self._counted_at, self._counted_line = self._at, line
        return size > held
