"""The stamp of a run: what made it, so that nothing else is mixed in later.

In come hashes and settings; out go stamp.json and backend.json, and, against an older stamp, the list of differences.
A run is only continued when everything that shapes its weights is the same; what does not (where logs go, how often a
line is printed) may change. Code is compared too, but a changed line of ours is a word of warning, not a refusal.

    compare(old, new)  ->  [Difference("data.train", "9f2c..", "41aa.."), Difference("settings.train.epochs", 3.0, 4.0)]

Worst bug: a run continued on other data (tests/run/test_stamp.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import console, files
from ..errors import MixError
from .folder import RunFolder

# Keys that cannot change the weights: names and places (contents are hashed), what is shown, what comes after training.
WITHOUT_EFFECT = (
    "run_name", "logging.", "infer.", "eval.", "data.", "model.name", "model.local_dir", "model.revision",
    "train.resume", "train.output_dir", "train.logging_steps", "train.save_total_limit",
)  # fmt: skip
OF_THE_ROWS = re.compile(  # the stored rows are hashed, but not what is cut off, learnt and taken of them
    r"data\.(loss_on|truncation|truncation_side|mixing\..*)"
    r"|data\.datasets\.[^.]+\.(weight|repeat|max_rows|max_seq_len|truncation|loss_on)"
)
RATES_ANSWERS = ("eval.training_rows", "eval.max_new_tokens")  # these choose the best checkpoint when eval_rougeL does
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "unsloth",
    "datasets",
    "tokenizers",
    "safetensors",
)


@dataclass(frozen=True)
class Stamp:
    """What made a run.

    Args:
        data: digest of each split's file, by split.
        template, tokenizer: digests.
        settings: dotted key -> value; see `matching_settings`.
        base: name and revision of the base model.
        backend: the one that really ran.
        code: git revision (or `unknown`) and digest of scripts/.
        warnings: everything the run was warned of.
    """

    data: dict[str, str]
    template: str
    tokenizer: str
    settings: dict[str, Any]
    base: dict[str, str | None]
    backend: str
    code: dict[str, str]
    warnings: list[str] = field(default_factory=list)

    def write(self, run: RunFolder) -> None:
        """Write stamp.json with all that was warned of so far, before a resume too; again at the end, for the rest."""
        earlier = Stamp.read(run).warnings if run.state == "interrupted" and run.stamp.is_file() else []
        warnings = list(dict.fromkeys([*earlier, *self.warnings, *console.warnings()]))
        files.write_json(run.stamp, {**asdict(self), "warnings": warnings})

    @classmethod
    def read(cls, run: RunFolder) -> Stamp:
        """Read stamp.json. Raises MixError when it is missing or cannot be read."""
        try:
            return cls(**_read(run.stamp))
        except TypeError as error:
            raise _unknown_maker(run.stamp, "it is not a stamp") from error


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was."""

    key: str
    old: Any
    new: Any


def matching_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that shape the weights, flat: `{"train.learning_rate": 0.0002, ...}`.

    config: the whole settled config as nested dicts (`Config.model_dump()`).
    """
    flat = _flatten(config)
    rated = RATES_ANSWERS if flat.get("train.metric_for_best_model") == "eval_rougeL" else ()
    return {
        key: value
        for key, value in flat.items()
        if not key.startswith(WITHOUT_EFFECT) or key in rated or OF_THE_ROWS.fullmatch(key)
    }


def compare(old: Stamp, new: Stamp) -> list[Difference]:
    """What would be mixed if the run of `old` were continued with what made `new`."""
    parts = ("data", "template", "tokenizer", "settings", "base", "backend")
    before, after = ({key: value for key, value in asdict(stamp).items() if key in parts} for stamp in (old, new))
    flat_before, flat_after = _flatten(before), _flatten(after)
    return [
        Difference(key, flat_before.get(key), flat_after.get(key))
        for key in {**flat_before, **flat_after}
        if flat_before.get(key) != flat_after.get(key)
    ]


def refuse_to_mix(run: RunFolder, new: Stamp, resume: str = "auto") -> None:
    """Raise MixError, listing every difference, if what is to be continued was made by something else.

    resume: train.resume; when it is a checkpoint's path, the run that the checkpoint belongs to is compared as well.
    A run without checkpoints passes: it holds nothing to mix.
    """
    for owner in _owners(run, resume):
        _refuse(owner, new)


def settings_to_go_on_with(run: RunFolder, resume: str = "auto") -> dict[str, Any]:
    """The `matching_settings` of what is to be continued; empty when a run begins."""
    owners = _owners(run, resume)
    return Stamp.read(owners[-1]).settings if owners else {}


def _owners(run: RunFolder, resume: str) -> list[RunFolder]:
    """The runs whose weights a training would go on with."""
    owners = [run] if run.state != "new" else []
    if resume not in ("auto", "never"):
        folder = Path(resume).resolve().parent
        owners.append(RunFolder(folder.parent, folder.name))
    return owners


def _refuse(owner: RunFolder, new: Stamp) -> None:
    old = Stamp.read(owner)
    if "used" not in _read(owner.backend):
        raise _unknown_maker(owner.backend, "it does not name a backend")
    differences = compare(old, new)
    if differences:
        listed = "; ".join(f"{d.key} was {_short(d.old)}, is {_short(d.new)}" for d in differences)
        raise MixError(
            f"The run {owner.name} was made by something else: {listed}.", where=str(owner.stamp),
            expected="the same data, template and settings",
            cure="Put them back, or train anew beside it: FRESH=1 (--fresh)",
        )  # fmt: skip
    if old.code != new.code:
        was = _short(old.code["scripts"])
        console.warn(f"The run {owner.name} was begun with other code ({was}); it goes on with this one.")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = files.read_json(path)
    except FileNotFoundError as error:
        raise _unknown_maker(path, "it is not there") from error
    except (OSError, ValueError) as error:  # not JSON, or not even text
        raise _unknown_maker(path, f"it cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise _unknown_maker(path, "it is not a JSON object")
    return found


def _unknown_maker(path: Path, problem: str) -> MixError:
    return MixError(
        f"Nothing says what made the checkpoints in {path.parent}: {path.name} is of no use, {problem}.",
        where=str(path), expected=f"{path.name} as the run wrote it",
        cure="Put it back from a copy, or train anew beside it: FRESH=1 (--fresh)",
    )  # fmt: skip


def code_revision(root: Path = files.ROOT) -> dict[str, str]:
    """The commit of the project (`unknown` outside git) and a digest of its scripts, as they are on the disk."""
    revision = "unknown"
    if (root / ".git").exists():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            done = subprocess.run(
                ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
            )
            revision = done.stdout.strip()
    return {"git": revision, "scripts": hash_files(root / "scripts", sorted((root / "scripts").rglob("*.py")))}


def hash_files(folder: Path, paths: Iterable[Path]) -> str:
    """One digest over files: their names below `folder` and their bytes, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{files.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def write_backend(
    run: RunFolder,
    *,
    asked: str,
    used: str,
    reason: str,
    mode: str,
    dtype: str,
    attention: str,
    device: Mapping[str, Any],
    batch: Mapping[str, Any],
    launch: Mapping[str, Any],
) -> None:
    """Write backend.json: what was asked for, what really ran, and why."""
    files.write_json(
        run.backend,
        {
            "asked": asked, "used": used, "reason": reason, "mode": mode, "dtype": dtype, "attention": attention,
            "device": dict(device), "batch": dict(batch), "launch": dict(launch), "versions": versions(),
        },
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Of Python and of every package that has a part in a training."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        # settings are flat already, and data.columns has keys of the user
        flat |= (
            _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
        )
    return flat


def _short(value: Any) -> str:
    text = str(value)
    is_digest = len(text) in (40, 64) and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_digest else text
