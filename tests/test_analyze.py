"""scripts/analyze.py as a person runs it, on the tiny model: tables, page and numbers agree; exit codes; refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tiny_project import call, make_processed_project, rows_of
from tiny_t5 import make_t5

from sftlib import build_limits
from sftlib.files import read_json
from sftlib.memory.probe import Device

GIB = 2**30
CPU = Device("cpu", "test CPU", 16 * GIB, 8 * GIB, has_bf16=True)
REPORT = Path("outputs/analysis/report.json")
PAGE = Path("outputs/analysis/report.html")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project of 40 sums; two rows of the training split are spoilt."""
    folder = make_processed_project(tmp_path_factory.mktemp("analyze") / "project", tiny_model)
    path = folder / "data/processed/train.jsonl"
    rows = rows_of(path)
    rows[3]["assistant"] = "I'm sorry, but I can't help with that."
    rows[4]["assistant"] += " Write to anna.lind@mail-host.org. <br>"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    for name in ("sftlib.build_estimate.find_device", "sftlib.build.find_device"):
        monkeypatch.setattr(name, lambda: CPU)
    return made


def text_of_page() -> str:
    text = re.sub(r"<(style|svg|title)\b.*?</\1>", " ", PAGE.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_tables_page_and_numbers_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze") == 0
    said, report = capsys.readouterr(), read_json(REPORT)
    assert {one["kind"]: one["rows"] for one in report["findings"]} == {"refusal": 1, "email": 1, "html": 1}
    rows = {name: rows_of(f"data/processed/{name}.jsonl") for name in ("train", "val", "test")}
    assert [one["rows"] for one in report["splits"]] == [len(of) for of in rows.values()]
    text = text_of_page()
    for one in report["findings"]:
        assert one["title"] in said.out
        assert one["title"] in text
        assert one["sources"][0] in text
    assert "anna.lind" not in said.out + said.err + PAGE.read_text(encoding="utf-8") + REPORT.read_text(
        encoding="utf-8"
    )
    lengths = report["lengths"]["rows"]
    for number in (lengths["median"], lengths["p95"], lengths["max"], report["limits"]["p95"]):
        assert str(number) in said.out
        assert str(number) in text
    assert report["limits"]["advice"] in said.out
    assert report["limits"]["advice"] in text
    assert f"Written: {PAGE}" in said.err


def test_the_tokens_are_those_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze") == 0
    report = read_json(REPORT)
    assert report["unit"] == "tokens"
    capsys.readouterr()
    assert call("train", "--dry-run") == 0
    said = capsys.readouterr()
    train = report["limits"]["choices"][-1]
    line = next(line for line in (said.err + said.out).splitlines() if line.strip().startswith("train "))
    numbers = [int(cell) for cell in re.findall(r"\d+", line)]
    assert {32, train["tokens_if_dropped"], report["limits"]["longest"]} <= set(numbers)


@pytest.mark.parametrize("policy", ["truncate", "split", "truncate_turns"])
def test_lengths_are_those_before_anything_is_shortened(policy: str) -> None:
    assert call("analyze") == 0
    lengths = read_json(REPORT)["lengths"]
    assert call("analyze", settings=("model.max_seq_len=40", f"data.truncation={policy}")) == 0
    report = read_json(REPORT)
    assert report["lengths"] == lengths
    assert report["limits"]["policy"] == policy
    assert ("at most" in report["limits"]["advice"]) == (policy != "truncate")


def test_what_a_limit_costs_is_what_training_loses(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze", settings=("model.max_seq_len=60",)) == 0
    now = next(one for one in read_json(REPORT)["limits"]["choices"] if "now" in one["names"])
    assert 0 < now["rows_longer"] < 32
    capsys.readouterr()
    assert call("train", "--dry-run", settings=("model.max_seq_len=60", "data.max_rejected=1")) == 0
    assert f"{now['rows_longer']} of 32 rows" in capsys.readouterr().err


def test_without_tokens_no_model_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze", "--no-tokens", settings=("model.name=nowhere/at-all",)) == 0
    report = read_json(REPORT)
    assert (report["unit"], report["limits"]) == ("words", None)
    rows = [row for name in ("train", "val", "test") for row in rows_of(f"data/processed/{name}.jsonl")]
    assert report["lengths"]["rows"]["sum"] == sum(len(f"{row['user']} {row['assistant']}".split()) for row in rows)
    assert "max_seq_len" not in capsys.readouterr().out
    assert "--no-tokens was asked for" in text_of_page()


def test_no_weights_are_needed_to_count_tokens(tiny_model: Path) -> None:
    bare = Path("bare")
    bare.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, bare)
    assert call("analyze") == 0
    lengths = read_json(REPORT)["lengths"]
    assert call("analyze", settings=("model.name=bare",)) == 0
    assert read_json(REPORT)["unit"] == "tokens"
    assert read_json(REPORT)["lengths"] == lengths


def test_where_no_tokenizer_is_words_are_counted_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze", settings=("model.name=nowhere/at-all",)) == 0
    assert "Words are counted instead of tokens" in capsys.readouterr().err
    assert "Words are counted, not tokens." in text_of_page()


@pytest.mark.parametrize(
    ("asked", "code"),
    [("leaks", 0), ("answers", 3), ("email", 3), ("leaks,characters", 3), ("duplicates,conflicts", 0)],
)
def test_what_was_found_can_fail_a_pipeline(asked: str, code: int) -> None:
    PAGE.unlink(missing_ok=True)
    assert call("analyze", "--no-tokens", "--fail-on", asked) == code
    assert PAGE.is_file()


def test_an_unknown_kind_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    PAGE.unlink(missing_ok=True)
    assert call("analyze", "--fail-on", "leak,typos") == 2
    assert "`typos` is no kind of finding." in capsys.readouterr().err
    assert not PAGE.exists()


def test_missing_splits_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("analyze", settings=("data.processed_dir=nowhere",)) == 3
    assert "make process" in capsys.readouterr().err
    assert (
        call(
            "analyze",
            "--no-tokens",
            settings=("data.processed_dir=nowhere", "data.train_path=data/processed/val.jsonl"),
        )
        == 0
    )
    said = capsys.readouterr().err
    assert "There is no val split." in said
    assert "There is no test split." in said


def test_data_sets_are_told_apart() -> None:
    folder = Path("named")
    folder.mkdir()
    for name, rows in (("train", rows_of("data/processed/train.jsonl")), ("val", rows_of("data/processed/val.jsonl"))):
        lines = [
            json.dumps(row | {"dataset": "faq" if number < 3 else "sums"}) + "\n" for number, row in enumerate(rows)
        ]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    assert call("analyze", settings=("data.processed_dir=named",)) == 0
    report = read_json(REPORT)
    assert {one["name"]: one["rows"] for one in report["sets"]} == {"faq": 6, "sums": 30}
    assert sum(one["lengths"]["rows"]["sum"] for one in report["sets"]) == report["lengths"]["rows"]["sum"]
    assert [one["by_set"] for one in report["findings"]] == [{"sums": 1}] * 3


def test_an_encoder_decoder_has_lengths_and_no_advice(capsys: pytest.CaptureFixture[str]) -> None:
    make_t5(Path("t5"))
    assert call("analyze", settings=("model.name=t5", "model.type=seq2seq")) == 0
    assert "each has a limit of its own" in capsys.readouterr().err
    report = read_json(REPORT)
    assert (report["unit"], report["limits"]) == ("tokens", None)
    assert report["lengths"]["rows"]["rows"] == 40


def test_an_architecture_that_nobody_knows_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib.errors import ModelError

    def refuse(*_: object) -> None:
        raise ModelError("This architecture is not known.")

    monkeypatch.setattr(build_limits, "estimate_config", refuse)
    assert call("analyze") == 0
    limits = read_json(REPORT)["limits"]
    assert {one["memory"] for one in limits["choices"]} == {None}
    assert "Memory is not estimated: This architecture is not known." in text_of_page()
