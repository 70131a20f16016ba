"""The checks of a pre-flight: one after another, a line each, every fault kept and told at the end.

A check is a function that returns what it found, as half a sentence, or raises an SftError; one that finds several
faults reports them and goes on. A check whose needs have failed is not made, and says so; all others are.

    checks = Checks()
    checks.make("data", read_data)                         ok       data: 192 rows to train on
    checks.make("mask", encode, needs=("data", "model"))   -        mask: not looked at, as model failed
    checks.show()                                          E601     model    The chat template ...    Do this
    checks.exit_code                                       6

Worst bug: a fault that is found and lost (tests/run/test_checks.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import console
from ..errors import MachineError, SftError, first_line
from ..errors.catalogue import PAGE, code_of


@dataclass
class Checks:
    """What was looked at, and the faults by the name of the check that found them."""

    faults: list[tuple[str, SftError]] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)  # failed or not made

    def make(self, name: str, look: Callable[[Callable[[SftError], None]], str], *, needs: Sequence[str] = ()) -> None:
        """Make one check. look: takes a function that reports a fault; names in `needs` are of earlier checks."""
        missing = [need for need in needs if need in self.undone]
        if missing:
            self.undone.add(name)
            console.result(f"-        {name}: not looked at, as {' and '.join(missing)} failed")
            return
        found: list[SftError] = []
        said = ""
        try:
            said = look(found.append)
        except SftError as error:
            found.append(error)
        except ImportError as error:
            found.append(_broken_package(error))
        except OSError as error:
            found.append(_broken_file(error))
        if not found:
            console.result(f"ok       {name}: {said}")
            return
        self.undone.add(name)
        self.faults += [(name, error) for error in found]
        for error in found:
            console.result(f"FAILED   {name}: {code_of(error)} {error.seen.splitlines()[0]}")

    @property
    def exit_code(self) -> int:
        """The highest of the faults' kinds; 0 without a fault."""
        return max((error.exit_code for _, error in self.faults), default=0)

    def show(self) -> None:
        """Print all faults in one table."""
        if not self.faults:
            return
        count = "One fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        rows = [[code_of(error), name, _cause(error), error.cure or "-"] for name, error in self.faults]
        console.table(f"{count}; the codes stand in {PAGE}", ["code", "check", "cause", "cure"], rows)


def _cause(error: SftError) -> str:
    seen = f"{error.where}: {error.seen}" if error.where else error.seen
    return f"{seen} Expected: {error.expected}." if error.expected else seen


def _broken_package(error: ImportError) -> MachineError:
    return MachineError(
        f"A package cannot be imported: {first_line(error)}", where=sys.executable,
        cure=f"{sys.executable} -m pip install -r requirements.txt", code="E402",
    )  # fmt: skip


def _broken_file(error: OSError) -> MachineError:
    return MachineError(
        f"A file cannot be read or written: {error.strerror or error}.", where=str(error.filename or ""),
        cure="Look at free space and permissions there, or choose another folder.",
    )  # fmt: skip
