"""What becomes of another tool's config: settings of ours, differences, what is left out, what is refused.

Comes in: what the converters say of each key. Goes out: the `Draft` they fill. Four fates, and no key has none:

    put        a setting of ours with the same meaning                  lora_r: 8     ->  tuning.lora.r: 8
    differ     we train, and something is not quite as it was there     warmup_steps: 100, as we know shares only
    leave_out  it has no meaning here, and what is learned stays        wandb_entity, dataset_processes
    refuse     another objective, other weights, another update         rl: dpo, lora_modules_to_save, neftune

Worst bug: a key that disappears without a word (tests/config/converting/test_from_axolotl.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..faults import Fault, shown
from ..reading import Layer
from .foreign import Entry, Section

OFF = "it is switched off, and nothing here switches it on"
BESIDE = "it says nothing more beside the other keys"


class Line(NamedTuple):
    """A setting of ours and what it came from."""

    value: Any
    origin: str


class Note(NamedTuple):
    """A key of theirs and what is to be said of it."""

    name: str
    place: str
    text: str


class Same(NamedTuple):
    """A key of theirs that is one of ours in another word; `default` is theirs where it is not ours."""

    ours: str
    read: Callable[[Entry], Any]
    default: Any = None


@dataclass
class Draft:
    """A conversion in progress. `devices` is how many GPUs took part there."""

    tool: str
    file: str
    keys: Section
    layer: Layer
    devices: int = 1
    lines: dict[str, Line] = field(default_factory=dict)
    differences: list[Note] = field(default_factory=list)
    left_out: list[Note] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def put(self, ours: str, value: Any, *origins: Entry | str) -> None:
        """Set a key of ours; the origins are entries, or words where nothing is written."""
        said = [one if isinstance(one, str) else f"{one.name}, {self._place(one)}" for one in origins]
        self.told |= {one.name for one in origins if isinstance(one, Entry)}
        self.lines[ours] = Line(value, "; ".join(said))

    def put_same(self, table: Mapping[str, Same]) -> None:
        """Set every key of a table, or the other tool's default of it."""
        for theirs, same in table.items():
            entry = self.keys.take(theirs)
            if entry is not None:
                value = same.read(entry)
                if value is not None:
                    self.put(same.ours, value, entry)
            elif same.default is not None:
                self.put(same.ours, same.default, self.default(theirs))

    def default(self, theirs: str) -> str:
        """The words for a value that is not written there."""
        return f"{self.tool}'s default of {theirs}"

    def value(self, ours: str) -> Any:
        """What has been set so far, None where nothing was."""
        return self.lines[ours].value if ours in self.lines else None

    def differ(self, entry: Entry | str, text: str) -> None:
        """Say what is not as it was there."""
        self.differences.append(self._note(entry, text))

    def leave_out(self, entry: Entry, why: str) -> None:
        """Say that a key has no meaning here, and what is nearest."""
        self.left_out.append(self._note(entry, why))

    def refuse(self, entry: Entry, why: str, expected: str = "", cure: str = "") -> None:
        """Refuse the whole conversion because of this key."""
        self.told.add(entry.name)
        seen = f"`{shown(entry.name)}: {entry.written.strip('`')}`: {why}"
        self.layer.faults.append(Fault(entry.place, seen, expected, cure))

    def refuse_given(self, table: Mapping[str, tuple[str, str]], keys: Section | None = None) -> None:
        """Refuse each key of a table that is switched on: key -> (why, cure)."""
        keys = self.keys if keys is None else keys
        for theirs, (why, cure) in table.items():
            entry = keys.take(theirs)
            if entry is not None and entry.is_on:
                self.refuse(entry, why, cure=cure)

    def leave_out_rest(self, known: Mapping[str, str], keys: Section | None = None) -> None:
        """Leave out whatever has had no word so far, with the reason of a table, by its key or a `prefix*`.

        A key that nobody has read and no table has is one that is not known here.
        """
        keys = self.keys if keys is None else keys
        unread = keys.unread()
        for entry in [entry for entry in keys if entry.is_given and not self._is_told(entry)]:
            key = entry.name.rpartition(".")[2]
            why = known.get(key) or next((known[one] for one in _prefixes(known) if key.startswith(one[:-1])), None)
            if key not in unread:
                self.leave_out(entry, why or (BESIDE if entry.is_on else OFF))
            elif why is None:
                self.differ(entry, f"no key of {self.tool} that is known here; look up whether it changes the training")
            else:
                self.leave_out(entry, why)

    def _place(self, entry: Entry) -> str:
        """The place of an entry; in the file itself the line alone."""
        return entry.place.replace(f"{self.file}:", "line ")

    def _note(self, entry: Entry | str, text: str) -> Note:
        if isinstance(entry, str):
            return Note(entry, self.file, text)
        self.told.add(entry.name)
        return Note(entry.name, entry.place, text)

    def _is_told(self, entry: Entry) -> bool:
        """Whether it, or anything below it, has had a word."""
        return any(name == entry.name or name.startswith((f"{entry.name}.", f"{entry.name}[")) for name in self.told)


def _prefixes(known: Iterable[str]) -> list[str]:
    return [one for one in known if one.endswith("*")]
