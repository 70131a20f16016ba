"""Where a talk's lines come from: a terminal, with editing and history, or a pipe.

    with line_reader(Path("outputs/.chat_history")) as read_line:
        read_line("you> ")  ->  "What is 2+2?"        EOFError at the end

The prompt is shown on a terminal only, so that `infer.py < questions.txt > answers.txt` holds answers alone.

Worst bug: prompts among the answers in a pipe (tests/measure/test_lines.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HISTORY_LINES = 1000


@contextlib.contextmanager
def line_reader(history: Path) -> Iterator[Callable[[str], str]]:
    """Yield a function that shows a prompt and reads a line; `history` keeps what was typed, where readline exists."""
    if hasattr(sys.stdin, "reconfigure"):  # bytes that are no character must not end a talk
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield _read_pipe
        return
    with _kept_history(history):
        yield input


def _read_pipe(_: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


@contextlib.contextmanager
def _kept_history(path: Path) -> Iterator[None]:
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    with contextlib.suppress(OSError):  # there is none yet
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written to: the talk matters more
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
