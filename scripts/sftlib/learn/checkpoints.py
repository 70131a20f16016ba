"""Checkpoints: which are complete, which is taken up again, which are kept.

A checkpoint is a folder `checkpoint-<step>` of the run. `complete.json` is written last, after everything else is on
the disk, and lists the files with their sizes: a folder without it, or that does not match it, was torn by a kill and
is passed over. Files inside are made by us and read back by transformers with weights_only; weights are safetensors.
What may be resumed by what is refused in `run`.

    complete.json: {"step": 30, "files": {"adapter_model.safetensors": 1048896, "optimizer.pt": 2101234, ...}}

Worst bug: a half-written checkpoint taken for a whole one (tests/learn/test_checkpoints.py).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .. import console, files
from ..errors import MixError

MANIFEST = "complete.json"
PREFIX = "checkpoint-"


def choose_checkpoint(resume: str, run_folder: Path) -> Path | None:
    """The checkpoint to go on from, by train.resume; None starts at step 0.

    `auto` takes the newest complete one of the run, `never` none; a path must be a complete checkpoint (MixError).
    """
    if resume == "never":
        return None
    if resume == "auto":
        return newest_checkpoint(run_folder)
    folder = Path(resume)
    problem = what_is_missing(folder)
    if problem:
        whole = [str(other) for other in checkpoints(run_folder) if not what_is_missing(other)]
        raise MixError(
            f"{folder} cannot be resumed: {problem}.", where="train.resume", expected="a complete checkpoint folder",
            cure="Set train.resume to auto" + (f", or to one of: {', '.join(whole)}." if whole else "."),
        )  # fmt: skip
    return folder


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The complete checkpoint of the highest step; torn ones above it are passed over with a word."""
    for folder in reversed(checkpoints(run_folder)):
        problem = what_is_missing(folder)
        if not problem:
            return folder
        console.warn(f"{folder} is passed over: {problem}. Its save was interrupted.")
    return None


def checkpoints(run_folder: Path) -> list[Path]:
    """Checkpoint folders of a run, complete or not, lowest step first."""
    found = [path for path in run_folder.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=step_of)


def checkpoint_words(run_folder: Path) -> str:
    """Where a run that failed can be taken up again, as a sentence."""
    newest = newest_checkpoint(run_folder)
    return f"What was learned before is in {newest}." if newest else "There is no checkpoint yet."


def step_of(folder: Path) -> int:
    """The step a checkpoint was saved at."""
    return int(folder.name[len(PREFIX) :])


def what_is_missing(folder: Path) -> str:
    """Why a checkpoint is not complete, as half a sentence; empty when it is."""
    if not folder.is_dir():
        return "there is no such folder"
    try:
        listed: dict[str, int] = files.read_json(folder / MANIFEST)["files"]
    except FileNotFoundError:
        return f"{MANIFEST} is not there"
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"{MANIFEST} is not readable"
    for name, size in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is not there"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return ""


def make_room(folder: Path) -> None:
    """Prepare the place of a checkpoint: what a kill left of another one there goes, a whole one is unsealed."""
    if folder.is_dir() and what_is_missing(folder):
        shutil.rmtree(folder)
    unseal(folder)


def unseal(folder: Path) -> None:
    """Take the mark of completeness off, before the folder is changed."""
    (folder / MANIFEST).unlink(missing_ok=True)
    if folder.is_dir():
        files.sync_folder(folder)


def seal(folder: Path) -> None:
    """Flush everything in the folder to the disk, then mark it as complete."""
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.sync_file(path)
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
        else:
            files.sync_folder(path)
    files.sync_folder(folder)
    files.write_json(folder / MANIFEST, {"step": step_of(folder), "files": sizes})
    files.sync_folder(folder.parent)


def rotate(run_folder: Path, limit: int | None, best: Path | None) -> None:
    """Delete the oldest checkpoints until `limit` whole ones are left; None keeps all.

    The newest and the best one always stay. Torn ones count for nothing and go: with a limit of 1, one of a later step
    that a kill left behind would otherwise take the place of the checkpoint that was just written.
    """
    if limit is None:
        return
    found = {folder: not what_is_missing(folder) for folder in checkpoints(run_folder)}
    for folder in (folder for folder, is_whole in found.items() if not is_whole):
        shutil.rmtree(folder)
    kept = [folder for folder, is_whole in found.items() if is_whole]
    for folder in kept[:-1]:
        if len(kept) <= limit:
            return
        if best is None or folder.name != best.name:
            unseal(folder)
            shutil.rmtree(folder)
            kept = [other for other in kept if other != folder]
