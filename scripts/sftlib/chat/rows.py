"""Raw rows, the reasons why some cannot be used, and how their fields become text.

    RawRow({"question": "2+2?", "answer": Number("4")}, "raw.jsonl:17")
    Rejected("raw.jsonl:18", "broken JSON", "Expecting ',' delimiter: column 31", '{"question": "2+2?"')

A field becomes text like this: text stays as it is, a number keeps the digits it was written with (1.10 stays 1.10),
true and false are spelled as in JSON, lists and objects become compact JSON, and null (also NaN, which pandas writes
for it) counts as missing. Numbers of Parquet and the hub have no spelling; Python's shortest one is taken.

Reading files is readers.py, finding the question and the answer in a row is formats.py.
Worst bug: a number that changes its digits on the way (tests/chat/test_formats.py).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SEEN_CHARS = (
    300  # of a rejected row in rejected.jsonl: enough to recognise it, not enough to double the data on the disk
)
MAX_NESTING = 100  # brackets in brackets; what walks through a row calls itself, and Python stops at 1000 calls
SURROGATES = re.compile("[\ud800-\udfff]")
NOT_TEXT = "not text"
TOO_DEEP = "nested too deeply"


class Number(str):
    """A JSON number as its file spells it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as its file has it, and where it begins."""

    value: dict[str, Any]
    source: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used. `reason` is one of a few fixed phrases, so that it can be counted."""

    source: str
    reason: str
    detail: str
    seen: str


class RowError(Exception):
    """Why a row cannot be used: `reason` for counting, `detail` for the person who repairs it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


def parse_json(text: str) -> Any:
    """Parse JSON, keeping numbers as `Number`. ValueError says what is wrong, too many brackets in each other included.

    Control characters inside strings are let through, cleaning.py takes them out and counts it. A key that stands twice
    in one object is refused, because one of its two values would be lost.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if may_be_too_deep(text) and is_too_deep(value):
        raise ValueError(TOO_DEEP)
    return value


def may_be_too_deep(text: str) -> bool:
    """Whether a JSON text has brackets enough to be nested too deeply; most have not, and need no second look."""
    return text.count("[") + text.count("{") > MAX_NESTING


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other more than MAX_NESTING deep."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [item for one in level for item in _inside(one)]
        if not level:
            return False
    return True


def is_missing(value: Any) -> bool:
    """Whether a field is null, or the NaN that stands for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def to_text(value: Any) -> str | None:
    """A field as text, None when it is missing. RowError for bytes that are no text."""
    if is_missing(value):
        return None
    if isinstance(value, bytes):  # Parquet files of some writers do not mark their texts as such
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise RowError(NOT_TEXT, f"{len(value)} bytes that are not UTF-8") from None
    if isinstance(value, (bool, int, float, Mapping, list, tuple)):
        return compact_json(value)
    return str(value)


def kind(value: Any) -> str:
    """What a value is, for a sentence: "a list", "a number", ..."""
    return next((name for types, name in _KINDS if isinstance(value, types)), f"a {type(value).__name__}")


def compact_json(value: Any) -> str:
    """A field as compact JSON; numbers keep their spelling, what JSON does not know (dates, bytes) becomes a string."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(key), ensure_ascii=False)}:{compact_json(item)}" for key, item in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(compact_json(item) for item in value) + "]"
    if is_missing(value):
        return "null"
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)


def plain(value: Any) -> Any:
    """A field as plain JSON values, `Number` as int or float: what Message.extra holds."""
    if isinstance(value, Number):
        for number_type in (int, float):
            try:
                number = number_type(value)
            except ValueError:
                continue
            if math.isfinite(number):
                return number
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def clip(text: str) -> str:
    """The beginning of a text, fit to be written as UTF-8."""
    text = text if len(text) <= SEEN_CHARS else text[:SEEN_CHARS] + "…"
    return SURROGATES.sub("\ufffd", text)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return value


def _constant(name: str) -> Number | None:
    return None if name == "NaN" else Number(name)


_KINDS = (
    (type(None), "null"),
    (bool, "true or false"),
    ((Number, int, float), "a number"),
    (str, "a text"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
)
_DECODER = json.JSONDecoder(
    parse_int=Number, parse_float=Number, parse_constant=_constant, object_pairs_hook=_object, strict=False
)
