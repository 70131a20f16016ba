"""The tokenizer of a GGUF file: pieces, cuts and special ids as the metadata says."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from model_parts import write_gguf

from sftlib.errors import ModelError
from sftlib.model.gguf_tokenizer import build_tokenizer, special_ids, verify_tokenizer
from sftlib.model.tokenizer import load_tokenizer


def metadata(file: Path) -> dict:
    return {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}


@pytest.fixture
def smollm(tmp_path: Path) -> dict:
    return metadata(write_gguf(tmp_path / "x.gguf"))


def pieces(tokenizer, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)


def test_special_ids_by_role(smollm):
    assert special_ids(smollm) == {"bos": 1, "eos": 2, "unk": 0, "pad": 3}
    tokenizer = build_tokenizer(smollm)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.unk_token, tokenizer.pad_token) == ("<|endoftext|>", "<pad>")
    assert tokenizer.model_max_length == 256


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        # `1 2` is a merge of the vocabulary; whether it is made depends on how digits are cut
        ("gpt-2", "12 hello", ["12", "Ġhello"]),
        ("smollm", "12 hello", ["1", "2", "Ġhello"]),
        ("smollm", "a 12", ["a", "Ġ", "1", "2"]),
        ("gpt-2", "a 12", ["a", "Ġ", "12"]),
        ("qwen2", "12", ["1", "2"]),
        ("llama-bpe", "12", ["12"]),
        ("tekken", "12", ["1", "2"]),
        ("llama-bpe", "x\n\ny", ["x", "Ċ", "Ċ", "y"]),
        ("smollm", "<|im_start|>hello<|im_end|>", ["<|im_start|>", "hello", "<|im_end|>"]),
    ],
)
def test_cut(tmp_path: Path, pre, text, expected):
    assert pieces(build_tokenizer(metadata(write_gguf(tmp_path / "x.gguf", pre=pre))), text) == expected


def test_composed_characters_of_qwen(tmp_path: Path):
    """Qwen2 composes e + accent into one character first; SmolLM leaves them."""
    qwen, smollm = (build_tokenizer(metadata(write_gguf(tmp_path / p, pre=p))) for p in ("qwen2", "smollm"))
    assert qwen("e\u0301").input_ids == qwen("\u00e9").input_ids
    assert smollm("e\u0301").input_ids != smollm("\u00e9").input_ids


@pytest.mark.parametrize("pre", ["default", "kimi-k2"])
def test_unknown_cut_is_an_error(tmp_path: Path, pre):
    with pytest.raises(ModelError) as caught:
        build_tokenizer(metadata(write_gguf(tmp_path / "x.gguf", pre=pre)))
    assert f"`{pre}`" in caught.value.seen
    assert "smollm" in caught.value.expected


def test_unknown_kind_is_an_error(smollm):
    with pytest.raises(ModelError, match="`bert`"):
        build_tokenizer(smollm | {"tokenizer.ggml.model": "bert"})


@pytest.mark.parametrize("add_bos", [True, False])
def test_opening_token(tmp_path: Path, add_bos):
    tokenizer = build_tokenizer(metadata(write_gguf(tmp_path / "x.gguf", add_bos=add_bos)))
    assert tokenizer("hello").input_ids[:-1] == ([1] if add_bos else [])
    assert 1 not in tokenizer("hello", add_special_tokens=False).input_ids


@pytest.mark.parametrize(("pre", "opens"), [("llama-bpe", True), ("smollm", False)])
def test_opening_token_when_the_file_does_not_say(tmp_path: Path, pre, opens):
    data = metadata(write_gguf(tmp_path / "x.gguf", pre=pre))
    del data["tokenizer.ggml.add_bos_token"]
    assert (build_tokenizer(data)("hello").input_ids[0] == 1) == opens


def test_closing_token_and_pairs(smollm):
    tokenizer = build_tokenizer(smollm | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True})
    hello = tokenizer("hello", add_special_tokens=False).input_ids
    assert tokenizer("hello").input_ids == [1, *hello, 2]
    assert tokenizer("hello", "hello").input_ids == [1, *hello, 2, 1, *hello, 2]


def test_offsets_cover_the_text(smollm):
    """The training mask stands on them: leading blanks belong to their piece."""
    text = "a hello  é😀\n<|im_end|>"
    encoded = build_tokenizer(smollm)(text, return_offsets_mapping=True, add_special_tokens=False)
    covered = set()
    for start, end in encoded.offset_mapping:
        covered |= set(range(start, end))
    assert covered == set(range(len(text)))


def saved(tokenizer, folder: Path):
    tokenizer.save_pretrained(folder)
    return load_tokenizer(folder)


def test_verified_after_a_round_trip_through_the_disk(smollm, tmp_path: Path):
    verify_tokenizer(saved(build_tokenizer(smollm), tmp_path / "t"), smollm)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tokenizer.ggml.eos_token_id": 1}, "special tokens"),
        ({"tokenizer.ggml.padding_token_id": 0}, "special tokens"),
        ({"tokenizer.ggml.pre": "gpt-2"}, "way of cutting text"),
        ({"tokenizer.ggml.add_bos_token": True}, "opening token"),
        ({"tokenizer.chat_template": "{{ other }}"}, "chat template"),
        ({"llama.context_length": 99}, "length"),
    ],
)
def test_each_difference_is_seen(smollm, tmp_path: Path, change, named):
    """A tokenizer made from changed metadata, held against the true one."""
    wrong = saved(build_tokenizer(smollm | change), tmp_path / "t")
    with pytest.raises(ModelError, match=named):
        verify_tokenizer(wrong, smollm)


def test_swapped_pieces_and_merges_are_seen(smollm, tmp_path: Path):
    tokens, merges = list(smollm["tokenizer.ggml.tokens"]), list(smollm["tokenizer.ggml.merges"])
    tokens[40], tokens[41] = tokens[41], tokens[40]
    merges[0], merges[1] = merges[1], merges[0]
    for change, named in (
        ({"tokenizer.ggml.tokens": tokens}, "vocabulary"),
        ({"tokenizer.ggml.merges": merges}, "merges"),
    ):
        with pytest.raises(ModelError, match=named):
            verify_tokenizer(saved(build_tokenizer(smollm | change), tmp_path / named), smollm)


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPM = ["<unk>", "<s>", "</s>", *BYTES, "▁", "a", "b", "ab", "▁a", "▁ab", "\n\n", "ba"]


def sentencepiece(**changes) -> dict:
    """Metadata of a SentencePiece model by hand. Of `ba` and `ab`, the better score is merged first."""
    scores = [0.0] * 259 + [-90.0, -91.0, -92.0, -1.0, -2.0, -3.0, -1000.0, -4.0]
    return {
        "general.architecture": "llama", "llama.context_length": 64, "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": SPM, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [3, 3, 3, *[6] * 256, *[1] * 6, 4, 1],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("text", "prefix", "expected"),
    [
        ("ab", True, ["▁ab"]),
        ("ab", False, ["ab"]),
        ("bab", False, ["b", "ab"]),  # not `ba b`: ab has the better score
        ("a ab", False, ["a", "▁ab"]),
        ("é", False, ["<0xC3>", "<0xA9>"]),
        ("a\n\nb", False, ["a", "\n\n", "b"]),
        ("a</s>b", False, ["a", "</s>", "b"]),
    ],
)
def test_sentencepiece(text, prefix, expected):
    tokenizer = build_tokenizer(sentencepiece(**{"tokenizer.ggml.add_space_prefix": prefix}))
    assert pieces(tokenizer, text) == expected
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_sentencepiece_opens_with_bos_and_verifies(tmp_path: Path):
    assert build_tokenizer(sentencepiece())("a").input_ids == [1, SPM.index("▁a")]
    data = sentencepiece(**{"tokenizer.ggml.add_space_prefix": False})
    verify_tokenizer(saved(build_tokenizer(data), tmp_path / "t"), data)


def test_compiled_character_map_is_refused():
    with pytest.raises(ModelError, match="character map"):
        build_tokenizer(sentencepiece(**{"tokenizer.ggml.precompiled_charsmap": [1]}))
