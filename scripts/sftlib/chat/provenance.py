"""Where an example came from, when a row became several: the source of a chunk, and the row of a source.

    chunk_source("faq.jsonl:17", 2)  ->  "faq.jsonl:17#2"
    row_of("faq.jsonl:17#2")         ->  "faq.jsonl:17"       row_of("faq.jsonl:17")  ->  "faq.jsonl:17"

Chunks are counted from 1. A source that somebody wrote by hand may be any text, also one that ends in #2: only behind a
line is that a chunk. A source without a line gets line 0, which no file has, before its chunk.

Worst bug: a chunk that is taken for another row's (tests/chat/test_provenance.py).
"""

from __future__ import annotations

import re

LINE = re.compile(r":0*[1-9][0-9]*\Z")
CHUNK = re.compile(r":([0-9]+)#[0-9]+\Z")


def chunk_source(row: str, number: int) -> str:
    """The source of a row's chunk."""
    return f"{row}#{number}" if LINE.search(row) else f"{row}:0#{number}"


def row_of(source: str) -> str:
    """The source of the row that a chunk was made of; of a whole row its own."""
    found = CHUNK.search(source)
    if found is None:
        return source
    return source[: found.start()] if found[1] == "0" else source[: found.end(1)]
