"""What the documents of the front door show is what there is: commands, targets, variables, files, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from front_door import ROOT, make_venv, run

DOCUMENTS = [ROOT / "docs" / name for name in ("AUTOMATION_GUIDE.md", "SETUP_DOCUMENTATION.md")]
HELP = run("make", "help").stdout
TARGETS = set(re.findall(r"^  ([a-z0-9-]+) ", HELP.partition("\nVariables\n")[0], re.M))
VARIABLES = set(re.findall(r"^  ([A-Z_]+) ", HELP.partition("\nVariables\n")[2], re.M))


def blocks(path: Path) -> list[str]:
    """The fenced bash blocks of a page."""
    return re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("block", [block for path in DOCUMENTS for block in blocks(path)])
def test_a_block_of_commands_is_one_that_make_knows(tmp_path: Path, block: str) -> None:
    """Each block is run by bash with make in its dry mode, and with workflows and scripts that only show their help."""
    make_venv(tmp_path / "venv")
    prelude = f'set -e\nmake() {{ command make -n VENV={tmp_path / "venv"} "$@"; }}\n'
    text = re.sub(r"^(\./workflows/\w+\.sh) .*$", r"\1 --help", block, flags=re.M)
    text = re.sub(
        r"^\.venv/bin/python (scripts/\w+\.py) .*$", rf"{tmp_path}/venv/bin/python \1 --help", text, flags=re.M
    )
    done = run("bash", "-c", prelude + re.sub(r"^(\w+=\w+) make", r"export \1; make", text, flags=re.M))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_target_and_variable_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    spans = "\n".join(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)))
    named = set(re.findall(r"\bmake (?:-s )?([a-z][a-z0-9-]+)", spans))
    assert named
    assert named <= TARGETS
    rows = re.findall(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|", text, re.M)
    assert {name for row in rows for name in re.findall(r"[A-Z_]+", row)} <= VARIABLES


def test_the_guide_explains_every_variable() -> None:
    text = DOCUMENTS[0].read_text(encoding="utf-8")
    assert {name for name in VARIABLES if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        if name.startswith("http"):
            continue
        assert (path.parent / name).exists(), target
        if not name:
            assert anchor in anchors, target
    for name in re.findall(r"`((?:scripts|tests|workflows|configs|requirements)[\w/.-]*\.(?:py|sh|yaml|txt))`", text):
        assert (ROOT / name).is_file(), name


def test_the_page_of_scripts_lists_them_all() -> None:
    text = DOCUMENTS[1].read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+\.(?:py|sh))` \|", text, re.M))
    there = {path.name for path in (ROOT / "scripts").iterdir() if path.suffix in (".py", ".sh")}
    assert there <= listed
