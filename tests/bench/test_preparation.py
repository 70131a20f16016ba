"""A file of repeated rows, prepared by us and by `datasets.map`: equal counts, counted by hand; a cache found again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from bench_parts import report_of_job
from tiny_project import make_project, rows_of

from sftlib.bench.entrants import PEERS
from sftlib.bench.plan import Plan
from sftlib.bench.preparation import Preparation
from sftlib.build_bench_rows import perform, prepare
from sftlib.config.loader import load_config
from sftlib.errors import ModelError

ROWS = 70  # of 32 distinct ones: two whole repeats and six more


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Preparation:
    folder = make_project(tmp_path_factory.mktemp("rows") / "project", tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (work,) = prepare(load_config("config.yaml"), Plan("prepare", ["raw"], rows=ROWS), folder / "bench")
    return work


def report_of(work: Preparation, folder: Path, runner: str | None, **options: object) -> dict:
    """What ours (no runner) or a peer reports of a run in this process."""
    folder.mkdir(exist_ok=True)
    job = work.job(folder, check=False, options={"rows": ROWS, **options})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        return report_of_job(job, perform, PEERS / runner if runner else None)


def test_the_counts_are_those_of_the_file(prepared: Preparation, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = rows_of(Path(prepared.folder) / f"rows-{ROWS}.jsonl")
    assert len(rows) == ROWS
    assert rows[:6] == rows[32:38] == rows[64:]
    texts, answers = [], []
    for row in rows:
        user, assistant = (message["content"] for message in row["messages"])
        answers.append(f"{assistant}<|im_end|>")
        texts.append(f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{answers[-1]}\n")
    tokens, supervised = (
        sum(map(len, tokenizer(said, add_special_tokens=False).input_ids)) for said in (texts, answers)
    )
    assert prepared.counts == [{"rows": ROWS, "tokens": tokens, "supervised": supervised}]


def test_ours_and_both_peers_prepare_the_same(prepared: Preparation, tmp_path: Path) -> None:
    reports = [
        report_of(prepared, tmp_path / "ours", None), report_of(prepared, tmp_path / "rows", "with_datasets.py"),
        report_of(prepared, tmp_path / "batched", "with_datasets.py", is_batched=True),
    ]  # fmt: skip
    for report in reports:
        assert prepared.faults_of_run(report) == []
        assert report["seconds"] > 0


def test_peers_cut_and_drop_alike_in_rows_and_in_batches(prepared: Preparation, tmp_path: Path) -> None:
    """A length in the middle of the answers cuts tokens and no row; one within the prompts leaves nothing."""
    (counts,) = prepared.counts
    for length, rows in ((counts["tokens"] // ROWS - 2, ROWS), (3, 0)):
        work = dataclasses.replace(prepared, max_length=length)
        found = [
            report_of(work, tmp_path / f"{length}-{is_batched}", "with_datasets.py", is_batched=is_batched)
            for is_batched in (False, True)
        ]
        assert [one["rows"] for one in found] == [rows, rows]
        assert found[0]["tokens"] == found[1]["tokens"] < counts["tokens"]
        assert found[0]["supervised"] == found[1]["supervised"] < counts["supervised"]


def test_a_second_start_of_ours_finds_the_first(prepared: Preparation, tmp_path: Path, monkeypatch) -> None:
    first = report_of(prepared, tmp_path / "ours", None)

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("sftlib.tokens.making.encode_columns", refuse)
    again = report_of(prepared, tmp_path / "ours", None)
    assert [first[name] for name in ("rows", "tokens")] == [again[name] for name in ("rows", "tokens")]


@pytest.mark.parametrize("name", ["rows", "tokens", "supervised"])
def test_one_less_of_anything_is_a_fault(prepared: Preparation, name: str) -> None:
    (counts,) = prepared.counts
    report = {**counts, "asked": ROWS}
    assert prepared.faults_of_run(report) == []
    less = report | {name: counts[name] - 1}
    assert prepared.faults_of_run(less) == [f"{name}: {counts[name] - 1}, {counts[name]} expected"]


def test_of_several_sizes_we_are_compared_with_ourselves() -> None:
    sizes = [{"rows": rows, "tokens": 9 * rows, "supervised": rows} for rows in (10, 100)]
    work = Preparation(folder="f", device="d", model="m", max_length=64, counts=sizes)
    assert [(one.name, one.options) for one in work.entrants()] == [
        ("10-rows", {"rows": 10}), ("100-rows", {"rows": 100})
    ]  # fmt: skip
    assert work.faults_of_run({"rows": 100, "tokens": 900, "supervised": 100, "asked": 100}) == []
    assert work.faults_of_run({"rows": 100, "tokens": 900, "supervised": 100, "asked": 10}) != []


def test_a_model_whose_text_nobody_marks_is_refused(tmp_path: Path, monkeypatch) -> None:
    from tiny import CHATML, make_model

    other = CHATML.replace("+ '\\n' + message", "+ ':\\n' + message").replace("assistant\\n", "assistant:\\n")
    assert other.count(":") == 2
    model = make_model(tmp_path / "model", chat_template=other)
    monkeypatch.chdir(make_project(tmp_path / "project", model))
    with pytest.raises(ModelError, match="No template says which"):
        prepare(load_config("config.yaml"), Plan("prepare", ["raw"], rows=ROWS), tmp_path / "bench")
