"""A rule put into every conversation: how the assistant is to answer.

In: data/processed and the style section of the config. Out: the same conversations, sources and splits, with the rule,
in data/processed_with_style. The answers are not touched; a rule that they do not follow teaches to ignore it.

    rule "Be brief."   mode prepend           system "You are a cook."  ->  "Be brief.\\n\\nYou are a cook."
                       mode replace                                     ->  "Be brief."
                       mode only_if_missing                             ->  "You are a cook."  (as it was)
    no system message: every mode gives it the rule

With role user the first user message is prepended to; the other modes would lose the question or do nothing, and are
refused. To apply a style twice is to apply it once: a message that begins with the rule has it already. And the input
is always data/processed, so a new rule never stacks on an old one.
Worst bug: a rule that is in some rows only (tests/chat/test_style.py).
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from ..config.schema import StyleSection
from ..errors import ConfigError, DataError
from ..files import json_line, whole_file
from .cleaning import clean_text
from .conversation import Conversation, Message
from .splitting import SPLITS
from .stored import RenderedPair, iterate_split


def apply_style(conversation: Conversation, section: StyleSection) -> Conversation:
    """The conversation with the rule."""
    return put(conversation, _checked_rule(section), section.mode, section.role)


def put(conversation: Conversation, text: str, mode: str, role: str = "system") -> Conversation:
    """The conversation with a text in the first message of a role; where there is none it becomes the system message.

    mode: prepend, replace, or only_if_missing.
    """
    messages = list(conversation.messages)
    place = next((index for index, message in enumerate(messages) if message.role == role), None)
    if place is None:
        messages.insert(0, Message("system", text))
    elif mode == "replace":
        messages[place] = replace(messages[place], content=text)
    elif mode == "prepend" and not _begins_with(messages[place].content, text):
        messages[place] = replace(messages[place], content=f"{text}\n\n{messages[place].content}")
    return replace(conversation, messages=tuple(messages))


def style_splits(section: StyleSection, in_dir: str | Path, out_dir: str | Path) -> dict[str, tuple[int, int]]:
    """Write the three splits with the rule, together or not at all; the rows of each, and how many of them changed."""
    _checked_rule(section)
    counts: dict[str, tuple[int, int]] = {}
    with contextlib.ExitStack() as stack:
        for name in SPLITS:
            stream = stack.enter_context(whole_file(Path(out_dir) / f"{name}.jsonl"))
            rows = changed = 0
            for conversation in iterate_split(Path(in_dir) / f"{name}.jsonl"):
                if isinstance(conversation, RenderedPair):
                    raise DataError(
                        "A rendered pair has no messages to put a rule into.",
                        where=f"{in_dir}/{name}.jsonl",
                        expected="conversations, as `make process` writes them",
                        cure="Set data.processed_dir to their folder.",
                    )
                styled = apply_style(conversation, section)
                stream.write(json_line(styled.to_row()))
                rows, changed = rows + 1, changed + (styled != conversation)
            counts[name] = rows, changed
    return counts


def _checked_rule(section: StyleSection) -> str:
    """The rule, fit to be stored. ConfigError when there is none, or the mode does not go with the role."""
    rule = clean_text(section.rule or "", {}).strip()
    if not rule:
        raise ConfigError(
            "There is no rule to put into the conversations.",
            where="data.style.rule",
            cure='Give one: make style STYLE="Answer in at most three short sentences."',
        )
    if section.role == "user" and section.mode != "prepend":
        raise ConfigError(
            f"The mode {section.mode!r} does not go with the role 'user': it would lose the question or do nothing.",
            where="data.style.mode",
            expected="prepend, or the role system",
            cure="Add --set data.style.mode=prepend, or --set data.style.role=system",
        )
    return rule


def _begins_with(text: str, rule: str) -> bool:
    return text == rule or text.startswith(f"{rule}\n\n")
