"""Which kind of language model a folder holds, read off its config.json: decoder-only, or encoder and decoder.

In comes the content of a config.json; out goes a `Kind`, the names by which transformers and peft know it. Whoever
loads a model asks here, so a tuned or merged folder is loaded by the right class without being told. What model.type
says must agree: it decides how rows become examples, long before a weight is read.

    kind_of({"model_type": "t5"}).auto_class  ->  "AutoModelForSeq2SeqLM"

Of the encoder-decoders only T5's relatives are known here: one end-of-text on both sides, the pad token first in the
decoder, no limit to positions. Others (BART, mBART, Pegasus) begin and end their texts in ways of their own.

Worst bug: a model trained on texts of the other kind (tests/model/test_kind.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, ModelError
from ..files import read_json

ENCODER_DECODERS = ("t5", "mt5")  # model_type


@dataclass(frozen=True, slots=True)
class Kind:
    """What model.type calls it, the class of transformers that loads it, and the task of its adapter in peft."""

    name: Literal["causal", "seq2seq"]
    auto_class: str
    task_type: str


CAUSAL = Kind("causal", "AutoModelForCausalLM", "CAUSAL_LM")
SEQ2SEQ = Kind("seq2seq", "AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM")


def kind_of(config: Mapping[str, Any]) -> Kind:
    """The kind of the model that a config.json describes."""
    is_encoder_decoder = config.get("is_encoder_decoder", config.get("model_type") in ENCODER_DECODERS)
    return SEQ2SEQ if is_encoder_decoder else CAUSAL


def kind_in(folder: str | Path) -> Kind:
    """The kind of a model's folder."""
    return kind_of(read_json(Path(folder) / "config.json"))


def auto_class(folder: str | Path) -> type:
    """The class of transformers that loads this folder."""
    import transformers

    return getattr(transformers, kind_in(folder).auto_class)


def check_kind(asked: Literal["causal", "seq2seq"], folder: str | Path) -> None:
    """ConfigError when model.type says another kind than the folder holds, ModelError for one that is not known."""
    config = read_json(Path(folder) / "config.json")
    found, family = kind_of(config), config.get("model_type")
    if found.name != asked:
        has = "an encoder and a decoder" if found is SEQ2SEQ else "a decoder only"
        raise ConfigError(
            f"This model ({family}) has {has}, and model.type is {asked}.", where=f"model.type, {folder}/config.json",
            expected=f"model.type: {found.name}", cure=f"Set model.type to {found.name}, or name another model.",
        )  # fmt: skip
    if found is SEQ2SEQ and family not in ENCODER_DECODERS:
        raise ModelError(
            f"How a `{family}` model wants its texts begun and ended is not known here.",
            where=f"{folder}/config.json", expected=f"one of {', '.join(ENCODER_DECODERS)}",
            cure="Take a model of the T5 family, such as google/flan-t5-base.",
        )  # fmt: skip
    layers, decoder_layers = config.get("num_layers"), config.get("num_decoder_layers")
    if decoder_layers not in (None, layers):  # its generation counts the encoder's when it makes the decoder's cache
        raise ModelError(
            f"This model has {layers} encoder and {decoder_layers} decoder layers; transformers 5.17 trains such "
            "a one, and fails when it generates.", where=f"{folder}/config.json", expected="as many of both",
            cure="Take another model of the T5 family, such as google/flan-t5-base.",
        )  # fmt: skip


def decoder_start(folder: str | Path) -> int | None:
    """The id that a decoder begins with; None for a model without an encoder."""
    config = read_json(Path(folder) / "config.json")
    if kind_of(config) is CAUSAL:
        return None
    start = config.get("decoder_start_token_id", config.get("pad_token_id", 0))  # of T5 the padding
    if not isinstance(start, int):
        raise ModelError(
            "The config does not say what the decoder begins with.", where=f"{folder}/config.json",
            expected="decoder_start_token_id",
        )  # fmt: skip
    return start
