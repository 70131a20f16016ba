"""Only whole checkpoints are taken up, and the best and the newest are never deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib import console
from sftlib.errors import MixError
from sftlib.learn.checkpoints import (
    checkpoints,
    choose_checkpoint,
    make_room,
    newest_checkpoint,
    rotate,
    seal,
    unseal,
    what_is_missing,
)


def make(run: Path, step: int, *, whole: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / "deep" / "state.json").write_text("{}")
    if whole:
        seal(folder)
    return folder


def test_a_sealed_folder_is_complete_and_lists_its_files(tmp_path: Path) -> None:
    folder = make(tmp_path, 30)
    assert what_is_missing(folder) == ""
    manifest = json.loads((folder / "complete.json").read_text())
    assert manifest == {"step": 30, "files": {"deep/state.json": 2, "model.safetensors": 5}}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "complete.json").unlink(), "complete.json is not there"),
        (lambda folder: (folder / "complete.json").write_text('{"step": 3'), "complete.json is not readable"),
        (lambda folder: (folder / "complete.json").write_text("{}"), "complete.json is not readable"),
        (lambda folder: (folder / "deep" / "state.json").unlink(), "deep/state.json is not there"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"12"),
            "model.safetensors has 2 bytes instead of 5",
        ),
    ],
)
def test_what_is_torn_is_passed_over_with_a_word(tmp_path: Path, damage, said: str) -> None:
    older = make(tmp_path, 9)
    damage(make(tmp_path, 10))
    assert newest_checkpoint(tmp_path) == older
    assert said in console.warnings()[-1]


def test_steps_are_compared_as_numbers_and_other_folders_left_alone(tmp_path: Path) -> None:
    nine, ten = make(tmp_path, 9), make(tmp_path, 10)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "adapter").mkdir()
    assert checkpoints(tmp_path) == [nine, ten]
    assert newest_checkpoint(tmp_path) == ten
    assert newest_checkpoint(tmp_path / "adapter") is None


def test_unsealing_makes_it_incomplete(tmp_path: Path) -> None:
    folder = make(tmp_path, 1)
    unseal(folder)
    unseal(folder)
    assert what_is_missing(folder) == "complete.json is not there"


def test_nothing_of_a_torn_one_gets_into_the_next_at_its_place(tmp_path: Path) -> None:
    torn, whole = make(tmp_path, 1, whole=False), make(tmp_path, 2)
    make_room(torn)
    make_room(whole)
    make_room(tmp_path / "checkpoint-3")
    assert checkpoints(tmp_path) == [whole]
    assert what_is_missing(whole) == "complete.json is not there"
    assert (whole / "model.safetensors").is_file()


def test_choice_by_train_resume(tmp_path: Path) -> None:
    older, newer = make(tmp_path, 1), make(tmp_path, 2)
    assert choose_checkpoint("auto", tmp_path) == newer
    assert choose_checkpoint("never", tmp_path) is None
    assert choose_checkpoint(str(older), tmp_path) == older
    unseal(newer)
    with pytest.raises(MixError, match=r"cannot be resumed: complete\.json is not there") as caught:
        choose_checkpoint(str(newer), tmp_path)
    assert str(older) in caught.value.cure
    assert str(newer) not in caught.value.cure
    with pytest.raises(MixError, match="there is no such folder"):
        choose_checkpoint(str(tmp_path / "nowhere"), tmp_path)


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [1, 2, 3, 4]),
        (4, None, [1, 2, 3, 4]),
        (2, None, [3, 4]),
        (2, 1, [1, 4]),
        (1, None, [4]),
        (1, 2, [2, 4]),  # the best one stays even beyond the limit
        (1, 4, [4]),
        (3, 2, [2, 3, 4]),
    ],
)
def test_rotation(tmp_path: Path, limit: int | None, best: int | None, left: list[int]) -> None:
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    rotate(tmp_path, limit, Path(f"elsewhere/checkpoint-{best}") if best else None)
    assert [int(folder.name.removeprefix("checkpoint-")) for folder in checkpoints(tmp_path)] == left


def test_a_torn_one_of_a_later_step_never_costs_the_newest_whole_one(tmp_path: Path) -> None:
    """A save at step 6 was killed; the run went on from 4, was told to stop at 5 and saved there."""
    for step, whole in ((2, False), (4, True), (5, True), (6, False)):
        make(tmp_path, step, whole=whole)
    rotate(tmp_path, 1, None)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-5"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
