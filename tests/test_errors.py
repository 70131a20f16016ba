"""An error keeps its place and its cure, and its kind is its exit code."""

from __future__ import annotations

import pytest

from sftlib import errors
from sftlib.errors import ConfigError, DataError, SftError


def test_an_error_says_where_what_what_else_and_what_now():
    error = DataError("The row has no answer.", where="a.jsonl:17", expected="a non-empty 'output'", cure="Fill it in.")
    assert str(error).splitlines() == [
        "a.jsonl:17: The row has no answer.",
        "Expected: a non-empty 'output'",
        "Do this:  Fill it in.",
    ]


def test_what_is_not_given_leaves_no_trace():
    assert str(ConfigError("It is wrong.")) == "It is wrong."
    assert str(ConfigError("It is wrong.", cure="Do.")) == "It is wrong.\nDo this:  Do."


def test_the_parts_stay_readable():
    error = SftError("seen", where="where", expected="expected", cure="cure")
    assert (error.seen, error.where, error.expected, error.cure) == ("seen", "where", "expected", "cure")
    assert error.args == ("seen",)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SftError", 1), ("UsageError", 2), ("ConfigError", 2), ("DataError", 3), ("MachineError", 4), ("MixError", 5),
        ("ModelError", 6), ("TrainingError", 7),
    ],
)  # fmt: skip
def test_the_exit_code_of_each_kind(name, code):
    kind = getattr(errors, name)
    assert kind.exit_code == code
    assert issubclass(kind, SftError)


def test_every_kind_is_in_the_list_above():
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert len(kinds) == 8
