"""What is trained on in a bench: the same for everyone, written down once and checked against afterwards.

In come the settled settings and the prepared rows (build_bench.py); out goes `Work`, and of it the job that a runner of
scripts/peers/ reads. A job holds nothing but JSON, as another environment reads it.

    work.job(folder, check=False, options={"packing": True, "max_length": PACK})["max_length"]  ->  1040

Worst bug: a peer with another batch, rate or adapter than ours (tests/bench/test_work.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import read_json, write_json

PACK = "as long as the rows of a step are"  # a value of an option that only the rows know
FILE = "work.json"
ROWS, FIRST = "rows.jsonl", "first.jsonl"  # what peers read: {"prompt", "completion"}; the rows, and those of a batch


@dataclass(frozen=True, slots=True)
class Work:
    """One training, as everyone is to do it.

    Args:
        folder: of the bench; ROWS and FIRST are in it, and our own config.yaml and train.jsonl.
        model: the base's folder.
        settings: rate, schedule, optimizer, seed and precision, in the words of transformers.TrainingArguments.
        lora: rank, alpha, dropout, targets, in the words of peft.LoraConfig.
        batch: rows a step. max_length: no row is longer, in tokens. pack_length: tokens of a mean step.
        rows, supervised: how many, and how many tokens of them count; first_supervised: of the first batch.
        trainable: weights of the adapter.
        first_loss: mean over the supervised tokens of the first batch, before training, in float32.
        unseen, unseen_loss: rows that nobody trains on, and the same loss of them before training.
        device: that it ran on, in words.
    """

    folder: str
    model: str
    settings: Mapping[str, Any]
    lora: Mapping[str, Any]
    batch: int
    epochs: float
    max_length: int
    pack_length: int
    rows: int
    supervised: int
    first_supervised: int
    trainable: int
    first_loss: float
    unseen: int
    unseen_loss: float
    device: str

    def write(self) -> None:
        """Write it down in its folder."""
        write_json(Path(self.folder) / FILE, asdict(self))

    def job(self, folder: Path, *, check: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner is told; `options` are its peer's own."""
        return dict(self.settings) | {
            "check": check, "folder": str(folder), "report": str(folder / "report.json"), "model": self.model,
            "rows": str(Path(self.folder) / (FIRST if check else ROWS)), "lora": dict(self.lora),
            "per_device_train_batch_size": self.batch, "num_train_epochs": self.epochs, "max_length": self.max_length,
            "options": {name: self.pack_length if value == PACK else value for name, value in options.items()},
        }  # fmt: skip


def read_work(folder: Path) -> Work:
    """What `write` left in a folder."""
    return Work(**read_json(folder / FILE))
