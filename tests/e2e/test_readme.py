"""The commands of the README, run in order in a fresh clone, as they stand there.

Two things are changed. The smoke config keeps it to minutes (as CONFIG, and as --smoke); and `make test`, which would
call this test, is only planned.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from e2e.real_project import ROOT, Project

from sftlib.config import load_config

pytestmark = pytest.mark.e2e
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("readme"))
    project.environment |= {"CONFIG": "configs/run_smoke.yaml", "HF_HUB_OFFLINE": "0"}
    return project


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_says(project: Project, command: str):
    words = shlex.split(command)
    if words[0].endswith("quick_start.sh"):
        words += ["--smoke", "--yes"]
    elif words[:2] == ["make", "test"]:
        words = ["make", "--dry-run", "test"]
    done = project.run(*words, stdin="What is 2 and 2?\n")
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr


def test_the_first_command_leaves_a_measured_and_merged_model(project: Project):
    run = project.folder / "outputs" / "quick-start"
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert (run / "eval" / "test" / "metrics.json").is_file()
    assert (run / "merged" / "merge_report.json").is_file()


def test_the_config_that_is_shown_is_a_config(tmp_path: Path):
    sets, shown = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    recipe = yaml.safe_load((ROOT / "configs" / "recipes" / "two_data_sets.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(sets)["data"]["datasets"] == recipe["data"]["datasets"]
    assert yaml.safe_load(shown)["include"] == "configs/config_base.yaml"
    mine = tmp_path / "mine.yaml"
    mine.write_text(shown.replace("configs/", f"{ROOT}/configs/"), encoding="utf-8")
    assert load_config(mine).tuning.mode == "qlora"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
