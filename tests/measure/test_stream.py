"""The stream gives exactly the text that the batch gives, and nothing of a stop string."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftlib.measure.generate import generate_answers, stream_answer
from sftlib.measure.stream import TextStream, cut_at_stop, without_lead


@pytest.mark.parametrize("stop_strings", [[], ["e", "zz"], ["er"]])
def test_the_pieces_joined_are_the_answer(speaker, prompts, stop_strings: list[str]):
    for prompt in prompts:
        pieces: list[str] = []
        settings = {"max_new_tokens": 30, "stop_ids": speaker.stop_ids, "stop_strings": stop_strings}
        answer = stream_answer(speaker.model, speaker.tokenizer, prompt, on_text=pieces.append, **settings)
        assert "".join(pieces) == answer.text
        assert [answer] == generate_answers(speaker.model, speaker.tokenizer, [prompt], batch_size=1, **settings)


def feed(tokenizer, text: str, stop_strings: list[str], lead: str = "") -> tuple[list[str], str]:
    """Stream a text byte by byte, as the worst tokenizer would, up to its stop string."""
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append, [2], stop_strings, lead)
    stream.put(torch.tensor([[1, 5, 6]]))  # the prompt
    letters = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text) if text else []
    ids = [tokenizer.convert_tokens_to_ids(letter) for word, _ in letters for letter in word]
    assert tokenizer.decode(ids) == text
    for token in ids:
        stream.put(torch.tensor([token]))
        assert not any(stop in "".join(pieces) for stop in stop_strings)
    stream.end()
    whole = without_lead(cut_at_stop(text, stop_strings)[0], lead)
    stream.finish(whole)
    return pieces, whole


@given(text=st.text(st.sampled_from("aEND é北\n "), max_size=30))
def test_byte_by_byte(speaker, text: str):
    pieces, whole = feed(speaker.tokenizer, text, ["END", "N\n"])
    assert "".join(pieces) == whole
    assert "\ufffd" not in whole


def test_text_comes_as_soon_as_it_is_certain(speaker):
    pieces, _ = feed(speaker.tokenizer, "abEcd", ["END"])
    assert pieces == ["a", "b", "Ec", "d"]  # E could have begun the stop string


def test_the_lead_is_held_back_and_dropped(speaker):
    assert feed(speaker.tokenizer, "<t>\n</t>\n\nHi", [], "<t>\n</t>")[0] == ["H", "i"]
    assert "".join(feed(speaker.tokenizer, "<t>x", [], "<t>\n</t>")[0]) == "<t>x"


def test_a_stop_id_is_not_shown(speaker):
    pieces: list[str] = []
    stream = TextStream(speaker.tokenizer, pieces.append, [2], [])
    for tokens in (
        [1, 5],
        [speaker.tokenizer.convert_tokens_to_ids("a")],
        [2],
        [speaker.tokenizer.convert_tokens_to_ids("b")],
    ):
        stream.put(torch.tensor(tokens))
    assert pieces == ["a"]
