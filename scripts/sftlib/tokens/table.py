"""Examples as columns of an Arrow file that is mapped into memory: however many there are, memory holds a few.

In: columns of ROWS examples, and what was remarked of them. Out: a `ExampleTable`, a sequence that makes an `Example`
when it is asked for one, with the sums that everyone needs as arrays: lengths, supervised tokens and the like.

    file     record batches of ROWS rows: ids [[5, 6, 2], ...], trained [[1, 3], ...], source ["raw.jsonl:17", ...], ...
             and an empty one behind them, whose metadata are the remarks: they are known last
    trained  where labels count, as start, end, start, end, ...: [5, 6, 2] with [1, 3] has the labels [-100, 6, 2]

Arrow, because it is written row by row and read where it lies; safetensors wants every size before the first byte, and
Parquet is unpacked into memory. The system takes mapped pages back when it needs them.

Worst bug: an example that comes back with another's tokens or labels (tests/tokens/test_table.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, overload

import numpy as np
import pyarrow as pa

from .columns import ROWS, Columns, in_columns, places
from .examples import IGNORED, Example
from .remarks import Remarks

REMARKS = b"remarks"
COUNTS = ("straddling", "stray_ends", "decoder_at")
SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())), ("trained", pa.list_(pa.int32())), ("source", pa.string()),
        ("is_complete", pa.bool_()), *((name, pa.int32()) for name in COUNTS),
    ]
)  # fmt: skip


class ExampleTable(Sequence[Example]):
    """Examples in Arrow record batches; all arrays have one number a row.

    lengths: tokens. supervised: those that are trained. straddling, stray_ends, decoder_at: as in `Example`.
    remarks: what was found while the examples were made.
    """

    def __init__(self, file: pa.ipc.RecordBatchFileReader) -> None:
        *parts, last = (file.get_batch_with_custom_metadata(number) for number in range(file.num_record_batches))
        self._parts = [part for part, _ in parts]
        self.remarks = Remarks.from_dict(json.loads(last[1][REMARKS]))
        if file.schema != SCHEMA or any(len(part) != ROWS for part in self._parts[:-1]):
            raise ValueError("its parts do not fit together")
        self._ids = [_nested(part, "ids") for part in self._parts]
        trained = [_nested(part, "trained") for part in self._parts]
        self.lengths = _joined([np.diff(starts) for _, starts in self._ids])
        self._bounds = _joined([bounds for bounds, _ in trained])
        self._runs = np.concatenate(([0], np.cumsum(_joined([np.diff(starts) for _, starts in trained]))))
        self.straddling, self.stray_ends, self.decoder_at = (
            _joined([_array(part.column(name)) for part in self._parts]) for name in COUNTS
        )
        self.supervised = self.supervised_before(self.lengths)
        self._places: np.ndarray | None = None
        self._cut: Callable[[Example], Example] | None = None

    @classmethod
    def of(cls, examples: Iterable[Example]) -> ExampleTable:
        """A table of them in memory."""
        return cls.made(in_columns(examples), Remarks())

    @classmethod
    def made(cls, parts: Iterable[Columns], remarks: Remarks) -> ExampleTable:
        """The same of columns that are being made, and what is remarked of them meanwhile."""
        sink = pa.BufferOutputStream()
        write_table(sink, parts, remarks)
        return cls(pa.ipc.open_file(sink.getvalue()))

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """One example, or a list of some; each is made anew."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        if self._places is None:
            return self._example(row)
        example = self._example(int(self._places[row]))
        return self._cut(example) if self._cut else example

    def __iter__(self) -> Iterator[Example]:
        return (self[row] for row in range(len(self)))

    def source(self, row: int) -> str:
        """Where a row came from; of a table that nothing has been selected from."""
        part, at = divmod(row, ROWS)
        return self._parts[part].column("source")[at].as_py()

    def supervised_before(self, ends: np.ndarray) -> np.ndarray:
        """Supervised tokens of each row before a place in it; of a table that nothing has been selected from."""
        runs = self._runs // 2
        ends_of_runs = np.repeat(ends, np.diff(runs))
        trained = np.minimum(self._bounds[1::2], ends_of_runs) - np.minimum(self._bounds[::2], ends_of_runs)
        return np.diff(np.concatenate(([0], np.cumsum(trained)))[runs])

    def select(
        self, kept: np.ndarray, lengths: np.ndarray, supervised: np.ndarray, cut: Callable[[Example], Example]
    ) -> ExampleTable:
        """The rows where `kept`, each as `cut` gives it; lengths and supervised: of all rows, after it."""
        chosen = object.__new__(ExampleTable)
        chosen.__dict__.update(self.__dict__)
        chosen._places, chosen._cut = np.flatnonzero(kept), cut
        chosen.lengths, chosen.supervised = lengths[kept], supervised[kept]
        for name in COUNTS:
            setattr(chosen, name, getattr(self, name)[kept])
        return chosen

    def _example(self, row: int) -> Example:
        part, at = divmod(row, ROWS)
        values, starts = self._ids[part]
        ids = values[starts[at] : starts[at + 1]].tolist()
        labels = [IGNORED] * len(ids)
        bounds = self._bounds[self._runs[row] : self._runs[row + 1]].tolist()
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            labels[start:end] = ids[start:end]
        others = (self._parts[part].column(name)[at].as_py() for name in SCHEMA.names[2:])
        return Example(ids, labels, *others)


def write_table(stream: IO[bytes] | pa.NativeFile, parts: Iterable[Columns], remarks: Remarks) -> None:
    """Write examples as they come; the remarks, which may grow until the last has come, behind them."""
    with pa.ipc.new_file(stream, SCHEMA) as writer:
        for part in parts:
            writer.write_batch(_batch(part))
        writer.write_batch(_batch(Columns.of([])), custom_metadata={REMARKS: json.dumps(asdict(remarks)).encode()})


def open_table(path: Path) -> ExampleTable:
    """The table of a file, mapped into memory. pyarrow's errors, ValueError or KeyError when it is none."""
    return ExampleTable(pa.ipc.open_file(pa.memory_map(str(path))))


def _batch(part: Columns) -> pa.RecordBatch:
    bounds, counts = _runs(part.trained, part.starts)
    sources = [one.encode("utf-8", "backslashreplace") for one in part.sources]  # half surrogates in a file's name
    is_complete = np.packbits(part.is_complete, bitorder="little")
    columns = [
        _lists(part.starts, part.ids),
        _lists(places(counts), bounds),
        pa.Array.from_buffers(pa.string(), len(part), _buffers(places(map(len, sources)), b"".join(sources))),
        pa.Array.from_buffers(pa.bool_(), len(part), _buffers(is_complete)),
        *(_numbers(getattr(part, name)) for name in COUNTS),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _runs(trained: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the runs of trained tokens, counted from the beginning of their row, and how many numbers a row has."""
    is_first, is_last = np.zeros((2, len(trained) + 1), dtype=np.bool_)  # one more, for an empty row at the end
    is_first[starts[:-1]] = True
    is_last[starts[1:] - 1] = True
    edge = np.zeros(1, dtype=np.bool_)
    begins = np.flatnonzero(trained & (is_first[:-1] | ~np.concatenate((edge, trained[:-1]))[: len(trained)]))
    ends = np.flatnonzero(trained & (is_last[:-1] | ~np.concatenate((trained[1:], edge))[: len(trained)])) + 1
    row_of = np.searchsorted(starts, begins, side="right") - 1
    bounds = np.stack((begins - starts[row_of], ends - starts[row_of]), axis=1).astype(np.int32).ravel()
    return bounds, 2 * np.bincount(row_of, minlength=len(starts) - 1)


def _nested(part: pa.RecordBatch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column of lists, and where each list begins and the last ends; none is copied."""
    column = part.column(name)
    return _array(column.values), _array(column.offsets)


# Arrow's own conversions import pandas, which takes as long as 2,000 rows: buffers go in and out as they are.


def _numbers(values: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), _buffers(values))


def _lists(starts: np.ndarray, values: np.ndarray) -> pa.Array:
    kind = pa.list_(pa.int32())
    return pa.Array.from_buffers(kind, len(starts) - 1, _buffers(starts), children=[_numbers(values)])


def _buffers(*contents: np.ndarray | bytes) -> list[pa.Buffer | None]:
    """Without the first, which would say what is null."""
    return [None, *map(pa.py_buffer, contents)]


def _array(column: pa.Array) -> np.ndarray:
    """The numbers of a column; they are not copied."""
    if not len(column):
        return np.zeros(0, dtype=np.int32)
    return np.frombuffer(column.buffers()[1], np.int32, count=len(column), offset=4 * column.offset)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)
