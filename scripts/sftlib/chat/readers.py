"""Raw files of any supported kind, as a stream of rows that know where they came from.

In: paths of files and folders, or `hf:org/name[/config][:split]`. Out: `Source`s whose `read()` yields `RawRow`, or
`Rejected` for a line or row that is broken by itself. What a file holds is decided by what is in it, not by its name:

    Parquet       begins with PAR1                                source: data.parquet:17   (row number)
    JSON Lines    half or more of its first 20 lines are objects          faq.jsonl:17      (line number)
    JSON          begins with [ or {: array, object, or {"data": [...]}   faq.json:42       (line of its {)
    CSV, TSV      the rest, where a delimiter is found                    faq.csv:17        (line of its first cell)
    hub           hf:...                                                  hf:org/name:train:17

Memory holds a block, a row, or a Parquet row group, never a file. Which columns are the question and the answer is the
business of formats.py; what is usable, of cleaning.py.
Worst bug: a row that vanishes, or a row under the wrong place (tests/chat/test_readers.py).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DataError, SftError
from .decoding import BLOCK, MAX_ROW, choose_encoding, numbered_lines, text_blocks
from .jsonstream import json_rows
from .rows import RawRow, Rejected, clip, kind, parse_json
from .slices import Slice

BROKEN_JSON = "broken JSON"
NOT_AN_OBJECT = "not an object"
WRONG_CELLS = "cells do not fit the header"
BROKEN_CSV = "broken CSV"

OnBytes = Callable[[int], None]
Rows = Iterator["RawRow | Rejected"]

_SAMPLE_LINES = 20
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")  # what is data in a folder by its name
_CERTAIN = ("JSON Lines", "Parquet")  # what is data in a folder under any name; a README can pass for CSV
_OTHERS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"ARROW1", "Arrow IPC"),
)


@dataclass(frozen=True)
class Source:
    """One file, or one split of the hub. `read(on_bytes)` streams it; `why` says what it was taken for."""

    name: str
    kind: str
    why: str
    size: int | None  # bytes, None where nobody knows
    read: Callable[[OnBytes | None], Rows]
    path: Path | None = None


def find_sources(
    paths: Sequence[str], encoding: str = "auto", key: str = "data.raw_path"
) -> tuple[list[Source], list[tuple[str, str]]]:
    """The sources behind the paths, folders in sorted order, and the files left out with the reason.

    Hidden files are no data and are passed over. A file that is reached twice is read once.
    key: what the config calls the paths.
    """
    sources: list[Source] = []
    skipped: list[tuple[str, str]] = []
    seen: set[Path] = set()
    for name in paths:
        if name.startswith("hf:"):
            sources.append(_hub_source(name, key))
            continue
        path = Path(name)
        if not path.exists():
            raise DataError(f"There is no file or folder {name!r}.", where=key, cure=_cure(key))
        for file in _files_of(path) if path.is_dir() else [path]:
            if file.resolve() in seen:
                skipped.append((str(file), "it was reached before"))
                continue
            seen.add(file.resolve())
            expected = file is path or file.suffix.lower() in _SUFFIXES
            try:
                source = _file_source(file, encoding)
            except DataError:
                if expected:
                    raise
                source = None
            if source is not None and (expected or source.kind in _CERTAIN):
                sources.append(source)
            else:
                skipped.append((str(file), f"it is neither JSON Lines nor Parquet, nor named {' '.join(_SUFFIXES)}"))
    if not sources:
        left_out = "".join(f" {name} was left out: {why}" for name, why in skipped[:3])
        raise DataError(f"{', '.join(paths) or key} holds no raw data.{left_out}", cure=_cure(key))
    return sources, skipped


def _files_of(folder: Path) -> list[Path]:
    inside = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return [folder / file for file in sorted(inside) if not any(part.startswith(".") for part in file.parts)]


def _file_source(path: Path, encoding: str) -> Source:
    """What the file is, by its first bytes."""
    name = path.as_posix().encode("utf-8", "backslashreplace").decode()
    if not path.is_file():
        raise DataError("This is neither a file nor a folder.", where=name)
    try:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            magic = stream.read(8)
    except OSError as error:
        raise DataError(f"The file cannot be opened: {error.strerror}.", where=name) from None
    if magic.startswith(b"PAR1"):
        return Source(name, "Parquet", "begins with PAR1", size, partial(_parquet, path, name, size), path)
    for mark, what in _OTHERS:
        if magic.startswith(mark):
            raise DataError(
                f"This is {what}, which is not read.",
                where=name,
                expected="JSON, JSON Lines, CSV, TSV or Parquet",
                cure="Unpack it, or save it as one of these.",
            )
    codec = choose_encoding(path, encoding)
    head = "".join(islice(text_blocks(path, codec), 4))
    kind_name, why, rows_of = _text_kind(path, name, head, is_whole=size <= 4 * BLOCK)

    def read(on_bytes: OnBytes | None) -> Rows:
        return rows_of(text_blocks(path, codec, on_bytes), name)

    return Source(name, kind_name, f"{why}, {codec}", size, read, path)


def _text_kind(path: Path, name: str, head: str, *, is_whole: bool) -> tuple[str, str, Callable[..., Rows]]:
    """The kind of a text file, why, and its reader."""
    lines = head.split("\n")
    if not is_whole:
        lines.pop()  # cut in the middle
    sample = [line for line in lines if line.strip()][:_SAMPLE_LINES]
    objects = sum(map(_is_object, sample))
    first = head.lstrip()[:1]
    if not first and is_whole:
        return "empty", "it holds no text", _nothing
    if first != "[" and len(sample) > 1 and objects * 2 >= len(sample):
        return "JSON Lines", f"{objects} of its first {len(sample)} lines are objects", _json_lines
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv") and first in "[{":
        return "JSON", f"begins with {first}", _json
    delimiter = _sniff_delimiter(sample, suffix)
    if delimiter is None:
        raise DataError(
            "No rows can be made out: it is no JSON, and no comma, semicolon, tab or pipe divides its lines evenly.",
            where=name,
            expected="JSON, JSON Lines, CSV, TSV or Parquet",
            cure='Write one object a line, {"question": "...", "answer": "..."}, or a CSV with a header.',
        )
    columns = len(next(csv.reader(sample, delimiter=delimiter)))
    why = f"a {_DELIMITERS[delimiter]} divides its {columns} columns"
    return "TSV" if delimiter == "\t" else "CSV", why, partial(_delimited, delimiter=delimiter)


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line.strip()), dict)
    except ValueError:
        return False


def _nothing(blocks: Iterable[str], where: str) -> Rows:
    return iter(())


def _json_lines(blocks: Iterable[str], where: str) -> Rows:
    for number, line in numbered_lines(blocks, where):
        if line.strip():
            yield _json_row(line, where, number)


def _json(blocks: Iterable[str], where: str) -> Rows:
    for number, text in json_rows(blocks, where):
        yield _json_row(text, where, number)


def _json_row(text: str, where: str, line: int) -> RawRow | Rejected:
    source = f"{where}:{line}"
    try:
        value = parse_json(text.strip())
    except ValueError as error:
        return Rejected(source, BROKEN_JSON, str(error), clip(text))
    if not isinstance(value, dict):
        return Rejected(source, NOT_AN_OBJECT, f"the row is {kind(value)}", clip(text))
    return RawRow(value, source)


def _sniff_delimiter(sample: list[str], suffix: str) -> str | None:
    """The delimiter that cuts most of the sampled records into as many cells as the header, most cells on a tie."""
    best: tuple[float, int, str] | None = None
    for delimiter in ["\t"] if suffix == ".tsv" else _DELIMITERS:
        try:
            records = [record for record in csv.reader([line + "\n" for line in sample], delimiter=delimiter) if record]
        except csv.Error:
            continue
        if not records or len(records[0]) < 2:
            continue
        fitting = sum(len(record) == len(records[0]) for record in records) / len(records)
        best = max(best or (0.0, 0, ""), (fitting, len(records[0]), delimiter))
    return best[2] if best and (best[0] >= 0.5 or suffix in (".csv", ".tsv")) else None


def _delimited(blocks: Iterable[str], where: str, delimiter: str) -> Rows:
    csv.field_size_limit(MAX_ROW)
    lines = _Lines(blocks, where)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    header = [name.strip() or f"column {index}" for index, name in enumerate(_header(records, where), 1)]
    _refuse_same_names(header, f"{where}:1")
    while True:
        lines.record.clear()
        source = f"{where}:{records.line_num + 1}"
        try:
            cells = next(records, None)
        except csv.Error as error:
            if _is_endless(error):
                raise DataError(
                    f"A quote of this record never closes, so the rest of the file cannot be told apart ({error}).",
                    where=source,
                    cure="Close the quote; a quote inside a quoted text is written twice.",
                ) from None
            yield Rejected(source, BROKEN_CSV, str(error), clip("\n".join(lines.record)))
            continue
        if cells is None:
            return
        if any(cells[len(header) :]):
            detail = f"{len(cells)} cells, the header has {len(header)}; a text that holds the delimiter needs quotes"
            yield Rejected(source, WRONG_CELLS, detail, clip("\n".join(lines.record)))
        elif any(cells):
            yield RawRow({name: cell or None for name, cell in zip(header, cells, strict=False)}, source)


class _Lines:
    """Lines for a csv reader; `record` collects those of the record at hand."""

    def __init__(self, blocks: Iterable[str], where: str) -> None:
        self.record: list[str] = []
        self._lines = numbered_lines(blocks, where)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        _, line = next(self._lines)
        self.record.append(line)
        return line + "\n"


def _header(records: Iterator[list[str]], where: str) -> list[str]:
    """The first record that is not blank."""
    try:
        return next(record for record in records if record)
    except csv.Error as error:
        raise DataError(
            f"The header cannot be read: {error}.",
            where=f"{where}:1",
            expected="a first line that names the columns, such as question,answer",
            cure="Correct the first line.",
        ) from None


def _refuse_same_names(columns: Sequence[str], where: str) -> None:
    """DataError when two columns have one name: of a row only one of the two would be left."""
    if twice := next((name for name, count in Counter(columns).items() if count > 1), None):
        raise DataError(f"Two columns are named {twice!r}.", where=where, cure="Give each column its own name.")


def _is_endless(error: csv.Error) -> bool:
    return "unexpected end of data" in str(error) or "field larger" in str(error)


def _parquet(path: Path, name: str, size: int, on_bytes: OnBytes | None) -> Rows:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            _refuse_same_names(file.schema_arrow.names, name)
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(value, f"{name}:{number}")
                if on_bytes is not None:
                    on_bytes(size * batch.num_rows // max(file.metadata.num_rows, 1))
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        ArithmeticError,
        LookupError,
    ) as error:  # a date of year 9,999,999
        raise DataError(
            f"The Parquet file cannot be read after row {number}: {_first_line(error)}",
            where=name,
            cure="Write or download it again: it is damaged or cut short.",
        ) from None


def _hub_source(name: str, key: str) -> Source:
    address, _, split = name.removeprefix("hf:").partition(":")
    parts, split = address.split("/"), split or "train"
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError(
            f"{name!r} is no data set of the hub.",
            where=key,
            expected="hf:org/name, hf:org/name:split or hf:org/name/config:split",
            cure="Correct the name; a local file needs no hf: before it.",
        )
    read = partial(_hub, f"hf:{address}:{split}", "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, split)
    return Source(f"hf:{address}:{split}", "hub", "streamed from the hub", None, read)


def _hub(where: str, repository: str, config: str | None, split: str, on_bytes: OnBytes | None) -> Rows:
    part = Slice.parse(split)
    where = where.removesuffix(split) + part.split
    try:
        import datasets

        rows = datasets.load_dataset(repository, config, split=part.split, streaming=True)
        for number, value in part.rows(rows, _rows_of(rows, part.split) if part.needs_total else None):
            yield RawRow(dict(value), f"{where}:{number}")
    except SftError:
        raise
    except Exception as error:  # the client's own, its HTTP library's, its file system's: there is no common parent
        raise DataError(
            f"The hub does not give this data set: {type(error).__name__}: {_first_line(error)}",
            where=where,
            expected="a data set that can be streamed, and a connection to the hub",
            cure="Check name, split and connection (HF_HUB_OFFLINE forbids any), or get the files and give their path.",
        ) from error


def _rows_of(rows: Iterable[Mapping[str, Any]], split: str) -> int | None:
    """How many rows the hub says that a split has; None where it does not say."""
    splits = getattr(getattr(rows, "info", None), "splits", None) or {}
    return splits[split].num_examples if split in splits else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _cure(key: str) -> str:
    if key != "data.raw_path":
        return f"Correct {key}, or put JSON, JSON Lines, CSV, TSV or Parquet files there."
    return (
        "Put JSON, JSON Lines, CSV, TSV or Parquet files into data/raw, or take the sample with "
        "`cp data/sample/*.jsonl data/raw/`, or let ./workflows/quick_start.sh do it."
    )
