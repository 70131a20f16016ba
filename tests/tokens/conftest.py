"""Three small fast tokenizers that know the markers of every shipped template."""

from __future__ import annotations

import pytest
from families import FAMILIES
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "System: be brief. User: what is two plus two? Assistant: the answer is four, four.",
    "system user assistant model\n\nthe four answers are:\n- one\n- two  \n\n\n",
    "<think>\n\n</think>\n\n漢字 日本 éé עברית",
]
MARKERS = sorted({m for f in FAMILIES.values() for m in (*f.tokens.values(), *f.markers, f.end)})


def byte_level(trim_offsets: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2, Qwen, Llama 3 have it; with `trim_offsets` as GPT-NeoX."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=MARKERS, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(CORPUS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False)


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """BPE over ▁-words with byte fallback and a ▁ put before every piece of text, as Llama 2 and Mistral have it."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnopqrstuvwxyzABQSTU:.?!,'\n"]
    merges = [("f", "o"), ("fo", "u"), ("fou", "r"), ("▁", "four"), ("▁", "a"), ("▁", "▁"), ("▁▁", "▁")]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *("".join(pair) for pair in merges)])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens([AddedToken(marker, normalized=False, special=True) for marker in MARKERS])
    return PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False)


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """By name: bytes, trimmed, pieces."""
    return {"bytes": byte_level(False), "trimmed": byte_level(True), "pieces": sentencepiece_like()}


@pytest.fixture(scope="session")
def tokenizer(tokenizers: dict[str, PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """Byte-level BPE."""
    return tokenizers["bytes"]
