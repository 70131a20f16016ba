"""The pins: exact, installable on every Python that is promised, and inside the ranges that Unsloth publishes."""

from __future__ import annotations

import ast
import os
import re
import sys
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

# requires_dist of unsloth 2026.10.9 and unsloth_zoo 2026.10.9, as published, for the packages that we pin; what has no
# range is left out, and what both ask for alike is here once.
UNSLOTH = [
    "unsloth_zoo>=2026.10.9",
    "torch<2.15.0,>=2.4.0",
    "bitsandbytes!=0.46.0,!=0.48.0,>=0.45.5",
    "datasets!=4.0.*,!=4.1.0,!=4.4.*,!=4.5.0,<5.0.0,>=3.4.1",
    "accelerate>=0.34.1",
    "peft!=0.11.0,>=0.18.0",
    "huggingface_hub>=0.34.0",
    "transformers!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.0,!=4.57.4,!=4.57.5,!=5.0.0,!=5.1.0,<=5.17.0,>=4.52.4",
    "trl!=0.19.0,<=1.15.0,>=0.18.2",
    "transformers!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.4,!=4.57.5,!=5.0.0,!=5.1.0,<=5.17.0,>=4.52.4",
]
FILES = ["requirements.txt", "requirements-dev.txt", "requirements-wandb.txt", "requirements-unsloth.txt",
         "requirements-deepspeed.txt"]  # fmt: skip
PEERS = ["trl", "llamafactory", "unsloth"]  # each an environment of its own
BENCH = [f"requirements-bench-{peer}.txt" for peer in PEERS]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def pins(path: Path, python: str) -> dict[str, str]:
    """name -> version of the pins of one file that apply to one Python."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#", 1)[0].strip()
        if not text or text.startswith("-r "):
            continue
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        exact = re.fullmatch(r"==([0-9][0-9a-z.]*)", str(requirement.specifier))
        assert exact, f"{path.name}: {text} is not an exact pin"
        assert requirement.name not in found, f"{path.name}: {requirement.name} is pinned twice for Python {python}"
        found[requirement.name] = exact[1]
    return found


@pytest.mark.parametrize("name", [*FILES, *BENCH])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_pin_is_exact_and_applies_once(root: Path, name: str, python: str) -> None:
    assert pins(root / name, python)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("published", UNSLOTH)
def test_the_pins_are_inside_unsloths_ranges(root: Path, published: str, python: str) -> None:
    requirement = Requirement(published)
    ours = pins(root / "requirements.txt", python) | pins(root / "requirements-unsloth.txt", python)
    assert ours[requirement.name] in requirement.specifier


def test_the_ranges_can_refuse() -> None:
    for published in UNSLOTH:
        requirement = Requirement(published)
        if requirement.name == "datasets":
            assert "4.4.2" not in requirement.specifier
        elif requirement.name == "transformers":
            assert "5.18.0" not in requirement.specifier


@pytest.mark.parametrize("package", ["unsloth", "unsloth_zoo"])
def test_the_recorded_ranges_are_the_published_ones(root: Path, package: str) -> None:
    """Against the metadata of the installed package, or of a wheel unpacked into the folder UNSLOTH_METADATA."""
    found = list(distributions(name=package, **_where()))
    if not found:
        pytest.skip(f"{package} is not installed")
    ours = {canonicalize_name(name): pin for name, pin in _all_pins(root).items()}
    assert found[0].version == ours[canonicalize_name(package)]
    recorded = {(canonicalize_name(one.name), one.specifier) for one in map(Requirement, UNSLOTH)}
    published = {
        (canonicalize_name(one.name), one.specifier)
        for one in map(Requirement, found[0].requires or [])
        if "extra" not in str(one.marker) and canonicalize_name(one.name) in ours and str(one.specifier)
    }
    assert published
    assert published <= recorded


def _where() -> dict[str, list[str]]:
    return {"path": [os.environ["UNSLOTH_METADATA"]]} if "UNSLOTH_METADATA" in os.environ else {}


def _all_pins(root: Path) -> dict[str, str]:
    return pins(root / "requirements.txt", "3.12") | pins(root / "requirements-unsloth.txt", "3.12")


def test_no_optional_file_contradicts_the_core(root: Path) -> None:
    for python in PYTHONS:
        core = pins(root / "requirements.txt", python)
        for name in FILES[1:]:
            both = core.keys() & pins(root / name, python).keys()
            assert not both, f"{name} pins {both} a second time"


def test_every_core_pin_says_why_it_is_there(root: Path) -> None:
    for line in (root / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            assert re.search(r"# \w+", line), line


def test_every_package_that_the_scripts_import_is_pinned(root: Path) -> None:
    """In requirements.txt, or, where its absence is explained, in an optional file."""
    distributions = packages_distributions()
    files = {name: {canonicalize_name(pin) for pin in pins(root / name, "3.12")} for name in FILES}
    optional = {"wandb": "requirements-wandb.txt", "unsloth": "requirements-unsloth.txt"}
    unpinned = set()
    for path in (root / "scripts").rglob("*.py"):
        if path.parent.name == "peers":  # run in environments of their own
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for package in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"sftlib"}:
                pinned = files[optional.get(package, "requirements.txt")]
                if not {canonicalize_name(name) for name in distributions.get(package, [package])} & pinned:
                    unpinned.add((package, path.relative_to(root).as_posix()))
    assert unpinned == set()


@pytest.mark.parametrize("name", BENCH)
def test_a_peer_is_measured_on_our_torch(root: Path, name: str) -> None:
    assert pins(root / name, "3.12")["torch"] == pins(root / "requirements.txt", "3.12")["torch"]


@pytest.mark.parametrize("peer", PEERS)
def test_every_package_that_a_peer_imports_is_pinned(root: Path, peer: str) -> None:
    pinned = {canonicalize_name(pin) for pin in pins(root / f"requirements-bench-{peer}.txt", "3.12")}
    runners = [root / "scripts" / "peers" / f"with_{peer}.py"]
    runners += [root / "scripts" / "peers" / "with_datasets.py"] * (peer == "trl")  # it runs in TRL's environment
    for path in (*runners, root / "scripts" / "peers" / "measuring.py"):
        names = _imported(path) - set(sys.stdlib_module_names) - {"measuring"}
        assert names
        assert names <= pinned


def test_the_runners_of_peers_import_nothing_of_ours(root: Path) -> None:
    runners = sorted((root / "scripts" / "peers").glob("*.py"))
    assert len(runners) == 7
    for path in runners:
        assert not _imported(path) & {"sftlib"}, path


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("sftlib" if node.level else (node.module or "").partition(".")[0])
    return found


def test_this_environment_is_the_pinned_one(root: Path) -> None:
    """What the tests ran on is what a user gets."""
    from importlib.metadata import metadata, version

    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name, pinned in pins(root / "requirements.txt", python).items():
        assert version(name).split("+")[0] == pinned, name
        required = metadata(name)["Requires-Python"]
        assert python in SpecifierSet(required), f"{name} wants Python {required}"
