"""2,000 spoilt configs through the loader and everything that is settled before a model is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_cases import make_neighbours, write_case
from fuzzing import chosen, draw, run_cases

from sftlib.build import settle
from sftlib.config import load_config, to_yaml
from sftlib.memory.probe import Device

CASES, TESTS, SECONDS = 2000, 4, 10.0
DEVICES = [
    Device("cpu", "two cores", 2**33, 2**32, None, has_bf16=False),
    Device("cuda", "a card", 2**33, 2**33, (8, 6), has_bf16=True),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_neighbours(tmp_path / "configs")
    return tmp_path / "configs"


@pytest.mark.parametrize("part", range(TESTS))
def test_a_spoilt_config_is_read_or_refused(folder: Path, part: int, record_property) -> None:
    size = CASES // TESTS
    path = folder / "case.yaml"

    def case(number: int) -> None:
        overrides = write_case(path, draw("config", number))
        config = settle(load_config(path, overrides), DEVICES[number % 2])
        path.write_text(to_yaml(config), encoding="utf-8")
        assert load_config(path) == config  # a run is taken up again from the config that it wrote down

    ends = run_cases("config", chosen("config", range(part * size, (part + 1) * size)), case, SECONDS)
    record_property("config", dict(ends))
