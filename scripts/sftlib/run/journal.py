"""Files of a run that grow while it trains, one JSON object a line, each with its step: metrics.jsonl and its like.

A kill may tear the last line, in the middle of a letter too; it is passed over when read, and a resumed run first cuts
back what lies beyond its checkpoint, so that no step is there twice.

    list(entries(run.seen))      ->  [{"step": 1, ...}, {"step": 2, ...}]
    cut_back(run.seen, 1)        of a run that goes on from checkpoint-1

Worst bug: a step that is there twice after a resume (tests/run/test_journal.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import whole_file


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of the file, one at a time; none where there is no file."""
    for _, entry in _readable(path):
        yield entry


def cut_back(path: Path, step: int) -> None:
    """Keep the lines up to `step`, as they are. A file that is not there stays so."""
    if not path.is_file():
        return
    with whole_file(path) as stream:
        for line, entry in _readable(path):
            if entry["step"] <= step:
                stream.write(line)


def _readable(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace", newline="\n") as stream:
        for line in stream:
            if not line.endswith("\n"):
                return  # torn, even if what is left of it can be read
            try:
                yield line, json.loads(line)
            except json.JSONDecodeError:
                continue
