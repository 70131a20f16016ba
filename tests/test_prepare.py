"""`make prepare` and `make train` make the same examples of several data sets, and what is old is made anew."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from pyarrow import parquet
from tiny_project import call, make_project, rows_of

from sftlib import build_prepared
from sftlib.files import read_json
from sftlib.tokens import cache

SETS = """
  datasets:
    sums: {path: raw/sums.jsonl}
    faq:
      path: faq.csv
      columns: {user: frage, assistant: antwort}
      system: [Be brief., Be kind.]
      loss_on: all
"""
PREPARED = Path("data/prepared")


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty sums, and twenty answers of a CSV."""
    folder = make_project(tmp_path / "project", tiny_model)
    monkeypatch.chdir(folder)
    config = Path("config.yaml").read_text(encoding="utf-8")
    Path("config.yaml").write_text(config.replace("\n  raw_path: raw\n", SETS), encoding="utf-8")
    rows = "".join(f"Who is number {i}?,The neighbour of {i + 1} and of {i - 1}.\n" for i in range(20))
    Path("faq.csv").write_text("frage,antwort\n" + rows, encoding="utf-8")
    return folder


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each table holds that is made from now on rather than taken from the cache."""
    counts: list[int] = []

    def counted(stream, parts, remarks):
        parts = list(parts)
        counts.append(sum(map(len, parts)))
        write(stream, parts, remarks)

    write = cache.write_table
    monkeypatch.setattr(cache, "write_table", counted)
    return counts


def table(name: str) -> list[dict]:
    return parquet.read_table(PREPARED / f"{name}.parquet").to_pylist()


def test_what_is_written(project: Path) -> None:
    assert call("prepare") == 0
    metadata = read_json(PREPARED / "metadata.json")
    processed = [row for split in ("train", "val", "test") for row in rows_of(f"data/processed/{split}.jsonl")]
    assert sorted({row["dataset"] for row in processed}) == ["faq", "sums"]
    assert len(processed) == 60
    rows = table("train")
    assert {name: one["share"]["taken"] for name, one in metadata["splits"]["train"]["sets"].items()} == {
        name: sum(row["dataset"] == name for row in rows) for name in ("sums", "faq")
    }
    assert [row["dataset"] for row in rows] != sorted((row["dataset"] for row in rows), reverse=True)  # mixed
    for row in rows:
        trained = [place for place, label in enumerate(row["labels"]) if label != -100]
        assert [row["labels"][place] for place in trained] == [row["input_ids"][place] for place in trained]
        assert trained == list(range(trained[0], trained[-1] + 1))  # one answer, or all of the text
        assert trained[0] == 1 if row["dataset"] == "faq" else trained[0] > 5
    systems = {row["system"] for row in processed if row["dataset"] == "faq"}
    assert systems == {"Be brief.", "Be kind."}
    assert metadata["files"].keys() == {"train.parquet", "val.parquet", "test.parquet"}
    assert sum(one["lengths"]["rows"] for split in metadata["splits"].values() for one in split["sets"].values()) == 60


def test_a_second_time_nothing_is_done_and_nothing_heavy_is_imported(project: Path, monkeypatch, capsys) -> None:
    assert call("prepare") == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(build_prepared, "make", lambda *_, **__: pytest.fail("it is made again"))
    for name in ("torch", "transformers", "sftlib.build", "sftlib.build_examples"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it would fail
    assert call("prepare") == 0
    shown = capsys.readouterr()
    assert first.endswith(shown.out)
    assert "Prepared" in shown.out
    assert "up to date" in shown.err


def test_training_takes_the_same_examples_and_makes_what_is_missing(project: Path, made: list[int]) -> None:
    assert call("train", "--dry-run") == 0
    assert sum(made) == 54  # all but the test split, which no training sees
    assert call("prepare") == 0
    assert sum(made) == 60
    before = list(made)
    assert call("train") == 0
    assert made == before
    stamp = read_json("outputs/tiny/stamp.json")
    assert stamp["data"].keys() == {"train", "val"}
    assert stamp["settings"]["data.datasets.faq.loss_on"] == "all"


def test_another_data_set_leaves_the_tokens_of_the_others(project: Path, made: list[int], capsys) -> None:
    assert call("prepare") == 0
    made.clear()
    before = [row for row in rows_of("data/processed/train.jsonl") if row["dataset"] == "sums"]
    Path("more.jsonl").write_text("".join(json.dumps({"q": f"More {i}?", "a": f"{i}."}) + "\n" for i in range(10)))
    assert call("prepare", settings=("data.datasets.more={path: more.jsonl}",)) == 0
    assert sum(made) == 10
    assert [row for row in rows_of("data/processed/train.jsonl") if row["dataset"] == "sums"] == before
    assert {row["dataset"] for row in table("train")} == {"sums", "faq", "more"}


def test_one_character_of_a_template_makes_everything_anew(project: Path, made: list[int], capsys) -> None:
    template = Path("mine.jinja")
    template.write_text(Path(__file__).parents[1].joinpath("chat_templates/chatml.jinja").read_text(encoding="utf-8"))
    assert call("prepare", settings=("data.template_path=mine.jinja",)) == 0
    made.clear()
    template.write_text(template.read_text(encoding="utf-8").replace("{#", "{# .", 1), encoding="utf-8")
    assert call("prepare", settings=("data.template_path=mine.jinja",)) == 0
    assert "the chat template changed" in capsys.readouterr().err
    assert sum(made) == 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: Path("faq.csv").write_text("frage,antwort\nWho?,Nobody else.\n", encoding="utf-8"), "faq.csv"),
        (lambda: (PREPARED / "val.parquet").unlink(), "val.parquet is gone"),
    ],
)
def test_what_has_changed_is_said_and_made_anew(project: Path, change, said: str, capsys) -> None:
    assert call("prepare") == 0
    capsys.readouterr()
    change()
    assert call("prepare") == 0
    assert said in capsys.readouterr().err
    assert (PREPARED / "val.parquet").is_file()


def test_a_dry_run_says_all_and_writes_nothing(project: Path, capsys) -> None:
    assert call("prepare", "--dry-run") == 0
    shown = capsys.readouterr()
    assert "Nothing was written" in shown.err
    assert "Tokens a row of the train split" in shown.out
    assert not Path("data").exists()
    assert call("prepare") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "train" in line]
    assert told
    assert all(line in shown.out for line in told)


def test_rows_on_their_way(project: Path, capsys) -> None:
    assert call("prepare", "--debug", "2") == 0
    shown = capsys.readouterr()
    assert not Path("data").exists()
    for name in ("raw/sums.jsonl:1", "raw/sums.jsonl:2", "faq.csv:2", "faq.csv:3"):
        assert name in shown.out + shown.err
    assert '"frage":"Who is number 0?"' in shown.out
    assert "«" in shown.out


def test_a_key_of_one_data_set_holds_for_that_one(project: Path, capsys) -> None:
    given = ("data.datasets.faq.max_seq_len=30", "data.datasets.faq.truncation=truncate", "data.max_rejected=1")
    assert call("prepare", settings=given) == 0
    lengths = {"faq": [], "sums": []}
    for row in table("train"):
        lengths[row["dataset"]].append(len(row["input_ids"]))
    assert max(lengths["faq"]) == 30 < max(lengths["sums"])


def test_the_shares_are_those_that_were_asked_for(project: Path, capsys) -> None:
    given = ("data.datasets.faq.weight=1", "data.datasets.sums.weight=3", "data.mixing.rows=100")
    assert call("prepare", settings=given) == 0
    counts = [sum(row["dataset"] == name for row in table("train")) for name in ("faq", "sums")]
    assert counts == [25, 75]
    assert "25.0 %" in capsys.readouterr().out


def test_splits_that_were_edited_by_hand_are_kept(project: Path, capsys) -> None:
    assert call("prepare") == 0
    path = Path("data/processed/train.jsonl")
    edited = path.read_text(encoding="utf-8").replace("neighbour", "friend")
    path.write_text(edited, encoding="utf-8")
    shutil.copy("faq.csv", "raw/more.csv")
    assert call("prepare", settings=("data.split.val=0.2", "data.split.train=0.7")) == 0
    assert path.read_text(encoding="utf-8") == edited
    assert "by hand" in capsys.readouterr().err


def test_check_looks_at_the_rows_of_now(project: Path, capsys) -> None:
    assert call("prepare") == 0
    capsys.readouterr()
    Path("faq.csv").write_text("frage,antwort\nWho?,Nobody else.\n", encoding="utf-8")
    assert call("check") == 3
    said = capsys.readouterr()
    assert "E308" in said.out + said.err
    assert "faq.csv changed" in said.out + said.err
