"""Whether the disk has room for what a run writes. In come bytes by what they are for; nothing is written.

    need_room(Path("outputs"), {"3 checkpoints": 180 * 2**20, "merged model": 6 * GIB})
    ->  Room(needed=..., free=...), or MachineError E410 with what is needed and what is free

Worst bug: a night's training that ends with a full disk (tests/run/test_disk.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import MachineError
from ..units import human_bytes


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are needed in a folder, and that are free there."""

    needed: int
    free: int


def need_room(folder: Path, needs: Mapping[str, int]) -> Room:
    """What a folder, which need not exist yet, must have room for. MachineError when it does not."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    room = Room(sum(needs.values()), shutil.disk_usage(place).free)
    if room.needed > room.free:
        listed = ", ".join(f"{what} {human_bytes(size)}" for what, size in needs.items() if size)
        raise MachineError(
            f"A run writes {human_bytes(room.needed)} ({listed}), and {human_bytes(room.free)} are free.",
            where=str(folder), cure="Free some space, lower train.save_total_limit, or set train.output_dir elsewhere.",
            code="E410",
        )  # fmt: skip
    return room
