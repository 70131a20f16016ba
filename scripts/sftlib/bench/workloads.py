"""The kinds of comparison by name: what work.json becomes again, and which workloads there are.

    read_contests(folder)  ->  [Training(...)]        as build_bench.prepare left them

Worst bug: a work.json that is read as another kind (tests/bench/test_workloads.py).
"""

from __future__ import annotations

from pathlib import Path

from ..files import read_json, sha256_file
from .card import Card, Longest
from .generation import Generation
from .large import Large
from .plan import FAQ_SHA256, MODES, ROWS, SHAPES, Plan
from .preparation import Preparation
from .scaling import Scaling
from .starting import Starting
from .training import Training
from .work import FILE, Work

KINDS = {one.__name__: one for one in (Training, Preparation, Generation, Starting, Scaling, Card, Longest, Large)}
WORKLOADS = tuple(ROWS)
TITLES = {
    "train": "Training", "prepare": "Preparation", "generate": "Answers", "startup": "Start-up",
    "scaling": "Scaling", "gpu": "On a GPU", "large": "Large data sets",
}  # fmt: skip

__all__ = ["MODES", "SHAPES", "TITLES", "WORKLOADS", "Plan", "read_contests", "read_work", "sizes_said", "table_name"]


def read_work(folder: Path) -> Work:
    """What `Work.write` left in a folder."""
    written = read_json(folder / FILE)
    return KINDS[written.pop("kind")](**written)


def read_contests(folder: Path) -> list[Work]:
    """All comparisons of a workload, in order."""
    return [read_work(Path(one)) for one in read_json(folder / "contests.json")]


def sizes_said() -> str:
    """Rows of each workload by default."""
    return ", ".join(f"{name} {rows}" for name, rows in ROWS.items())


def table_name(plan: Plan) -> str:
    """Of the place on the page: `train`, `train-qlora`, `train-gsm8k_train` for other rows than the FAQ package's."""
    mode = [plan.mode] if plan.mode != MODES[0] and plan.workload != "gpu" else []
    others = [Path(one) for one in plan.raw_paths]
    others = [one for one in others if not one.is_file() or sha256_file(one) != FAQ_SHA256]
    return "-".join([plan.workload, *mode, *(one.stem for one in others)])
