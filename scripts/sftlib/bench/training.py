"""The comparison of trainings: everyone trains the same rows in the same way, and what comes out is judged by one code.

    work.faults_of_check({"rows": 8, "supervised": 700, "loss": 2.7119})      -> []   before anything is timed
    work.faults_of_run({"rows": 96, "supervised": 9000, ...})                 -> []
    work.faults_of_outcome(ours, {"trainable": 500, "unseen_loss": 2.1})      -> []   each saved adapter

Ours is scripts/train.py as a user starts it, told of the bench's config.yaml alone. What is wrong voids the ratio; no
figure is repaired.

Worst bug: a check that cannot fail (tests/bench/test_training.py sees each fail).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..files import numbered_lines, read_json, sha256_file
from .entrants import OURS, PEERS, SCRIPTS, Entrant
from .work import CONFIG, MEMORY, SECONDS, WHOLE, Column, Work, unequal

PACK = "as long as the rows of a step are"  # a value of an option that only the rows know
ROWS, FIRST = "rows.jsonl", "first.jsonl"  # what peers read: {"prompt", "completion"}; the rows, and those of a batch
TRAIN = "train.jsonl"  # what we read
FIRST_LOSS = 1e-3  # nats a token: in float32 the same tokens differ by 1e-5, one token more or less by 1e-2
FINAL_LOSS = 0.01  # nats a token: what the order of rows and another draw of the adapter move it by


@dataclass(frozen=True, slots=True)
class MakeTrain(Entrant):
    """`make train` with a config and the rows that it names, files of the work's folder."""

    config: str = CONFIG
    rows: str = TRAIN
    is_ours: ClassVar[bool] = True

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """scripts/train.py, in a folder of its own."""
        config = Path(work.folder) / self.config
        settings = ("run_name=run", f"train.output_dir={folder}")
        given = [part for one in settings for part in ("--set", one)]
        return [str(self.python), str(self.runner), "--config", str(config), *given]

    def report(self, work: Work, folder: Path, began: float) -> dict[str, Any]:
        """Read off what a run leaves behind."""
        run = folder / "run"
        times, backend = read_json(run / "time_metrics.json"), read_json(run / "backend.json")
        given = Path(work.folder) / self.rows
        is_given = read_json(run / "stamp.json")["data"]["train"] == sha256_file(given)
        return {
            "rows": sum(1 for _ in numbered_lines(given)) if is_given else 0,
            "supervised": times["supervised_tokens"] / work.epochs, SECONDS: times["wall_seconds"],
            "steps": times["steps"], "gpu_gib": times["peak_memory_gib"], "adapter": str(run / "adapter"),
            "versions": {name: backend["versions"][name] for name in ("torch", "transformers", "peft")},
        }  # fmt: skip


def make_train(title: str, name: str = OURS, config: str = CONFIG, rows: str = TRAIN) -> MakeTrain:
    """We, in a comparison of trainings."""
    return MakeTrain(name, title, SCRIPTS / "train.py", config=config, rows=rows)


# At its best TRL does what a user can ask of it: no recomputation, rows of like length together, or no padding at all.
# A pack holds the tokens of a mean step, so that there are as many steps, over as many rows.
_TRL = PEERS / "with_trl.py"
_FAST = {"gradient_checkpointing": False}
_GROUPED = _FAST | {"train_sampling_strategy": "group_by_length"}
_PACKED = _FAST | {"packing": True, "max_length": PACK, "per_device_train_batch_size": 1}
_EAGER = {"model_init_kwargs": {"attn_implementation": "eager"}}
ENTRANTS = (
    make_train("SFT-Play, `make train`"),
    Entrant("trainer", "transformers Trainer, padding collator", PEERS / "with_trainer.py"),
    Entrant("trl", "TRL SFTTrainer, its defaults", _TRL, "trl"),
    Entrant("trl-fast", "TRL, no checkpointing, grouped by length", _TRL, "trl", _GROUPED),
    Entrant("trl-eager", "TRL, the same with eager attention", _TRL, "trl", _GROUPED | _EAGER),
    Entrant("trl-packed", "TRL, packing (bfd)", _TRL, "trl", _PACKED),
    Entrant("trl-padding-free", "TRL, padding-free", _TRL, "trl", _FAST | {"padding_free": True, "max_length": None}),
    Entrant("trl-liger", "TRL, Liger kernels", _TRL, "trl", _FAST | {"use_liger_kernel": True}),
    Entrant("llamafactory", "LLaMA-Factory, its defaults", PEERS / "with_llamafactory.py", "llamafactory"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Work):
    """One training, as everyone is to do it.

    Args:
        model: the base's folder.
        settings: rate, schedule, optimizer, seed and precision, in the words of transformers.TrainingArguments.
        lora: rank, alpha, dropout, targets, in the words of peft.LoraConfig.
        quantization: of the base, in the words of transformers.BitsAndBytesConfig; empty for 16 bits.
        batch: rows a step. max_length: no row is longer, in tokens. pack_length: tokens of a mean step.
        rows, tokens, supervised: how many, their tokens, and how many of these count.
    """

    model: str
    settings: Mapping[str, Any]
    lora: Mapping[str, Any]
    quantization: Mapping[str, Any]
    batch: int
    epochs: float
    max_length: int
    pack_length: int
    rows: int
    tokens: int
    supervised: int

    @property
    def said(self) -> str:
        """Rows, model and adapter."""
        return (
            f"{self.rows} rows, {self.tokens} tokens, {self.supervised} of them supervised, batch {self.batch}, "
            f"{self.epochs:g} epoch(s); {Path(self.model).name}, {adapter_said(self.lora, self.quantization)}, "
            f"{'bf16' if self.settings['bf16'] else 'fp32'}"
        )

    def job(self, folder: Path, *, check: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner is told. A check computes in float32 what is not kept in 4 bits."""
        computed = "bfloat16" if self.settings["bf16"] and not check else "float32"
        told = {name: self.pack_length if value == PACK else value for name, value in options.items()}
        return dict(self.settings) | Work.job(self, folder, check=check, options=told) | {
            "model": self.model, "rows": str(Path(self.folder) / (FIRST if check else ROWS)), "lora": dict(self.lora),
            "quantization": self.quantization and {**self.quantization, "bnb_4bit_compute_dtype": computed},
            "per_device_train_batch_size": self.batch, "num_train_epochs": self.epochs, "max_length": self.max_length,
        }  # fmt: skip

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Speed."""
        return {"tokens_per_second": self.tokens * self.epochs / report[SECONDS]}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """What was trained on."""
        found = unequal("rows", report.get("rows"), self.rows)
        return found + unequal("supervised tokens an epoch", report.get("supervised"), self.supervised)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Trained):
    """A training of a real model.

    Args:
        first_supervised: tokens that count in the first batch.
        first_loss: mean over them, before training, in float32.
        trainable: weights of the adapter.
        unseen, unseen_loss: rows that nobody trains on, and the same loss of them before training.
    """

    first_supervised: int
    first_loss: float
    trainable: int
    unseen: int
    unseen_loss: float

    columns: ClassVar[tuple[Column, ...]] = (
        Column("training, s", SECONDS, is_compared=True, with_spread=True), WHOLE, MEMORY,
        Column("loss, first batch", "first_loss", ".4f"), Column("loss, unseen rows", "unseen_loss", ".4f"),
    )  # fmt: skip
    is_checked: ClassVar[bool] = True
    is_judged: ClassVar[bool] = True

    def entrants(self) -> Sequence[Entrant]:
        """We and all peers."""
        return ENTRANTS

    def own_check(self) -> dict[str, Any] | None:
        """Our loss of the first batch."""
        return {"first_loss": self.first_loss}

    def found_in_check(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Its loss."""
        return {"first_loss": report.get("loss")}

    def faults_of_check(self, report: Mapping[str, Any]) -> list[str]:
        """The first batch as a peer sees it, before training, against ours."""
        found = unequal("rows of the first batch", report.get("rows"), min(self.batch, self.rows))
        found += unequal("supervised tokens of the first batch", report.get("supervised"), self.first_supervised)
        loss = report.get("loss", float("nan"))
        if not abs(loss - self.first_loss) <= FIRST_LOSS:
            found.append(f"its loss of the first batch is {loss:.4f}, ours {self.first_loss:.4f}")
        return found

    def outcomes(self, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """What the judge found of everyone's adapter."""
        return read_json(Path(self.folder) / "outcomes.json")

    def faults_of_outcome(self, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
        """A peer's adapter against ours, and both against the base."""
        found = unequal("weights of the adapter", theirs["trainable"], self.trainable)
        if not theirs["unseen_loss"] < self.unseen_loss:
            found.append(
                f"it learned nothing: {theirs['unseen_loss']:.4f} on unseen rows, {self.unseen_loss:.4f} before"
            )
        if not ours["unseen_loss"] <= theirs["unseen_loss"] + FINAL_LOSS:
            found.append(f"ours is worse on unseen rows: {ours['unseen_loss']:.4f}, its {theirs['unseen_loss']:.4f}")
        return found

    @property
    def remarks(self) -> list[str]:
        """Where everyone began."""
        return [f"Before training: loss {self.unseen_loss:.4f} on the {self.unseen} unseen rows."]


def adapter_said(lora: Mapping[str, Any], quantization: Mapping[str, Any]) -> str:
    """An adapter in words."""
    return f"{'QLoRA' if quantization else 'LoRA'} r={lora['r']} on {', '.join(lora['target_modules'])}"
