"""DESIGN section 2, held by reading the imports: what lies lower knows nothing of what lies higher.

A room that is not written yet is no fault; a room that DESIGN does not know is.
"""

from __future__ import annotations

import ast
import importlib.machinery
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
SOURCES = sorted(SCRIPTS.rglob("*.py"))
ENTRIES = sorted(SCRIPTS.glob("*.py"))

GROUND = {"errors", "console", "files", "units"}
FACTS = {"config", "chat", "run", "report"}
MACHINE = {"tokens", "model", "memory"}
WORK = {"learn", "measure"}
MAY_IMPORT = {  # a room -> the rooms it may import
    "errors": set(),
    "units": set(),
    "files": {"errors"},
    "console": {"errors", "units"},
    "config": GROUND,
    "chat": GROUND | {"config"},  # the type of its own section
    "run": GROUND | {"config"},
    "report": GROUND,  # plain numbers in, a page out
    "bench": GROUND,  # runs commands; loads nothing itself
    "memory": GROUND | FACTS,
    "model": GROUND | FACTS | {"memory"},  # the type of a device
    "tokens": GROUND | FACTS,
    "learn": GROUND | FACTS | MACHINE,
    "measure": GROUND | FACTS | MACHINE,
    "build": GROUND | FACTS | MACHINE | WORK | {"build", "bench"},
    "serve": GROUND | FACTS | MACHINE | WORK,
    "a script": {"build", "bench", "config", "run", "console", "errors", "units"},
}
HEAVY = {"torch", "transformers", "numpy", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth"}
BACKENDS = {"bitsandbytes", "unsloth"}


def room_of(path: Path) -> str:
    """The room a file belongs to; build.py and its parts (build_data.py, ...) are one."""
    parts = path.relative_to(SCRIPTS).with_suffix("").parts
    if parts[0] != "sftlib":
        return "a script"
    return "build" if parts[1].startswith("build") else parts[1]


def imports_of(path: Path) -> Iterator[str]:
    """The full dotted names that a file imports, relative ones resolved, inside functions too."""
    package = path.relative_to(SCRIPTS).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports_of(path) if name.startswith("sftlib.")}
    return {"build" if name.startswith("build") else name for name in names} - {room_of(path)}


def named(path: Path) -> str:
    return str(path.relative_to(SCRIPTS))


@pytest.mark.parametrize("path", [p for p in SOURCES if p != SCRIPTS / "sftlib" / "__init__.py"], ids=named)
def test_imports_go_down_only(path):
    assert rooms_imported(path) <= MAY_IMPORT[room_of(path)]


def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SCRIPTS", tmp_path)
    folder = tmp_path / "sftlib" / "model" / "backend"
    folder.mkdir(parents=True)
    file = folder / "plain.py"
    lines = [
        "import torch.nn",
        "def f():",
        "    from ... import files",
        "    from ...chat.rendering import x",
        "    from .b import y",
    ]
    file.write_text("\n".join(lines))
    assert set(imports_of(file)) == {
        "torch.nn",
        "sftlib.files",
        "sftlib.chat.rendering.x",
        "sftlib.model.backend.b.y",
    }
    assert rooms_imported(file) == {"files", "chat"}


@pytest.mark.parametrize("room", sorted(GROUND | FACTS | {"bench"}))
def test_ground_and_facts_stay_light_even_through_others(room):
    file = SCRIPTS / "sftlib" / f"{room}.py"
    folder = SCRIPTS / "sftlib" / room
    files = [file] if file.is_file() else sorted(folder.rglob("*.py"))
    modules = [".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__") for path in files]
    code = f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", ENTRIES, ids=named)
def test_help_answers_without_the_heavy_packages(path):
    code = (
        f"import runpy, sys\nsys.argv = [{str(path)!r}, '--help']\n"
        f"try: runpy.run_path({str(path)!r}, run_name='__main__')\n"
        f"except SystemExit as done: assert not done.code, done.code\n"
        f"print('heavy:', *sorted({HEAVY | {'pydantic'}!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name not in ("backend", "peers")], ids=named)
def test_only_the_backends_know_their_packages(path):
    assert not {name.split(".")[0] for name in imports_of(path)} & BACKENDS
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in (
            "find_spec",
            "import_module",
            "__import__",
        ):
            assert not {word.value for word in call.args if isinstance(word, ast.Constant)} & BACKENDS


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) != "console"], ids=named)
def test_only_the_console_prints(path):
    assert not {name.split(".")[0] for name in imports_of(path)} & {"rich", "pprint"}
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call):
            assert ast.unparse(call.func) not in (
                "print",
                "sys.stdout.write",
                "sys.stderr.write",
                "sys.stdout.buffer.write",
            )


@pytest.mark.parametrize("path", [p for p in SOURCES if room_of(p) not in ("config", "build", "a script")], ids=named)
def test_a_room_receives_its_section_never_the_whole_config(path):
    taken = {name.rpartition(".")[2] for name in imports_of(path) if name.startswith("sftlib.config.")}
    assert {name for name in taken if not name.endswith("Section")} == set()


def test_nothing_imports_a_script():
    scripts = {path.stem for path in ENTRIES}
    for path in SOURCES:
        assert not {name.split(".")[0] for name in imports_of(path)} & scripts, path


def test_no_script_shadows_another_module():
    elsewhere = [folder for folder in sys.path if Path(folder or ".").resolve() not in (SCRIPTS, ROOT / "tests")]
    for path in [*ENTRIES, *(path for path in SCRIPTS.iterdir() if path.is_dir() and path.name != "__pycache__")]:
        assert path.stem not in sys.stdlib_module_names
        assert importlib.machinery.PathFinder.find_spec(path.stem, elsewhere) is None, path
    assert not (SCRIPTS / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_file_opens_with_what_it_is_and_stays_short(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring at the head"
    assert text.count("\n") <= 400
    assert path.stem not in ("helpers", "misc", "common", "utils")
