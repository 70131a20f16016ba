"""The one family of errors a user may see.

An `SftError` says what was seen, where, what was expected and what to do next. `console.run` prints it and turns
its kind into the exit code of the process; everything else that escapes is a bug of ours and keeps its traceback.

    raise DataError("The row has no answer.", where="raw.jsonl:17", expected="a non-empty 'output'",
                    cure="Fill the field in, or map another column with data.columns.")

Faults that `make check` looks for have a code as well, wherever they are raised; catalogue.py knows them all.

Worst bug: an error that loses its place or its cure on the way to the screen (tests/test_errors.py).
"""

from __future__ import annotations

from .catalogue import CATALOGUE, PAGE


class SftError(Exception):
    """A mistake or a limit that the user can act on.

    Args:
        seen: a full sentence, what was found.
        where: the place, as `file:line`, a dotted config path, or both.
        expected: what would have been right.
        cure: what to do next, ideally a command.
        code: of the catalogue, where it knows this fault.
    """

    exit_code = 1

    def __init__(self, seen: str, *, where: str = "", expected: str = "", cure: str = "", code: str = "") -> None:
        super().__init__(seen)
        assert not code or code in CATALOGUE, code
        self.seen, self.where, self.expected, self.cure, self.code = seen, where, expected, cure, code

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.seen}" if self.where else self.seen]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.cure:
            parts.append(f"Do this:  {self.cure}")
        if self.code:
            parts.append(f"Code:     {self.code}, see {PAGE}")
        return "\n".join(parts)


class UsageError(SftError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(SftError):
    """The config is wrong, or asks for what this mode or backend cannot do."""

    exit_code = 2


class DataError(SftError):
    """The data is missing, unreadable or not of a shape we know."""

    exit_code = 3


class MachineError(SftError):
    """It does not fit this machine: memory, disk, a missing device or package."""

    exit_code = 4


class MixError(SftError):
    """Two things that do not belong together: a run and other data, an adapter and another base, an existing folder."""

    exit_code = 5


class ModelError(SftError):
    """A model, tokenizer, template or adapter is missing, broken or of the wrong kind."""

    exit_code = 6


class TrainingError(SftError):
    """Training itself went wrong: a non-finite loss, no gradient, nothing to learn."""

    exit_code = 7


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says, or its kind when it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
