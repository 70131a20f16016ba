"""Assembly of the pre-flight: what is looked at before a training, in which order, and what each look needs.

    checks = preflight("configs/run_bnb.yaml", ["train.epochs=1"])
    checks.exit_code                       0, or that of the worst fault; checks.faults: all of them

Versions, config and splits come first and need no PyTorch; what needs it is in build_check_model.py and is imported
when its turn comes, so that a broken install is a fault like any other. A failed look stops only those that need it.

Worst bug: a fault that hides another one (tests/check/test_preflight.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import build_data, console
from .chat import splitting
from .chat.leaks import count_repeats, find_leaks
from .chat.stored import StoredSplit, iterate_split, read_split
from .config.loader import load_config
from .config.schema import Config
from .errors import DataError, SftError
from .files import ROOT
from .run.checks import Checks
from .run.inputs import find_split
from .run.versions import describe_versions, installed_version, python_faults, version_faults

if TYPE_CHECKING:
    from .build_check_model import ModelLooks

SHOWN = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
NAMED = 5  # leaks named in a message
Report = Callable[[SftError], None]


def preflight(config_file: str | Path, overrides: Sequence[str] = ()) -> Checks:
    """Look at everything, print a line a check and the table of faults at the end."""
    looks, checks = Looks(config_file, overrides), Checks()
    checks.make("config", looks.read_config)
    checks.make("versions", looks.versions)
    for name in splitting.SPLITS:
        checks.make(f"{name} split", partial(looks.read_split, name), needs=("config",))
    checks.make("rows", looks.rows_of_now, needs=("config", "train split"))
    checks.make("leaks", looks.leaks, needs=("config",))

    def of_model(name: str) -> Callable[[Report], str]:
        return lambda report: getattr(looks.of_model(), name)(report)

    checks.make("settings", of_model("settings"), needs=("config",))
    checks.make("device", of_model("device"), needs=("settings",))
    checks.make("model", of_model("model"), needs=("settings",))
    checks.make("mask", of_model("mask"), needs=("train split", "model"))
    checks.make("lengths", of_model("lengths"), needs=("mask",))
    checks.make("end of turn", of_model("end_of_turn"), needs=("lengths",))
    checks.make("memory", of_model("memory"), needs=("lengths",))
    checks.make("disk", of_model("disk"), needs=("lengths",))
    checks.make("learning", of_model("learning"), needs=("device", "lengths", "memory"))
    checks.show()
    return checks


class Looks:
    """The looks that need no PyTorch; each returns what it found and keeps what later ones need."""

    def __init__(self, config_file: str | Path, overrides: Sequence[str]) -> None:
        self._file, self._overrides = config_file, overrides
        self.config: Config | None = None  # when it cannot be read
        self.splits: dict[str, StoredSplit] = {}
        self._of_model: ModelLooks | None = None

    def read_config(self, report: Report) -> str:
        """Every key by its type, range and neighbours."""
        self.config = load_config(self._file, self._overrides)
        return f"{self._file} is right"

    def versions(self, report: Report) -> str:
        """Python and packages against the requirement files, the optional ones that the config asks for included."""
        files = [ROOT / "requirements.txt", *(ROOT / name for name in self._optional_files())]
        for fault in [*python_faults(files[0]), *(fault for file in files for fault in version_faults(file))]:
            report(fault)
        return f"{describe_versions(SHOWN)}; all within {', '.join(file.name for file in files)}"

    def read_split(self, name: str, report: Report) -> str:
        """Each row of a split; one that the training does not read may be missing or empty."""
        is_needed = name == "train" or (name == "val" and self.config.train.eval_strategy != "no")
        try:
            path = find_split(self.config.data, name)
        except DataError:
            if is_needed:
                raise
            return "there is none, and none is needed"
        if not is_needed and not any(True for _ in iterate_split(path)):
            return f"{path} is empty, and is not needed"
        split = self.splits[name] = read_split(path)
        repeated = count_repeats(split)
        repeats = f", {repeated} of them said before to the letter" if repeated else ""
        return f"{len(split)} {'rendered rows' if split.kind == 'rendered' else 'conversations'} in {path}{repeats}"

    def rows_of_now(self, report: Report) -> str:
        """Whether the data sets of the config are what the splits were made of."""
        build_data.require_current(self.config)
        return "the splits are those of the config" if self.config.data.datasets else "the splits are used as they are"

    def leaks(self, report: Report) -> str:
        """No question in two splits; of the splits that could be read."""
        leaks = find_leaks(self.splits)
        if leaks:
            more = f", and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
            count = "1 question is" if len(leaks) == 1 else f"{len(leaks)} questions are"
            raise DataError(
                f"{count} in two splits: {'; '.join(map(str, leaks[:NAMED]))}{more}.",
                where=", ".join(split.path.as_posix() for split in self.splits.values()),
                expected="each question in one split, or scores are too good",
                cure="make process keeps them apart; or remove these rows from one of the splits.", code="E304",
            )  # fmt: skip
        return f"no question is in two of {', '.join(self.splits)}" if len(self.splits) > 1 else "a single split"

    def of_model(self) -> ModelLooks:
        """The looks that need PyTorch."""
        if self._of_model is None:
            from .build_check_model import ModelLooks

            assert self.config is not None
            self._of_model = ModelLooks(self.config, {name: split.path for name, split in self.splits.items()})
        return self._of_model

    def _optional_files(self) -> list[str]:
        if self.config is None:
            return []
        asked = []
        backend = self.config.logging.backend
        if "wandb" in ([backend] if isinstance(backend, str) else backend):
            asked.append("requirements-wandb.txt")
        # where unsloth is missing, the look at the device says what trains instead
        if self.config.tuning.backend == "unsloth" and installed_version("unsloth"):
            asked.append("requirements-unsloth.txt")
        return asked


def show_verdict(checks: Checks) -> None:
    """What a person does next."""
    if not checks.faults:
        console.note("Everything is ready. Next: make train")
