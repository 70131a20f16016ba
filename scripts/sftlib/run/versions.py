"""Whether the packages that are installed are those that this project was tested with.

The one truth is the requirement files: each pin is exact, and supported is what is compatible with it (PEP 440 `~=`),
which is the same release at this patch or a later one. The header of requirements.txt names the Pythons. Nothing is
imported: versions come from the metadata of the installed packages.

    supported(Path("requirements.txt"))["torch"]     ->  SpecifierSet("~=2.13.0")
    version_faults(Path("requirements.txt"))         ->  [MachineError("torch 2.9.1 is installed ...", code="E403")]

Worst bug: a version that is wrong and passes (tests/run/test_versions.py).
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..errors import MachineError

PYTHONS = re.compile(r"^# Python (\d+)\.(\d+) to (\d+)\.(\d+)\.", re.M)
EXACT = re.compile(r"==([0-9][0-9a-z.]*)")


def supported(file: Path) -> dict[str, SpecifierSet]:
    """The range of each package of a requirement file that is meant for this Python; what it includes is left out."""
    ranges: dict[str, SpecifierSet] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            ranges[requirement.name] = SpecifierSet(EXACT.sub(r"~=\1", str(requirement.specifier)))
    return ranges


def supported_pythons(file: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """The first and the last Python, from the header of requirements.txt."""
    found = PYTHONS.search(file.read_text(encoding="utf-8"))
    assert found, f"{file} does not name its Pythons"
    low, low_minor, high, high_minor = map(int, found.groups())
    return (low, low_minor), (high, high_minor)


def installed_version(package: str) -> str | None:
    """As its metadata says, None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def python_faults(file: Path, running: tuple[int, int] = sys.version_info[:2]) -> list[MachineError]:
    """A fault when this Python is none of those of requirements.txt."""
    first, last = supported_pythons(file)
    if first <= running <= last:
        return []
    return [
        MachineError(
            f"This is Python {running[0]}.{running[1]}.", where=sys.executable,
            expected=f"{first[0]}.{first[1]} to {last[0]}.{last[1]}",
            cure="make install PYTHON=python3.12 VENV=.venv-3.12, and VENV=.venv-3.12 with every target", code="E401",
        )
    ]  # fmt: skip


def version_faults(file: Path, installed: Callable[[str], str | None] = installed_version) -> list[MachineError]:
    """A fault for each package of a requirement file that is missing or of a version outside of its range."""
    faults = []
    cure = f"{sys.executable} -m pip install -r {file.name}"
    for name, versions in supported(file).items():
        version = installed(name)
        if version is None:
            faults.append(
                MachineError(
                    f"{name} is not installed.", where=sys.executable, expected=f"{name}{versions} ({file.name})",
                    cure=cure, code="E402",
                )
            )  # fmt: skip
        elif not versions.contains(version, prereleases=True):
            faults.append(
                MachineError(
                    f"{name} {version} is installed.", where=sys.executable,
                    expected=f"{name}{versions} ({file.name})", cure=cure, code="E403",
                )
            )  # fmt: skip
    return faults


def describe_versions(packages: tuple[str, ...]) -> str:
    """Python and some packages, for one line."""
    named = [f"{name} {installed_version(name)}" for name in packages]
    return ", ".join([f"Python {platform.python_version()}", *named])
