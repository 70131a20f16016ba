"""The real scripts in processes that can be killed, without paying the five seconds of importing torch each time.

A `Forge` is a process that has imported everything; for each call it forks a child, which runs a script's `main` in a
folder as the shell would, and can be told to send itself a signal at its n-th operation on a file of the run. It
has one thread of OpenMP, as threads do not survive a fork.

    with Forge() as forge: child = forge.start(project, "train", ...); child.signal(SIGTERM); child.wait()
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
NO_HITS: Mapping[int, int] = {}
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
    ) -> Child:
        """Run a script in a folder.

        hits: operation on a file of the run, counted from 1 -> the signal that it sends itself just before.
        """
        order = {"script": script, "options": options, "settings": settings, "folder": str(folder), "hits": dict(hits)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Child(self._answer()["pid"], folder / "screen.txt", self)

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
        code: its exit code, negative for the signal that ended it; set by `wait`.
        operations: how often it touched files of the run, unless it was killed.
    """

    pid: int
    screen: Path
    forge: Forge
    code: int | None = None
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
        self.code, self.operations = answer["code"], answer["operations"]
        return self.code

    @property
    def said(self) -> str:
        """What it printed, on one line."""
        return " ".join(self.screen.read_text(encoding="utf-8").split())


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
        pid = os.fork()
        if not pid:
            os.close(counter)
            _child(order, teller)
        os.close(teller)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        told = os.read(counter, 100)
        os.close(counter)
        answer = {"code": os.waitstatus_to_exitcode(status), "operations": int(told) if told else None}
        print(json.dumps(answer), flush=True)


def _child(order: dict[str, Any], teller: int) -> None:
    from tiny_project import call

    os.chdir(order["folder"])
    screen = os.open("screen.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (screen, 1), (screen, 2)):
        os.dup2(source, target)
    done = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if event in CHANGES and isinstance(arguments[0], (str, Path)) and "outputs/tiny" in str(arguments[0]):
            done += 1
            if str(done) in order["hits"]:
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
        os.write(teller, str(done).encode())
        os._exit(code)


if __name__ == "__main__":
    serve()
