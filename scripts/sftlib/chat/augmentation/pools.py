"""Texts to choose from: as they are given, or in a file.

    read_pool("--system", ["Be brief.", "@systems.txt"])  ->  ("Be brief.", and one for each line of the file)

A file has one text a line; where it has lines of `---`, these divide texts of several lines.
Worst bug: a text with the file's name in it instead of the file's texts (tests/chat/augmentation/test_pools.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import UsageError
from ..cleaning import clean_text

FILE = "@"


def read_pool(option: str, given: Sequence[str]) -> tuple[str, ...]:
    """The texts behind an option, each once. UsageError for a file that cannot be read, or a text that is empty."""
    texts: dict[str, None] = {}
    for one in given:
        for text in _read(option, one[1:]) if one.startswith(FILE) else (one,):
            if not (text := clean_text(text, {}).strip()):
                raise UsageError(f"{option} has an empty text.", cure="Leave it out.")
            texts[text] = None
    return tuple(texts)


def _read(option: str, name: str) -> Iterator[str]:
    try:
        content = Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"The file of {option} cannot be read: {why}.", where=name,
            cure="A text that begins with @ is the name of a file with one text a line.",
        ) from None  # fmt: skip
    parts = re.split(r"^---[ \t]*$", content, flags=re.M)
    texts = [text for text in (parts if len(parts) > 1 else content.split("\n")) if text.strip()]
    if not texts:
        raise UsageError(f"The file of {option} holds no text.", where=name, cure="Write one text a line.")
    yield from texts
