"""Rendered prompts in, prompts as the model reads them out: ids, room for an answer, the longest first.

    prepare_prompts(model, tokenizer, ["<|im_start|>user\\n2+2?..."], 32, None)  ->  [Prompt(0, [1, 4093, ...], 32)]

The longest come first, so that what does not fit fails at once and neighbours are of one length. Prompt and answer
share the context of the model: a prompt that leaves no room is refused, one that leaves less than asked for is named.

Worst bug: an answer that is cut short in silence (tests/measure/test_generate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import console
from ..errors import DataError
from ..units import some

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_NAMED = 5  # places listed in a message; the rest is a count


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. `index`: among the caller's; `room`: tokens that its answer may have."""

    index: int
    ids: list[int]
    room: int


def context_length(model: PreTrainedModel) -> int | None:
    """Tokens that prompt and answer may have together; None when the architecture has no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def prepare_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    names: Sequence[str] | None,
) -> list[Prompt]:
    """Tokenize without adding special tokens and sort, the longest first; `names` are for messages."""
    ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
    names = names or [f"prompt {index + 1}" for index in range(len(prompts))]
    context = context_length(model)
    room = [max_new_tokens if context is None else min(max_new_tokens, context - len(one)) for one in ids]
    if empty := [names[i] for i in range(len(ids)) if not ids[i]]:
        raise DataError(
            f"{len(empty)} of {len(prompts)} prompts have no token: {some(empty, MOST_NAMED)}.", expected="some text"
        )
    if full := [f"{names[i]} ({len(ids[i])} tokens)" for i in range(len(ids)) if room[i] < 1]:
        raise DataError(
            f"{len(full)} of {len(prompts)} prompts fill the whole context of the model: {some(full, MOST_NAMED)}.",
            expected=f"prompts of fewer than {context} tokens",
            cure="Shorten them, leave these rows out, or use a model with a longer context.",
        )
    if short := [f"{names[i]} ({room[i]} tokens)" for i in range(len(ids)) if room[i] < max_new_tokens]:
        console.warn(
            f"{len(short)} of {len(prompts)} answers have less room than {max_new_tokens} tokens, because prompt and "
            f"answer share a context of {context}: {some(short, MOST_NAMED)}."
        )
    return sorted(map(Prompt, range(len(ids)), ids, room), key=lambda prompt: -len(prompt.ids))
