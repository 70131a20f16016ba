"""Every fault is kept, told once, and stops only what needs it."""

from __future__ import annotations

import pytest

from sftlib.errors import ConfigError, DataError, MachineError, MixError, ModelError, SftError, TrainingError
from sftlib.run.checks import Checks


def fail(error: Exception):
    def look(report):
        raise error

    return look


def test_a_fault_stops_what_needs_it_and_nothing_else(capsys) -> None:
    checks = Checks()
    checks.make("one", lambda report: "all right")
    checks.make("two", fail(DataError("No rows.", where="a.jsonl", cure="Add some.")))
    checks.make("three", lambda report: "never said", needs=("one", "two"))
    checks.make("four", lambda report: "never said", needs=("three",))
    checks.make("five", lambda report: "said", needs=("one",))
    assert capsys.readouterr().out.splitlines() == [
        "ok       one: all right",
        "FAILED   two: E300 No rows.",
        "-        three: not looked at, as two failed",
        "-        four: not looked at, as three failed",
        "ok       five: said",
    ]
    assert checks.exit_code == 3


def test_several_faults_of_one_check_are_kept_and_one_table_tells_all(capsys) -> None:
    def look(report) -> str:
        report(ConfigError("First.", cure="Do this."))
        report(ModelError("Second.", where="here", expected="there", code="E602"))
        raise DataError("Third.")

    checks = Checks()
    checks.make("one", look)
    capsys.readouterr()
    checks.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 faults; the codes stand in docs/ERRORS.md")
    assert [[cell.strip() for cell in line.split("│")] for line in lines[3:]] == [
        ["E200", "one", "First.", "Do this."],
        ["E602", "one", "here: Second. Expected: there.", "-"],
        ["E300", "one", "Third.", "-"],
    ]
    assert checks.exit_code == 6  # the highest, not the last


def test_without_a_fault_there_is_no_table(capsys) -> None:
    checks = Checks()
    checks.show()
    assert capsys.readouterr() == ("", "")
    assert checks.exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("It."), "E200"), (DataError("It."), "E300"), (MachineError("It."), "E400"),
        (MixError("It."), "E500"), (ModelError("It."), "E600"), (TrainingError("It."), "E700"),
        (ImportError("No module named 'peft'"), "E402"), (PermissionError(13, "Permission denied", "a"), "E400"),
    ],
)  # fmt: skip
def test_a_fault_without_a_code_has_that_of_its_kind(error: Exception, code: str, capsys) -> None:
    checks = Checks()
    checks.make("one", fail(error))
    assert f"FAILED   one: {code} " in capsys.readouterr().out
    assert isinstance(checks.faults[0][1], SftError)


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        Checks().make("one", fail(KeyError("x")))
