"""Who takes part in a bench: we, and the peers with their settings; for each the command and where its report is.

    find_entrants(["trl", "trl-fast"], {"trl": Path("/tmp/peers/trl")})   -> [sft-play, trl, trl-fast]

A peer is a runner (scripts/peers/), the environment that it runs in and options of its own. Ours is scripts/train.py as
a user starts it, told of the bench's config.yaml alone.

Worst bug: a peer that runs in our environment, with our versions (tests/bench/test_entrants.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import ROOT, numbered_lines, read_json, sha256_file, write_json
from .work import PACK, Work

OURS = "sft-play"
OWN = ""  # the environment of a peer that needs no other packages than ours
PEERS = ROOT / "scripts" / "peers"


@dataclass(frozen=True, slots=True)
class Entrant:
    """One that trains. `environment`: the name of requirements-bench-<name>.txt, or OWN; `python`: its interpreter."""

    name: str
    title: str
    runner: Path
    environment: str = OWN
    options: Mapping[str, Any] = field(default_factory=dict)
    python: Path = Path(sys.executable)

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """The command of one run in `folder`, whose job is written there."""
        if self.name == OURS:
            settings = ("run_name=run", f"train.output_dir={folder}")
            given = [part for one in settings for part in ("--set", one)]
            return [str(self.python), str(self.runner), "--config", str(Path(work.folder) / "config.yaml"), *given]
        write_json(folder / "job.json", work.job(folder, check=check, options=self.options))
        return [str(self.python), str(self.runner), str(folder / "job.json")]

    def report(self, work: Work, folder: Path) -> dict[str, Any]:
        """What a run in `folder` reports. OSError or ValueError when it left no report."""
        if self.name != OURS:
            return read_json(folder / "report.json")
        run = folder / "run"
        times, backend = read_json(run / "time_metrics.json"), read_json(run / "backend.json")
        given = Path(work.folder) / "train.jsonl"
        is_given = read_json(run / "stamp.json")["data"]["train"] == sha256_file(given)
        return {
            "rows": sum(1 for _ in numbered_lines(given)) if is_given else 0,
            "supervised": times["supervised_tokens"] / work.epochs,
            "seconds": times["wall_seconds"], "steps": times["steps"], "adapter": str(run / "adapter"),
            "versions": {name: backend["versions"][name] for name in ("torch", "transformers", "peft")},
        }  # fmt: skip


# At its best TRL does what a user can ask of it: no recomputation, rows of like length together, or no padding at all.
# A pack holds the tokens of a mean step, so that there are as many steps, over as many rows.
_FAST = {"gradient_checkpointing": False}
_PACKED = _FAST | {"packing": True, "max_length": PACK, "per_device_train_batch_size": 1}
ENTRANTS = (
    Entrant(OURS, "SFT-Play, `make train`", ROOT / "scripts" / "train.py"),
    Entrant("trainer", "transformers Trainer, padding collator", PEERS / "with_trainer.py"),
    Entrant("trl", "TRL SFTTrainer, its defaults", PEERS / "with_trl.py", "trl"),
    Entrant(
        "trl-fast", "TRL, no checkpointing, grouped by length", PEERS / "with_trl.py", "trl",
        _FAST | {"train_sampling_strategy": "group_by_length"},
    ),
    Entrant("trl-packed", "TRL, packing (bfd)", PEERS / "with_trl.py", "trl", _PACKED),
    Entrant(
        "trl-padding-free", "TRL, padding-free", PEERS / "with_trl.py", "trl",
        _FAST | {"padding_free": True, "max_length": None},
    ),
    Entrant("trl-liger", "TRL, Liger kernels", PEERS / "with_trl.py", "trl", _FAST | {"use_liger_kernel": True}),
    Entrant("llamafactory", "LLaMA-Factory, its defaults", PEERS / "with_llamafactory.py", "llamafactory"),
)  # fmt: skip


def find_entrants(names: Sequence[str], environments: Mapping[str, Path]) -> list[Entrant]:
    """We, and the peers of these names (all without any). environments: folders of those that are elsewhere."""
    known = {entrant.name: entrant for entrant in ENTRANTS[1:]}
    given = {entrant.environment for entrant in ENTRANTS} - {OWN}
    if strange := sorted(set(environments) - given):
        raise UsageError(
            f"No peer runs in an environment {strange[0]!r}.", where="--environment",
            expected=f"NAME=FOLDER, with a name of {', '.join(sorted(given))}",
        )  # fmt: skip
    if odd := [name for name in names if name not in known]:
        raise UsageError(f"There is no peer {odd[0]!r}.", where="--peers", expected=", ".join(known))
    chosen = [known[name] for name in names or known]
    return [ENTRANTS[0], *(_in_its_environment(entrant, environments) for entrant in chosen)]


def _in_its_environment(entrant: Entrant, environments: Mapping[str, Path]) -> Entrant:
    if entrant.environment == OWN:
        return entrant
    folder = environments.get(entrant.environment, ROOT / f".venv-bench-{entrant.environment}")
    python = folder / "bin" / "python"  # not resolved: the link says which environment it is
    return Entrant(entrant.name, entrant.title, entrant.runner, entrant.environment, entrant.options, python)


def spelled(options: Mapping[str, Any]) -> str:
    """Options for a table."""
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in options.items())
