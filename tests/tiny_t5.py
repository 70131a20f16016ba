"""A whole tiny encoder-decoder on disk: random T5, T5's own kind of tokenizer (Unigram, ▁-words, </s>), both configs.

The head is a weight of its own, as in FLAN-T5 (v1.1), or the embeddings, whose outputs T5 v1.0 scales.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ("What", "is", "and", "Step", "1:", "add", "them.", "Answer:", "User:", "Assistant:", "System:", "Be", "exact.")
SIZES: dict[str, Any] = {
    "vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "dropout_rate": 0.0, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip


def make_tokenizer(folder: Path) -> None:
    """Save a tokenizer of words and printable characters: <pad> 0, </s> 1, <unk> 2, as T5 has them."""
    from transformers import T5Tokenizer

    characters = [chr(code) for code in range(33, 126) if chr(code) not in "<{}"]  # T5's vocabulary lacks these, too
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS] + [(character, -5.0) for character in characters]
    T5Tokenizer(vocab=pieces, extra_ids=0, additional_special_tokens=None).save_pretrained(folder)


def make_t5(folder: Path, *, seed: int = 0, tie: bool = False, **changes: Any) -> Path:
    """Save a random T5 (two blocks in encoder and decoder, hidden 32) with its tokenizer; return the folder."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder)
    torch.manual_seed(seed)
    gate = {"feed_forward_proj": "relu" if tie else "gated-gelu", "tie_word_embeddings": tie}
    model = T5ForConditionalGeneration(T5Config(**SIZES | gate | changes))
    if not tie:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.3)
    model.save_pretrained(folder)
    return folder
