"""Rows that a run has shown to be bad, written into the file of data.blocklist, which `process` then leaves out.

In: sources, each with the reason why. Out: lines of a text file, for a person to read before they are used:

    # loss 7.42 a token, usual are 1.21, in step 37 of the run first-try
    data/raw/faq.jsonl:4711

A source that is in the file already is not written again; of a chunk it is its row. What the file holds stays.

Worst bug: a row that is left out and nobody knows why (tests/run/test_blocklist.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..files import append_text, numbered_lines

DEFAULT = "data/blocklist.txt"


def add_to_blocklist(path: Path, reasons: Mapping[str, str]) -> list[str]:
    """Append sources with their reasons; those that were new."""
    known = {line.strip() for _, line in numbered_lines(path)} if path.is_file() else set()
    new = [source for source in reasons if source not in known]
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        lines = [f"# {' '.join(reasons[source].split())}\n{source}\n" for source in new]
        append_text(path, ("\n" if begun else "") + "".join(lines))
    return new
