"""YAML text to settings: one value a dotted key, each with its place, read the way people mean it.

Comes in: the text of one file, or one `--set KEY=VALUE`. Goes out: a `Layer` of settings and the faults of the text
(broken YAML, unknown and doubled keys). The schema says what a plain word is: `2e-4` and `1e5` are numbers where a
number is wanted and `010` is ten; `no` is a word where it is one of the choices, else a boolean where one is wanted;
`45m` and `1h30m` are minutes where these are wanted; `1:30`, `2024-01-01` and, for a text, `007` stay what they are. It
does not judge whether a value is allowed (loader.py) and opens no file but the one it is given.

    train: {eval_strategy: no, learning_rate: 2e-4}
    ->  train.eval_strategy "no" at mine.yaml:1, train.learning_rate 0.0002 at mine.yaml:1

Worst bug: a value read as something else than what was written (tests/config/test_reading.py).
"""

from __future__ import annotations

import errno
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..units import human_bytes
from .faults import Fault, shown, unknown_key
from .keys import NAME, Key, group_of, join, key_of, section_of

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}  # YAML 1.1
NULLS = ("", "~", "null", "none")  # `None` is Python's word, and nobody means a run called None
NUMBER = re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")
LARGEST_FILE = 100_000  # bytes; every key with its comment takes 20,000, and PyYAML reads as many in 0.3 s
LARGEST_WHOLE = 2**63 - 1  # what torch and Arrow can hold
DURATION = re.compile(r"(?=.)(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?:in)?)?(?:(?P<s>\d+(?:\.\d+)?)s)?")
INCLUDES = ("include", "base_config")  # the same in two spellings
OTHER_SPELLINGS = {
    "train.evaluation_strategy": "train.eval_strategy",  # transformers before 4.46
    "budget": "train.max_minutes", "train.budget": "train.max_minutes",
}  # fmt: skip
SAID_PLAINLY = (  # part of PyYAML's sentence, ours, what to do
    ("'\\t'", "A tab stands where YAML allows spaces only.", "Indent with spaces."),
    ("mapping values are not allowed", "There is a second `: ` here, or the line is indented too far.",
     "Put a value that contains `: ` between quotes; indent the keys of a section alike."),
    ("could not find expected ':'", "A key without its `:`.", "Write `key: value`."),
    ("cannot start any token", "A value may not begin with this character.", "Put the value between quotes."),
    ("expected <block end>", "The indentation does not fit the lines above.", "Indent the keys of a section alike."),
    ("unexpected end of stream", "A quote is opened and never closed.", "Close it."),
    ("expected ',' or ']'", "A list is opened with `[` and not closed.", "Close it with `]`."),
    ("expected ',' or '}'", "A section is opened with `{` and not closed.", "Close it with `}`."),
    ("but found another document", "A second document begins here.", "Take the `---` away: a config is one document."),
    ("special characters are not allowed", "There is a control character in the text.", "Take it out."),
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A value, the place that set it, how it was written (for messages), and the name it was given."""

    value: Any
    place: str
    written: str = ""
    spelling: str = ""


@dataclass
class Layer:
    """What one file, or the whole command line, sets. A mapping's entries are settings of their own."""

    settings: dict[str, Setting] = field(default_factory=dict)
    includes: list[Setting] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_file(path: Path, name: str) -> Layer:
    """Read the file at `path`; `name` is how messages call it. OSError when it cannot be opened or is no file."""
    layer = Layer()
    node = compose_file(path, name, layer)
    if node is not None:
        _Reader(layer, name).read_document(node)
    return layer


def compose_file(path: Path, name: str, layer: Layer) -> yaml.Node | None:
    """The nodes of any YAML (or JSON) file, types not guessed; None, with a fault in the layer, when it is broken."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # a pipe or /dev/zero may never end
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket")
    if status.st_size > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"it has {human_bytes(status.st_size)}, more than any config")
    return _compose(_decode(path.read_bytes(), name, layer), name, layer)


def entries_of(node: yaml.MappingNode, name: str, layer: Layer) -> list[tuple[str, yaml.Node, str]]:
    """The (key, value, place) of a mapping of that file; a key that is doubled or no text is a fault and left out."""
    return _Reader(layer, name).entries(node)


def read_override(text: str, layer: Layer) -> None:
    """Read one `KEY=VALUE` of the command line into `layer`. Nothing after the `=` is null, as in YAML."""
    name, equals, written = text.partition("=")
    name, place = name.strip(), f"--set {shown(text)}"
    reader = _Reader(layer, "", place)
    if not equals or not name:
        example = "E.g. --set train.learning_rate=1e-4."
        layer.faults.append(Fault(place, "An override without a key or a value.", "KEY=VALUE", example))
        return
    key = key_of(OTHER_SPELLINGS.get(name, name))
    has_structure = key is None or key.items is not None or key.mapping or key.named
    if written.lstrip()[:1] in ('"', "'") or (has_structure and written.lstrip()[:1] in ("[", "{")):
        node = _compose(written, place, layer)
        if node is None:
            return
    else:  # as it stands: `: ` and ` #` need no quotes on the command line
        node = yaml.ScalarNode("", written.strip(), style=None)
    section, _, leaf = name.rpartition(".")
    if name in INCLUDES:
        layer.faults.append(Fault(place, f"`{name}` is read in files only.", cure="Name the file with --config."))
    elif section_of(section) and name == join(section, leaf):
        reader.read_entry(section, leaf, node, place)
    elif group_of(name):
        reader.read_named(section, leaf, node, place)
    elif (parent := key_of(section)) and parent.mapping:
        reader.read_mapping_entry(parent, leaf, node, place)
    else:
        layer.faults.append(unknown_key(place, "", name))


class _PlainLoader(yaml.SafeLoader):
    """Composes nodes without guessing types: the tag of a scalar is '' unless one is written."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        return ""


class _Reader:
    """Walks the nodes of one document down the schema and notes settings and faults in a layer."""

    def __init__(self, layer: Layer, name: str, place: str = "") -> None:
        self.layer, self.name, self.fixed_place = layer, name, place

    def read_document(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode) and node.value == "":
            return
        if not isinstance(node, yaml.MappingNode):
            self.fault(self.place(node), "The file is not a section of keys.", "lines like `seed: 42`")
            return
        self.read_section("", node)

    def read_section(self, section: str, node: yaml.MappingNode) -> None:
        for name, value, place in self.entries(node):
            if not section and name in INCLUDES:
                self.read_includes(name, value, place)
            else:
                self.read_entry(section, name, value, place)

    def read_entry(self, section: str, name: str, node: yaml.Node, place: str) -> None:
        """Read `name: node` of a section: a key of it, a section in it, or neither."""
        full = join(section, name)
        key = key_of(OTHER_SPELLINGS.get(full, full))
        if node.tag:
            cure = "Take it away: the schema knows the types."
            self.fault(place, f"`{shown(full)}` has the YAML tag `{node.tag}`.", cure=cure, about=full)
        elif key is not None and "." not in name:
            self.read_key(key, node, place, full)
        elif section_of(full) and full and "." not in name:
            self.read_subsection(full, node, place)
        else:
            self.layer.faults.append(unknown_key(place, section, name))

    def read_subsection(self, section: str, node: yaml.Node, place: str) -> None:
        if isinstance(node, yaml.MappingNode):
            self.read_section(section, node)
        elif not is_null(node):
            self.no_section(section, node, place)

    def read_named(self, group: str, name: str, node: yaml.Node, place: str) -> None:
        """One section of a group, below a name of the user's."""
        full = join(group, name)
        if not NAME.fullmatch(name):
            expected = "letters, digits, `_` and `-`, a letter or digit first"
            self.fault(place, f"`{shown(name)}` cannot name a section of `{group}`.", expected)
        elif isinstance(node, yaml.MappingNode) and node.value:
            self.read_section(full, node)
        else:
            self.no_section(full, node, place)

    def no_section(self, section: str, node: yaml.Node, place: str) -> None:
        expected = f"a section, with lines like `{next(iter(section_of(section).model_fields))}: ...` below it"
        self.fault(place, f"`{section}` is {describe(node)}.", expected)

    def read_key(self, key: Key, node: yaml.Node, place: str, spelling: str) -> None:
        if (key.mapping or key.named) and isinstance(node, yaml.MappingNode) and node.value:
            for name, value, entry_place in self.entries(node):
                if key.named:
                    self.read_named(key.name, name, value, entry_place)
                else:
                    self.read_mapping_entry(key, name, value, entry_place)
        elif (key.mapping or key.named) and not is_null(node) and not isinstance(node, yaml.MappingNode):
            self.fault(place, f"`{spelling}` is {describe(node)}.", key.allowed(), about=key.name)
        else:
            self.put(key.name, Setting(_value(key, node), place, describe(node), spelling))

    def read_mapping_entry(self, key: Key, name: str, node: yaml.Node, place: str) -> None:
        self.put(join(key.name, name), Setting(_text(node), place, describe(node)))

    def read_includes(self, name: str, node: yaml.Node, place: str) -> None:
        if is_null(node):
            return
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if _text(item):
                self.layer.includes.append(Setting(item.value, place if item is node else self.place(item)))
            else:
                self.fault(place, f"`{name}` names {describe(item)}.", "the path of a file, or a list of paths")

    def entries(self, node: yaml.MappingNode) -> list[tuple[str, yaml.Node, str]]:
        """The (key, value, place) of a mapping; a key that is doubled or no text is a fault and left out."""
        found: dict[str, tuple[str, yaml.Node, str]] = {}
        for key_node, value in node.value:
            place = self.place(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag:
                self.fault(place, "A key is a list, a section or tagged.", "a name")
            elif key_node.value == "<<":
                cure = "Write out what is shared, or put it in a file and `include` it."
                self.fault(place, "The merge key `<<` is not read.", cure=cure)
            elif key_node.value in found:
                first = found[key_node.value][2]
                self.fault(place, f"`{shown(key_node.value)}` is there twice; first at {first}.", cure="Keep one.")
            else:
                found[key_node.value] = (key_node.value, value, place)
        return list(found.values())

    def put(self, name: str, setting: Setting) -> None:
        earlier = self.layer.settings.get(name)
        if earlier and earlier.spelling != setting.spelling and earlier.value != setting.value:
            both = " and ".join(f"`{given.spelling}` is {given.written}" for given in (earlier, setting))
            self.fault(setting.place, f"{both}: the same key in two spellings.", cure=f"Keep `{name}`.", about=name)
        self.layer.settings[name] = setting

    def fault(self, place: str, seen: str, expected: str = "", cure: str = "", about: str = "") -> None:
        self.layer.faults.append(Fault(place, seen, expected, cure, (about,) if about else ()))

    def place(self, node: yaml.Node) -> str:
        return self.fixed_place or f"{self.name}:{node.start_mark.line + 1}"


def _value(key: Key, node: yaml.Node) -> Any:
    """What the node means for this key; where it can mean nothing, a value that the schema refuses."""
    if isinstance(node, yaml.SequenceNode):
        return [_text(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {}
    if node.style:  # in quotes, or a block
        return node.value
    return _plain(key, node.value)


def is_null(node: yaml.Node) -> bool:
    """Whether the node is a null of YAML, or `None`."""
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value.lower() in NULLS


def _text(node: yaml.Node) -> str | None:
    """An item of a list or an entry of a mapping: a text, or None, which the schema refuses."""
    return node.value if isinstance(node, yaml.ScalarNode) and not node.tag and not is_null(node) else None


def _plain(key: Key, text: str) -> Any:
    """What a word without quotes means for this key."""
    word = text.lower()
    is_null = word in NULLS
    if is_null and key.nullable:
        return None
    if word in key.choices and (word in BOOLEANS or is_null):
        return word
    if is_null and (key.mapping or key.named or (key.items is not None and not key.choices and not key.text)):
        return {} if key.mapping or key.named else []
    if key.boolean and word in BOOLEANS and text in (word, word.title(), word.upper()):
        return BOOLEANS[word]
    if key.number and (number := read_number(text, key.number)) is not None:
        return number
    if key.minutes and (minutes := _minutes(text)) is not None:
        return minutes
    return None if is_null and word != "none" else text


def read_number(text: str, kind: type) -> int | float | None:
    """The number a word means, `2e-4` and `010` as people mean them; None where it is none."""
    if not NUMBER.fullmatch(text):
        return None
    try:
        number = float(text) if kind is float or re.search(r"[.eE]", text) else int(text)
    except ValueError:  # `1__0`, or thousands of digits
        return None
    if abs(number) > LARGEST_WHOLE:
        return None
    return int(number) if kind is int and number == int(number) else number


def _minutes(text: str) -> float | None:
    found = DURATION.fullmatch(text.lower())
    if not found:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.group("h", "m", "s"))
    total = hours * 60 + minutes + seconds / 60
    return total if total <= LARGEST_WHOLE else None


def describe(node: yaml.Node) -> str:
    """How a value looks in a message."""
    if isinstance(node, yaml.SequenceNode):
        items = (item.value if isinstance(item, yaml.ScalarNode) else "..." for item in node.value)
        return f"`[{shown(', '.join(items))}]`"
    if isinstance(node, yaml.MappingNode):
        return "a section"
    text = shown(node.value)
    return f'the quoted text "{text}"' if node.style else f"`{text}`" if text else "empty"


def _decode(raw: bytes, name: str, layer: Layer) -> str:
    """The bytes of a file as text; '' and a fault when they are not UTF-8."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        layer.faults.append(Fault(f"{name}:1", "The file is saved as UTF-16 or UTF-32.", "UTF-8", "Save it as UTF-8."))
        return ""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        seen = f"The byte 0x{raw[error.start]:02x} is not UTF-8."
        layer.faults.append(Fault(f"{name}:{line}", seen, "UTF-8", "Save the file as UTF-8."))
        return ""


def _compose(text: str, name: str, layer: Layer) -> yaml.Node | None:
    """The nodes of one YAML document, or None, with a fault when it is broken. `name` is a file's or an override's."""
    try:
        return _PlainLoader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line, problem = text.count("\n", 0, error.position), error.reason
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context or ""
        opened = any(words in problem for words in ("unexpected end of stream", "expected ',' or", "expected ':'"))
        mark = error.context_mark if opened and error.context_mark else error.problem_mark
        line = mark.line if mark else 0
    except (RecursionError, OverflowError, ValueError, yaml.YAMLError) as error:
        line, problem = (
            0,
            "it is nested too deeply" if isinstance(error, RecursionError) else "a character that does not exist",
        )
    seen, cure = next(
        ((ours, cure) for theirs, ours, cure in SAID_PLAINLY if theirs in problem),
        (f"This is not YAML: {problem}.", ""),
    )
    layer.faults.append(Fault(name if name.startswith("--set ") else f"{name}:{line + 1}", seen, cure=cure))
    return None
