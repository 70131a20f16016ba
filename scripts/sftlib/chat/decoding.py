"""Bytes to text: which encoding a raw file has, and its text in blocks and in lines.

A file is UTF-8, or UTF-8, UTF-16 or UTF-32 with a byte order mark; anything else must be named in data.encoding.
Nothing is guessed beyond that and no byte is ever replaced: one that does not fit is an error with its offset and line.
Lines end at "\\n" only (a "\\r" before it belongs to the end), so U+2028 inside a string is text.

    encoding = choose_encoding(path, "auto")                   ->  "utf-8"
    list(numbered_lines(text_blocks(path, encoding), "f"))     ->  [(1, "a,b"), (2, "1,2")]

Memory holds one block of 256 KiB, or the longest line. What the text means is the business of readers.py.
Worst bug: a wrong character read without an error (tests/chat/test_readers.py).
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import DataError

BLOCK = 2**18  # bytes read at once: large enough that Python's overhead vanishes, small beside everything else
MAX_ROW = 2**26  # characters: more than a row can sensibly hold; beyond it a quote or a bracket was never closed
_MARKS = (  # longest first: the mark of UTF-16 LE is the beginning of that of UTF-32 LE
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


def choose_encoding(path: Path, asked: str) -> str:
    """The codec to read a file with: the one asked for, or what its first bytes say."""
    if asked != "auto":
        return asked
    with open(path, "rb") as stream:
        head = stream.read(4096)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    # UTF-16 text in a Latin script has a NUL in every other byte, and passes for UTF-8 unless somebody counts them.
    if head.count(0) * 3 > len(head):
        little = head[1::2].count(0) > head[0::2].count(0)
        raise DataError(
            f"Byte {head.index(0)} is 0x00, and so are {head.count(0)} of the first {len(head)} bytes: this looks like "
            "UTF-16 without a byte order mark.",
            where=str(path),
            expected="UTF-8, or UTF-16 with a byte order mark",
            cure=f"Add --set data.encoding={'utf-16-le' if little else 'utf-16-be'}, or save the file as UTF-8.",
        )
    return "utf-8"


def text_blocks(path: Path, encoding: str, on_bytes: Callable[[int], None] | None = None) -> Iterator[str]:
    """Yield the text of a file block by block, without its byte order mark; `on_bytes` hears how much was read."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read, lines, is_first = 0, 1, True
    with open(path, "rb") as stream:
        while True:
            block = stream.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                raise _bad_byte(path, encoding, error, read + len(block), lines) from None
            read += len(block)
            if is_first and text:
                text, is_first = text.removeprefix("\ufeff"), False
            lines += text.count("\n")
            if text:
                yield text
            if not block:
                return
            if on_bytes is not None:
                on_bytes(len(block))


def numbered_lines(blocks: Iterable[str], where: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its "\\n"), the last one also where no "\\n" ends it."""
    number, held, held_chars = 1, [], 0
    for block in blocks:
        *whole, rest = block.split("\n")
        for line in whole:
            yield number, "".join([*held, line])
            number, held, held_chars = number + 1, [], 0
        held.append(rest)
        held_chars += len(rest)
        if held_chars > MAX_ROW:
            raise DataError(
                f"The line is longer than {MAX_ROW:,} characters.",
                where=f"{where}:{number}",
                expected="one row a line",
                cure="Split the row, or check that the file really holds text.",
            )
    if last := "".join(held):
        yield number, last


def _bad_byte(path: Path, encoding: str, error: UnicodeError, read: int, line: int) -> DataError:
    """The error of a byte that does not fit; `read` counts the bytes up to the end of the block it is in."""
    if not isinstance(error, UnicodeDecodeError):  # utf-16 without a mark, utf-7: a sentence without a position
        return DataError(f"The file is not {encoding.upper()}: {error}.", where=str(path), cure=_ENCODING_CURE)
    offset = read - len(error.object) + error.start
    before = bytes(error.object[: error.start])
    with contextlib.suppress(UnicodeError):  # idna and its like know no "replace"
        line += before.decode(encoding, "replace").count("\n")
    return DataError(
        f"Byte 0x{error.object[error.start]:02x} at offset {offset} is not {encoding.upper()} ({error.reason}).",
        where=f"{path}:{line}",
        expected="UTF-8, or UTF-16 with a byte order mark; any other encoding must be named",
        cure=_ENCODING_CURE,
    )


_ENCODING_CURE = (
    "Name the encoding the file was saved in, for instance --set data.encoding=cp1252 (Windows, Excel) or latin-1; "
    "if it should be UTF-8, it is damaged at that place."
)
