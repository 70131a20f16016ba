"""Every key of the config is mutated, and something that a user would see changes, or the command refuses.

A mutation is judged by what the real scripts do on the tiny model: files they write (times left out), arguments that
reach the Trainer, the adapter and generation, and exit codes. A key without a mutation fails the test of completeness.
"""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import transformers
from pydantic import BaseModel
from tiny import make_model
from tiny_project import call, make_project, rows_of
from tiny_t5 import make_t5

from sftlib.config import Config, DatasetSection
from sftlib.files import read_json, sha256_file
from sftlib.measure.refilled import Refilled


class Mutation(NamedTuple):
    """`key=value` in a stage; `given` holds for the unmutated baseline too, `also` for the mutation alone."""

    key: str
    value: str
    stage: str
    given: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


COUNTED = ("train.max_steps=null", "train.epochs=0.5")
FREE_SAVES = ("train.load_best_model_at_end=false",)
SAMPLED = ("infer.temperature=2.0",)
HUB = ("model.name=org/name",)
T5 = ("model.type=seq2seq", "model.name=T5", "data.truncation=truncate")
SETS = ("data.datasets={a: {path: raw}, b: {path: raw2, truncation: drop}}",)
TIGHT_SETS = (*SETS, "model.max_seq_len=34", "data.max_rejected=1")  # some rows of b are longer
HUB_SETS = ("data.datasets={a: {path: raw}, b: {path: 'hf:org/name'}}",)
MUTATIONS = [
    Mutation("seed", "7", "train"),
    Mutation("run_name", "other", "train"),
    Mutation("model.name", "OTHER_MODEL", "train"),
    Mutation("model.local_dir", "elsewhere", "fetch", HUB),
    Mutation("model.revision", "v2", "fetch", HUB),
    Mutation("model.trust_remote_code", "true", "train"),
    Mutation("model.type", "seq2seq", "train"),
    Mutation("model.max_target_len", "3", "train", T5),
    Mutation("model.max_seq_len", "31", "train", ("data.max_rejected=1",)),
    Mutation("model.attn_implementation", "eager", "train"),
    Mutation("tuning.mode", "full", "train"),
    Mutation("tuning.backend", "bnb", "train"),
    Mutation("tuning.backend_fallback", "false", "train", ("tuning.mode=qlora", "tuning.backend=unsloth")),
    Mutation("tuning.lora.r", "2", "train"),
    Mutation("tuning.lora.alpha", "4", "train"),
    Mutation("tuning.lora.dropout", "0.5", "train"),
    Mutation("tuning.lora.target_modules", "attn", "train"),
    Mutation("tuning.lora.use_rslora", "true", "train"),
    Mutation("data.raw_path", "raw2", "process"),
    Mutation("data.encoding", "utf-16", "process"),
    Mutation("data.columns", "{user: answer, assistant: question}", "process"),
    Mutation("data.max_rejected", "0.0", "process", ("data.raw_path=raw3",)),
    Mutation("data.blocklist", "blocked.txt", "process"),
    Mutation("data.near_duplicates", "0.15", "process"),
    Mutation("data.group_by", "page", "process", ("data.raw_path=raw4",)),
    Mutation("data.split.train", "0.7", "process", also=("data.split.val=0.2",)),
    Mutation("data.split.val", "0.2", "process", also=("data.split.train=0.7",)),
    Mutation("data.split.test", "0.2", "process", also=("data.split.train=0.7",)),
    Mutation("data.processed_dir", "elsewhere", "process"),
    Mutation("data.prepared_dir", "elsewhere", "prepare"),
    Mutation("data.datasets", "{a: {path: raw2}}", "prepare"),
    Mutation("data.datasets.b.path", "raw", "prepare", SETS),
    Mutation("data.datasets.b.subset", "main", "prepare", HUB_SETS),
    Mutation("data.datasets.b.split", "test", "prepare", HUB_SETS),
    Mutation("data.datasets.b.columns", "{user: answer, assistant: question}", "prepare", SETS),
    Mutation("data.datasets.b.system", "Be brief.", "prepare", SETS),
    Mutation(
        "data.datasets.b.system_mode",
        "replace",
        "prepare",
        ("data.datasets={a: {path: raw}, b: {path: systems, system: Be quick.}}",),
    ),
    Mutation("data.datasets.b.max_rows", "5", "prepare", SETS),
    Mutation("data.datasets.b.weight", "0.5", "prepare", SETS),
    Mutation("data.datasets.b.repeat", "2", "prepare", SETS),
    Mutation("data.datasets.b.max_seq_len", "24", "prepare", (*SETS, "data.max_rejected=1")),
    Mutation("data.datasets.b.truncation", "truncate", "prepare", TIGHT_SETS),
    Mutation("data.datasets.b.loss_on", "all", "prepare", SETS),
    Mutation(
        "data.mixing.temperature", "3", "prepare", ("data.datasets={a: {path: raw}, b: {path: raw2, max_rows: 5}}",)
    ),
    Mutation("data.mixing.rows", "9", "prepare", SETS),
    Mutation("data.style_dir", "elsewhere", "style"),
    Mutation("data.rendered_dir", "elsewhere", "render"),
    Mutation("data.train_path", "data/processed/val.jsonl", "train"),
    Mutation("data.val_path", "data/processed/train.jsonl", "train"),
    Mutation("data.test_path", "data/processed/train.jsonl", "eval"),
    Mutation("data.template_path", "plain", "train"),
    Mutation("data.loss_on", "all", "train"),
    Mutation("data.truncation", "truncate", "train", ("model.max_seq_len=31", "data.max_rejected=1")),
    Mutation(
        "data.truncation_side",
        "start",
        "train",
        ("data.truncation=truncate", "model.max_seq_len=31", "data.max_rejected=1"),
    ),
    Mutation("data.style.rule", "Be quick.", "style"),
    Mutation("data.style.mode", "replace", "style", ("data.processed_dir=systems",)),
    Mutation("data.style.role", "user", "style"),
    Mutation("train.epochs", "0.25", "train", COUNTED),
    Mutation("train.max_steps", "2", "train"),
    Mutation("train.max_minutes", "0.00001", "train"),
    Mutation("train.learning_rate", "0.02", "train"),
    Mutation("train.lr_scheduler_type", "constant_with_warmup", "train"),
    Mutation("train.warmup_ratio", "0.5", "train"),
    Mutation("train.weight_decay", "0.5", "train"),
    Mutation("train.optim", "adafactor", "train"),
    Mutation("train.max_grad_norm", "0.001", "train"),
    Mutation("train.bf16", "true", "train"),
    Mutation("train.fp16", "true", "train"),
    Mutation("train.gradient_checkpointing", "true", "train"),
    Mutation("train.activation_offload", "true", "train"),  # a CPU leaves it out with a warning
    Mutation("train.stream_layers", "true", "train"),
    Mutation("train.batch_size", "4", "train"),
    Mutation("train.grad_accum", "4", "train"),
    Mutation("train.effective_batch_size", "8", "train"),
    Mutation("train.packing", "true", "train"),
    Mutation("train.logging_steps", "2", "train"),
    Mutation("train.eval_strategy", "epoch", "train"),
    Mutation("train.eval_steps", "1", "train"),
    Mutation("train.evals_per_epoch", "8", "train"),
    Mutation("train.save_strategy", "no", "train", FREE_SAVES),
    Mutation("train.save_steps", "4", "train", FREE_SAVES),
    Mutation("train.saves_per_epoch", "2", "train", FREE_SAVES),
    Mutation("train.save_total_limit", "1", "train", FREE_SAVES),
    Mutation("train.load_best_model_at_end", "false", "train"),
    Mutation("train.metric_for_best_model", "eval_rougeL", "train"),
    Mutation("train.greater_is_better", "true", "train"),
    Mutation("train.early_stopping_patience", "1", "train"),
    Mutation("train.resume", "never", "resume"),
    Mutation("train.output_dir", "elsewhere", "train"),
    Mutation("logging.backend", "none", "train"),
    Mutation("logging.log_interval", "2", "train"),
    Mutation("logging.gpu_stats", "false", "train"),
    Mutation("eval.batch_size", "1", "eval"),
    Mutation("eval.max_new_tokens", "3", "eval"),
    Mutation("eval.limit", "2", "eval"),
    Mutation("eval.training_rows", "0", "train"),
    Mutation("eval.bootstrap_samples", "200", "eval"),
    Mutation("eval.json_schema", "schema.json", "eval"),
    Mutation("eval.regex", "[a-z]+", "eval"),
    Mutation("infer.batch_size", "1", "infer"),
    Mutation("infer.max_new_tokens", "3", "infer"),
    Mutation("infer.temperature", "2.0", "infer"),
    Mutation("infer.top_p", "0.1", "infer", SAMPLED),
    Mutation("infer.top_k", "1", "infer", SAMPLED),
    Mutation("infer.repetition_penalty", "5.0", "infer"),
    Mutation("infer.system", "Be brief.", "infer"),
    Mutation("infer.stop", json.dumps(list(string.ascii_letters + ":.,?=")), "infer"),
]
MEASURED = {"learning_rate", "loss", "eval_loss", "eval_rougeL", "grad_norm", "step", "epoch"}


def keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        elif name == "datasets":
            yield prefix + name
            yield from keys(DatasetSection, f"{prefix}{name}.b.")
        else:
            yield prefix + name


def test_every_key_has_a_mutation():
    assert sorted(keys()) == sorted({mutation.key for mutation in MUTATIONS})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("truth") / "project", tiny_model)
    make_model(folder / "OTHER_MODEL", seed=1)
    make_t5(folder / "T5")
    raw = (folder / "raw" / "sums.jsonl").read_text(encoding="utf-8")
    changed, with_a_bad_row = raw.replace("Step", "Part"), raw + '{"question": "Why?", "answer": ""}\n'
    with_pages = "".join(f'{line[:-1]}, "page": {number // 8}}}\n' for number, line in enumerate(raw.splitlines()))
    (folder / "blocked.txt").write_text("sums.jsonl:3\n", encoding="utf-8")
    for other, text in (("raw2", changed), ("raw3", with_a_bad_row), ("raw4", with_pages)):
        (folder / other).mkdir()
        (folder / other / "sums.jsonl").write_text(text, encoding="utf-8")
    (folder / "schema.json").write_text('{"type": "object"}', encoding="utf-8")
    (folder / "questions.txt").write_text("What is 1 and 2?\nWhy?\nWhat is the sun?\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("process_data") == 0
        assert call("style_prompt", "--style", "Be kind.", settings=("data.style_dir=systems",)) == 0
        assert call("train") == 0
    return folder


@contextmanager
def spied() -> Iterator[list[Any]]:
    """What reaches transformers (arguments, callbacks, options of loading), and how many rows answer at once."""
    seen: list[Any] = []
    train, advance = transformers.Trainer.train, Refilled.advance
    load = transformers.AutoModelForCausalLM.from_pretrained

    def watched_train(self, *args, **options):
        arguments = self.args.to_dict() | {"logging_dir": None}
        callbacks = [type(callback).__name__ for callback in self.callback_handler.callbacks]
        seen.append((arguments, callbacks, getattr(self.model, "is_gradient_checkpointing", None)))
        return train(self, *args, **options)

    def watched_advance(self, waiting, largest):
        done = advance(self, waiting, largest)
        seen.append((largest, len(self.rows), len(done)))
        return done

    def watched_load(*args, **options):
        seen.append(sorted((key, str(value)) for key, value in options.items()))
        return load(*args, **options)

    with (
        mock.patch.object(transformers.Trainer, "train", watched_train),
        mock.patch.object(Refilled, "advance", watched_advance),
        mock.patch.object(transformers.AutoModelForCausalLM, "from_pretrained", watched_load),
    ):
        yield seen


def run_stage(stage: str, settings: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> Any:
    """Everything of a stage that a user could see, times left out."""
    capsys.readouterr()
    with spied() as seen:
        if stage == "process":
            code = call("process_data", settings=settings)
        elif stage == "prepare":
            code = call("prepare", settings=settings)
        elif stage == "style":
            code = call("style_prompt", settings=("data.style.rule=Be brief.", *settings))
        elif stage == "render":
            code = call("render_template", settings=settings)
        elif stage == "fetch":
            code = call("download_model", settings=settings)
        elif stage == "eval":
            code = call("eval", settings=settings)
        elif stage == "infer":
            code = call("infer", "--input_file", "questions.txt", "--output_file", "answers.jsonl", settings=settings)
        else:
            if stage == "resume":
                shutil.rmtree("outputs/tiny/checkpoint-4")
                Path("outputs/tiny/summary.json").unlink()
            else:
                shutil.rmtree("outputs")
            code = call("train", settings=settings)
    screen = capsys.readouterr()
    errors = [line for line in screen.err.splitlines() if line.startswith(("error:", "  "))]
    progress = sum(line.startswith("training:") for line in screen.err.splitlines())
    return code, seen, errors, progress, files_here()


def files_here() -> dict[str, Any]:
    """Path -> content of what the scripts wrote: a digest, or rows without the times in them."""
    found: dict[str, Any] = {}
    for path in sorted(Path().rglob("*")):
        name = path.as_posix()
        if not path.is_file() or name.startswith("OTHER_MODEL") or ".cache" in name:
            continue
        if path.name == "metrics.jsonl":
            found[name] = [
                {key: value if key in MEASURED else None for key, value in row.items()} for row in rows_of(path)
            ]
        elif path.suffix in (".safetensors", ".jsonl", ".parquet"):
            found[name] = sha256_file(path)
        elif path.name == "metrics.json":
            found[name] = json.loads(path.read_text(encoding="utf-8"), object_hook=without_seconds)
        elif path.name == "backend.json":
            found[name] = read_json(path)["used"]
        elif path.name == "stamp.json":  # it holds every setting as it was given, besides
            found[name] = read_json(path)["warnings"]
        elif path.name.startswith("events.out"):
            found[path.parent.as_posix()] = "curves"
        elif path.name not in ("config.yaml", "summary.json"):  # these hold every setting as it was given
            found[name] = None
    return found


def without_seconds(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "seconds"}


_baselines: dict[tuple[str, tuple[str, ...]], Any] = {}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.key)
def test_a_changed_key_changes_what_happens(mutation, trained, tmp_path, monkeypatch, capsys):
    results = []
    changed = (*mutation.given, *mutation.also, f"{mutation.key}={mutation.value}")
    for number, settings in enumerate((mutation.given, changed)):
        known = (mutation.stage, settings)
        if known not in _baselines:
            folder = tmp_path / str(number) / "project"  # the same last name: answers and reports may hold it
            shutil.copytree(trained, folder, symlinks=True)
            monkeypatch.chdir(folder)
            _baselines[known] = run_stage(mutation.stage, settings, capsys)
        results.append(_baselines[known])
    before, after = results
    assert before[0] == 0 or mutation.stage == "fetch" or mutation.given == HUB_SETS, "the baseline itself fails"
    assert before != after


def test_what_is_compared_is_the_same_when_nothing_changes(trained, tmp_path, monkeypatch, capsys):
    """Else any mutation would pass."""
    for stage in ("process", "train", "eval", "infer", "fetch"):
        seen = []
        for number in range(2):
            folder = tmp_path / stage / str(number) / "project"
            shutil.copytree(trained, folder, symlinks=True)
            monkeypatch.chdir(folder)
            seen.append(run_stage(stage, HUB if stage == "fetch" else (), capsys))
        assert seen[0][:4] == seen[1][:4], stage
        assert seen[0][4] == seen[1][4], stage
