"""TensorBoard, really started: reached on this machine only, stopped by its own pid, and nothing else is touched."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from front_door import ROOT, run

from sftlib.errors import MachineError, UsageError
from sftlib.run import tensorboard

SCRIPT = str(ROOT / "scripts" / "tensorboard_server.py")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def curves(tmp_path: Path) -> Iterator[Path]:
    """A folder with one run and one event file of the oldest, emptiest kind; its server never outlives the test."""
    folder = tmp_path / "tb"
    (folder / "first").mkdir(parents=True)
    (folder / "first" / "events.out.tfevents.1700000000.host").touch()
    yield folder
    tensorboard.stop(folder)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen]:
    """Somebody else's process with `tensorboard` in its command line."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "-m", "tensorboard.main"])
    yield process
    process.kill()
    process.wait()


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, SCRIPT, *arguments, **environment)


def test_started_reached_and_stopped(curves: Path, port: int, bystander: subprocess.Popen) -> None:
    started = script("start", "--port", str(port), "--logdir", str(curves))
    assert started.returncode == 0, started.stderr
    assert f"http://127.0.0.1:{port}" in started.stderr
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=20) as answer:
        assert isinstance(json.load(answer), list)

    record = json.loads((curves / ".server.json").read_text())
    process = psutil.Process(record["pid"])
    family = [process, *process.children(recursive=True)]
    listening = {c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::1"}

    again = script("start", "--port", str(port + 1), "--logdir", str(curves))
    assert "runs already" in again.stderr
    assert json.loads((curves / ".server.json").read_text()) == record

    opened = script("open", "--logdir", str(curves), DISPLAY="", WAYLAND_DISPLAY="")
    assert opened.stdout == f"http://127.0.0.1:{port}\n"

    stopped = script("stop", "--logdir", str(curves))
    assert stopped.returncode == 0
    assert f"pid {record['pid']}" in stopped.stderr
    assert [p.pid for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not (curves / ".server.json").exists()
    assert bystander.poll() is None


def test_stopping_what_never_ran_is_no_error(tmp_path: Path) -> None:
    done = script("stop", "--logdir", str(tmp_path / "none"))
    assert done.returncode == 0
    assert "No TensorBoard runs here." in done.stderr
    assert not (tmp_path / "none").exists()


def test_opening_what_does_not_run_names_the_target(tmp_path: Path) -> None:
    done = script("open", "--logdir", str(tmp_path))
    assert done.returncode == 2
    assert "make tensorboard" in done.stderr


def test_a_pid_that_was_given_out_again_is_left_alone(curves: Path, bystander: subprocess.Popen) -> None:
    """The recorded server died long ago and its pid is somebody else's now."""
    born = psutil.Process(bystander.pid).create_time()
    record = {"pid": bystander.pid, "born": born - 3600, "port": 6006}
    (curves / ".server.json").write_text(json.dumps(record))
    assert tensorboard.find(curves) is None
    assert tensorboard.stop(curves) is None
    time.sleep(0.2)
    assert bystander.poll() is None
    assert not (curves / ".server.json").exists()


def test_the_recorded_process_is_recognised_and_stopped(curves: Path, bystander: subprocess.Popen) -> None:
    """The counterpart of the last test: with the right time of birth it is ours."""
    server = tensorboard.Server(bystander.pid, psutil.Process(bystander.pid).create_time(), 6006)
    (curves / ".server.json").write_text(json.dumps({"pid": server.pid, "born": server.born, "port": server.port}))
    assert tensorboard.stop(curves) == server
    assert not psutil.pid_exists(bystander.pid)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_is_no_server(curves: Path, text: str) -> None:
    (curves / ".server.json").write_text(text)
    assert tensorboard.find(curves) is None


def test_a_used_port_is_named_before_anything_starts(curves: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=f"Port {port} cannot be used") as caught:
            tensorboard.start(curves, port)
    assert "make tensorboard TB_PORT=" in caught.value.cure
    assert not (curves / ".server.json").exists()


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist(curves: Path, port: int) -> None:
    with pytest.raises(UsageError, match=f"There is no port {port}"):
        tensorboard.start(curves, port)


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(
    curves: Path, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named tensorboard' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(tensorboard.sys, "executable", str(broken))
    with pytest.raises(MachineError, match="exit code 1: No module named tensorboard"):
        tensorboard.start(curves, port)
    assert not (curves / ".server.json").exists()


def test_a_server_that_never_answers_is_stopped(
    curves: Path, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mute = tmp_path / "python"
    mute.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 300\n")
    mute.chmod(0o755)
    monkeypatch.setattr(tensorboard.sys, "executable", str(mute))
    monkeypatch.setattr(tensorboard, "READY_SECONDS", 1.0)
    with pytest.raises(MachineError, match="did not answer"):
        tensorboard.start(curves, port)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_clean_deletes_curves_and_nothing_else(curves: Path) -> None:
    (curves / "second").mkdir()
    (curves / "second" / "events.out.tfevents.2").touch()
    (curves / "second" / "notes.txt").touch()
    assert tensorboard.clean(curves) == 2
    assert [str(path.relative_to(curves)) for path in sorted(curves.rglob("*"))] == ["second", "second/notes.txt"]
    (curves / "second" / "events.out.tfevents.3").touch()
    (curves / "second" / "notes.txt").unlink()
    assert tensorboard.clean(curves) == 1
    assert not curves.exists()
    assert tensorboard.clean(curves) == 0
