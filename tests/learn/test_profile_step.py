"""scripts/profile_step.py on a tiny project: what it writes, and that nothing else is left."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tiny_project import call, make_processed_project
from tiny_t5 import make_t5

from sftlib import build_profile

FOLDER = Path("outputs/profile/tiny")


@pytest.fixture
def project(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_processed_project(tmp_path / "project", tiny_model)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("sftlib.learn.profiling.ROUND_SECONDS", 0.005)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    return tmp_path


def test_a_profile_is_written_and_nothing_else(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("adapters").mkdir()
    Path("adapters/last").symlink_to("../outputs/earlier/adapter")
    assert call("profile_step", "--steps", "2") == 0
    shown = capsys.readouterr().out

    assert sorted(path.name for path in Path("outputs").iterdir()) == [".cache", "profile"]
    assert sorted(path.name for path in FOLDER.iterdir()) == ["profile.json", "table.txt", "trace.json.gz"]
    assert Path("adapters/last").readlink() == Path("../outputs/earlier/adapter")
    assert list((project / "scratch").iterdir()) == []

    with gzip.open(FOLDER / "trace.json.gz", "rt", encoding="utf-8") as stream:
        events = json.load(stream)["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"sft:data", "sft:forward", "sft:loss and head", "sft:backward", "sft:optimizer", "aten::mm"} <= names

    report = json.loads((FOLDER / "profile.json").read_text())
    assert sum(report["phases"].values()) == pytest.approx(report["seconds"])
    assert sum(report["kinds"].values()) == pytest.approx(report["seconds"])
    assert [len(report[key]) for key in ("step_seconds", "tokens", "positions", "supervised_tokens")] == [2] * 4
    floor = report["floor"]
    total = sum(floor["operations"].values())
    assert floor["seconds"] == pytest.approx(total / floor["a_second"])
    assert 0 < floor["seconds"] < min(report["step_seconds"])
    assert floor["gap"] > 1
    assert floor["product"][1:] == [32, 64]
    text = (FOLDER / "table.txt").read_text()
    for word in ("arithmetic floor", "gap: step / floor", "the profiler makes it slower by", "loss and head", "share"):
        assert word in shown
        assert word in text


def test_the_arithmetic_is_that_of_the_rows(project: Path) -> None:
    """4 operations a token and weight of the base, 6 of the adapter; see tests/memory/test_arithmetic.py."""
    whole = ("train.batch_size=32", "train.grad_accum=1", "train.effective_batch_size=32")
    assert call("profile_step", "--steps", "1", settings=whole) == 0
    report = json.loads((FOLDER / "profile.json").read_text())
    [tokens], [supervised] = report["tokens"], report["supervised_tokens"]
    operations = report["floor"]["operations"]
    assert operations["layers"] == 4 * 18432 * tokens
    assert operations["adapters"] == 6 * 4096 * tokens
    assert operations["head"] == 4 * 32 * 512 * supervised
    assert report["floor"]["product"][0] == report["positions"][0]


def test_a_second_profile_takes_the_place_of_the_first(project: Path) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / "profile.json").write_text("of another day")
    assert call("profile_step", "--steps", "1") == 0
    assert json.loads((FOLDER / "profile.json").read_text())["steps"] == 1


def test_an_unknown_architecture_has_no_floor_and_says_why(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise build_profile.ModelError("Nobody knows this one.")

    monkeypatch.setattr(build_profile, "read_blueprint", refuse)
    assert call("profile_step", "--steps", "1") == 0
    assert "not known: Nobody knows this one." in capsys.readouterr().out
    assert json.loads((FOLDER / "profile.json").read_text())["floor"] is None


def test_an_encoder_decoder_has_a_profile_and_no_floor(project: Path) -> None:
    make_t5(Path("t5"))
    settings = ("model.name=t5", "model.type=seq2seq", "run_name=pairs")
    assert call("profile_step", "--steps", "1", settings=settings) == 0
    report = json.loads(Path("outputs/profile/pairs/profile.json").read_text())
    assert "encoder-decoder" in report["no_floor"]
    assert all(report["phases"][name] > 0 for name in ("forward", "loss and head", "backward"))


def test_without_rows_nothing_is_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("profile_step", settings=("data.train_path=none.jsonl",)) == 3
    assert "none.jsonl" in capsys.readouterr().err
    assert not Path("outputs/profile").exists()


@pytest.mark.parametrize("steps", ["0", "-1", "many"])
def test_a_number_of_steps_is_one_at_least(steps: str) -> None:
    with pytest.raises(SystemExit) as caught:
        call("profile_step", f"--steps={steps}")
    assert caught.value.code == 2
