"""The folder of a run: where everything in it lies, whether it may be begun, continued or is finished.

In come the folder of all runs (train.output_dir) and a name; out goes a `RunFolder`. Nothing here reads a model or the
data: what made a run is in `stamp`, checkpoints are of `learn`.

    outputs/<name>/config.yaml backend.json stamp.json metrics.jsonl train_log.csv time_metrics.json best.json
                   seen.jsonl spikes.jsonl non_finite.jsonl out_of_memory.jsonl checkpoint-*/ adapter/ eval/
                   summary.json (written last: the run is finished)
    outputs/tb/<name>/      its curves
    adapters/last           -> the newest finished run's adapter

Worst bug: a finished run overwritten by another of its name (tests/run/test_folder.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from .. import console, files
from ..errors import MixError, ModelError, UsageError
from .launch import find_launch

TENSORBOARD = "tb"  # of all runs, under the folder of the runs
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run: `root` is the folder of all runs."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / self.name

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def backend(self) -> Path:
        """What really ran."""
        return self.path / "backend.json"

    @property
    def stamp(self) -> Path:
        """What made it."""
        return self.path / "stamp.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a record."""
        return self.path / "metrics.jsonl"

    @property
    def train_log(self) -> Path:
        """The same records as a table."""
        return self.path / "train_log.csv"

    @property
    def time_metrics(self) -> Path:
        """How long it took, how fast it was."""
        return self.path / "time_metrics.json"

    @property
    def seen(self) -> Path:
        """The loss of each row each time it was seen, one JSON object a step."""
        return self.path / "seen.jsonl"

    @property
    def spikes(self) -> Path:
        """The steps that stood out, with their rows, one JSON object each; only there when there was one."""
        return self.path / "spikes.jsonl"

    @property
    def non_finite(self) -> Path:
        """The rows behind steps that were not applied, one JSON object a row; only there when there was one."""
        return self.path / "non_finite.jsonl"

    @property
    def out_of_memory(self) -> Path:
        """The micro-batches that did not fit, one JSON object each; only there when there was one."""
        return self.path / "out_of_memory.jsonl"

    @property
    def best(self) -> Path:
        """Which checkpoint is the best, and why."""
        return self.path / "best.json"

    @property
    def adapter(self) -> Path:
        """The tuned adapter, or the tuned model after a full fine-tune, with all it needs to be used elsewhere."""
        return self.path / "adapter"

    @property
    def eval(self) -> Path:
        """Its evaluations."""
        return self.path / "eval"

    @property
    def summary(self) -> Path:
        """Written last; says that the run is finished, and when."""
        return self.path / "summary.json"

    @property
    def tensorboard(self) -> Path:
        """Its curves."""
        return self.root / TENSORBOARD / self.name

    @property
    def state(self) -> Literal["new", "interrupted", "finished"]:
        """`new`: no weights of it yet. `interrupted`: there are checkpoints, and it is not finished."""
        if self.summary.is_file():
            return "finished"
        return "interrupted" if any(self.path.glob("checkpoint-*")) else "new"

    def go_on_command(self, resume: str) -> str:
        """What a person types to go on with it, with as many processes; resume: the run's train.resume."""
        setting = "" if resume == "auto" else " SET=train.resume=auto"
        return f"make train {shlex.quote(f'CONFIG={self.config}')}{setting}{find_launch().variables}"

    def finish(self, summary: Mapping[str, Any], links: Path = Path("adapters")) -> None:
        """Point `<links>/last` at its adapter and mark the run as finished."""
        try:
            files.point_link(links / "last", self.adapter)
        except FileExistsError as error:
            raise MixError(
                f"{links / 'last'} is not a link.", expected="a link to an adapter, or nothing",
                cure=f"Move it away; the adapter of this run is {self.adapter}.",
            ) from error  # fmt: skip
        files.write_json(self.summary, {"run": self.name, "finished_at": _now(), **summary})


def default_name(model: str, mode: str, now: datetime | None = None) -> str:
    """Name of a run that was not given one: `SmolLM2-135M-Instruct-lora-20250131-235959`."""
    short = re.sub(
        r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf").removeprefix("pip:")
    )
    return f"{short.strip('-._') or 'model'}-{mode}-{(now or datetime.now()):%Y%m%d-%H%M%S}"


def open_run(root: Path, name: str, resume: str, *, fresh: bool = False) -> RunFolder:
    """The folder to train in: a new one, or that of an interrupted run when `resume` (train.resume) allows it.

    fresh: take a name that no run has yet, `name` or `name-2`, `name-3` ...; what is there stays as it is.
    Raises MixError for a finished run, and for an interrupted one with `never`.
    """
    if fresh and resume not in ("auto", "never"):
        raise UsageError(
            f"A fresh run goes on from nothing, and train.resume is {resume}.", where="--fresh, train.resume",
            expected="one of the two", cure="Leave --fresh out, or set train.resume to auto.",
        )  # fmt: skip
    if fresh and (root / name).exists():
        taken, number = name, 2
        while (root / name).exists():
            name, number = f"{taken}-{number}", number + 1
        console.note(f"A fresh run: {name}. {root / taken} stays as it is.")
    if not NAME.fullmatch(name) or name == TENSORBOARD:
        raise UsageError(
            f"{name!r} cannot be the name of a run.", where="run_name",
            expected=f"letters, digits, `.`, `_` and `-`, and not {TENSORBOARD!r}", cure="Choose another: RUN=my-run",
        )  # fmt: skip
    run = RunFolder(root, name)
    if run.state == "finished":
        raise MixError(
            f"The run {name} is finished ({files.read_json(run.summary)['finished_at']}).", where=str(run.path),
            expected="a new name, or an interrupted run",
            cure=f"Train anew beside it: FRESH=1 (--fresh), or another name: RUN={name}-2.",
        )  # fmt: skip
    if run.state == "interrupted" and resume == "never":
        raise MixError(
            f"The run {name} was begun and not finished, and train.resume is never.", where=str(run.path),
            expected="a new name, or train.resume: auto",
            cure="Go on with it: SET=train.resume=auto. Or train anew beside it: FRESH=1 (--fresh).",
        )  # fmt: skip
    run.path.mkdir(parents=True, exist_ok=True)
    return run


def find_run(root: Path, name: str | None = None) -> RunFolder:
    """The finished run of that name, or the one finished last. Raises ModelError when there is none."""
    finished = {path.parent.name: files.read_json(path)["finished_at"] for path in root.glob("*/summary.json")}
    if name is not None:
        if name not in finished:
            begun = " It was begun, but is not finished." if RunFolder(root, name).state == "interrupted" else ""
            raise ModelError(
                f"There is no finished run {name}.{begun}", where=str(root / name),
                expected="one of: " + (", ".join(sorted(finished)) or "(none yet)"), cure=f"make train RUN={name}",
            )  # fmt: skip
        return RunFolder(root, name)
    if not finished:
        raise ModelError("No run is finished yet.", where=str(root), expected="a finished training", cure="make train")
    return RunFolder(root, max(finished, key=finished.__getitem__))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
