"""The requirement files are the one truth about versions, and what lies outside is named with range and cure."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from sftlib.run.versions import installed_version, python_faults, supported, supported_pythons, version_faults

LINES = """\
# Python 3.10 to 3.14. A header.
-r other.txt
torch==2.13.0               # tensors
wide>=1.2,<2                # a range of its own
new==9.9; python_version < "3.0"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


def test_a_pin_supports_its_release_from_its_patch_on(file: Path) -> None:
    ranges = supported(file)
    assert set(ranges) == {"torch", "wide"}  # what is for another Python or another file is none of this one
    assert [version in ranges["torch"] for version in ("2.13.0", "2.13.0+cpu", "2.13.7", "2.12.9", "2.14.0")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert [version in ranges["wide"] for version in ("1.2", "1.9", "2.0")] == [True, True, False]


def test_a_wrong_version_and_a_missing_package_are_named_with_range_and_cure(file: Path) -> None:
    found = version_faults(file, {"torch": "2.9.1"}.get)
    assert [(fault.code, fault.seen, fault.expected) for fault in found] == [
        ("E403", "torch 2.9.1 is installed.", "torch~=2.13.0 (requirements.txt)"),
        ("E402", "wide is not installed.", "wide<2,>=1.2 (requirements.txt)"),
    ]
    assert {fault.cure for fault in found} == {f"{sys.executable} -m pip install -r requirements.txt"}
    assert version_faults(file, {"torch": "2.13.0+cu130", "wide": "1.5"}.get) == []


@pytest.mark.parametrize(("running", "is_wrong"), [((3, 9), True), ((3, 10), False), ((3, 14), False), ((3, 15), True)])
def test_a_python_that_is_not_supported_is_named(file: Path, running: tuple[int, int], is_wrong: bool) -> None:
    found = python_faults(file, running)
    assert [(fault.code, fault.expected) for fault in found] == ([("E401", "3.10 to 3.14")] if is_wrong else [])


def test_this_environment_is_supported(root: Path) -> None:
    assert version_faults(root / "requirements.txt") == []
    assert python_faults(root / "requirements.txt") == []


def test_the_installer_knows_the_same_pythons(root: Path) -> None:
    script = (root / "scripts" / "make_environment.sh").read_text(encoding="utf-8")
    found = re.search(r"\((\d+), (\d+)\) <= sys\.version_info\[:2\] <= \((\d+), (\d+)\)", script)
    low, low_minor, high, high_minor = map(int, found.groups())
    assert supported_pythons(root / "requirements.txt") == ((low, low_minor), (high, high_minor))


def test_what_is_not_installed_has_no_version() -> None:
    assert installed_version("a-package-that-nobody-has") is None
