"""The pad token and what ends a turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import make_tokenizer
from transformers import GenerationConfig

from sftlib.chat.model_files import read_model_template
from sftlib.chat.templates import ChatTemplate, choose_template
from sftlib.errors import ModelError
from sftlib.model.tokenizer import end_of_turn_ids, load_tokenizer


def edited(folder: Path, **changes) -> Path:
    """A tokenizer whose config has these keys changed; None takes a key out."""
    make_tokenizer(folder)
    file = folder / "tokenizer_config.json"
    settings = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None}
    file.write_text(json.dumps(settings))
    return folder


def test_own_pad_is_kept(tiny_model: Path):
    tokenizer = load_tokenizer(tiny_model)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<pad>", 3)
    assert tokenizer.is_fast


def test_idle_pad_token_is_taken(tmp_path: Path):
    assert load_tokenizer(edited(tmp_path, pad_token=None)).pad_token == "<pad>"


def test_without_one_it_is_the_end_of_text_and_nothing_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sftlib.model.tokenizer.PADS", ("<|finetune_right_pad_id|>", "<|im_end|>"))
    tokenizer = load_tokenizer(edited(tmp_path, pad_token=None))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    assert len(tokenizer) == 400 or len(tokenizer) == len(load_tokenizer(edited(tmp_path / "again")))


def test_neither_pad_nor_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sftlib.model.tokenizer.PADS", ())
    with pytest.raises(ModelError, match="neither"):
        load_tokenizer(edited(tmp_path, pad_token=None, eos_token=None))


def test_text_survives_a_round_trip_with_its_spaces(tiny_model: Path):
    tokenizer = load_tokenizer(tiny_model)
    text = "It's , . ! n't  two"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_no_tokenizer(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.where == str(tmp_path)


def test_no_socket(tiny_model: Path, no_network: None):
    load_tokenizer(tiny_model)


def template_of(folder: Path, source: str) -> ChatTemplate:
    _, tokens, markers = read_model_template(folder)
    return ChatTemplate(source, "test", tokens, markers)


def test_chatml_ends_a_turn_with_its_marker(tiny_model: Path, template):
    assert end_of_turn_ids(load_tokenizer(tiny_model), template) == [2]


def test_end_of_turn_first_then_every_end_of_text(tiny_model: Path):
    """As Llama 3: a turn ends with <|eot_id|>, a document with another token; generation must stop at each."""
    template = template_of(tiny_model, "{% for m in messages %}{{ m.role + ':' + m.content }}<|endoftext|>{% endfor %}")
    stops = end_of_turn_ids(load_tokenizer(tiny_model), template, GenerationConfig(eos_token_id=[2, 1]))
    assert stops == [0, 2, 1]


def test_a_line_break_is_no_stop(tiny_model: Path):
    template = template_of(tiny_model, "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")
    assert end_of_turn_ids(load_tokenizer(tiny_model), template) == [2]


def test_plain_form_stops_at_the_end_of_text(tiny_model: Path):
    plain = choose_template("plain", *read_model_template(tiny_model))
    assert end_of_turn_ids(load_tokenizer(tiny_model), plain, GenerationConfig(eos_token_id=2)) == [2]


def test_nothing_ends_a_turn(tmp_path: Path):
    folder = edited(tmp_path, eos_token=None)
    template = template_of(folder, "{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ModelError, match="Nothing ends a turn"):
        end_of_turn_ids(load_tokenizer(folder), template)
