"""A process and what it took; whatever goes wrong is an error in words, never a figure."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_parts import make_peer, make_work

from sftlib.bench.running import run


def test_a_run_has_its_report_its_time_and_its_peak(tmp_path: Path) -> None:
    peer = make_peer(tmp_path, "big")
    text = peer.runner.read_text()
    peer.runner.write_text("import time\nheld = bytearray(300 * 2**20)\ntime.sleep(0.3)\n" + text)
    ran = run(peer, make_work(tmp_path), tmp_path / "run", check=False)
    assert ran.error == ""
    assert ran.report["seconds"] == 2.0
    assert 0.3 <= ran.process_seconds < 30
    assert ran.peak_gib > 0.29


def test_it_runs_in_its_own_folder(tmp_path: Path) -> None:
    peer = make_peer(tmp_path, "a")
    peer.runner.write_text("open('dropped.txt', 'w').close()\n" + peer.runner.read_text())
    assert run(peer, make_work(tmp_path), tmp_path / "run", check=False).error == ""
    assert (tmp_path / "run" / "dropped.txt").is_file()


def test_the_peak_is_not_that_of_the_bench_itself(tmp_path: Path, root: Path) -> None:
    """Linux hands the peak of this process on to its children, so both peers are run by one that is small."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom bench_parts import make_peer, make_work\n"
        "from sftlib.bench.running import run\nfrom sftlib.bench import campaign, results\n"
        "folder = Path(sys.argv[1])\npeer = make_peer(folder, 'a')\ntext = peer.runner.read_text()\n"
        "peaks = []\n"
        "for mib in (300, 0):\n"
        "    peer.runner.write_text(f'held = bytearray({mib} * 2**20)\\n' + text)\n"
        "    peaks.append(run(peer, make_work(folder), folder / 'run', check=False).peak_gib)\n"
        "print(*peaks)"
    )
    path = os.pathsep.join(map(str, (root / "scripts", root / "tests" / "bench")))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    big, small = map(float, done.stdout.split())
    assert 0.29 < big < 0.4
    assert small < 0.1


def test_an_error_is_named_by_its_last_words(tmp_path: Path) -> None:
    ran = run(make_peer(tmp_path, "a", fails=True), make_work(tmp_path), tmp_path / "run", check=False)
    assert ran.error == f"ImportError: no kernels here (exit code 1, {tmp_path / 'run' / 'log.txt'})"
    assert ran.report == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "left no report"), ("import os\nos.kill(os.getpid(), 9)", "it said nothing (exit code -9")],
)
def test_a_run_without_a_report_is_none(tmp_path: Path, text: str, said: str) -> None:
    peer = make_peer(tmp_path, "a")
    assert run(peer, make_work(tmp_path), tmp_path / "run", check=False).error == ""
    peer.runner.write_text(text)  # and the report of the run before is not taken for its own
    ran = run(peer, make_work(tmp_path), tmp_path / "run", check=False)
    assert said in ran.error
    assert ran.report == {}


def test_a_missing_environment_is_said_with_its_cure(tmp_path: Path) -> None:
    peer = dataclasses.replace(make_peer(tmp_path, "a"), python=tmp_path / "none" / "bin" / "python")
    ran = run(peer, make_work(tmp_path), tmp_path / "run", check=False)
    assert ran.error == f"there is no {tmp_path}/none/bin/python: make bench-peers"
