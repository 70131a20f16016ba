"""The templates of chat_templates/: for whom each is, where it comes from, in what it differs; read from their heads.

Comes in: the files. Goes out: a `Head` a file. Whether one fits a model is fitting.py.

    {#- Phi-3 and Phi-3.5.
        Source: the chat template of microsoft/Phi-3.5-mini-instruct.
        Differences: the published template ends the whole text with <|endoftext|> ...
    ->  Head("phi3", "Phi-3 and Phi-3.5.", "the chat template of microsoft/...", "the published template ...")

Worst bug: a head that is not what stands in the file (tests/chat_templates/test_shipped_templates.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from .templates import SHIPPED

HEAD = re.compile(
    r"\{#-\s*(?P<models>.+?)\s*Source:\s*(?P<source>.+?)\s*Differences:\s*(?P<differences>.+?)\s*-#\}", re.S
)


class Head(NamedTuple):
    """What the comment at the head of a shipped template says."""

    name: str
    models: str
    source: str
    differences: str


def read_heads() -> list[Head]:
    """The heads of all shipped templates, by name."""
    return [read_head(path) for path in sorted(SHIPPED.glob("*.jinja"))]


def read_head(path: Path) -> Head:
    """The head of one. Every shipped file has one, which a test holds."""
    found = HEAD.match(path.read_text(encoding="utf-8"))
    assert found, f"{path} does not begin with what it is for, its source and its differences"
    return Head(path.stem, *(" ".join(found[part].split()) for part in ("models", "source", "differences")))
