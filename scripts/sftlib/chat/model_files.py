"""What a model's folder says about chat: its template and its special tokens, read without transformers.

In: a local model folder. Out: the template text, the named special tokens as templates see them, every special token of
the tokenizer; asked for apart, every token there is, and those at which the model stops. It judges nothing;
`templates.choose_template` and fitting.py do.

    read_model_template("models/smol")
    ->  ModelTemplate("{% for message ...", {"eos_token": "<|im_end|>", ...}, {"<|im_end|>", "<|im_start|>", ...})

transformers' order of precedence is kept: chat_template.jinja before tokenizer_config.json; special_tokens_map.json
only where tokenizer_config.json has no `added_tokens_decoder`. Where no file names BOS or EOS (GPT-2), the ids in
generation_config.json or config.json do.

Worst bug: an end-of-turn that is not the tokenizer's own (tests/chat/test_model_files.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ModelError
from ..files import read_json

BY_ID = ("bos_token", "eos_token")  # what config.json knows by number


class ModelTemplate(NamedTuple):
    """The last three arguments of `choose_template`, in its order."""

    template: str | None
    special_tokens: dict[str, str]
    markers: frozenset[str]


def read_model_template(folder: str | Path) -> ModelTemplate:
    """Read the chat template and the special tokens of the model in `folder`."""
    folder = Path(folder)
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise ModelError(
            "The model's folder holds no tokenizer.",
            where=str(folder),
            expected="tokenizer.json or tokenizer_config.json in it",
            cure="make download-model MODEL=...",
        )
    config = _object(folder / "tokenizer_config.json")
    tokenizer = _object(folder / "tokenizer.json")
    named, listed = _named_tokens(folder, config)
    added = [*tokenizer.get("added_tokens", []), *config.get("added_tokens_decoder", {}).values()]
    for name in BY_ID:
        if name not in named and name not in config:
            token = _token_by_id(folder, tokenizer, f"{name}_id")
            named |= {name: token} if token is not None else {}
    special = {token["content"] for token in added if token.get("special")}
    return ModelTemplate(
        template=_template(folder, config),
        special_tokens={name: token for name, token in named.items() if token},
        markers=frozenset(special | set(listed) | {token for token in named.values() if token}),
    )


def read_pieces(folder: str | Path) -> frozenset[str]:
    """Every text that is one token of the model: its vocabulary and what was added to it."""
    tokenizer = _object(Path(folder) / "tokenizer.json")
    config = _object(Path(folder) / "tokenizer_config.json")
    added = [*tokenizer.get("added_tokens", []), *config.get("added_tokens_decoder", {}).values()]
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    pieces = vocabulary if isinstance(vocabulary, dict) else (piece for piece, _ in vocabulary)  # Unigram: with scores
    return frozenset(pieces) | {token["content"] for token in added}


def read_stops(folder: str | Path, model: ModelTemplate) -> frozenset[str]:
    """The tokens at which the model stops already: eos_token, and those that generation_config.json names by id."""
    ids = _object(Path(folder) / "generation_config.json").get("eos_token_id")
    ids = ids if isinstance(ids, list) else [ids]
    added = _object(Path(folder) / "tokenizer.json").get("added_tokens", [])
    named = {token["content"] for token in added if token["id"] in ids}
    return frozenset(named | ({model.special_tokens["eos_token"]} if "eos_token" in model.special_tokens else set()))


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    own = config.get("chat_template")
    if isinstance(own, list):  # several templates by name; without tools transformers takes the one named default
        own = {entry["name"]: entry["template"] for entry in own}
    return own.get("default") if isinstance(own, dict) else own


def _named_tokens(folder: Path, config: dict[str, Any]) -> tuple[dict[str, str | None], list[str]]:
    """The tokens that have a name, and those that are only listed."""
    merged = {name: value for name, value in config.items() if name.endswith(("_token", "special_tokens"))}
    if "added_tokens_decoder" not in config:
        merged |= _object(folder / "special_tokens_map.json")
    extra = merged.get("extra_special_tokens") or merged.get("additional_special_tokens") or []
    if isinstance(extra, dict):
        merged |= extra
        extra = []
    named = {
        name: _content(value)
        for name, value in merged.items()
        if name.endswith("_token") and (value is None or isinstance(value, (str, dict)))
    }
    return named, [_content(token) for token in extra]


def _content(token: str | dict[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def _token_by_id(folder: Path, tokenizer: dict[str, Any], key: str) -> str | None:
    for file in ("generation_config.json", "config.json"):
        number = _object(folder / file).get(key)
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int):
            pieces = {token["id"]: token["content"] for token in tokenizer.get("added_tokens", [])}
            vocabulary = tokenizer.get("model", {}).get("vocab", {})
            if isinstance(vocabulary, dict):
                return pieces.get(number) or next((piece for piece, its in vocabulary.items() if its == number), None)
            return pieces.get(number) or vocabulary[number][0]  # Unigram: [piece, score] in the order of the ids
    return None


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"The file is not JSON: {error}.", where=str(path), cure="Fetch the model again.") from None
    if not isinstance(value, dict):
        raise ModelError("The file is JSON, but not an object.", where=str(path), cure="Fetch the model again.")
    return value
