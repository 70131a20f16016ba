"""What a run writes down: metrics.jsonl and train_log.csv as it goes, best.json at each save, time_metrics.json last.

In come the trainer's logs, about every train.logging_steps steps and at each evaluation; out goes one line a record in
both files, flushed at once, so that a killed run has all but the last. A resumed run first cuts what lies beyond its
checkpoint, so no step is there twice. Curves for people are in `curves`.

    {"step": 10, "epoch": 0.5, "loss": 1.62, "learning_rate": 0.0002, "grad_norm": 0.8, "tokens_per_second": 512.3, ...}
    {"step": 20, "epoch": 1.0, "eval_loss": 1.4, "eval_rougeL": 0.31}

Worst bug: a step recorded twice after a resume (tests/learn/test_records.py).
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from .. import files
from ..run.folder import RunFolder
from ..run.journal import entries
from ..units import GIB
from .tally import Tally, memory_bytes

TRAINING = (
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "supervised_tokens",
    "memory_gib",
    "peak_memory_gib",
)
EVALUATION = ("eval_loss", "eval_rougeL")
COLUMNS = ("step", "epoch", *TRAINING, *EVALUATION)


class Records(TrainerCallback):
    """Writes metrics.jsonl and train_log.csv of a run."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Cut both files back to the step training starts from."""
        if state.is_world_process_zero:
            truncate_records(self.run, state.global_step)

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        """Append one record; the summary that transformers logs at the end is none."""
        record = {key: _as_json(logs[key]) for key in (*TRAINING, *EVALUATION) if key in logs}
        if not state.is_world_process_zero or not record.keys() & {"loss", "eval_loss"}:
            return
        record = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), **record}
        files.append_text(self.run.metrics, files.json_line(record))
        files.append_text(self.run.train_log, _csv_line([record.get(column, "") for column in COLUMNS]))


def truncate_records(run: RunFolder, step: int) -> None:
    """Keep the records up to `step`, in both files. A last line torn by a kill is dropped."""
    kept = [record for record in entries(run.metrics) if record["step"] <= step]
    files.write_jsonl(run.metrics, kept)
    rows = [_csv_line([record.get(column, "") for column in COLUMNS]) for record in kept]
    files.write_text(run.train_log, _csv_line(COLUMNS) + "".join(rows))


def write_best(run: RunFolder, args: TrainingArguments, state: TrainerState) -> None:
    """Write which checkpoint is the best so far, and why."""
    if state.best_global_step is None:
        return
    checkpoint = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None
    values = [
        record[args.metric_for_best_model] for record in state.log_history if args.metric_for_best_model in record
    ]
    which = "highest" if args.greater_is_better else "lowest"
    files.write_json(
        run.best,
        {
            "checkpoint": checkpoint, "step": state.best_global_step, "metric": args.metric_for_best_model,
            "value": state.best_metric,
            "why": f"{which} {args.metric_for_best_model} of {len(values)} evaluations",
        },
    )  # fmt: skip


def time_metrics(tally: Tally, wall_seconds: float, resumed_from: int) -> dict[str, Any]:
    """What the session took, for time_metrics.json. Peak memory is the GPU's where there is one, else the process's."""
    return {
        "wall_seconds": round(wall_seconds, 3), "resumed_from_step": resumed_from, **tally.totals(),
        "peak_memory_gib": round(memory_bytes()[1] / GIB, 3),
    }  # fmt: skip


def _as_json(value: float) -> float | None:
    value = float(value)
    return (
        value if math.isfinite(value) else None
    )  # under fp16 the norm of a skipped step is infinite; JSON has no such number


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
