"""Assembly of `make mix`: takes the whole config and the sets, mixes them and writes what they came to beside it.

    show(mix(config, ["a.jsonl:2", "b.jsonl:1"], "mixed.jsonl", rows=1000))

Worst bug: an option that does not arrive (tests/chat/test_mix_script.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import console
from .build_augment import report_path
from .chat import mixed_files
from .chat.mixed_files import MixedSet, Wishes
from .config.schema import Config
from .files import file_errors, sha256_file, write_json
from .units import percent


def mix(config: Config, given: Sequence[str], out: str, seed: int | None = None, **wishes: Any) -> list[MixedSet]:
    """Mix the sets into `out`; the wishes are those of `mixed_files.Wishes`."""
    wanted = Wishes(config.seed if seed is None else seed, **wishes)
    sets = mixed_files.read_sets(given)
    with file_errors():
        mixed_files.mix(sets, wanted, config.data.columns, config.data.encoding, Path(out))
        report = {**asdict(wanted), "written": sum(one.taken for one in sets), "sha256": sha256_file(out)}
        write_json(report_path(Path(out)), {**report, "sets": [asdict(one) for one in sets]})
    return sets


def show(sets: Sequence[MixedSet]) -> None:
    """Print what each set came to, and warn of rows that are in the mix more than once."""
    total = sum(one.taken for one in sets)
    for one in sets:
        for example in one.examples:
            console.warn(f"A line was left out: {example}")
    table = [
        (one.path, one.weight, one.read, one.broken, one.duplicates, one.taken, percent(one.taken, total), one.times())
        for one in sets
    ]
    console.table("Mix", ["set", "weight", "read", "broken", "double", "taken", "share", "each row"], table)
    if repeated := [one.path for one in sets if one.taken > one.rows]:
        console.warn(
            f"Rows of {', '.join(repeated)} are in the mix more than once, and make process keeps equal rows once. To "
            "train on them so often, set weights in data.datasets; or mix processed splits and set data.train_path."
        )
    if unused := [one.path for one in sets if one.rows and not one.taken]:
        console.warn(f"No row of {', '.join(unused)} is in the mix: its share is less than half a row.")
