"""A talk through a real terminal (a pty), and through a pipe."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")

PROGRAM = """
import sys, time
from pathlib import Path
from sftlib.measure.chat_session import ChatSession, run_chat
from sftlib.measure.lines import line_reader

class Slow:
    def fits(self, messages): return True
    def answer(self, messages, on_text):
        for word in messages[-1]["content"].split():
            on_text(word.upper() + ".")
            time.sleep(30 if word == "wait" else 0)

write = lambda text: (sys.stdout.write(text), sys.stdout.flush())
say = lambda text: print(text, file=sys.stderr, flush=True)
with line_reader(Path(sys.argv[1])) as read_line:
    run_chat(ChatSession(Slow(), write, say), read_line)
print("left")
"""


@pytest.fixture
def command(root: Path, tmp_path: Path) -> dict:
    environment = os.environ | {"PYTHONPATH": str(root / "scripts"), "TERM": "dumb"}
    return {"args": [sys.executable, "-c", PROGRAM, str(tmp_path / "folder" / "history")], "env": environment}


class Screen:
    """What appears on a terminal, read up to a text at a time; what comes behind it is kept for the next reading."""

    def __init__(self, terminal: int) -> None:
        self.terminal, self._unread = terminal, ""

    def interrupt(self, until: str) -> None:
        """Ctrl-C, and again when nothing comes of it, as a person would.

        A signal between readline's echo and its select() is noticed at the next one only, and the echo is what wakes
        this process, so that on a busy machine this is the rule.
        """
        for _ in range(30):
            os.write(self.terminal, b"\x03")
            if self._read(until, seconds=2):
                return
        raise AssertionError(f"{until!r} did not come: {self._unread!r}")

    def until(self, text: str) -> str:
        seen = self._read(text, seconds=60)
        assert seen, f"{text!r} did not come: {self._unread!r}"
        return seen

    def _read(self, text: str, seconds: float) -> str:
        end = time.monotonic() + seconds
        while text not in self._unread:
            if not select.select([self.terminal], [], [], max(0.0, end - time.monotonic()))[0]:
                return ""
            self._unread += os.read(self.terminal, 4096).decode()
        seen, found, self._unread = self._unread.partition(text)
        return seen + found


def test_ctrl_c_ends_an_answer_and_ctrl_d_the_talk(command: dict, tmp_path: Path):
    process, terminal = pty.fork()
    if process == 0:
        os.execve(command["args"][0], command["args"], command["env"])
    screen = Screen(terminal)
    try:
        screen.until("you> ")
        os.write(terminal, b"please wait here\n")
        screen.until("WAIT.")
        os.write(terminal, b"\x03")
        seen = screen.until("you> ")
        assert "(stopped)" in seen
        assert "HERE" not in seen
        os.write(terminal, b"half a line")
        screen.until("half a line")
        screen.interrupt("you> ")
        os.write(terminal, b"again\n")
        screen.until("AGAIN.")
        screen.until("you> ")
        os.write(terminal, b"\x04")
        screen.until("left")
        assert os.waitpid(process, 0)[1] == 0
    finally:
        os.close(terminal)  # hangs up on it, in case it still runs
    assert (tmp_path / "folder" / "history").read_text().splitlines()[-2:] == ["please wait here", "again"]


def test_a_pipe_gets_answers_alone(command: dict):
    done = subprocess.run(
        **command, input="one\ntwo \\\nthree\n\xff".encode("latin-1"), capture_output=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "ONE.\nTWO.THREE.\n\ufffd.\nleft\n"
