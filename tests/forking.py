"""The real scripts in processes that can be killed, without paying the five seconds of importing torch each time.

A `Forge` is a process that has imported everything; for each call it forks a child, which runs a script's `main` in a
folder as the shell would, and can be told to send itself a signal at its n-th operation on a file of the run. It
has one thread of OpenMP, as threads do not survive a fork.

A call may be one training by several processes, `launch=("ddp", 2)` or `("fsdp2", 2)`: each is forked with the
environment that `accelerate launch` gives it, and when one dies the others are ended, as the launcher does.

    with Forge() as forge: child = forge.start(project, "train", ...); child.signal(SIGTERM); child.wait()
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
NO_HITS: Mapping[int, int] = {}
SHARDS = {  # what `accelerate launch` makes of configs/accelerate/fsdp2.yaml; tests/frontdoor/test_accelerate.py
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false",
}  # fmt: skip
CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


class Forge:
    """The process that forks. Children run one at a time."""

    def __enter__(self) -> Forge:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "scripts")]),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def start(
        self,
        folder: Path,
        script: str,
        *options: str,
        settings: Sequence[str] = (),
        hits: Mapping[int, int] = NO_HITS,
        launch: tuple[str, int] = ("single", 1),
    ) -> Child:
        """Run a script in a folder.

        hits: operation on a file of the run, counted from 1 -> the signal that the first process sends itself just
            before.
        launch: kind and number of processes.
        """
        order = {"script": script, "options": options, "settings": settings, "folder": str(folder), "hits": dict(hits)}
        order |= {"launch": launch}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pids = self._answer()["pids"]
        return Child(pids[0], folder / "screen.txt", self, pids)

    def run(self, folder: Path, script: str, *options: str, **choices: Any) -> Child:
        """Run a script to its end."""
        child = self.start(folder, script, *options, **choices)
        child.wait()
        return child

    def _answer(self) -> Any:
        return json.loads(self._process.stdout.readline())


@dataclass
class Child:
    """One run of a script.

    Args:
        pids: of all processes, `pid` first.
        code: its exit code, negative for the signal that ended it; set by `wait`.
        codes: those of all processes.
        operations: how often it touched files of the run, unless it was killed.
    """

    pid: int
    screen: Path
    forge: Forge
    pids: list[int]
    code: int | None = None
    codes: list[int] | None = None
    operations: int | None = None

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait_until_frozen(self) -> None:
        """Wait until a SIGSTOP holds it."""
        until = time.monotonic() + 60
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until, self.said
            time.sleep(0.005)

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        answer = self.forge._answer()
        self.codes, self.operations = answer["codes"], answer["operations"]
        self.code = self.codes[0]
        return self.code

    @property
    def said(self) -> str:
        """What it printed, on one line."""
        return self.said_by(0)

    def said_by(self, rank: int) -> str:
        """What one process printed, on one line."""
        return " ".join(_screen(self.screen, rank).read_text(encoding="utf-8").split())


def serve() -> None:
    """Read orders line by line, fork for each, answer with the child's pid and then with how it ended."""
    import gc

    import peft  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    from tiny_project import script

    import sftlib.build_training
    import sftlib.learn.fitting  # noqa: F401

    script("train")
    gc.collect()
    gc.freeze()  # Accelerate collects garbage at each start: of the imported modules there is none
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        counter, teller = os.pipe()
        pids = []
        for rank, environment in enumerate(_environments(*order["launch"])):
            pid = os.fork()
            if not pid:
                os.close(counter)
                os.environ.update(environment)
                _child(order, teller, rank)
            pids.append(pid)
        os.close(teller)
        print(json.dumps({"pids": pids}), flush=True)
        codes = _ends_of(pids)
        told = os.read(counter, 100).split()
        os.close(counter)
        print(json.dumps({"codes": codes, "operations": int(told[0]) if told else None}), flush=True)


def _environments(kind: str, processes: int) -> list[dict[str, str]]:
    if kind == "single":
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    every = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    every |= SHARDS if kind == "fsdp2" else {}
    return [every | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _ends_of(pids: list[int]) -> list[int]:
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:
            for other in set(pids) - codes.keys():
                os.kill(other, signal.SIGTERM)
    return [codes[pid] for pid in pids]


def _screen(screen: Path, rank: int) -> Path:
    return screen.with_suffix(f".{rank}.txt") if rank else screen


def shard_on_cpus() -> None:
    """Let Accelerate cut models up on CPUs, where it would quietly copy them: it is its list that leaves CPUs out."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    original = AcceleratorState.__init__

    def begin(self: Any, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
        original(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = begin


def _child(order: dict[str, Any], teller: int, rank: int) -> None:
    import faulthandler
    import importlib

    from tiny_project import call

    import sftlib.console

    importlib.reload(sftlib.console)  # it has read the environment
    if order["launch"][0] == "fsdp2":
        shard_on_cpus()
    os.chdir(order["folder"])
    screen = os.open(_screen(Path("screen.txt"), rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (screen, 1), (screen, 2)):
        os.dup2(source, target)
    faulthandler.dump_traceback_later(60, exit=True)
    done = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if event in CHANGES and isinstance(arguments[0], (str, Path)) and "outputs/tiny" in str(arguments[0]):
            done += 1
            if str(done) in order["hits"] and not rank:
                os.kill(os.getpid(), order["hits"][str(done)])

    sys.addaudithook(count)
    code = 99
    try:
        code = call(order["script"], *order["options"], settings=tuple(order["settings"]))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if not rank:
            os.write(teller, str(done).encode())
        os._exit(code)


if __name__ == "__main__":
    serve()
