"""Results go to stdout, the rest to stderr; a user's mistake is a message and an exit code, a bug a traceback."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from sftlib import console
from sftlib.errors import ConfigError, DataError, SftError


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """stderr as a terminal of 100 columns."""
    screen = io.StringIO()
    wide = Console(file=screen, force_terminal=True, width=100, markup=False, emoji=False)
    monkeypatch.setattr(console, "_err", wide)
    return screen


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, to be set by hand."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def run(work, *argv: str) -> int:
    return console.run(work, argparse.ArgumentParser(prog="x"), argv)


def fail(error: BaseException):
    def work(args: argparse.Namespace) -> int:
        raise error

    return work


def test_the_exit_code_of_the_work_is_the_exit_code():
    assert run(lambda args: 0) == 0
    assert run(lambda args: 3) == 3


def test_a_mistake_of_the_user_is_a_message_and_its_exit_code(capsys):
    error = DataError("The row [b]is[/b] bad \\", where="a[0].jsonl:100", expected="[x]", cure="Mend it.")
    assert run(fail(error)) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: a[0].jsonl:100: The row [b]is[/b] bad \\", "  Expected: [x]", "  Do this:  Mend it.",
    ]  # fmt: skip


def test_debug_shows_the_traceback_too(capsys):
    assert run(fail(ConfigError("Wrong.")), "--debug") == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "error: Wrong." in err


@pytest.mark.parametrize("kind", [ValueError, KeyError, AssertionError, FileNotFoundError])
def test_a_bug_of_ours_keeps_its_traceback(kind):
    with pytest.raises(kind):
        run(fail(kind("x")))


def test_ctrl_c(capsys):
    assert run(fail(KeyboardInterrupt())) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err


def test_a_wrong_option_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        run(lambda args: 0, "--nope")
    assert caught.value.code == 2


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
def test_a_closed_pipe_is_no_error(root):
    code = (
        "import argparse\nfrom sftlib import console\n"
        "def work(args):\n    for n in range(100000): console.result(str(n))\n    return 0\n"
        "raise SystemExit(console.run(work, argparse.ArgumentParser(), []))"
    )
    command = f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], cwd=root / "scripts", env={**os.environ, "CODE": code}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "0"]
    assert done.stderr == ""


def test_results_are_verbatim_on_stdout(capsys):
    console.result("[bold] \\[x] :smile: \x1b[0m " + "long " * 100)
    console.result("a", end="")
    out, err = capsys.readouterr()
    assert out == "[bold] \\[x] :smile: \x1b[0m " + "long " * 100 + "\na"
    assert err == ""


def test_what_goes_on_is_on_stderr_and_is_no_markup(capsys, monkeypatch):
    monkeypatch.setattr(console, "_warned", [])
    console.note("note :100: [red]x[/red] " + "long " * 60)
    console.stage("stage [1/2]")
    console.warn("fell [back] \\")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "note :100: [red]x[/red] " + ("long " * 60).rstrip(" ") + " ", "== stage [1/2]", "warning: fell [back] \\",
    ]  # fmt: skip
    assert console.warnings() == ["fell [back] \\"]


def test_a_table_aligns_numbers_to_the_right(capsys):
    console.table("T", ["name", "n", "share"], [["a", 5, 0.123456], ["[b]:100:\\", 10, None]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "T"
    assert lines[3].split() == ["a", "│", "5", "│", "0.1235"]
    assert lines[4].split() == ["[b]:100:\\", "│", "10", "│", "-"]
    assert lines[3].index("5 ") == lines[4].index("10 ") + 1


def test_an_empty_table_and_one_on_stderr(capsys):
    console.table("", ["a"], [])
    console.table("", ["b"], [["x"]], to_stderr=True)
    out, err = capsys.readouterr()
    assert out.splitlines()[0].strip() == "a"
    assert [line.strip() for line in err.splitlines()][::2] == ["b", "x"]


def test_marked_pieces_survive_a_pipe(capsys):
    console.coloured([("user: ", False), ("[answer]", True)])
    assert capsys.readouterr().out == "user: «[answer]»\n"


def test_marked_pieces_are_green_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    colourful = Console(file=screen, force_terminal=True, color_system="standard", _environ={})
    monkeypatch.setattr(console, "_out", colourful)
    console.coloured([("a", False), ("b", True)])
    assert "\x1b[1;32mb\x1b[0m" in screen.getvalue()
    assert "«" not in screen.getvalue()


def test_a_question_without_a_terminal_takes_the_default(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    assert console.ask("Go on?", "yes") == "yes"


@pytest.mark.parametrize(("typed", "answer"), [("no", "no"), ("", "yes"), ("  ", "yes")])
def test_a_question_on_a_terminal(monkeypatch, typed, answer):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda question: typed)
    assert console.ask("Go on?", "yes") == answer


def test_progress_yields_everything_and_is_quiet_when_it_is_quick(capsys, clock):
    assert list(console.progress(iter("abc"), "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, clock):
    with console.Meter("training", 40, unit=" steps") as meter:
        for _ in range(40):
            clock[0] += 1
            meter.advance(text="loss 1.2")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 10/40 steps in 10.0s, 30.0s left, loss 1.2"
    assert [line.split()[1] for line in lines] == ["10/40", "20/40", "30/40", "40/40"]


def test_progress_by_count(capsys, clock):
    with console.Meter("training", 6, every=2) as meter:
        for _ in range(6):
            meter.advance()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["2/6", "4/6", "6/6"]


def test_progress_of_unknown_length_says_nothing_more_after_a_failure(capsys, clock):
    def rows():
        yield 1
        clock[0] += 11
        yield 2
        clock[0] += 11
        raise SftError("stop")

    with pytest.raises(SftError):
        list(console.progress(rows(), "reading"))
    assert capsys.readouterr().err.splitlines() == ["reading: 2 in 11.0s"]


def test_progress_on_a_terminal_is_a_bar(terminal):
    assert list(console.progress([1, 2], "reading [x]")) == [1, 2]
    assert "reading [x]" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()


def test_a_table_for_a_file_is_the_one_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    content = ("Speed", ["what", "tokens/s"], [["ours [b]", 512.25], ["theirs", None]])
    text = console.table_text(*content)
    console.table(*content)
    assert text.split() == capsys.readouterr().out.split()
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert text.splitlines()[-1] == "theirs   │        -"
