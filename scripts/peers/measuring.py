"""What the runners that train share: the job they are given, and what is measured of them. Nothing of sftlib in here.

A runner is started in the peer's own environment with the path of a job, a JSON file: model, rows, settings, and where
the report goes. Two kinds of training job:

    "check": true     no training. The loss of the rows in float32, by the peer's own preparation, collator and loss
    "check": false    a training; its seconds are those between the Trainer's on_train_begin and on_train_end

    report  {"rows": 96, "supervised": 9000, "loss": 2.71}                    of a check
            {"rows": 96, "supervised": 9000, "seconds": 31.2, "steps": 12, "adapter": "..."}

Worst bug: a peer that trains on fewer tokens than it is said to (tests/bench/test_training.py).
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, TrainerCallback

IGNORED = -100  # the label of a token that is not trained on
PARTS = ("prompt", "completion")  # of a row


def tokenized(job: dict[str, Any], tokenizer: Any) -> list[dict[str, list[int]]]:
    """The job's rows as ids and labels; of the prompt nothing is trained."""
    rows = []
    for line in Path(job["rows"]).read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            prompt, answer = (tokenizer(row[part], add_special_tokens=False).input_ids for part in PARTS)
            rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    return rows


def quantization(job: dict[str, Any]) -> BitsAndBytesConfig | None:
    """Of the base, None for 16 bits."""
    return BitsAndBytesConfig(**job["quantization"]) if job["quantization"] else None


def limit_memory(job: dict[str, Any]) -> None:
    """Take no more of the card than the job allows, if it says so."""
    if "limit_gib" in job and torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job["limit_gib"] * 2**30 / whole))


class Checked(Exception):
    """A check is done, and nothing is to be trained."""


def read_job() -> dict[str, Any]:
    """The job that the command line names."""
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def training_arguments(job: dict[str, Any]) -> dict[str, Any]:
    """What every runner tells its peer alike, in the words of transformers.TrainingArguments."""
    names = (
        "per_device_train_batch_size", "num_train_epochs", "learning_rate", "lr_scheduler_type", "warmup_steps",
        "weight_decay", "optim", "max_grad_norm", "logging_steps", "seed",
    )  # fmt: skip
    return {name: job[name] for name in names} | {
        "output_dir": job["folder"], "bf16": job["bf16"] and not job["check"], "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no", "eval_strategy": "no", "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip


class Measure(TrainerCallback):
    """Counts what is trained on, takes the time, or takes the loss and ends it all. `loss_of` a model and a batch."""

    def __init__(self, job: dict[str, Any], packages: list[str]) -> None:
        self.job = job
        self.report: dict[str, Any] = {"versions": {name: version(name) for name in ["torch", *packages]}}
        self.loss_of = lambda model, batch: model(**batch).loss

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs) -> None:
        """Count; then check, or start the clock."""
        rows = list(train_dataloader.dataset)
        self.report["rows"] = sum(len(row.get("seq_lengths") or [0]) for row in rows)  # of a pack: what is in it
        self.report["supervised"] = sum(_supervised(torch.as_tensor(row["labels"])[None]) for row in rows)
        if self.job["check"]:
            self.report["loss"] = self._mean_loss(model.float().eval(), train_dataloader)
            raise Checked
        self._began = time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Stop the clock."""
        self.report |= {"seconds": time.perf_counter() - self._began, "steps": state.global_step}
        if torch.cuda.is_available():
            self.report["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30

    def run(self, train, save) -> None:
        """Call `train`, then `save` with the adapter's folder, and write the report."""
        try:
            train()
            adapter = str(Path(self.job["folder"]) / "adapter")
            save(adapter)
            self.report["adapter"] = adapter
        except Checked:
            pass
        Path(self.job["report"]).write_text(json.dumps(self.report), encoding="utf-8")

    def _mean_loss(self, model: Any, batches: Any) -> float:
        """Over every supervised token of every batch."""
        for module in model.modules():  # a forward in evaluation mode would take bitsandbytes' kernel in bfloat16
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in batches:
                tokens = _supervised(batch["labels"])
                total += float(self.loss_of(model, batch)) * tokens
                count += tokens
        return total / count


def _supervised(labels_BT: torch.Tensor) -> int:
    """Labels that count: a causal model does not predict the first token of a row."""
    return int((labels_BT[:, 1:] != IGNORED).sum())
