"""What a command starts from, looked for before anything heavy is imported: the file of a split, the tuned model.

    find_split(config.data, "test")                        ->  data/processed/test.jsonl
    find_tuned(Path("outputs"), run=None, adapter=None)    ->  TunedFolder(adapters/last, run first-try)
    find_merged(Path("outputs"), run="first-try")          ->  outputs/first-try/merged

A file or folder that is missing is an error which names the command that makes it. Nothing else ever takes its place:
without an adapter the base does not answer.

Worst bug: a model other than the one that was asked for (tests/run/test_inputs.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..config.schema import DataSection
from ..errors import DataError, ModelError
from .folder import RunFolder, find_run

NEWEST = Path("adapters/last")
MARKS = ("adapter_config.json", "config.json")  # an adapter has the first, a whole model the second
MERGED = {"fp16": "merged", "bf16": "merged-bf16"}  # dtype -> where the merged model lies, beside the adapter


@dataclass(frozen=True, slots=True)
class TunedFolder:
    """A tuned model on disk: its folder as it was named, and the run it belongs to, if any."""

    folder: Path
    run: RunFolder | None


def find_split(data: DataSection, split: Literal["train", "val", "test"]) -> Path:
    """The file of a split: data.<split>_path, or the one in data.processed_dir. DataError when it is missing."""
    path = Path(getattr(data, f"{split}_path") or Path(data.processed_dir) / f"{split}.jsonl")
    if not path.is_file():
        raise DataError(
            "The file of this split is missing.", where=str(path), expected=f"the {split} split, as JSON Lines",
            cure="make process (styled splits: make style; rendered ones: make render)", code="E301",
        )  # fmt: skip
    return path


def find_tuned(root: Path, *, run: str | None = None, adapter: str | None = None) -> TunedFolder:
    """The tuned model of a folder, of a run, or of the run finished last. ModelError when there is none.

    root: the folder of all runs (train.output_dir). adapters/last counts where its run is one of these.
    """
    if adapter is not None:
        folder = Path(adapter)
    elif run is None and NEWEST.exists() and NEWEST.resolve().parent.parent == root.resolve():
        folder = NEWEST
    else:
        folder = find_run(root, run).adapter
    if not any((folder / mark).is_file() for mark in MARKS):
        raise ModelError(
            "There is no tuned model in this folder." if folder.is_dir() else "There is no such folder.",
            where=str(folder), expected=f"{' or '.join(MARKS)} in it",
            cure="make train, or name another one: ADAPTER=folder or RUN=name.",
        )  # fmt: skip
    home = folder.resolve().parent
    owner = RunFolder(home.parent, home.name)
    return TunedFolder(folder, owner if owner.stamp.is_file() and owner.adapter == folder.resolve() else None)


def place_for_merged(root: Path, tuned: TunedFolder, dtype: str) -> Path:
    """Where the merged model of an adapter goes: into the folder of its run, or beside all runs where it has none."""
    run = tuned.run
    if run is not None and run.root.resolve() == root.resolve():
        run = RunFolder(root, run.name)  # named as the user names it
    return (run.path if run else root) / MERGED[dtype]


def find_merged(root: Path, run: str | None = None) -> Path:
    """The merged model of a run, or of the newest; of two the one in float16. ModelError when there is none."""
    home = root / run if run else place_for_merged(root, find_tuned(root), "fp16").parent
    for name in MERGED.values():
        if (home / name / "config.json").is_file():
            return home / name
    raise ModelError(
        "There is no merged model in this run's folder.", where=str(home), expected=" or ".join(MERGED.values()),
        cure=f"make merge{f' RUN={run}' if run else ''}",
    )  # fmt: skip
