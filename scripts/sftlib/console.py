"""The only room that prints.

Results go to stdout (`result`, `table`), so that they can be piped; everything else goes to stderr (`note`, `warn`,
progress). On a terminal it is coloured and progress is a bar with an ETA; elsewhere progress is a plain line now and
then, so that logs stay readable. `run` is the frame of every script's `main`. Of several processes of one training
(`accelerate launch`) only the first is heard, but for errors that it does not have itself.

Worst bug: a traceback for a user's mistake, or an error that exits with 0 (tests/test_console.py).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .errors import SftError
from .units import human_duration

T = TypeVar("T")
PLAIN_WIDTH = 120  # of tables where there is no terminal to ask
PLAIN_SECONDS = 10.0  # between two plain progress lines: about what people bear without a sign of life
PROCESS = int(os.environ.get("RANK", 0))  # number among the processes of one training
BEFORE_AN_ERROR = 3.0  # seconds: the first process, if it has the same one, ends the others meanwhile


def _make_console(*, stderr: bool, quiet: bool = PROCESS > 0) -> Console:
    # No markup and no emoji: `a.yaml:100: [b]` is a place and a text, not a 💯 and bold.
    console = Console(stderr=stderr, quiet=quiet, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


_out = _make_console(stderr=False)
_err = _make_console(stderr=True)
_errors = _make_console(stderr=True, quiet=False)
_warned: list[str] = []


def result(text: str = "", *, end: str = "\n") -> None:
    """Print what the user asked for, verbatim, to stdout."""
    if not _out.quiet:
        _out.file.write(text + end)
        _out.file.flush()


def note(text: str = "") -> None:
    """Say what is going on, to stderr."""
    _err.print(text)


def stage(text: str) -> None:
    """Open a stage of the work: one bold line on stderr."""
    _err.print(Text.assemble(("==", "bold cyan"), " ", (text, "bold")))


def warn(text: str) -> None:
    """Say loudly what the user did not ask for: a fallback, a loss, an odd value."""
    _warned.append(text)
    _err.print(Text.assemble(("warning:", "bold yellow"), " ", text))


def warnings() -> list[str]:
    """Everything `warn` has said in this process, for the stamp of a run."""
    return list(_warned)


def table(title: str, headers: Sequence[str], rows: Iterable[Sequence[object]], *, to_stderr: bool = False) -> None:
    """Print a table; columns whose every cell is a number are aligned to the right."""
    (_err if to_stderr else _out).print(_grid(title, headers, rows), soft_wrap=False)


def table_text(title: str, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The same table as plain text, for a file."""
    stream = io.StringIO()
    Console(file=stream, width=PLAIN_WIDTH, color_system=None).print(_grid(title, headers, rows))
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())


def coloured(pieces: Iterable[tuple[str, bool]]) -> None:
    """Print pieces of text in a row, those marked True in green, to stdout.

    Without colour (a pipe, NO_COLOR) the marked pieces are put between « and », so that nothing is lost.
    """
    text = Text()
    for piece, marked in pieces:
        if marked and (_out.no_color or not _out.is_terminal):
            text.append(f"«{piece}»")
        else:
            text.append(piece, style="bold green" if marked else "dim")
    _out.print(text)


def ask(question: str, default: str) -> str:
    """Ask on the terminal; Enter, or no terminal at all, takes the default."""
    if not sys.stdin.isatty():
        return default
    return input(f"{question} [{default}] ").strip() or default


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items while showing how far it is: a bar on a terminal, a plain line every 10 s elsewhere."""
    with Meter(description, total if total is not None else _length(items)) as meter:
        for item in items:
            yield item
            meter.advance()


class Meter:
    """A progress display advanced by hand: `with Meter("training", 300) as meter: meter.advance(text="loss 1.2")`.

    total: how many advances make the whole; None when nobody knows.
    every: without a terminal, say a line every so many advances instead of every 10 s.
    """

    def __init__(self, description: str, total: int | None, *, unit: str = "", every: int | None = None) -> None:
        self.description, self.total, self.unit, self.every = description, total, unit, every
        self.done, self.text, self._said_at = 0, "", -1
        self._started = self._said = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Meter:
        if _err.is_terminal and not _err.quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("eta"), TimeRemainingColumn(), TextColumn("{task.fields[text]}", markup=False), console=_err,
            )  # fmt: skip
            self._task = self._bar.add_task(self.description, total=self.total, text="")
            self._bar.start()
        return self

    def advance(self, steps: int = 1, text: str = "") -> None:
        """Count `steps` more as done; `text` is shown beside the bar."""
        self.done += steps
        self.text = text or self.text
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, text=self.text)
        elif self.done % self.every == 0 if self.every else time.monotonic() - self._said >= PLAIN_SECONDS:
            self._say()

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self.done != self._said_at and time.monotonic() - self._started >= PLAIN_SECONDS:
            self._say()

    def _say(self) -> None:
        self._said, self._said_at = time.monotonic(), self.done
        elapsed = self._said - self._started
        of = f"/{self.total}" if self.total else ""
        left = (
            f", {human_duration(elapsed / self.done * (self.total - self.done))} left"
            if self.total and self.done
            else ""
        )
        extra = f", {self.text}" if self.text else ""
        note(f"{self.description}: {self.done}{of}{self.unit} in {human_duration(elapsed)}{left}{extra}")


def run(main: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse `argv`, call `main`, turn an SftError into its message and its exit code; `--debug` shows the traceback.

    A script's own `--debug` shows more than that. Ctrl-C exits with 130, as shells expect.
    """
    with contextlib.suppress(argparse.ArgumentError):
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    try:
        return main(args)
    except SftError as error:
        if PROCESS:
            time.sleep(BEFORE_AN_ERROR)
        if args.debug:
            _errors.print_exception()
        first, *rest = str(error).splitlines()
        _errors.print(Text.assemble((f"error in process {PROCESS}:" if PROCESS else "error:", "bold red"), " ", first))
        for line in rest:
            _errors.print(f"  {line}")
        return error.exit_code
    except KeyboardInterrupt:
        _err.print("stopped by Ctrl-C")
        return 130
    except BrokenPipeError:  # `... | head` closed the pipe: not an error of anyone's
        sys.stderr.close()
        return 0


def _grid(title: str, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    rows = [[cell if isinstance(cell, str) else _cell(cell) for cell in row] for row in rows]
    grid = Table(
        title=Text(title) if title else None, title_justify="left", title_style="bold", show_edge=False, pad_edge=False
    )
    for index, header in enumerate(headers):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        grid.add_column(Text(header), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    if cell == "-":
        return True
    try:
        float(cell.rstrip("%sx ").replace(",", ""))
    except ValueError:
        return False
    return True


def _length(items: Iterable) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        return None
