"""Encoded examples, kept on the disk, so that the second run starts at once.

In: a key made of everything the examples depend on, and a function that makes them. Out: the examples, read back or
made and then kept. One safetensors file a key, written whole or not at all; a file that cannot be read is made again.

    key = CacheKey(sha256_file(path), template.identity, tokenizer_digest(folder), truncation="drop/1024")
    examples = cached_examples(Path("outputs/.cache"), key, lambda: encode(rendered, tokenizer))

The version of our own code is part of every key: a hash over the sources that make an example. The length policy may be
applied behind the cache or before it; naming it in the key makes both right.

Worst bug: examples of yesterday's data, template or code (tests/tokens/test_cache.py).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from .. import console
from ..files import sha256_file, sha256_text, whole_file
from .examples import Example

KEPT = 8  # files in the folder: the splits of the last few settings; older ones are deleted
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
ROOMS = Path(__file__).resolve().parents[1]
CODE = ("chat/conversation.py", "chat/stored.py", "chat/sandbox.py", "chat/templates.py", "chat/rendering.py",
        "chat/pairs.py", "tokens/examples.py", "tokens/pairs.py", "tokens/length.py", "tokens/cache.py")  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class CacheKey:
    """Everything that the examples depend on, besides our own code.

    rows: hash of the split's file. template: `ChatTemplate.identity`. tokenizer: `tokenizer_digest`. truncation: the
    policy and the length, or a constant where the policy is applied behind the cache.
    """

    rows: str
    template: str
    tokenizer: str
    truncation: str

    def digest(self) -> str:
        """The name of the file: a hash that one changed character anywhere changes."""
        return sha256_text(json.dumps([dataclasses.astuple(self), code_version()]))


def cached_examples(folder: str | Path, key: CacheKey, make: Callable[[], Sequence[Example]]) -> Sequence[Example]:
    """The examples of this key: from the folder, or made now and kept there."""
    path = Path(folder) / f"{key.digest()}.safetensors"
    if path.is_file():
        try:
            found = _read(path)
        except (SafetensorError, KeyError, ValueError) as error:
            console.note(f"The token cache {path} cannot be read ({error}); the examples are made again.")
        else:
            path.touch()  # so that it is not the oldest
            return found
    examples = make()
    _write(path, examples)
    others = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        old.unlink(missing_ok=True)
    return examples


def tokenizer_digest(folder: str | Path) -> str:
    """Hash of the files that make the tokenizer in a model's folder."""
    files = [Path(folder) / name for name in TOKENIZER_FILES]
    return sha256_text(json.dumps({file.name: sha256_file(file) for file in files if file.is_file()}))


@cache
def code_version() -> str:
    """Hash of the sources that turn a row into an example."""
    return sha256_text(json.dumps({name: sha256_file(ROOMS / name) for name in CODE}))


def _write(path: Path, examples: Sequence[Example]) -> None:
    words = {"sources": [one.source for one in examples]}
    arrays = {
        "ids": np.fromiter((number for one in examples for number in one.input_ids), dtype=np.int32),
        "labels": np.fromiter((number for one in examples for number in one.labels), dtype=np.int32),
        "lengths": np.fromiter((len(one.input_ids) for one in examples), dtype=np.int32),
        "is_complete": np.fromiter((one.is_complete for one in examples), dtype=np.bool_),
        "straddling": np.fromiter((one.straddling for one in examples), dtype=np.int32),
        "stray_ends": np.fromiter((one.stray_ends for one in examples), dtype=np.int32),
        "decoder_at": np.fromiter((one.decoder_at for one in examples), dtype=np.int32),
        "words": np.frombuffer(json.dumps(words).encode(), dtype=np.uint8),
    }
    with whole_file(path, "wb") as stream:
        stream.write(save(arrays))


def _read(path: Path) -> list[Example]:
    arrays = load_file(path)
    ids, labels = arrays["ids"].tolist(), arrays["labels"].tolist()
    ends = np.cumsum(arrays["lengths"]).tolist()
    starts = [0, *ends][: len(ends)]
    columns = (arrays[name].tolist() for name in ("is_complete", "straddling", "stray_ends", "decoder_at"))
    sources = json.loads(arrays["words"].tobytes())["sources"]
    if len(ids) != len(labels) or len(ids) != (ends[-1] if ends else 0):
        raise ValueError("its parts do not fit together")
    return [
        Example(ids[start:end], labels[start:end], source, *others)
        for start, end, source, *others in zip(starts, ends, sources, *columns, strict=True)
    ]
