"""Every change since something was prepared is seen and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.run import prepared

MADE_OF = {"template": "9f", "splits": {"train": "41", "val": "42"}, "data": {"loss_on": "all", "group_by": None}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.parquet").write_bytes(b"rows")
    prepared.write(tmp_path, made_of=MADE_OF, files=[tmp_path / "train.parquet"], report={"rows": 3})
    return tmp_path


def test_nothing_was_prepared(tmp_path: Path) -> None:
    assert prepared.changes(tmp_path, MADE_OF) is None
    (tmp_path / "metadata.json").write_text('{"made_of": ', encoding="utf-8")
    assert prepared.changes(tmp_path, MADE_OF) is None


def test_nothing_has_changed(folder: Path) -> None:
    assert prepared.changes(folder, MADE_OF) == []
    assert prepared.read(folder)["rows"] == 3


@pytest.mark.parametrize(
    ("made_of", "said"),
    [
        (MADE_OF | {"template": "90"}, "the chat template changed"),
        (MADE_OF | {"splits": {"train": "4", "val": "42"}}, "the rows of the train split changed"),
        (MADE_OF | {"splits": {"train": "41"}}, "the rows of the val split changed"),
        (MADE_OF | {"data": {"loss_on": "last", "group_by": None}}, "data.loss_on was all and is last"),
        (MADE_OF | {"data": {"loss_on": "all", "group_by": "page"}}, "data.group_by was null and is page"),
        (MADE_OF | {"data": {"loss_on": "all"}}, "data.group_by was null"),
        (MADE_OF | {"seed": 7}, "seed is 7"),
    ],
)
def test_each_change_has_words(folder: Path, made_of: dict, said: str) -> None:
    assert prepared.changes(folder, made_of) == [said]


def test_a_file_that_is_gone_or_was_touched(folder: Path) -> None:
    (folder / "train.parquet").write_bytes(b"other")
    assert prepared.changes(folder, MADE_OF) == [f"{folder / 'train.parquet'} is not as it was written"]
    (folder / "train.parquet").unlink()
    assert prepared.changes(folder, MADE_OF) == [f"{folder / 'train.parquet'} is gone"]
