"""The config of a run: files, what they include, and `--set`, judged as a whole.

Comes in: the path of a YAML file and the overrides of the command line. Goes out: a `Config`, and where the value of
each key came from. An included file is read before the file that includes it, and of two values the later one wins:
included, including, command line. Sections are merged key by key; a list replaces a list. All faults are told at once.
It touches no path that a key names, and settles no `auto`: build.settle does.

    mine.yaml: "include: other.yaml\\ntrain: {learning_rate: 1e-4}"
    load_with_origins("mine.yaml", ["seed=7"])
    ->  Config(seed=7, ...), {"seed": "--set", "train.learning_rate": "mine.yaml:2", "train.optim": "default", ...}

Worst bug: a key that is written and does not arrive (tests/config/test_loader.py).
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .faults import Fault, as_error, nearest_choice, shown
from .keys import Key, key_of, owner
from .reading import NUMBER, Layer, Setting, read_file, read_override
from .rules import Draft, check, follow
from .schema import Config

MOST_FILES = 100  # that one config includes, one that is included twice counted twice
_FEWER = "Include fewer; a file that two others include is read twice."


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read the file at `path`, everything it includes, and `overrides` (`KEY=VALUE`).

    Raises ConfigError with every fault, each by file and line.
    """
    return load_with_origins(path, overrides)[0]


def load_with_origins(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Config, dict[str, str]]:
    """As `load_config`, with the origin of each key: `configs/mine.yaml:12`, `--set`, `default`, or what it follows."""
    layers = _read_files(Path(path))
    layers.append(_read_overrides(overrides))
    faults = [fault for layer in layers for fault in layer.faults]

    settings, depths = _merge(layers)
    wrong = _judge(settings)
    faults += wrong.values()

    draft = Draft({name: s for name, s in settings.items() if name not in wrong}, depths)
    follow(draft)
    faults += [fault for fault in check(draft) if not any(_concerns(name, fault.about) for name in wrong)]
    if faults:
        raise as_error(faults)
    return Config.model_validate(_nested(draft.values)), draft.origins()


def _read_files(path: Path) -> list[Layer]:
    """The layers of a file: those of the files it includes, then its own."""
    read: dict[Path, Layer] = {}
    visits = itertools.count()

    def visit(path: Path, asked_by: str, chain: tuple[Path, ...]) -> Iterable[Layer]:
        if (earlier := next(visits)) > MOST_FILES:
            if earlier == MOST_FILES + 1:
                yield Layer(faults=[Fault(asked_by, f"More than {MOST_FILES} files are included.", cure=_FEWER)])
            return
        try:
            real = Path(os.path.realpath(path))
        except ValueError:  # a zero byte, or half a character
            seen = f"No file can have the name `{shown(str(path))}`."
            yield Layer(faults=[Fault(asked_by, seen, cure="Name a file of configs/.")])
            return
        if real in chain:
            circle = " -> ".join(_short(p) for p in (*chain[chain.index(real) :], real))
            yield Layer(
                faults=[
                    Fault(
                        asked_by,
                        f"The files include each other in a circle: {circle}.",
                        cure="Take one `include` away.",
                    )
                ]
            )
            return
        if real not in read:
            try:
                read[real] = read_file(path, _short(path))
            except OSError as error:
                read[real] = Layer(faults=[_unreadable(path, asked_by, error)])
        for include in read[real].includes:
            yield from visit(path.parent / include.value, include.place, (*chain, real))
        yield read[real]

    return list(visit(path, "", ()))


def _unreadable(path: Path, asked_by: str, error: OSError) -> Fault:
    name = _short(path)
    if isinstance(error, FileNotFoundError):
        neighbours = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, neighbours, n=1) or difflib.get_close_matches(
            f"{path.name}.yaml", neighbours, n=1
        )
        cure = f"Did you mean `{_short(path.parent / near[0])}`?" if near else ""
        return Fault(
            asked_by, f"There is no config `{name}` (in {Path.cwd()}).", cure=cure or "Name a file of configs/."
        )
    problem = "is a folder" if isinstance(error, IsADirectoryError) else f"cannot be read ({error.strerror})"
    return Fault(asked_by, f"The config `{name}` {problem}.", expected="a YAML file")


def _read_overrides(overrides: Sequence[str]) -> Layer:
    layer = Layer()
    for text in overrides:
        read_override(text, layer)
    return layer


def _merge(layers: Sequence[Layer]) -> tuple[dict[str, Setting], dict[str, int]]:
    """The last setting of each key, and the number of the layer it came from."""
    settings: dict[str, Setting] = {}
    depths: dict[str, int] = {}
    for depth, layer in enumerate(layers):
        for name, setting in layer.settings.items():
            if (key := key_of(name)) and (key.mapping or key.named):  # `columns:` with nothing below it: empty it
                for entry in [entry for entry in settings if entry.startswith(f"{name}.")]:
                    del settings[entry], depths[entry]
            settings[name], depths[name] = setting, depth
    return settings, depths


def _judge(settings: dict[str, Setting]) -> dict[str, Fault]:
    """What the schema refuses, by setting: pydantic decides, and `Key` says what would have been right."""
    try:
        Config.model_validate(_nested({name: setting.value for name, setting in settings.items()}))
    except ValidationError as error:
        refused = {".".join(str(part) for part in problem["loc"]) for problem in error.errors(include_url=False)}
        names = sorted(name for name in settings if any(_concerns(name, (place,)) for place in refused))
        return {name: _refusal(key_of(owner(name)), name, settings[name]) for name in names}
    return {}


def _concerns(name: str, places: Iterable[str]) -> bool:
    """Whether one of the dotted places is `name` or inside it (`train.optim` and `train.optim.literal['x']`)."""
    return any(place == name or place.startswith(f"{name}.") for place in places)


def _refusal(key: Key, name: str, setting: Setting) -> Fault:
    expected = key.allowed() if name == key.name else "a text"
    spelling = setting.spelling or name
    return Fault(setting.place, f"`{spelling}` is {setting.written}.", expected, _advice(key, setting), (name,))


def _advice(key: Key, setting: Setting) -> str:
    """What to do about a refused value, where that can be guessed."""
    value = setting.value
    if isinstance(value, list) and key.items:
        value = next((item for item in value if item not in key.items), None)
    text = "" if value is None else value if isinstance(value, str) else str(value)
    choices = key.items if isinstance(setting.value, list) else key.choices
    if choices and not isinstance(value, dict) and (near := nearest_choice(text, choices)):
        return f"Did you mean `{near}`?"
    if setting.written.startswith("the quoted") and (key.number or key.boolean):
        return "Take the quotes away."
    if key.number and NUMBER.fullmatch(text.replace(",", ".")) and "," in text:
        return "Write a decimal point, not a comma."
    if key.nullable and text.lower() in ("no", "off", "false", "never"):
        return "Did you mean `null`?"
    if key.items is not None and not key.text and isinstance(value, str):
        return "Write it as a list: [...]."
    return ""


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted names to sections: `{"train.optim": "x"}` is `{"train": {"optim": "x"}}`."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        key = owner(name)
        *parents, leaf = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        if name == key:
            branch[leaf] = dict(value) if isinstance(value, dict) else value
        else:
            branch.setdefault(leaf, {})[name[len(key) + 1 :]] = value
    return tree


def _short(path: Path) -> str:
    """The path as messages show it: from the current folder where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
