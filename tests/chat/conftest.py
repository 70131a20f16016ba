"""Raw files in a temporary folder, and the data commands run on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftlib.chat.processing import process
from sftlib.chat.readers import find_sources
from sftlib.chat.report import ProcessReport
from sftlib.chat.rows import RawRow, Rejected
from sftlib.config.schema import DataSection


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], str]:
    """`raw("a.jsonl", content)` writes a raw file into the current directory and gives its name.

    Bytes and text are written as they are, a list as JSON Lines.
    """
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: Any) -> str:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return name

    return write


def read_rows(*names: str, encoding: str = "auto") -> list[RawRow | Rejected]:
    """Everything the readers make of these paths."""
    sources, _ = find_sources(names, encoding)
    return [row for source in sources for row in source.read(None)]


def run_process(*names: str, seed: int = 42, out: str = "out", **settings: Any) -> ProcessReport:
    """`process` on these paths, with other keys of the data section."""
    return process(DataSection(**settings), seed, names, out)


def jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def all_rows(out: str = "out") -> list[dict[str, Any]]:
    """The rows of the three splits."""
    return [row for name in ("train", "val", "test") for row in jsonl(f"{out}/{name}.jsonl")]
