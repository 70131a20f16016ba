"""Room on the disk: all needs together, in a folder that need not exist yet."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from sftlib.errors import MachineError
from sftlib.run import disk

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A disk with 1000 bytes free; the folders it was asked about."""
    seen: list[Path] = []

    def usage(path: Path) -> Usage:
        seen.append(path)
        return Usage(5000, 4000, 1000)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    return seen


def test_what_just_fits(tmp_path: Path, asked: list[Path]) -> None:
    room = disk.need_room(tmp_path / "not" / "there", {"checkpoints": 600, "the adapter": 400})
    assert (room.needed, room.free) == (1000, 1000)
    assert asked == [tmp_path]


def test_one_byte_too_many_is_named_with_what_takes_it(tmp_path: Path, asked: list[Path]) -> None:
    with pytest.raises(MachineError) as caught:
        disk.need_room(tmp_path, {"3 checkpoints": 601, "the adapter": 400, "the merged model": 0})
    assert caught.value.code == "E410"
    assert caught.value.seen == "A run writes 1001 B (3 checkpoints 601 B, the adapter 400 B), and 1000 B are free."
