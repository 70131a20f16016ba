"""scripts/make_environment.sh: which Python it takes, what it refuses, and that a half install leaves no stamp."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from front_door import ROOT, run, write_program

SCRIPT = str(ROOT / "scripts" / "make_environment.sh")
TOOLS = ("bash", "ls", "env", "sh", "cat", "rm", "mkdir", "touch", "make", "dirname", "awk", "grep", "chmod")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with a shell and nothing else on it: no Python, no uv."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return folder


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """Nothing to download."""
    path = tmp_path / "requirements.txt"
    path.write_text("# nothing\n")
    return path


def fake_python(folder: Path, name: str, version: tuple[int, int] = (3, 11), *, has_venv: bool = True) -> None:
    """A program that answers what the script asks as that Python would; its environments hold a copy of itself.

    Making a real one takes 6 s, and `make test` has made one before any test runs.
    """
    write_program(
        folder / name,
        f"""#!/bin/sh
case "$*" in
    *"<= sys.version_info"*) exec "{sys.executable}" -c "import sys; sys.version_info = {(*version, 0)}; $2" ;;
    *"sys.version.split"*) echo {version[0]}.{version[1]}.0 ;;
    *ensurepip*) exit {0 if has_venv else 1} ;;
    "-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && touch "$4/pyvenv.cfg" && cat "$0" > "$4/bin/python" &&
        chmod +x "$4/bin/python" ;;
    "-m pip --version") ;;
    "-m pip install "*) for last; do :; done; ! grep -q unknown "$last" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
""",
    )


def make_environment(programs: Path, *arguments: str, **environment: str) -> CompletedProcess[str]:
    return run(SCRIPT, *arguments, PATH=str(programs), **environment)


def test_one_is_made_and_used_again(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3")
    made = make_environment(programs, str(tmp_path / "env"), str(requirements))
    assert made.returncode == 0, made.stderr
    assert f"Making {tmp_path}/env on" in made.stdout
    (tmp_path / "env" / "kept").touch()
    again = make_environment(programs, str(tmp_path / "env"), str(requirements))
    assert again.returncode == 0, again.stderr
    assert "Making" not in again.stdout
    assert (tmp_path / "env" / "kept").exists()


def test_a_broken_environment_is_made_anew(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3")
    broken = tmp_path / "env"
    (broken / "bin").mkdir(parents=True)
    (broken / "pyvenv.cfg").touch()
    (broken / "bin" / "python").symlink_to(tmp_path / "gone")
    done = make_environment(programs, str(broken), str(requirements), INSTALLER="pip")
    assert done.returncode == 0, done.stderr
    assert (broken / "bin" / "python").is_file()


def test_a_folder_of_something_else_is_left_alone(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    done = make_environment(programs, str(tmp_path / "mine"), str(requirements))
    assert done.returncode == 4
    assert "is not a Python environment" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_every_python_that_will_not_do_is_named(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3", (3, 8))
    fake_python(programs, "python3.12", (3, 12), has_venv=False)
    write_program(programs / "python3.11", "#!/bin/sh\necho 'pyenv: not found' >&2; exit 127\n")
    done = make_environment(programs, str(tmp_path / "env"), str(requirements))
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "error: No Python here will do; Python 3.10 to 3.14 is needed:",
        "  python3: is Python 3.8.0, and Python 3.10 to 3.14 is needed",
        "  python3.13: not found",
        "  python3.12: is Python 3.12.0 without venv (on Debian and Ubuntu: apt install python3-venv)",
        "  python3.11: does not start",
        "  python3.10: not found",
        "  Do this:  Install one, e.g. 'apt install python3 python3-venv' or 'uv python install 3.12', "
        "then: make install PYTHON=...",
    ]


@pytest.mark.parametrize(
    ("version", "is_accepted"), [((3, 9), False), ((3, 10), True), ((3, 14), True), ((3, 15), False)]
)
def test_the_versions_at_the_edges(
    programs: Path, requirements: Path, tmp_path: Path, version: tuple[int, int], is_accepted: bool
) -> None:
    fake_python(programs, "python3", version)
    done = make_environment(programs, str(tmp_path / "env"), str(requirements))
    assert (done.returncode == 0) == is_accepted


def test_an_older_python_on_the_path_is_passed_over(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3", (3, 8))
    fake_python(programs, "python3.11")
    done = make_environment(programs, str(tmp_path / "env"), str(requirements), INSTALLER="pip")
    assert done.returncode == 0, done.stderr
    assert "on 3.11.0." in done.stdout


def test_a_python_that_was_asked_for_is_not_replaced(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3")
    done = make_environment(programs, str(tmp_path / "env"), str(requirements), PYTHON="python3.99")
    assert done.returncode == 4
    assert "PYTHON=python3.99 will not do: not found." in done.stderr


@pytest.mark.parametrize("installer", ["uv", "conda"])
def test_an_installer_that_is_not_there(programs: Path, requirements: Path, tmp_path: Path, installer: str) -> None:
    done = make_environment(programs, str(tmp_path / "env"), str(requirements), INSTALLER=installer)
    assert done.returncode == 4
    assert f"INSTALLER={installer}" in done.stderr
    assert "make install INSTALLER=pip" in done.stderr


def test_uv_is_preferred_and_gets_pips_places(programs: Path, requirements: Path, tmp_path: Path) -> None:
    fake_python(programs, "python3")
    write_program(programs / "uv", '#!/bin/sh\necho "uv $* links=$UV_FIND_LINKS"\n')
    done = make_environment(programs, str(tmp_path / "env"), str(requirements), PIP_FIND_LINKS="/a /b")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("uv ")]
    assert lines[0].startswith("uv venv --quiet --clear --seed --python python3 ")
    assert lines[1] == f"uv pip install --quiet --python {tmp_path}/env/bin/python -r {requirements} links=/a,/b"


def test_a_failed_install_leaves_no_stamp(tmp_path: Path, programs: Path) -> None:
    """The core was fine, its requirements changed, and their install fails: the old stamp must not stand for it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "Makefile").symlink_to(ROOT / "Makefile")
    (project / "scripts").symlink_to(ROOT / "scripts")
    fake_python(programs, "python3")
    for text, code in (("# nothing\n", 0), ("unknown-package\n", 2)):
        (project / "requirements.txt").write_text(text)
        done = run("make", ".venv/.installed-core", folder=project, PATH=str(programs), INSTALLER="pip")
        assert done.returncode == code, done.stderr
        assert (project / ".venv" / ".installed-core").exists() == (code == 0)
