"""Encoded examples, kept on the disk, so that the second run starts at once.

In: a key made of everything the examples depend on, and a function that makes them. Out: the examples where they lie on
the disk, made before or now. One Arrow file a key (table.py), written whole or not at all; a file that cannot be read
is made again.

    key = CacheKey(sha256_file(path), template.identity, tokenizer_digest(folder), options=maker.identity)
    examples = cached_examples(Path("outputs/.cache"), key, lambda remarks: maker.columns(rows, remarks, "train"))

The version of our own code is part of every key (identity.py).

Worst bug: examples of yesterday's data, template or code (tests/tokens/test_cache.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa

from .. import console
from ..files import sha256_text, whole_file
from .columns import Columns
from .identity import code_version
from .remarks import Remarks
from .table import ExampleTable, open_table, write_table

KEPT = 8  # files in the folder at least: the splits of the last few settings
KEPT_BYTES = 8 << 30  # and as many more as these hold: ten data sets have thirty files; older ones are deleted
FILE = re.compile(r"[0-9a-f]{64}\.arrow")
LEFT = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}\..*\.tmp")  # by earlier versions and by killed writes
DAY = 24 * 3600  # seconds after which nobody writes to a temporary file any more


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
    found: dict[Path, os.stat_result] = {}
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[file] = file.stat()
    whole = [file for file in found if FILE.fullmatch(file.name)]
    whole.sort(key=lambda file: found[file].st_mtime, reverse=True)
    sums = itertools.accumulate(found[file].st_size for file in whole)
    old = [file for file, size in list(zip(whole, sums, strict=True))[KEPT:] if size > KEPT_BYTES]
    left = [file for file in found if LEFT.fullmatch(file.name) and found[file].st_mtime < time.time() - DAY]
    for file in (*old, *left):
        with contextlib.suppress(OSError):  # gone already, or Windows, which keeps what is mapped
            file.unlink()
