"""One process of a bench, with what it took: seconds of the whole command, peak memory, its report or its error.

    run(entrant, work, folder, check=False)  ->  Ran(report={...}, process_seconds=52.1, peak_gib=2.91, error="")

The peak is that of the process and of those it waited for, as the kernel keeps it (ru_maxrss). Linux hands the peak of
whoever starts a process on to it, so nothing here may import torch: the bench itself stays at some tens of MiB.

Worst bug: a failed run that counts as a fast one (tests/bench/test_running.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..units import GIB

if TYPE_CHECKING:
    from .entrants import Entrant
    from .work import Work

SECONDS = "seconds"  # in a report: what the runner's own clock says
ALONE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # nothing is fetched meanwhile
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes: man 2 getrusage
SHOWN = 300  # characters of an error


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one process. `error`: why there is no report; empty when there is one."""

    report: dict[str, Any] = field(default_factory=dict)
    process_seconds: float = 0.0
    peak_gib: float = 0.0
    error: str = ""


def run(entrant: Entrant, work: Work, folder: Path, *, check: bool) -> Ran:
    """Run an entrant in a new folder of its own, an absolute path, where its log stays and whatever it drops.

    What is cached of an earlier run is not seen, and `adapters/last` of the user is not moved. Where the work is
    started twice, the second start finds what the first one left; its seconds are `again` in the report.
    """
    if not entrant.python.exists():
        return Ran(error=f"there is no {entrant.python}: make bench-peers")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ran = _start(entrant, work, folder, "log.txt", check=check)
    for number in range(1, 1 if check or ran.error else work.starts):
        later = _start(entrant, work, folder, f"log{number}.txt", check=False)
        if later.error:
            return later
        ran.report["again"] = later.report[SECONDS]
    return ran


def _start(entrant: Entrant, work: Work, folder: Path, log_name: str, *, check: bool) -> Ran:
    (folder / "report.json").unlink(missing_ok=True)
    command = entrant.command(work, folder, check=check)
    log, began, at = folder / log_name, time.perf_counter(), time.time()
    with open(log, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | ALONE | {"HF_DATASETS_CACHE": str(folder / "cache")},
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return Ran(error=f"{_last_words(log)} (exit code {process.returncode}, {log})")
    try:
        report = entrant.report(work, folder, at)
    except (OSError, ValueError, KeyError) as error:
        return Ran(error=f"it ended well and left no report: {error!r} ({log})")
    return Ran(report, seconds, usage.ru_maxrss * MAXRSS_UNIT / GIB)


def _last_words(log: Path) -> str:
    """The last line of a log that says something: of a traceback its error."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if line.split(":")[0].rpartition(".")[2].endswith(("Error", "Exception", "error"))]
    return (named or lines or ["it said nothing"])[-1][:SHOWN]
