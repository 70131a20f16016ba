"""Which answers of a conversation are learnt: `data.loss_on`, on messages.

    assistant   every answer             flagged   every answer but those that the row flags (`Message.is_trained`)
    last        the last answer          all       every answer, and the prompts as well

    heed(conversation, "last")   ->  the conversation, whose flags say what is learnt; `rendering` makes spans of them

Worst bug: an answer learnt that its row flags as wrong (tests/chat/test_trained.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..errors import ConfigError
from .conversation import Conversation
from .stored import RenderedPair

LossOn = Literal["assistant", "last", "all", "flagged"]


def heed(conversation: Conversation, loss_on: LossOn) -> Conversation:
    """The conversation with every message flagged as it is learnt; of prompts the flags mean nothing."""
    messages = conversation.messages
    if loss_on == "flagged":
        return conversation
    if loss_on == "last":
        last = max((place for place, message in enumerate(messages) if message.role == "assistant"), default=0)
        wanted = [place >= last for place in range(len(messages))]
    else:
        wanted = [True] * len(messages)
    if all(message.is_trained == is_wanted for message, is_wanted in zip(messages, wanted, strict=True)):
        return conversation
    marked = (replace(one, is_trained=is_wanted) for one, is_wanted in zip(messages, wanted, strict=True))
    return replace(conversation, messages=tuple(marked))


def is_flagged(conversation: Conversation) -> bool:
    """Whether the row says of an answer that it is not to be learnt."""
    return not all(message.is_trained for message in conversation.messages)


def refuse_rendered(pair: RenderedPair, loss_on: LossOn) -> None:
    """ConfigError for a rendered pair of which anything but the target is to be learnt."""
    if loss_on != "assistant":
        raise ConfigError(
            f"data.loss_on is {loss_on}, and {pair.source} is a rendered pair: what is learnt of it is its target.",
            where="data.loss_on", expected="assistant, for rows of `make render`",
            cure="Set data.loss_on to assistant; `make render` itself heeds last and flagged when it writes the pairs.",
        )  # fmt: skip
