"""Every script tells how it is called, and every script that the Makefile calls is there.

That `--help` answers without torch and that no script hides a module is held by tests/test_layers.py.
"""

from __future__ import annotations

import re
import sys

import pytest
from front_door import ROOT, run

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_shows_a_command_that_works_from_the_project(name: str) -> None:
    done = run(sys.executable, f"scripts/{name}", "--help")
    assert done.returncode == 0, done.stderr
    assert f"python scripts/{name}" in done.stdout


def test_every_script_that_make_names_is_there() -> None:
    named = set(re.findall(r"scripts/([a-z_]+\.(?:py|sh|awk))", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert "train.py" in named
    assert sorted(name for name in named if not (ROOT / "scripts" / name).is_file()) == []
