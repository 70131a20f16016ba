"""Every script: answers `--help` without torch, and hides no module behind its name."""

from __future__ import annotations

import importlib.util
import os
import re
import sys

import pytest
from front_door import ROOT, run

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
PROBE = """
import runpy, sys
sys.argv = [{path!r}, "--help"]
sys.path[0] = {folder!r}
try:
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit as leaving:
    assert leaving.code == 0, leaving.code
heavy = {{"torch", "transformers", "numpy", "pandas", "datasets", "pyarrow", "peft", "tensorboard"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_answers_without_anything_heavy(name: str) -> None:
    """The time itself would be measured on somebody's busy machine; what costs it is the imports."""
    path = ROOT / "scripts" / name
    done = run(sys.executable, "-c", PROBE.format(path=str(path), folder=str(path.parent)), folder=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name}")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_shows_a_command_that_names_the_script(name: str) -> None:
    assert f"python scripts/{name}" in run(sys.executable, f"scripts/{name}", "--help").stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_shadows_a_module(name: str) -> None:
    module = name.removesuffix(".py")
    assert module not in sys.stdlib_module_names
    search = [folder for folder in sys.path if os.path.realpath(folder or ".") != os.path.realpath(ROOT / "scripts")]
    assert importlib.machinery.PathFinder.find_spec(module, search) is None


def test_every_script_that_make_names_is_there() -> None:
    named = set(re.findall(r"scripts/([a-z_]+\.(?:py|sh|awk))", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert sorted(name for name in named if not (ROOT / "scripts" / name).is_file()) == []
