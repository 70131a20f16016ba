"""Tokens lie where what they spell lies; where they do not spell the text, the tokenizer is asked for its offsets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents
from test_encoding import walked
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sftlib.chat.rendering import Rendered
from sftlib.tokens import encoding
from sftlib.tokens.columns import ROWS
from sftlib.tokens.encoding import encode
from sftlib.tokens.spelling import BYTE_OF, Spelling

END = AddedToken("</s>", normalized=False, special=True)


def with_normalizer(tokenizer: PreTrainedTokenizerFast, normalizer: normalizers.Normalizer) -> PreTrainedTokenizerFast:
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False)


def gemma_like() -> PreTrainedTokenizerFast:
    """BPE over blanks written ▁ and bytes for the rest, nothing put before a text: Gemma, Mistral's later ones."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abfoursx</>.,", "fo", "fou", "four", "▁four"]
    merges = [("f", "o"), ("fo", "u"), ("fou", "r"), ("▁", "four")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False)


def unspelt(tokenizer: PreTrainedTokenizerFast, *texts: str) -> list[int]:
    fast = tokenizer.backend_tokenizer
    ids = [one.ids for one in fast.encode_batch_fast(list(texts), add_special_tokens=False)]
    return Spelling(fast, ()).columns([Rendered(text, (), "t:1") for text in texts], ids)[1]


def test_the_letters_of_bytes_are_those_of_the_tokenizers() -> None:
    assert set(BYTE_OF) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_OF.values()) == list(range(256))
    assert (BYTE_OF["Ġ"], BYTE_OF["Ċ"], BYTE_OF["é"]) == (0x20, 0x0A, 0xE9)


def test_which_rows_are_spelt(tokenizers: dict) -> None:
    texts = ["four é", "", "e\u0301 four", "漢👍", "A", "four"]
    assert unspelt(tokenizers["bytes"], *texts) == []
    assert unspelt(tokenizers["trimmed"], *texts) == []
    assert unspelt(gemma_like(), "four 漢👍", " ", "a\nb", "a▁b", "four") == [3]
    assert unspelt(with_normalizer(tokenizers["bytes"], normalizers.NFC()), *texts) == [2]  # made é, one byte shorter
    assert unspelt(with_normalizer(tokenizers["bytes"], normalizers.Lowercase()), *texts) == [4]  # of the same length
    assert unspelt(with_normalizer(tokenizers["bytes"], normalizers.Strip()), "a", " a", "a") == [1]
    assert unspelt(tokenizers["pieces"], *texts) == [0, 2, 3, 4, 5]  # a blank is put before each


def test_a_token_that_nothing_is_known_of_spells_nothing() -> None:
    raw = Tokenizer(models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    assert unspelt(tokenizer, "a", "b", "?", "a|a", "aa") == [1, 3, 4]


def test_an_end_that_swallows_what_is_behind_it(tokenizers: dict) -> None:
    raw = Tokenizer.from_str(tokenizers["bytes"].backend_tokenizer.to_str())
    raw.add_special_tokens([AddedToken("<|over|>", rstrip=True, normalized=False, special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False)
    assert unspelt(tokenizer, "a<|over|>\nb", "a<|over|>b") == [0]
    rendered = [Rendered("a<|over|>\nb</s>", ((1, 9), (10, 15)), "t:1"), Rendered("a<|over|>b", ((1, 9),), "t:2")]
    assert list(encode(rendered, tokenizer)) == [walked(one, tokenizer) for one in rendered]


KINDS = ["bytes", "trimmed", "pieces", "gemma", "nfc", "lower"]


@pytest.fixture(scope="module")
def kinds(tokenizers: dict) -> dict[str, PreTrainedTokenizerFast]:
    return {
        **tokenizers,
        "gemma": gemma_like(),
        "nfc": with_normalizer(tokenizers["bytes"], normalizers.NFC()),
        "lower": with_normalizer(tokenizers["bytes"], normalizers.Lowercase()),
    }


@st.composite
def rows(draw: st.DrawFn) -> Rendered:
    """Any text, with an end of turn at the end of each span."""
    text, spans = "", []
    for _ in range(draw(st.integers(0, 3))):
        text += draw(contents())
        start = len(text)
        text += draw(contents()) + "</s>"
        spans.append((start, len(text)))
    return Rendered(text + draw(contents()), tuple(spans), "t:1")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(some=st.lists(rows(), max_size=5))
def test_any_rows_as_a_walk_past_every_token_has_them(kinds: dict, kind: str, some: list[Rendered]) -> None:
    tokenizer = kinds[kind]
    assert list(encode(some, tokenizer)) == [walked(one, tokenizer) for one in some]


def test_rows_of_both_kinds_beside_each_other(kinds: dict) -> None:
    texts = ["A</s>", "a</s>", "four Four</s>", "", "é</s>", "É</s>", " four</s>"]
    rendered = [Rendered(text, ((0, len(text)),) if text else (), f"t:{n}") for n, text in enumerate(texts)]
    assert list(encode(rendered, kinds["lower"])) == [walked(one, kinds["lower"]) for one in rendered]


def test_a_row_behind_one_that_spells_too_little(kinds: dict) -> None:
    rendered = [
        Rendered("e\u0301" * 3, (), "t:1"),
        Rendered("</s>", ((0, 4),), "t:2"),
        Rendered("a</s>", ((0, 5),), "t:3"),
    ]
    assert list(encode(rendered, kinds["nfc"])) == [walked(one, kinds["nfc"]) for one in rendered]


def test_offsets_soon_when_most_rows_are_not_spelt(kinds: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    columns = encoding.Cutter.columns

    def watched(self, rendered, encodings, has_offsets):
        asked.append(has_offsets)
        return columns(self, rendered, encodings, has_offsets)

    monkeypatch.setattr(encoding.Cutter, "columns", watched)
    rendered = [Rendered("a four</s>", ((1, 10),), "t:1")] * (4 * ROWS)
    for kind, expected in (("pieces", True), ("bytes", False)):
        asked.clear()
        assert list(encode(rendered, kinds[kind])) == [walked(rendered[0], kinds[kind])] * (4 * ROWS)
        assert (asked[0], asked[2:]) == (False, [expected] * 2)  # the second was perhaps under way
