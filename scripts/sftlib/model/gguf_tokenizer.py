"""The tokenizer inside a GGUF file, built from the file's own metadata and checked against it.

In comes the metadata (`tokenizer.ggml.*`); out goes a fast tokenizer whose every piece, merge and special id is the
file's. Two kinds are known: byte-level BPE (`gpt2`: GPT-2, Llama 3, Qwen, SmolLM, Mistral Nemo) and SentencePiece BPE
(`llama`: Llama 2, Mistral, Gemma). Text is cut before BPE as llama.cpp cuts it for `tokenizer.ggml.pre`; a way of
cutting that is not in the table is an error, because any other would give ids the model was not trained on.

    build_tokenizer({"tokenizer.ggml.pre": "smollm", ...}).tokenize("a 12")  ->  ["a", "Ġ", "1", "2"]

transformers 5.17 builds one as well, but takes bos for eos, ignores `pre`, drops pad, and reads Gemma's merge ranks as
Unigram probabilities; so it is not used.

Worst bug: text cut into other ids than the model was trained on (tests/model/test_gguf_tokenizer.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # token types of the GGUF specification

# How text is cut for each `tokenizer.ggml.pre`: the names are llama.cpp's (in its src/llama-vocab.cpp), the
# regexes those of the models' published tokenizer.json.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = ("gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais", "trillion")
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe", "dbrx", "lfm2")
QWEN2 = ("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan")
WHOLE_WORDS_FIRST = (*LLAMA3, "tekken")  # a word that is a piece is taken as it is, without merging

SAMPLES = (
    "Hello world, it's 12345 or 3.14!", "  two  spaces\n\n\tand a tab\r\n", "Ünïcödé – 日本語 😀 naïve",
)  # fmt: skip


def build_tokenizer(metadata: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer that the metadata of a GGUF file describes."""
    from transformers import PreTrainedTokenizerFast

    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(metadata)
    elif kind == "llama":
        tokenizer = _sentencepiece(metadata)
    else:
        raise ModelError(
            f"This GGUF file has a tokenizer of the kind `{kind}`, which is not known here.",
            where="tokenizer.ggml.model", expected="gpt2 (byte-level BPE) or llama (SentencePiece BPE)",
            cure="Take the model's safetensors version.",
        )  # fmt: skip
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    for type_, add, is_special in (
        (CONTROL, tokenizer.add_special_tokens, True),
        (USER_DEFINED, tokenizer.add_tokens, False),
    ):
        add(
            [
                AddedToken(t, normalized=False, special=is_special)
                for t, k in zip(tokens, types, strict=True)
                if k == type_
            ]
        )
    tokenizer.post_processor = _adds(metadata)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=_context_length(metadata),
        **{f"{role}_token": tokens[id_] for role, id_ in special_ids(metadata).items()},
    )  # fmt: skip
    fast.chat_template = metadata.get("tokenizer.chat_template")
    return fast


def verify_tokenizer(tokenizer: PreTrainedTokenizerBase, metadata: dict[str, Any]) -> None:
    """ModelError unless a tokenizer, as loaded back from disk, is the one that the metadata describes."""
    tokens = metadata["tokenizer.ggml.tokens"]
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    built = json.loads(build_tokenizer(metadata).backend_tokenizer.to_str())
    is_exact = "tokenizer.ggml.merges" in metadata
    merges = [" ".join(pair) for pair in backend["model"]["merges"]] if is_exact else None
    bos = special_ids(metadata).get("bos")
    checks = {
        "vocabulary": tokenizer.convert_ids_to_tokens(list(range(len(tokens)))) == tokens
        and len(tokenizer) == len(tokens),
        "merges": not is_exact or merges == metadata["tokenizer.ggml.merges"],
        "special tokens": all(
            getattr(tokenizer, f"{role}_token_id") == id_ for role, id_ in special_ids(metadata).items()
        ),
        "way of cutting text": all(backend[part] == built[part] for part in ("normalizer", "pre_tokenizer", "decoder")),
        "opening token": (tokenizer("a").input_ids[0] == bos) == (bos is not None and _flag(metadata, "add_bos_token")),
        "round trip": all(_round_trip(tokenizer, text) == text for text in SAMPLES),
        "chat template": tokenizer.chat_template == metadata.get("tokenizer.chat_template"),
        "length": tokenizer.model_max_length == _context_length(metadata),
    }
    if wrong := [name for name, is_right in checks.items() if not is_right]:
        raise ModelError(
            f"The tokenizer made from the GGUF file differs from it in: {', '.join(wrong)}.",
            expected="what the file's metadata says", cure="Take the model's safetensors version.",
        )  # fmt: skip


def special_ids(metadata: dict[str, Any]) -> dict[str, int]:
    """Role -> id, of the roles that the file fills."""
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {role: metadata.get(f"tokenizer.ggml.{name}_token_id") for role, name in names.items()}
    return {role: id_ for role, id_ in ids.items() if id_ is not None and id_ < len(metadata["tokenizer.ggml.tokens"])}


def _byte_level(metadata: dict[str, Any]) -> Tokenizer:
    pre = metadata.get("tokenizer.ggml.pre")
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: id_ for id_, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in WHOLE_WORDS_FIRST))
    if pre in QWEN2:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _cut(pre)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _cut(pre: str | None) -> pre_tokenizers.PreTokenizer:
    if pre in GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre in SINGLE_DIGITS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    patterns = (
        dict.fromkeys(LLAMA3, WORDS % r"\p{N}{1,3}") | dict.fromkeys(QWEN2, WORDS % r"\p{N}") | {"tekken": TEKKEN}
    )
    if pre not in patterns:
        raise ModelError(
            f"This GGUF file cuts text in a way called `{pre}`, which is not known here.", where="tokenizer.ggml.pre",
            expected=f"one of {', '.join((*GPT2, *SINGLE_DIGITS, *patterns))}",
            cure="Take the model's safetensors version, which brings its own tokenizer.json.",
        )  # fmt: skip
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(patterns[pre]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _sentencepiece(metadata: dict[str, Any]) -> Tokenizer:
    """SentencePiece BPE: a piece's score is the rank of the merge that makes it; what no piece covers becomes bytes."""
    from transformers.convert_slow_tokenizer import generate_merges

    if "tokenizer.ggml.precompiled_charsmap" in metadata:
        raise ModelError(
            "This GGUF file's tokenizer normalises text with a compiled character map.", where="tokenizer.ggml",
            expected="one without", cure="Take the model's safetensors version.",
        )  # fmt: skip
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    whole = {token for token, type_ in zip(tokens, types, strict=True) if type_ != NORMAL}  # never a part or a result
    unk = special_ids(metadata).get("unk")
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary, generate_merges(vocabulary, scores, whole), unk_token=None if unk is None else tokens[unk],
            fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    escape, parts = (
        normalizers.Replace(" ", "▁"),
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()],
    )
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), escape])
        tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    else:
        tokenizer.normalizer, tokenizer.decoder = escape, decoders.Sequence(parts)
    return tokenizer


def _adds(metadata: dict[str, Any]) -> processors.PostProcessor:
    """What is put around a text that is not a rendered chat: bos and eos, as the metadata says."""
    tokens, ids = metadata["tokenizer.ggml.tokens"], special_ids(metadata)
    opening = [ids["bos"]] if "bos" in ids and _flag(metadata, "add_bos_token") else []
    closing = [ids["eos"]] if "eos" in ids and _flag(metadata, "add_eos_token") else []

    def around(text: str) -> list[str]:
        return [tokens[id_] for id_ in opening] + [text] + [tokens[id_] for id_ in closing]

    return processors.TemplateProcessing(
        single=around("$A"), pair=around("$A") + around("$B:1"),
        special_tokens=[(tokens[id_], id_) for id_ in dict.fromkeys(opening + closing)],
    )  # fmt: skip


def _flag(metadata: dict[str, Any], name: str) -> bool:
    """A switch of the metadata; absent, it is what llama.cpp takes: bos for SentencePiece and Llama 3, nothing else."""
    is_default_bos = metadata["tokenizer.ggml.model"] == "llama" or metadata.get("tokenizer.ggml.pre") in LLAMA3
    return bool(metadata.get(f"tokenizer.ggml.{name}", name == "add_bos_token" and is_default_bos))


def _context_length(metadata: dict[str, Any]) -> int:
    return metadata[f"{metadata['general.architecture']}.context_length"]


def _round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    return tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids)
