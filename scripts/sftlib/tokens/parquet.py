"""Examples as a Parquet file, for other tools and for eyes: what is trained on, as it is trained.

In: a table of examples, row by row. Out: one file, written whole or not at all, in groups of GROUP rows.

    input_ids  [1, 7, 9, 12, 2]     labels  [-100, -100, -100, 12, 2]     dataset  faq     source  faq.jsonl:17#2
    is_complete  true; false where the text goes on behind the last token, whose end nobody is taught

These are the names that transformers' models and `datasets.load_dataset("parquet", ...)` go by. Of an encoder-decoder
`input_ids` is what the encoder reads, and `decoder_input_ids` and `labels` are the decoder's. Training reads the token
cache, which is mapped into memory; Parquet has to be unpacked.
Worst bug: a label that is another than the one trained (tests/tokens/test_parquet.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from .. import console
from ..files import whole_file
from .examples import Example
from .mixing import MixedTable
from .pairs import halves

GROUP = 2000  # rows held in memory while they are written: some megabytes
LISTS = pa.list_(pa.int32())


def write_parquet(path: Path, examples: MixedTable, name: str) -> None:
    """Write all examples. name: of the split, for the display."""
    from pyarrow import parquet

    is_pairs = bool(examples.decoder_at.any())
    schema = pa.schema(
        [
            ("input_ids", LISTS), *([("decoder_input_ids", LISTS)] if is_pairs else []), ("labels", LISTS),
            ("dataset", pa.dictionary(pa.int32(), pa.string())), ("source", pa.string()), ("is_complete", pa.bool_()),
        ]
    )  # fmt: skip
    rows = ((examples[row], examples.name_of(row)) for row in console.progress(range(len(examples)), f"writing {name}"))
    with whole_file(path, "wb") as stream, parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in _groups(rows):
            columns = _columns(group, is_pairs)
            writer.write_table(pa.table([pa.array(columns[field.name], field.type) for field in schema], schema))


def _groups(rows: Iterable[tuple[Example, str]]) -> Iterator[list[tuple[Example, str]]]:
    rest = iter(rows)
    while group := list(itertools.islice(rest, GROUP)):
        yield group


def _columns(group: Sequence[tuple[Example, str]], is_pairs: bool) -> dict[str, list]:
    read = [example for example, _ in group]
    columns: dict[str, list] = {
        "dataset": [name for _, name in group],
        "source": [example.source.encode("utf-8", "backslashreplace").decode() for example in read],
        "is_complete": [example.is_complete for example in read],
    }
    if is_pairs:
        given, read = (list(side) for side in zip(*map(halves, read), strict=True))
        columns["input_ids"] = [example.input_ids for example in given]
        columns["decoder_input_ids"] = [example.input_ids for example in read]
    else:
        columns["input_ids"] = [example.input_ids for example in read]
    columns["labels"] = [example.labels for example in read]
    return columns
