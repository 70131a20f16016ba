"""The life of a row by the real script, on a training with planted corrupt rows; and the list of those to leave out."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pytest
from tiny_project import call, make_project, rows_of

PLANTED = (7, 23)  # lines of raw/sums.jsonl whose answers are random letters
DUPLICATE, EMPTY = 41, 42
SPLIT = ("data.split.train=1.0", "data.split.val=0.0", "data.split.test=0.0")
TRAIN = ("train.eval_strategy=no", "train.save_strategy=no", "train.load_best_model_at_end=false", "train.max_steps=70",
         "train.lr_scheduler_type=constant", "tuning.mode=full", "logging.backend=none", *SPLIT)  # fmt: skip


def plant(path: Path) -> None:
    """Forty sums of one kind, two of them corrupt; a repeated row and an empty one."""
    draw = random.Random(1)
    rows = [{"question": f"What is {n}?", "answer": "Step 1: add them. Answer: yes.", "id": n} for n in range(40)]
    for line, letters in zip(PLANTED, (30, 12), strict=True):  # rows of one length would always share a step
        rows[line - 1]["answer"] = "".join(draw.choice("bcdfghjklmnpqrtvwxz") for _ in range(letters))
    rows += [dict(rows[4]), {"question": "Why?", "answer": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("why") / "project", tiny_model)
    plant(folder / "raw" / "sums.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("process_data", settings=SPLIT) == 0
        assert call("train", settings=TRAIN) == 0
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def why(capsys, *options: str, settings: tuple[str, ...] = SPLIT) -> str:
    capsys.readouterr()
    assert call("why", *options, settings=settings) == 0
    return capsys.readouterr().out


def test_planted_rows_are_the_worst_of_the_run_and_of_its_spikes(project, capsys):
    planted = {f"raw/sums.jsonl:{line}" for line in PLANTED}
    spikes = rows_of("outputs/tiny/spikes.jsonl")
    assert {row["source"] for spike in spikes for row in spike["rows"] if row["blamed"]} == planted
    table = why(capsys)
    listed = re.findall(r"^raw/sums\.jsonl:\d+", table, re.M)
    assert set(listed[:2]) == planted
    assert len(listed) == 20
    stands_out = [line.split("│")[6].strip() for line in table.splitlines() if line.startswith("raw/")]
    assert stands_out == ["yes", "yes", *[""] * 18]


def test_the_life_of_a_row(project, capsys):
    said = why(capsys, "--row", "sums.jsonl:5")
    chapters = re.findall(r"^== (.*)", said, re.M)
    assert chapters[0] == "The raw row: raw/sums.jsonl:5"
    assert "question: What is 4?\nanswer: Step 1: add them. Answer: yes.\nid: 4\n" in said
    assert "read as    question/answer: has 'question' and 'answer'\nleft out   id\n" in said
    assert chapters[1] == "What became of it"
    assert "In the train split: data/processed/train.jsonl:5\n" in said
    assert f"Equal to it, and left out for that: raw/sums.jsonl:{DUPLICATE}" in said
    assert chapters[2] == "Its tokens: data/processed/train.jsonl:5"
    assert "«Step 1: add them. Answer: yes.<|im_end|>»" in said
    assert "Length: whole, as it has no more than 128 tokens." in said
    seen = [
        (step["step"], row[1], step["loss"])
        for step in rows_of("outputs/tiny/seen.jsonl")
        for row in step["rows"]
        if row[0] == "raw/sums.jsonl:5"
    ]
    assert len(seen) == 7  # 70 steps of 4 rows, of 40
    assert chapters[3] == "Its losses in the run tiny: seen 7 times in 70 steps"
    for step, loss, of_step in seen:
        assert re.search(rf"^ *{step} . raw/sums.jsonl:5 . +{loss:.4g} . +{of_step:.4g} . \d of 4", said, re.M)


def test_a_row_of_another_split_is_not_trained(project, capsys):
    row = rows_of("data/processed/train.jsonl")[0] | {"source": "raw/other.jsonl:3"}
    Path("val.jsonl").write_text(json.dumps(row) + "\n")
    said = why(capsys, "--row", "other.jsonl:3", settings=(*SPLIT, "data.val_path=val.jsonl"))
    assert "In the val split: val.jsonl:1" in said
    assert "It cannot be read again: its file is not here" in said
    assert "seen 0 times in 70 steps\nIt is not trained now, as the val split is not." in said


def test_rows_that_were_left_out_and_rows_that_are_unknown(project, capsys):
    said = why(capsys, "--row", f"sums.jsonl:{DUPLICATE}")
    assert "Left out (data/processed/rejected.jsonl:1): duplicate. equal to raw/sums.jsonl:5" in said
    assert "Its tokens" not in said
    said = why(capsys, "--row", f"sums.jsonl:{EMPTY}")
    assert "rejected   empty answer: message 2 of user, assistant" in said
    assert call("why", "--row", "sums.jsonl:99", settings=SPLIT) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "No row is called sums.jsonl:99" in told
    assert "raw/sums.jsonl:42" in told


def test_a_row_that_is_too_long_and_one_that_cannot_be_rendered(project, capsys):
    said = why(capsys, "--row", "sums.jsonl:5", settings=(*SPLIT, "model.max_seq_len=8"))
    assert "Length: 1 of 1 rows is longer than 8 tokens (model.max_seq_len) and dropped: raw/sums.jsonl:5." in said
    assert "«Step 1: add them. Answer: yes.<|im_end|>»" in said


def test_the_chunks_of_a_row_that_was_split(project, capsys):
    path = Path("data/processed/train.jsonl")
    rows = rows_of(path)
    rows[4]["assistant"] = " ".join(f"Sentence number {n} says yes." for n in range(8))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = why(capsys, "--row", "sums.jsonl:5#2", settings=(*SPLIT, "model.max_seq_len=64", "data.truncation=split"))
    chunks = re.findall(r"^tokens     raw/sums.jsonl:5#(\d): \d+, \d+ trained(, cut off)?$", said, re.M)
    assert [int(number) for number, _ in chunks] == list(range(1, len(chunks) + 1))
    assert len(chunks) > 1
    assert [bool(cut) for _, cut in chunks] == [True] * (len(chunks) - 1) + [False]
    assert said.count("<|im_end|>»") == 1
    assert "and split into" in said


def test_rendered_rows_and_rows_by_hand(project, capsys):
    assert call("render_template", settings=SPLIT) == 0
    rendered = tuple(f"data.{name}_path=data/rendered/{name}.jsonl" for name in ("train", "val", "test"))
    said = why(capsys, "--row", "sums.jsonl:5", settings=(*SPLIT, *rendered))
    assert "In the train split: data/rendered/train.jsonl:5\n" in said
    Path("mine.jsonl").write_text('{"system": "", "user": "2+2?", "assistant": "4"}\n')
    said = why(capsys, "--row", "mine.jsonl:1", settings=(*SPLIT, "data.train_path=mine.jsonl"))
    assert "== The raw row: mine.jsonl:1\nIt has no other" in said
    assert "seen 0 times in 70 steps" in said
    assert "«4<|im_end|>»" in said


def test_the_rows_that_stand_out_go_to_the_blocklist_once(project, capsys):
    assert set(why(capsys, "--blocklist").split()) >= {f"raw/sums.jsonl:{line}" for line in PLANTED}
    lines = Path("data/blocklist.txt").read_text().splitlines()
    assert sorted(lines[1::2]) == sorted(f"raw/sums.jsonl:{line}" for line in PLANTED)
    assert all(re.match(r"# loss [\d.]+ a token, usual are [\d.]+, ", line) for line in lines[::2])
    assert why(capsys, "--blocklist") == ""
    assert Path("data/blocklist.txt").read_text().splitlines() == lines
    assert why(capsys, "--blocklist", "--row", "sums.jsonl:5", "--out", "mine.txt").startswith("raw/sums.jsonl:5 ")
    assert Path("mine.txt").read_text() == "# named by hand\nraw/sums.jsonl:5\n"


def test_what_is_on_the_blocklist_is_left_out_and_said_so(project, capsys):
    blocked = (*SPLIT, "data.blocklist=data/blocklist.txt")
    assert call("why", "--blocklist", settings=SPLIT) == 0
    assert call("process_data", settings=blocked) == 0
    left = {row["source"] for row in rows_of("data/processed/train.jsonl")}
    assert left == {f"raw/sums.jsonl:{line}" for line in range(1, 41) if line not in PLANTED}
    said = why(capsys, "--row", f"sums.jsonl:{PLANTED[0]}", settings=blocked)
    assert "on the blocklist. data/blocklist.txt lists it" in said


def test_another_run_and_no_run(project, capsys):
    assert call("why", "--run", "other", settings=SPLIT) == 6
    assert "one of: tiny" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree("outputs")
    assert call("why", settings=SPLIT) == 3
    assert "No run has seen it yet" in why(capsys, "--row", "sums.jsonl:5")


def test_a_split_that_has_changed_since_is_told(project, capsys):
    capsys.readouterr()
    assert call("why", "--row", "sums.jsonl:5", settings=SPLIT) == 0
    assert "has changed since" not in capsys.readouterr().err
    path = Path("data/processed/train.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert call("why", "--row", "sums.jsonl:5", settings=SPLIT) == 0
    assert "The train split has changed since the run tiny" in capsys.readouterr().err.replace("\n", " ")
