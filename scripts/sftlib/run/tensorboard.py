"""One TensorBoard a log folder: started in the background, for this machine only, stopped by its own recorded pid.

What comes in: the folder of the curves (`outputs/tb`) and a port. What goes out: a `Server`, kept in
`outputs/tb/.server.json` so that another process can stop it later. A pid alone proves nothing, as the system gives
it out again: only a process with the recorded pid *and* the recorded time of birth is ever signalled.
It does not write the curves; the trainer does.

    start(Path("outputs/tb"), 6006)  ->  Server(pid=4711, born=1760000000.25, port=6006)    http://127.0.0.1:6006
    stop(Path("outputs/tb"))         ->  the server that was stopped, or None when there was none

Worst bug: a signal to a process that is not ours (tests/frontdoor/test_tensorboard.py).
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from sftlib.errors import MachineError, UsageError
from sftlib.files import read_json, write_json

HOST = "127.0.0.1"  # curves hold samples of the data: nobody else's business
READY_SECONDS = 90.0  # a cold start imports for some 5 s on a laptop, and far longer beside a running training
STOP_SECONDS = 10.0  # between asking a process to end and ending it
SAME_BIRTH_SECONDS = 2.0  # psutil derives a birth from the boot time, which moves when the clock is set


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started: its process, the time of that process's birth (seconds since 1970) and its port."""

    pid: int
    born: float
    port: int

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"


def start(folder: Path, port: int) -> Server:
    """Start a server for `folder` and wait until it answers; the one that runs already is returned as it is."""
    running = find(folder)
    if running is not None:
        return running
    _refuse_used_port(port)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", HOST, "--port", str(port)]
    with open(_log(folder), "wb") as log:
        # A session of its own: Ctrl-C in the training beside it is not meant for it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Server(process.pid, psutil.Process(process.pid).create_time(), port)
    write_json(_record(folder), asdict(server))
    try:
        _wait_until_ready(process, server, folder)
    except BaseException:
        stop(folder)
        raise
    return server


def find(folder: Path) -> Server | None:
    """The server that runs for `folder`, or None."""
    try:
        server = Server(**read_json(_record(folder)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return server if _process(server) is not None else None


def stop(folder: Path) -> Server | None:
    """Stop the server of `folder` and its helper processes; None when none runs."""
    server = find(folder)
    process = _process(server) if server is not None else None
    if process is not None:
        family = [process, *_children(process)]
        _signal(family, "terminate")
        _, alive = psutil.wait_procs(family, STOP_SECONDS)
        _signal(alive, "kill")
        psutil.wait_procs(alive, STOP_SECONDS)
    _record(folder).unlink(missing_ok=True)
    return server


def clean(folder: Path) -> int:
    """Stop the server of `folder`, delete the curves in it and what is empty then; return how many files went.

    Only event files and our own records are deleted, so that a wrong folder loses nothing.
    """
    stop(folder)
    _log(folder).unlink(missing_ok=True)
    curves = [path for path in folder.rglob("events.out.tfevents.*") if path.is_file()]
    for path in curves:
        path.unlink()
    folders = {parent for curve in curves for parent in curve.parents if parent.is_relative_to(folder)}
    for path in sorted(folders, reverse=True):  # the inner ones first
        with contextlib.suppress(OSError):  # it holds something else
            path.rmdir()
    return len(curves)


def _record(folder: Path) -> Path:
    return folder / ".server.json"


def _log(folder: Path) -> Path:
    return folder / ".server.log"


def _process(server: Server) -> psutil.Process | None:
    """The living process that was recorded; None when it has ended, even where its pid belongs to another by now."""
    try:
        process = psutil.Process(server.pid)
        is_same = abs(process.create_time() - server.born) < SAME_BIRTH_SECONDS
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _signal(processes: list[psutil.Process], how: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(process, how)()


def _refuse_used_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise UsageError(f"There is no port {port}.", expected="1 to 65535", cure="make tensorboard TB_PORT=6006")
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise MachineError(
                f"Port {port} cannot be used: {error.strerror}. Another program, perhaps another TensorBoard, has it.",
                cure=f"make tensorboard TB_PORT={port + 1 if port < 65535 else 6006}",
            ) from None


def _wait_until_ready(process: subprocess.Popen, server: Server, folder: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise MachineError(
                f"TensorBoard ended at once, with exit code {process.returncode}: {_last_line(_log(folder))}",
                where=str(_log(folder)),
                cure=f"Read that file; another port is `make tensorboard TB_PORT={server.port + 1}`.",
            )
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.port), timeout=1):
            return
        time.sleep(0.1)
    raise MachineError(
        f"TensorBoard did not answer on port {server.port} within {READY_SECONDS:.0f} s and was stopped.",
        where=str(_log(folder)),
        cure="Read that file, then try again: make tensorboard",
    )


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(it said nothing)"
