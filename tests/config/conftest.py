"""A folder of configs, and the faults of one as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sftlib.config import Config, load_config, load_with_origins
from sftlib.errors import ConfigError


class Desk:
    """The current folder, with a few config files in it."""

    def write(self, text: str, name: str = "mine.yaml") -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return name

    def load(self, text: str, *overrides: str) -> Config:
        return load_config(self.write(text), overrides)

    def origins(self, text: str, *overrides: str) -> dict[str, str]:
        return load_with_origins(self.write(text), overrides)[1]

    def refuse(self, text: str, *overrides: str) -> str:
        """What is said about a config that must be refused."""
        return self.refuse_file(self.write(text), overrides)

    def refuse_file(self, name: str, overrides: Sequence[str] = ()) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(name, overrides)
        said, _, code = str(caught.value).rpartition("\n")
        assert code == "Code:     E201, see docs/ERRORS.md"
        return said


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk()
