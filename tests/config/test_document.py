"""The pages that are made from the schema are what the schema says, and whole."""

from __future__ import annotations

import re
from pathlib import Path

import config_doc
import pytest
import yaml

from sftlib.config import Config, document, load_config
from sftlib.config.keys import keys


def test_the_base_config_is_the_defaults_with_every_key_in_order(root: Path):
    path = root / "configs" / "config_base.yaml"
    assert load_config(path) == Config()
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert written == Config().model_dump()
    assert _names(written) == _names(Config().model_dump())


def test_every_key_of_the_base_config_has_a_comment():
    lines = [line for line in document.base_yaml().splitlines() if re.match(r" *[a-z]", line)]
    assert len(lines) == len([name for name in keys() if "*" not in name]) + 11  # eleven sections
    assert [line for line in lines if not re.search(r" {2,}# \S", line)] == []
    assert max(len(line) for line in document.base_yaml().splitlines()) <= 120


def test_every_key_is_in_the_page(root: Path):
    page = (root / "docs" / "CONFIG.md").read_text(encoding="utf-8")
    assert page.count("\n| `") == len(keys())
    for line in page.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line


def test_nothing_is_stale():
    assert document.stale_pages() == []


def test_a_stale_page_is_named_and_then_written(tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "CONFIG.md"
    monkeypatch.setattr(document, "pages", lambda: {page: "new\n"})
    assert config_doc.main(["--check"]) == 2
    assert "docs/CONFIG.md" in capsys.readouterr().err
    assert not page.exists()
    assert config_doc.main([]) == 0
    assert page.read_text() == "new\n"
    assert config_doc.main(["--check"]) == 0


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", document.PAGE_HEAD, re.S))
def test_the_example_of_the_page_is_read(root: Path, tmp_path: Path, example):
    (tmp_path / "config_base.yaml").write_text((root / "configs" / "config_base.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(example)
    assert load_config(tmp_path / "mine.yaml").train.learning_rate == 1e-4


def _names(values: dict) -> list:
    return [(name, _names(value)) if isinstance(value, dict) else name for name, value in values.items()]
