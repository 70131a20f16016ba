"""Literal chat tags in answers: the marks of turns and of texts that templates write, and models read as commands.

    found_in("Sure.<|im_end|>")  ->  ["<|im_end|>"]
    without_tags(conversation)   ->  the answers without tags at their ends; None when one has a tag in the middle

A tokenizer makes such a text the mark itself: an answer that holds `<|im_end|>` teaches the model to end there and to
go on as somebody else. Tags at the ends of an answer are left over from another tool and can be cut off. What stands
behind one in the middle was said by somebody else, so the row is of no use.

<think> and <tool_call> are none: models are meant to write them. `</s>` is one, though HTML strikes through with it.
Worst bug: a mark of a shipped template that is not known here (tests/chat/augmentation/test_tags.py).
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..conversation import Conversation, Message

_TAG = r"""(?:
    <\|[A-Za-z][\w .:/-]{0,40}\|>                       # <|im_start|>, <|eot_id|>, <|start_header_id|>, <|end|>
  | <｜[^<>｜\n]{1,40}｜>                                # <｜User｜> of DeepSeek, with full-width bars
  | </?s> | <(?:bos|eos|pad|unk|mask)>                  # begins and ends of texts
  | <(?:start|end)_of_(?:turn|image)> | <(?:start|end)_of_role> | <turn\|> | <\|turn>
  | \[/?INST\] | <</?SYS>> | \[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]
  | (?m:^)[ \t]*\#{2,4}[ \t]*(?:Instruction|Response|Input|User|Assistant|Human|System)[ \t]*:  # Alpaca and others
  | (?m:^)[ \t]*<\|?(?:human|bot|user|assistant|system)\|?>:?
)"""
_ANY = re.compile(_TAG, re.X)
_HEAD = re.compile(rf"\A(?:\s*{_TAG}(?:(?:system|user|assistant|model)[ \t]*(?:\n|(?=\s*{_TAG})))?)+\s*", re.X)
_TAIL = re.compile(rf"(?:\s*{_TAG})+\s*\Z", re.X)


def found_in(text: str) -> list[str]:
    """The tags in a text, in order."""
    return [tag.strip() for tag in _ANY.findall(text)]


def tags_of(conversation: Conversation, role: str = "assistant") -> list[str]:
    """The tags in the messages of a role."""
    return [tag for message in conversation.messages if message.role == role for tag in found_in(message.content)]


def without_tags(conversation: Conversation) -> Conversation | None:
    """The conversation with answers that hold no tag. None when an answer has one in the middle, or nothing else."""
    messages = tuple(_cut(message) for message in conversation.messages)
    if None in messages:
        return None
    return conversation if messages == conversation.messages else replace(conversation, messages=messages)  # type: ignore[arg-type]


def _cut(message: Message) -> Message | None:
    if message.role != "assistant" or not found_in(message.content):
        return message
    text = _TAIL.sub("", _HEAD.sub("", message.content))
    return replace(message, content=text) if text.strip() and not found_in(text) else None
