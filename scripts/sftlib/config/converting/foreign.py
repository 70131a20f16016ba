"""The YAML file of another tool: its keys with their places, and its values read the way people mean them.

Comes in: the path of a YAML (or JSON) file. Goes out: a `Section` of entries, which remembers those that nobody has
asked for, and faults for values of the wrong kind. The text is composed by config/reading.py, so that numbers without
a dot (`2e-5`), nulls and doubled keys are what they are in a config of ours. What a key means is not known here.

    read_section(Path("x.yml"), "x.yml", layer).take("learning_rate").number()   ->  2e-05, at x.yml:4

Worst bug: a value that is read as something else than the other tool reads (tests/config/converting/test_foreign.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..faults import Fault, shown
from ..reading import BOOLEANS, Layer, compose_file, describe, entries_of, is_null, read_number


@dataclass(frozen=True)
class Entry:
    """One value of the other tool's file. `name` is what messages call it, as `datasets[0].path`."""

    name: str
    node: yaml.Node
    place: str
    file: str
    layer: Layer

    @property
    def written(self) -> str:
        """The value as messages show it."""
        return describe(self.node)

    @property
    def is_given(self) -> bool:
        """Whether it is there at all: neither null nor an empty text, list or section."""
        if isinstance(self.node, yaml.ScalarNode):
            return not is_null(self.node) and self.node.value.strip() != ""
        return bool(self.node.value)

    @property
    def is_on(self) -> bool:
        """Whether it switches something on: given, and neither false nor 0."""
        if not self.is_given or not isinstance(self.node, yaml.ScalarNode):
            return self.is_given
        word = self.node.value.lower()
        return BOOLEANS.get(word, True) and read_number(word, float) != 0

    @property
    def is_section(self) -> bool:
        """Whether there are keys below it."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is written as a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def text(self) -> str | None:
        """The value as a text; None and a fault for a list or a section."""
        return self.node.value if isinstance(self.node, yaml.ScalarNode) else self._fault("a text")

    def number(self) -> float | None:
        """The value as a number, in quotes or not; None and a fault where it is none."""
        found = read_number(self.node.value, float) if isinstance(self.node, yaml.ScalarNode) else None
        return found if found is not None else self._fault("a number")

    def whole(self) -> int | None:
        """The value as a whole number; None and a fault where it is none."""
        found = read_number(self.node.value, int) if isinstance(self.node, yaml.ScalarNode) else None
        return found if isinstance(found, int) else self._fault("a whole number")

    def boolean(self) -> bool | None:
        """The value as true or false; None and a fault where it is neither."""
        word = self.node.value.lower() if isinstance(self.node, yaml.ScalarNode) else ""
        return BOOLEANS[word] if word in BOOLEANS else self._fault("true or false")

    def items(self) -> list[Entry]:
        """The items of a list; of any other value itself."""
        if not self.is_list:
            return [self]
        return [self._inner(f"{self.name}[{number}]", node) for number, node in enumerate(self.node.value)]

    def texts(self) -> list[str]:
        """The texts of a list, or of one text with commas between them."""
        found = [item.text() for item in self.items()]
        parts = found if self.is_list else (found[0] or "").split(",")
        return [part.strip() for part in parts if part and part.strip()]

    def section(self) -> Section | None:
        """The keys below it; None and a fault where there are none."""
        return Section(self.node, self.file, self.layer, self.name) if self.is_section else self._fault("a section")

    def _inner(self, name: str, node: yaml.Node) -> Entry:
        return Entry(name, node, f"{self.file}:{node.start_mark.line + 1}", self.file, self.layer)

    def _fault(self, expected: str) -> None:
        self.layer.faults.append(Fault(self.place, f"`{shown(self.name)}` is {self.written}.", expected))


class Section:
    """The keys of one mapping of the other tool's file."""

    def __init__(self, node: yaml.MappingNode, file: str, layer: Layer, name: str = "") -> None:
        start = f"{name}." if name else ""
        self._entries = {
            key: Entry(start + key, value, place, file, layer) for key, value, place in entries_of(node, file, layer)
        }
        self._unread = dict(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def take(self, *keys: str) -> Entry | None:
        """The entry of the first of these keys that is given; all of them count as read."""
        for key in keys:
            self._unread.pop(key, None)
        found = (self._entries[key] for key in keys if key in self._entries)
        return next((entry for entry in found if entry.is_given), None)

    def written(self, key: str) -> Entry | None:
        """The entry of this key as it stands there, also where it says nothing (`[]`, `none`); it counts as read."""
        self._unread.pop(key, None)
        return self._entries.get(key)

    def unread(self) -> dict[str, Entry]:
        """What nobody has taken so far, by key."""
        return dict(self._unread)


def read_section(path: Path, name: str, layer: Layer) -> Section | None:
    """The keys of a file, which messages call `name`; None and a fault where it holds none. OSError as open()."""
    node = compose_file(path, name, layer)
    if isinstance(node, yaml.MappingNode):
        return Section(node, name, layer)
    if not layer.faults:
        layer.faults.append(
            Fault(f"{name}:1", "The file is not a section of keys.", "lines like `learning_rate: 2e-5`")
        )
    return None
