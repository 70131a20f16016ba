"""A config as text: YAML that reads back the same, and the list of where each value came from.

Comes in: a `Config` (and its origins). Goes out: YAML, with the schema's documentation as comments where asked, which
is how configs/config_base.yaml is made. It chooses no value.

    to_yaml(Config())  ->  "seed: 42\\nrun_name: null\\n\\nmodel:\\n  name: auto\\n..."

Worst bug: a text that reads back as a number, a null or another text (tests/config/test_writing.py).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from .. import console
from .keys import key_of, owner, section_of
from .reading import BOOLEANS, NULLS, NUMBER
from .schema import Config, Section

WIDTH = 120
COMMENT_COLUMN = 36
SAFE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./:@+-]*(?<!:)")  # a text that YAML of any version reads as itself


def print_config(config: Config, origins: Mapping[str, str]) -> None:
    """Print each key with its value and its origin, aligned, one a line."""
    values = config.model_dump()
    rows = []
    for name, origin in origins.items():
        value: Any = values
        of = owner(name)
        for part in [*of.split("."), *filter(None, [name[len(of) + 1 :]])]:
            value = value[part]
        if not (value and isinstance(value, dict)):  # its entries have lines of their own
            rows.append((name, scalar(value), origin))
    wide = [max(len(row[column]) for row in rows if len(row[column]) <= 40) for column in (0, 1)]
    for name, value, origin in rows:
        console.result(f"{name:<{wide[0]}}  {value:<{wide[1]}}  {origin}".rstrip())


def to_yaml(config: Config, *, comments: bool = False) -> str:
    """The whole config as YAML. `comments` puts the meaning and the range of each key beside it."""
    lines: list[str] = []
    _write_section(lines, "", config, comments)
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """One value in YAML's flow style: `null`, `true`, `0.0002`, `auto`, `"1e5"`, `[a, b]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        number = repr(value)
        return number.replace("e", ".0e") if "e" in number and "." not in number else number  # YAML 1.1 wants the dot
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(name)}: {scalar(item)}" for name, item in value.items()) + "}"
    special = value.lower() in BOOLEANS or value.lower() in NULLS or NUMBER.fullmatch(value)
    return value if SAFE.fullmatch(value) and not special else _quoted(value)


def _write_section(lines: list[str], section: str, values: Section | Mapping[str, Section], comments: bool) -> None:
    indent = "  " * (section.count(".") + 1 if section else 0)
    for name, value in values.items() if isinstance(values, dict) else values:
        full = f"{section}.{name}" if section else name
        if kind := section_of(full):
            if not section:
                lines.append("")
            head = f"{indent}{name}:"
            summary = (kind.__doc__ or "").splitlines()[0]
            lines.append(f"{head:<{COMMENT_COLUMN}}# {summary}" if comments else head)
            _write_section(lines, full, value, comments)
        elif value and key_of(full).named:
            lines.append(f"{indent}{name}:")
            _write_section(lines, full, value, comments)
        else:
            line = f"{indent}{name}: {scalar(value)}"
            lines += _commented(line, full) if comments else [line]


def _commented(line: str, name: str) -> list[str]:
    """The line of a key with its meaning beside it, and below it where one line is too short."""
    key = key_of(name)
    words = f"{key.description} {key.brief()}".strip()
    column = max(COMMENT_COLUMN, len(line) + 2)
    room = WIDTH - column - len("# ")
    first, *more = textwrap.wrap(words, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [f"{line:<{column}}# {first}", *(" " * column + f"# {part}" for part in more)]


def _quoted(text: str) -> str:
    """The text in double quotes; JSON's escapes are YAML's, but for what YAML calls unprintable."""
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", quoted
    )
