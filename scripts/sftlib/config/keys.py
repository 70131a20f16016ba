"""The schema, flattened: one `Key` a leaf, with what it takes in words.

Comes in: the pydantic sections of schema.py. Goes out: dotted names in schema order, what each key takes (so that
YAML can be read as people mean it) and the sentence that says so (so that errors, configs/config_base.yaml and
docs/CONFIG.md say the same). It does not judge a value: pydantic does, in loader.py.

    keys()["train.grad_accum"].allowed()  ->  "a whole number (1 or more) or `auto`"

Worst bug: a range in words that is not the range in force (tests/config/test_keys.py tries every bound).
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from .schema import Config, Section

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # of a section that a user names
PATTERNS = {  # what a pattern of the schema means
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits, `.`, `_` and `-`, a letter or digit first",
}


@dataclass(frozen=True)
class Key:
    """One leaf of the schema. `items` is None where no list is taken, () where its items are any text."""

    name: str
    description: str
    default: Any
    choices: tuple[str, ...] = ()
    boolean: bool = False
    number: type | None = None
    bounds: tuple[tuple[str, float], ...] = ()
    text: bool = False
    pattern: str = ""
    nullable: bool = False
    minutes: bool = False
    items: tuple[str, ...] | None = None
    mapping: bool = False
    named: bool = False  # sections with names of the user's

    def brief(self) -> str:
        """What the key takes, as a short sentence; '' where its value and its description say it already."""
        told = all(f"`{choice}`" in self.description for choice in self.choices)
        told = told and (self.items is None or " list" in self.description)
        if not self.number and (told or self.mapping or self.named or self.boolean):
            return ""
        words = self.allowed().removeprefix("a ")
        return words[0].upper() + words[1:] + "."

    def allowed(self) -> str:
        """What the key takes, in words."""
        parts = []
        if self.boolean:
            parts += ["true", "false"]
        if self.number:
            unit = " of minutes" if self.minutes else ""
            number = "a whole number" if self.number is int else "a number"
            parts.append(number + unit + _range_in_words(dict(self.bounds)))
        if self.minutes:
            parts.append("a duration like `45m` or `1h30m`")
        if self.text:
            parts.append("a text" + (f" ({PATTERNS.get(self.pattern, self.pattern)})" if self.pattern else ""))
        parts += [f"`{choice}`" for choice in self.choices]
        if self.items is not None:
            parts.append("a list of " + (" and ".join(f"`{item}`" for item in self.items) or "texts"))
        if self.mapping:
            parts.append("a section of `name: text` lines")
        if self.named:
            parts.append("a section of named sections")
        if self.nullable:
            parts.append("null")
        return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]


@lru_cache(maxsize=1)
def keys() -> dict[str, Key]:
    """Every leaf by its dotted name, in the order of the schema; `*` stands for a name of the user's."""
    found: dict[str, Key] = {}

    def visit(section: str, kind: type[Section]) -> None:
        for child, info in kind.model_fields.items():
            name = join(section, child)
            if _is_section(info.annotation):
                visit(name, info.annotation)
            else:
                found[name] = _key(name, info)
                if found[name].named:
                    visit(f"{name}.*", _named(info.annotation))

    visit("", Config)
    return found


@lru_cache(maxsize=1)
def sections() -> dict[str, type[Section]]:
    """Every section by its dotted name, in the order of the schema; the root is '', `*` a name of the user's."""
    found: dict[str, type[Section]] = {}

    def visit(name: str, kind: type[Section]) -> None:
        found[name] = kind
        for child, info in kind.model_fields.items():
            if _is_section(info.annotation):
                visit(join(name, child), info.annotation)
            elif _named(info.annotation):
                visit(join(name, f"{child}.*"), _named(info.annotation))

    visit("", Config)
    return found


@lru_cache(maxsize=1)
def _groups() -> tuple[str, ...]:
    return tuple(f"{name}." for name, key in keys().items() if key.named)


def pattern(name: str) -> str:
    """The name as the schema has it: `data.datasets.*.path` for `data.datasets.faq.path`."""
    for group in _groups():
        if name.startswith(group):
            own, dot, rest = name[len(group) :].partition(".")
            return f"{group}*{dot}{rest}" if NAME.fullmatch(own) else name
    return name


def key_of(name: str) -> Key | None:
    """The leaf of this name, below names of the user's too."""
    key = None if "*" in name else keys().get(pattern(name))
    return key if key is None or key.name == name else replace(key, name=name)


def section_of(name: str) -> type[Section] | None:
    """The section of this name, below names of the user's too."""
    return None if "*" in name else sections().get(pattern(name))


def group_of(name: str) -> str | None:
    """What holds the section of a name of the user's: `data.datasets` for `data.datasets.faq`."""
    parent = name.rpartition(".")[0]
    return parent if f"{parent}." in _groups() else None


def join(section: str, name: str) -> str:
    """`join("train", "optim")` is `"train.optim"`; in the root section ('') it is the name alone."""
    return f"{section}.{name}" if section else name


def owner(name: str) -> str | None:
    """The key a leaf belongs to: itself, or for an entry of a mapping (`data.columns.user`) the mapping's key."""
    while name and key_of(name) is None:
        name = name.rpartition(".")[0]
    return name or None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _named(annotation: Any) -> type[Section] | None:
    """The section that each name of the user's has."""
    kind = get_args(annotation)[1] if get_origin(annotation) is dict else None
    return kind if _is_section(kind) else None


def _key(name: str, info: FieldInfo) -> Key:
    traits: dict[str, Any] = {"bounds": ()}
    _add_traits(traits, info.annotation, info.metadata)
    return Key(name, info.description or "", info.get_default(call_default_factory=True), **traits)


def _add_traits(traits: dict[str, Any], annotation: Any, metadata: list[Any]) -> None:
    """Note in `traits` what one branch of a type takes."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for branch in args:
            _add_traits(traits, branch, metadata)
    elif origin is Annotated:
        _add_traits(traits, args[0], [rule for extra in args[1:] for rule in getattr(extra, "metadata", [extra])])
    elif origin is Literal:
        traits["choices"] = (*traits.get("choices", ()), *args)
    elif origin is list:
        traits["items"] = get_args(args[0]) if get_origin(args[0]) is Literal else ()
    elif origin is dict:
        traits["named" if _is_section(args[1]) else "mapping"] = True
    elif annotation is bool:
        traits["boolean"] = True
    elif annotation in (int, float):
        traits["number"] = annotation
        traits["minutes"] = "minutes" in metadata
        traits["bounds"] = tuple(
            (sign, getattr(rule, sign)) for rule in metadata for sign in ("ge", "gt", "le", "lt") if hasattr(rule, sign)
        )
    elif annotation is str:
        traits["text"] = True
        traits["pattern"] = next((rule.pattern for rule in metadata if getattr(rule, "pattern", None)), "")
    elif annotation is type(None):
        traits["nullable"] = True
    else:
        raise AssertionError(f"schema.py uses a type that keys.py does not know: {annotation!r}")


def _range_in_words(bounds: dict[str, float]) -> str:
    shown = {sign: f"{value:g}" if value < 1e6 else str(value) for sign, value in bounds.items()}
    low = f"{shown['ge']} or more" if "ge" in shown else f"above {shown['gt']}" if "gt" in shown else ""
    high = f"at most {shown['le']}" if "le" in shown else f"below {shown['lt']}" if "lt" in shown else ""
    if "ge" in shown and "le" in shown:
        return f" ({shown['ge']} to {shown['le']})"
    return f" ({', '.join(part for part in (low, high) if part)})" if low or high else ""
