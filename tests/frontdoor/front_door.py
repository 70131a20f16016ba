"""What the tests of the front door share: a stand-in for the environment, and a shell without our variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEERING = ("CONFIG", "SET", "MODEL", "RUN", "RAW", "DATA", "STYLE", "VENV", "PYTHON", "INSTALLER", "EXTRAS",
            "ROWS", "ROUNDS", "PEERS", "PEER_VENVS", "NAME", "FROM", "IN", "OUT", "DEVICES", "FORCE")  # fmt: skip


def clean_environment() -> dict[str, str]:
    """The environment without what steers make: these tests themselves may run under `make test`."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key not in STEERING}


def run(*command: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project, without a terminal."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env=clean_environment() | environment, timeout=120,
    )  # fmt: skip


def write_program(path: Path, text: str) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def make_venv(folder: Path, python: str = f'exec "{sys.executable}" "$@"') -> Path:
    """A folder that `make` takes for an up-to-date environment: the stamps, and a Python that does what is said."""
    write_program(folder / "bin" / "python", f"#!/bin/sh\n{python}\n")
    for stamp in ("core", "wandb", "dev"):
        (folder / f".installed-{stamp}").touch()
    return folder
