"""Encoded examples, kept on the disk, so that the second run starts at once.

In: a key made of everything the examples depend on, and a function that makes them. Out: the examples where they lie on
the disk, made before or now. One Arrow file a key (table.py), written whole or not at all; a file that cannot be read
is made again.

    key = CacheKey(sha256_file(path), template.identity, tokenizer_digest(folder), options=maker.identity)
    examples = cached_examples(Path("outputs/.cache"), key, lambda remarks: maker.columns(rows, remarks, "train"))

The version of our own code is part of every key: a hash over the sources that make an example.

Worst bug: examples of yesterday's data, template or code (tests/tokens/test_cache.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from .. import console
from ..files import sha256_file, sha256_text, whole_file
from .columns import Columns
from .remarks import Remarks
from .table import ExampleTable, open_table, write_table

KEPT = 8  # files in the folder: the splits of the last few settings; older ones are deleted
FILE = re.compile(r"[0-9a-f]{64}\.arrow")
LEFT = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}\..*\.tmp")  # by earlier versions and by killed writes
DAY = 24 * 3600  # seconds after which nobody writes to a temporary file any more
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "spiece.model", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
ROOMS = Path(__file__).resolve().parents[1]
CODE = ("chat/conversation.py", "chat/stored.py", "chat/sandbox.py", "chat/tracing.py", "chat/templates.py",
        "chat/rendering.py", "chat/pairs.py", "chat/trained.py", "chat/turns.py", "chat/sentences.py",
        "chat/provenance.py", "tokens/examples.py", "tokens/encoding.py", "tokens/spelling.py", "tokens/columns.py",
        "tokens/pairs.py", "tokens/length.py", "tokens/shortening.py", "tokens/answer_parts.py", "tokens/making.py",
        "tokens/cache.py", "tokens/table.py", "tokens/remarks.py")  # fmt: skip
CALLED = ("jinja2", "sentencex", "tokenizers", "transformers")


@dataclasses.dataclass(frozen=True, slots=True)
class CacheKey:
    """Everything that the examples depend on, besides our own code.

    rows: hash of the split's file. template: `ChatTemplate.identity`. tokenizer: `tokenizer_digest`. options: what
    else the config says of them (`Maker.identity`).
    """

    rows: str
    template: str
    tokenizer: str
    options: str

    def digest(self) -> str:
        """The name of the file: a hash that one changed character anywhere changes."""
        return sha256_text(json.dumps([dataclasses.astuple(self), code_version()]))


def cached_examples(folder: str | Path, key: CacheKey, make: Callable[[Remarks], Iterable[Columns]]) -> ExampleTable:
    """The examples of this key: from the folder, or made now, written as they come, and kept there.

    make: is given the remarks that are kept with the examples, to fill them while it makes these.
    """
    path = Path(folder) / f"{key.digest()}.arrow"
    if path.is_file():
        try:
            found = open_table(path)
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
            console.note(f"The token cache {path} cannot be read ({error}); the examples are made again.")
        else:
            with contextlib.suppress(FileNotFoundError):  # swept by another process; what is mapped stays
                os.utime(path)  # so that it is not the oldest
            return found
    remarks = Remarks()
    with whole_file(path, "wb") as stream:
        write_table(stream, make(remarks), remarks)
    found = open_table(path)
    _sweep(path.parent)
    return found


def _sweep(folder: Path) -> None:
    """Delete our files but the newest. Others may do the same at the same time; what they have mapped stays theirs."""
    ages: dict[Path, float] = {}
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            ages[file] = file.stat().st_mtime
    whole = sorted((file for file in ages if FILE.fullmatch(file.name)), key=lambda file: ages[file], reverse=True)
    left = [file for file in ages if LEFT.fullmatch(file.name) and ages[file] < time.time() - DAY]
    for file in (*whole[KEPT:], *left):
        with contextlib.suppress(OSError):  # gone already, or Windows, which keeps what is mapped
            file.unlink()


def tokenizer_digest(folder: str | Path) -> str:
    """Hash of the files that make the tokenizer in a model's folder."""
    files = [Path(folder) / name for name in TOKENIZER_FILES]
    return sha256_text(json.dumps({file.name: sha256_file(file) for file in files if file.is_file()}))


@cache
def code_version() -> str:
    """Hash of the sources that turn a row into an example, and of the versions of what they call."""
    return sha256_text(
        json.dumps({name: sha256_file(ROOMS / name) for name in CODE} | {name: version(name) for name in CALLED})
    )
