"""Raw files to data/processed: read, understand, clean, split, and account for every row.

In: the data section of the config, and raw paths where others than its own are asked for. Out: train.jsonl, val.jsonl,
test.jsonl, rejected.jsonl and report.json in one folder, each whole or not at all, and the `ProcessReport` of what
became of every row. Rows stream through; what must be known of all of them lies on the disk (splitting.py).

    rejected.jsonl   {"source": "faq.jsonl:17", "reason": "empty answer", "detail": "...", "seen": "{\\"q\\": ..."}

`reason` is one of a few phrases to count by. Rows equal to an earlier one are listed too, as "duplicate", and those of
data.blocklist and those that belong to rows of two splits; they are no fault and do not count against
data.max_rejected, which holds for each data set by itself. When it is exceeded only rejected.jsonl is written, and
older splits stay as they are. What the splits are made of stands in report.json as `key` (freshness.py).
Worst bug: a row that disappears (tests/chat/test_processing.py).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from .. import console
from ..config.schema import DataSection
from ..errors import DataError
from ..files import json_line, sha256_file, whole_file, write_json
from ..units import percent, some
from .blocklist import Blocklist
from .cleaning import clean
from .dealing import SPLITS
from .formats import UNKNOWN_SHAPE, detect, to_conversation
from .freshness import key_of
from .raw_sets import RawSet, put_system, raw_sets
from .readers import Source, find_sources
from .report import BLOCKED, DUPLICATE, IN_TWO_SPLITS, ProcessReport
from .rows import RawRow, Rejected, RowError, clip, compact_json, to_text
from .splitting import SplitTable

FIELDS = 20  # names of fields in the error where data.group_by is none of them


def process(section: DataSection, seed: int, raw_paths: Sequence[str] | None, out_dir: str | Path) -> ProcessReport:
    """Make the splits. DataError when too many rows, or all of them, cannot be used."""
    out = Path(out_dir)
    sets = raw_sets(section, raw_paths)
    report = ProcessReport(seed, {name: getattr(section.split, name) for name in SPLITS})
    sources = _find(sets, section.encoding, report)
    with SplitTable(seed, section.near_duplicates) as table:
        intake = _Intake(section, seed, table, report)
        with whole_file(out / "rejected.jsonl") as rejected:
            intake.take_in(sets, sources, rejected)
            fault = intake.fault(sets, out / "rejected.jsonl")
            if fault is None:
                dealt = table.assign(report.shares, [one.name for one in sets])
                report.note_dealt(dict(zip((one.name for one in sets), dealt, strict=True)), section.group_by)
                for row in table.left_out():
                    detail = f"it belongs to rows of {' and '.join(row.splits)}"
                    _write(rejected, Rejected(row.source, IN_TWO_SPLITS, detail, row.line.strip()))
        if fault is not None:
            if report.rejected:
                report.show_rejected()
            raise fault
        _write_splits(table, out, report, sets)
    report.unmet = intake.blocklist.unmet()
    report.key = key_of(section, seed, sets, {file["path"]: file["sha256"] for file in report.files})
    write_json(out / "report.json", asdict(report))
    return report


def _find(sets: Sequence[RawSet], encoding: str, report: ProcessReport) -> list[list[Source]]:
    """The sources of each data set, before anything is read."""
    found = []
    for one in sets:
        sources, skipped = find_sources(one.paths, encoding, one.key)
        found.append(sources)
        report.skipped += [{"path": path, "why": why} for path, why in skipped]
    return found


class _Intake:
    """The way of the raw rows into the table, or into rejected.jsonl; all of them into the report."""

    def __init__(self, section: DataSection, seed: int, table: SplitTable, report: ProcessReport) -> None:
        self._section, self._seed, self._table, self._report = section, seed, table, report
        self.blocklist = Blocklist.read(section.blocklist) if section.blocklist else Blocklist([])
        self._fields: dict[str, None] = {}  # of rows without data.group_by
        self._grouped = 0  # rows with it

    def take_in(self, sets: Sequence[RawSet], sources: Sequence[Sequence[Source]], rejected: IO[str]) -> None:
        """Read everything once."""
        sizes = [source.size for of_set in sources for source in of_set]
        known = [size for size in sizes if size is not None]
        in_bytes = len(known) == len(sizes)
        unit = " bytes" if in_bytes else " rows"
        report = self._report
        with console.Meter("raw data", sum(known) if in_bytes else None, unit=unit) as meter:
            for rank, (raw_set, of_set) in enumerate(zip(sets, sources, strict=True)):
                report.open_set(raw_set.name)
                for source in of_set:
                    before = report.read
                    for row in source.read(meter.advance if in_bytes else None):
                        outcome = self._take(row, raw_set, rank)
                        if outcome is not None:
                            report.reject(outcome)
                            _write(rejected, outcome)
                        if not in_bytes:
                            meter.advance()
                    digest = sha256_file(source.path) if source.path else None
                    report.close_file(source, report.read - before, digest)

    def fault(self, sets: Sequence[RawSet], listed: Path) -> DataError | None:
        """Why no splits are made: too many rows of a data set were rejected, none is left, none has data.group_by."""
        for one in sets:
            if (fault := self._fault_of(one, listed)) is not None:
                return fault
        report, field = self._report, self._section.group_by
        if not report.kept_rows:
            return DataError(
                f"Of {report.read} rows none is left: {report.blocked} are on the blocklist, {report.rejected_rows} "
                "cannot be used.", where=str(listed), cure="Look at that file; shorten data.blocklist, or add rows.",
            )  # fmt: skip
        if field is not None and not self._grouped:
            return DataError(
                f"No row has the field {field!r}, which data.group_by names.",
                where=some(sorted({path for one in sets for path in one.paths}), 3),
                expected=f"one of the fields there are: {some(list(self._fields), FIELDS)}",
                cure="Correct data.group_by, or set it to null.",
            )  # fmt: skip
        return None

    def _take(self, row: RawRow | Rejected, raw_set: RawSet, rank: int) -> Rejected | None:
        """Put one row into the table, or say why not."""
        if self.blocklist.has(row.source):
            seen = row.seen if isinstance(row, Rejected) else compact_json(row.value)
            return Rejected(row.source, BLOCKED, f"{self._section.blocklist} lists it", seen)
        if isinstance(row, Rejected):
            return row
        try:
            format = detect(row.value, raw_set.columns)
            conversation, changes = clean(to_conversation(row.value, format, row.source, raw_set.name))
            unused = format.left_out(row.value)
            group = self._group(row)
        except RowError as error:
            return Rejected(row.source, error.reason, error.detail, compact_json(row.value))
        first = self._table.add(put_system(conversation, raw_set, self._seed), rank, group)
        if first is not None:
            return Rejected(row.source, DUPLICATE, f"equal to {first}", compact_json(row.value))
        self._report.accept(format, changes, (name for name in unused if name != self._section.group_by), row.source)
        return None

    def _group(self, row: RawRow) -> str | None:
        """What the row holds in data.group_by."""
        name = self._section.group_by
        if name is None:
            return None
        value = to_text(row.value.get(name))
        if value is not None:
            self._grouped += 1
        elif len(self._fields) < 2 * FIELDS:
            self._fields |= dict.fromkeys(map(clip, row.value))
        return value

    def _fault_of(self, one: RawSet, listed: Path) -> DataError | None:
        report, allowed = self._report, self._section.max_rejected
        counts = report.sets[one.name]
        if counts.read == 0:
            where = ", ".join(file["path"] for file in report.files if file["dataset"] == one.name)
            what = f"The data set {one.name}" if one.name else "The raw data"
            return DataError(f"{what} holds no rows.", where=where, cure=f"Add rows, or choose other {one.key}.")
        if counts.rejected <= allowed * counts.read and counts.rejected < counts.read:
            return None
        reason, count, example = counts.main_reason()
        is_unknown = reason == UNKNOWN_SHAPE and "data.columns: {" in example
        key = one.key.removesuffix("path") + "columns" if one.name else "data.columns"
        return DataError(
            f"{counts.rejected} of {counts.read} rows{f' of {one.name}' if one.name else ''} "
            f"({percent(counts.rejected, counts.read)}) cannot be used, {count} of them for: {reason}, as in {example}",
            where=str(listed),
            expected=f"at most {percent(allowed, 1)} (data.max_rejected), and one usable row or more",
            cure=(
                f"Add the line `data.columns: ...` named above to the config{f', as {key}' if one.name else ''}."
                if is_unknown
                else "Repair the rows listed in that file, or raise data.max_rejected. Older splits were left as they "
                "are."
            ),
        )


def _write(rejected: IO[str], row: Rejected) -> None:
    rejected.write(json_line({key: clip(value) for key, value in asdict(row).items()}))


def _write_splits(table: SplitTable, out: Path, report: ProcessReport, sets: Sequence[RawSet]) -> None:
    """Write the three files, let them appear together, and note what is in them."""
    counts = {name: [0] * len(sets) for name in SPLITS}
    digests = {name: [hashlib.sha256() for _ in sets] for name in SPLITS}
    with contextlib.ExitStack() as stack:
        streams = {name: stack.enter_context(whole_file(out / f"{name}.jsonl")) for name in SPLITS}
        for row in console.progress(table.rows(), "splits", report.kept_rows):
            streams[row.split].write(row.line)
            counts[row.split][row.rank] += 1
            digests[row.split][row.rank].update(row.line.encode("utf-8"))
    for name in SPLITS:
        report.splits[name] = {
            "rows": sum(counts[name]), "questions": report.groups[name], "sha256": sha256_file(out / f"{name}.jsonl"),
            "sets": dict(_filled(sets, counts[name], digests[name])),
        }  # fmt: skip


def _filled(
    sets: Sequence[RawSet], counts: Sequence[int], digests: Sequence[hashlib._Hash]
) -> Iterator[tuple[str, dict[str, int | str]]]:
    for one, rows, digest in zip(sets, counts, digests, strict=True):
        if rows:
            yield one.name, {"rows": rows, "sha256": digest.hexdigest()}
