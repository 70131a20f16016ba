"""A conversion as a commented config: every value with the key and the line it came from.

Comes in: settings by their dotted names, with origins, and what is to be said besides. Goes out: YAML. Sections stand
in the order of the schema, keys in the order in which they were set.

    tuning:
      mode: qlora                     # adapter, line 9; load_in_4bit, line 8

Worst bug: a text that reads back as another value (tests/config/converting/test_converted_text.py).
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import ROOT
from ..keys import keys
from ..writing import COMMENT_COLUMN, WIDTH, scalar
from .draft import Line, Note

BASE = ROOT / "configs" / "config_base.yaml"


def config_text(
    tool: str, file: str, lines: Mapping[str, Line], differences: Sequence[Note], left_out: Sequence[Note], out: Path
) -> str:
    """The whole file, as it is to stand at `out`."""
    parts = [
        f"# From {file}, a config of {tool}, by scripts/convert_config.py.",
        "# Behind each value stands where it came from: the key and its line there.",
        f"include: {scalar(relative_base(out))}",
    ]
    tree: dict[str, Any] = {}
    for name in sorted(lines, key=_section_order):
        branch = tree
        *sections, leaf = name.split(".")
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = lines[name]
    _write(parts, tree, 0)
    for title, notes in (("Not as it was there:", differences), ("Left out, as it has no meaning here:", left_out)):
        if notes:
            parts += ["", f"# {title}"]
            for note in notes:
                words = f"- {note.name} ({note.place}): {note.text}"
                parts += textwrap.wrap(
                    words, WIDTH, initial_indent="#   ", subsequent_indent="#     ", break_on_hyphens=False,
                    break_long_words=False,
                )  # fmt: skip
    return "\n".join(parts) + "\n"


def relative_base(out: Path) -> str:
    """The path of config_base.yaml from the folder of a config, with `/` on every system."""
    return Path(os.path.relpath(BASE, out.resolve().parent)).as_posix()


def _write(parts: list[str], tree: Mapping[str, Any], depth: int) -> None:
    indent = "  " * depth
    for name, value in tree.items():
        if isinstance(value, Line):
            line = f"{indent}{name}: {scalar(value.value)}"
            parts.append(f"{line:<{COMMENT_COLUMN - 2}}  # {value.origin}")
            continue
        if depth == 0:
            parts.append("")
        parts.append(f"{indent}{name}:")
        _write(parts, value, depth + 1)


def _section_order(name: str) -> int:
    """Keys at the top first, then section by section as in the schema; within one the order stays."""
    order = list(dict.fromkeys(key.split(".")[0] for key in keys() if "." in key))
    return order.index(name.split(".")[0]) if "." in name else -1
