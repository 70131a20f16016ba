"""5,000 spoilt data files through the whole of `make process`, and what comes out of it read and rendered again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data_cases import Case
from families import FAMILIES
from fuzzing import chosen, draw, run_cases

from sftlib import files
from sftlib.build_data import process
from sftlib.chat.rendering import render_rows
from sftlib.chat.stored import read_split
from sftlib.config.schema import Config

CASES, TESTS, SECONDS = 5000, 10, 20.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files.os, "fsync", lambda handle: None)  # 100,000 of them take minutes and test nothing here
    return tmp_path


@pytest.mark.parametrize("part", range(TESTS))
def test_spoilt_data_is_read_or_refused(folder: Path, part: int, record_property) -> None:
    size = CASES // TESTS

    def case(number: int) -> None:
        home = folder / "case"
        shutil.rmtree(home, ignore_errors=True)
        spoilt = Case(home, draw("data", number))
        config = Config(data=spoilt.section.model_copy(update={"processed_dir": str(home / "out")}))
        report = process(config, spoilt.paths)
        report.show()
        assert report.read == report.kept_rows + report.duplicates + report.rejected_rows
        template = FAMILIES["default"].template("default")
        kept = 0
        for name in report.shares:
            path = home / "out" / f"{name}.jsonl"
            if not path.stat().st_size:
                continue
            split = read_split(path)  # what was written is read: an error here is ours, also an SftError
            kept += len(split)
            list(render_rows(split.rows, template, max_rejected=1.0, name=name))
        assert kept == report.kept_rows

    ends = run_cases("data", chosen("data", range(part * size, (part + 1) * size)), case, SECONDS)
    record_property("data", dict(ends))
