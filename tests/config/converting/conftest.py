"""A config of another tool, what it becomes, and why it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftlib.config import load_config
from sftlib.config.converting import Conversion, convert
from sftlib.errors import ConfigError

AXOLOTL = """\
base_model: org/model
learning_rate: 2e-5
datasets:
  - {path: org/talks, type: chat_template}
"""
LLAMA_FACTORY = """\
model_name_or_path: org/model
dataset: faq
dataset_dir: ONLINE
"""


class Foreign:
    """Converts small configs in the current folder; a text is put behind the least that the tool needs."""

    def __init__(self, tool: str, least: str) -> None:
        self.tool, self.least = tool, least

    def convert(self, text: str = "", *, least: str | None = None, devices: int = 1) -> Conversion:
        Path("x.yml").write_text((self.least if least is None else least) + text, encoding="utf-8")
        return convert(self.tool, Path("x.yml"), devices)

    def values(self, text: str = "", *, least: str | None = None, devices: int = 1) -> dict[str, Any]:
        """What is set, by our dotted keys; the text is read by our loader on the way."""
        result = self.convert(text, least=least, devices=devices)
        Path("y.yaml").write_text(result.text(Path("y.yaml")), encoding="utf-8")
        config = load_config("y.yaml").model_dump()
        for name, line in result.lines.items():
            found: Any = config
            for part in name.split("."):
                found = found[part]
            assert found == line.value, name
        return {name: line.value for name, line in result.lines.items()}

    def refused(self, text: str = "", *, least: str | None = None) -> str:
        """What is said about a config that is refused."""
        with pytest.raises(ConfigError) as caught:
            self.convert(text, least=least)
        assert caught.value.exit_code == 2
        return str(caught.value)

    def differs(self, text: str = "", *, least: str | None = None) -> dict[str, str]:
        """What is not as it was there, by their keys."""
        return {note.name: note.text for note in self.convert(text, least=least).differences}

    def left_out(self, text: str = "", *, least: str | None = None) -> dict[str, str]:
        """What is left out, by their keys, but for what the least leaves out."""
        before = {note.name for note in self.convert().left_out}
        return {note.name: note.text for note in self.convert(text, least=least).left_out if note.name not in before}


@pytest.fixture
def axolotl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Foreign:
    monkeypatch.chdir(tmp_path)
    return Foreign("axolotl", AXOLOTL)


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Foreign:
    monkeypatch.chdir(tmp_path)
    return Foreign("llamafactory", LLAMA_FACTORY.replace("dataset: faq", "dataset: org/faq"))
