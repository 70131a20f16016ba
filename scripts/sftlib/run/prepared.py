"""What `make prepare` left in its folder, and whether it is what would be made now.

In: a description of all that the examples depend on, as nested dicts of plain values, and the files that were written.
Out: metadata.json beside them, and later what has changed since, in words. No torch: a second `make prepare` with
nothing to do answers at once.

    write(folder, made_of={"template": "9f2c..", "splits": {"train": "41aa.."}}, files=[...], report={...})
    changes(folder, made_of)  ->  []        or ["the chat template changed"]; None where nothing was prepared

Worst bug: a change that is not seen (tests/run/test_prepared.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_json, sha256_file, write_json

METADATA = "metadata.json"
NOT_THERE = object()
WORDS = {  # what stands for a digest
    "template": "the chat template", "tokenizer": "the tokenizer", "code": "the code of this project",
    "splits.train": "the rows of the train split", "splits.val": "the rows of the val split",
    "splits.test": "the rows of the test split",
}  # fmt: skip


def write(folder: Path, *, made_of: Mapping[str, Any], files: Sequence[Path], report: Mapping[str, Any]) -> None:
    """Write metadata.json: what the files were made of, their digests, and a report for people and programs."""
    digests = {path.name: sha256_file(path) for path in files}
    write_json(folder / METADATA, {"made_of": made_of, "files": digests, **report})


def read(folder: Path) -> dict[str, Any] | None:
    """What metadata.json says; None where there is none that can be read."""
    try:
        return read_json(folder / METADATA)
    except (OSError, ValueError):
        return None


def changes(folder: Path, made_of: Mapping[str, Any]) -> list[str] | None:
    """What is no more as it was made, in words; None where nothing was prepared."""
    found = read(folder)
    if not isinstance(found, dict) or not {"made_of", "files"} <= found.keys():
        return None
    before, now = _flat(found["made_of"]), _flat(made_of)
    said = [
        _in_words(key, before, now)
        for key in {**before, **now}
        if before.get(key, NOT_THERE) != now.get(key, NOT_THERE)
    ]
    for name, digest in found["files"].items():
        path = folder / name
        if not path.is_file():
            said.append(f"{path} is gone")
        elif sha256_file(path) != digest:
            said.append(f"{path} is not as it was written")
    return said


def _in_words(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key in WORDS:
        return f"{WORDS[key]} changed"
    if key not in before:
        return f"{key} is {_shown(now[key])}"
    return f"{key} was {_shown(before[key])}" + (f" and is {_shown(now[key])}" if key in now else "")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    inner = f"{prefix}." if prefix else ""
    return {key: leaf for name, child in value.items() for key, leaf in _flat(child, inner + name).items()}
