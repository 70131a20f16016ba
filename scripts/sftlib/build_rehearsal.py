"""Assembly of the dress rehearsal: a config to a small copy of the whole work, and the real scripts run on it.

    rehearsal = prepare(config, ["faq.csv"])       -> outputs/.rehearsal/: model, sample of the raw rows, config.yaml
    for stage in rehearsal.stages: rehearsal.perform(stage)

The model is a miniature with random weights (model/miniature.py); rows, template, columns, splits and every setting
that a CPU can follow are the user's. The scripts run in the rehearsal's folder, as commands of their own, without GPU
and network, so that nothing of the user's is read by mistake or written over.

Worst bug: a rehearsal that passes though the real work would not start (tests/test_rehearsal.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from . import console
from .build import settle
from .chat.raw_sets import raw_sets
from .chat.sampling import sample_lines
from .config.schema import Config, DataSection
from .config.settling import ON_GPU
from .config.writing import to_yaml
from .errors import SftError
from .files import ROOT, numbered_lines, read_json, write_text
from .learn.rates import suggest_learning_rate
from .memory.probe import find_device
from .model.miniature import write_miniature
from .model.store import find_text
from .run.inputs import find_split

FOLDER = ".rehearsal"  # in train.output_dir
SHARE = 0.1  # of a split that is asked for as a number of rows
ROWS = 120  # of the raw data, or of a split that the config names
STEPS, MICRO_BATCH, BATCH = 4, 2, 4
TOKENS = 8  # of an answer: a random model does not stop by itself
QUESTION = "What is 12 + 30?"
ALONE = {  # what a stage may not reach
    "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}  # fmt: skip
SHOWN_LINES = 15  # of the log of a stage that failed


@dataclass(frozen=True)
class Stage:
    """One script with its options; `target` is the Make target that does the same for real."""

    name: str
    target: str
    script: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rehearsal:
    """A prepared rehearsal: its folder, and what is run in it."""

    folder: Path
    stages: tuple[Stage, ...]

    def perform(self, stage: Stage) -> float:
        """Run one stage; the seconds it took. SftError with the exit code of the script when it fails."""
        log, began = self.folder / f"{stage.name}.log", time.monotonic()
        command = [sys.executable, str(ROOT / "scripts" / stage.script), "--config", "config.yaml", *stage.options]
        with open(log, "w", encoding="utf-8") as stream:
            done = subprocess.run(
                command, cwd=self.folder, env=os.environ | ALONE, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if done.returncode:
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]:
                console.note(f"  {line}")
            error = SftError(
                f"The rehearsal fails at the stage `{stage.name}`, which stands for `make {stage.target}`.",
                where=str(log),
                cure=f"Do what the lines above say, then: make rehearse. Everything is kept in {self.folder}.",
            )  # fmt: skip
            error.exit_code = done.returncode if done.returncode > 0 else 1  # below 0: ended by a signal
            raise error
        return time.monotonic() - began

    def clean_up(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)


def prepare(config: Config, raw_paths: Sequence[str] | None = None) -> Rehearsal:
    """Make the miniature, the sample and the config; what an earlier rehearsal left is deleted.

    The sections are settled for this machine's real device, so that its GPU's mode and backend are rehearsed.
    """
    folder = (Path(config.train.output_dir) / FOLDER).absolute()
    settled = settle(_with_cpu_kernel(config), find_device())
    described = find_text(settled.model)
    shutil.rmtree(folder, ignore_errors=True)
    write_miniature(described, folder / "model", config.seed)
    given = [name for name in ("train", "val", "test") if getattr(config.data, f"{name}_path")]
    for name in given:
        rows = [line for _, line in islice(numbered_lines(find_split(config.data, name)), ROWS)]
        write_text(folder / "given" / f"{name}.jsonl", "".join(f"{line}\n" for line in rows))
    if "train" not in given:
        for raw_set in raw_sets(config.data, raw_paths):
            rows = sample_lines(raw_set.paths, config.data.encoding, ROWS)
            write_text(folder / _sample_of(raw_set.name), "".join(f"{line}\n" for line in rows))
    if settled.train.learning_rate == "auto":  # that of the real model: a narrow one gets a rate many times as high
        rate = suggest_learning_rate(read_json(described / "config.json"), settled.tuning.mode)
        settled = settled.model_copy(update={"train": settled.train.model_copy(update={"learning_rate": rate})})
    if raw_paths:
        settled = settled.model_copy(update={"data": settled.data.model_copy(update={"datasets": {}})})
    write_text(folder / "config.yaml", to_yaml(_small(settled, given)))
    return Rehearsal(folder, tuple(_stages(settled, has_splits="train" in given)))


def _stages(config: Config, *, has_splits: bool) -> Iterator[Stage]:
    if not has_splits:
        yield Stage("process", "process", "process_data.py")
    yield Stage("check", "check", "check.py")
    yield Stage("train", "train", "train.py")
    split = "test" if config.data.test_path or config.data.split.test else "val"
    yield Stage("eval", f"eval-{split}", "eval.py", ("--split", split))
    yield Stage("infer", "infer", "infer.py", ("--prompt", QUESTION))
    if config.tuning.mode != "full":
        yield Stage("merge", "merge", "merge_lora.py", ("--out", "merged", "--dtype", "fp16", "--prompts", "2"))


def _small(config: Config, given: Sequence[str]) -> Config:
    """A settled config, for the miniature and a CPU; paths are those of the rehearsal's folder, or absolute."""
    datasets = {
        name: one.model_copy(update={"path": _sample_of(name), "subset": None, "split": None})
        for name, one in config.data.datasets.items()
    }  # fmt: skip
    shares = {name: SHARE for name in ("val", "test") if getattr(config.data.split, name) > 1}
    if shares:  # numbers of rows are those of all the data
        shares["train"] = 1 - sum(shares.get(name, getattr(config.data.split, name)) for name in ("val", "test"))
    data = config.data.model_copy(
        update={
            "raw_path": DataSection().raw_path if datasets else "raw", "datasets": datasets,
            "split": config.data.split.model_copy(update=shares), "blocklist": None, "encoding": "auto",
            "prepared_dir": "data/prepared", "processed_dir": "data/processed", "style_dir": "data/styled",
            "rendered_dir": "data/rendered", "template_path": _template(config.data.template_path),
            **{f"{name}_path": f"given/{name}.jsonl" for name in given},
        }
    )  # fmt: skip
    model = config.model.model_copy(
        update={"name": "model", "local_dir": "models", "revision": None, "trust_remote_code": False}
    )
    schema = config.eval.json_schema
    judge = config.eval.model_copy(
        update={
            "batch_size": 4, "max_new_tokens": TOKENS, "limit": 4, "bootstrap_samples": 100,
            "training_rows": min(config.eval.training_rows, 2),
            "json_schema": str(Path(schema).absolute()) if schema else None,
        }
    )  # fmt: skip
    rhythm = {"eval_steps": STEPS // 2, "evals_per_epoch": None, "eval_strategy": "steps"}
    saves = {"save_steps": STEPS // 2, "saves_per_epoch": None, "save_strategy": "steps"}
    train = config.train.model_copy(
        update={
            "max_steps": STEPS, "max_minutes": None, "batch_size": MICRO_BATCH, "grad_accum": BATCH // MICRO_BATCH,
            "effective_batch_size": BATCH, "logging_steps": 1, "output_dir": "outputs", "resume": "auto",
            "early_stopping_patience": None, "bf16": "auto", "fp16": "auto",
            **(rhythm if config.train.eval_strategy != "no" else {}),
            **(saves if config.train.save_strategy != "no" else {}),
        }
    )  # fmt: skip
    infer = config.infer.model_copy(update={"max_new_tokens": TOKENS})
    tuning = config.tuning.model_copy(update={"backend_fallback": True})
    told = config.logging.backend
    logging = config.logging.model_copy(update={"backend": "tensorboard" if "tensorboard" in told else "none"})
    return config.model_copy(
        update={
            "run_name": "rehearsal", "model": model, "tuning": tuning, "data": data, "train": train, "eval": judge,
            "infer": infer, "logging": logging,
        }
    )  # fmt: skip


def _sample_of(name: str) -> str:
    return f"raw/{name or 'sample'}.jsonl"


def _with_cpu_kernel(config: Config) -> Config:
    """With an attention that a CPU can follow, instead of one that needs a GPU; it is said."""
    kernel = config.model.attn_implementation
    if kernel not in ON_GPU:
        return config
    console.note(f"model.attn_implementation {kernel} needs a GPU and is not rehearsed; here it is sdpa.")
    return config.model_copy(update={"model": config.model.model_copy(update={"attn_implementation": "sdpa"})})


def _template(path: str) -> str:
    return path if path in ("auto", "plain") else str(Path(path).absolute())
