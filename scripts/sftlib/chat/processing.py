"""Raw files to data/processed: read, understand, clean, split, and account for every row.

In: the data section of the config and the raw paths. Out: train.jsonl, val.jsonl, test.jsonl, rejected.jsonl and
report.json in one folder, each whole or not at all, and the `ProcessReport` of what became of every row. Rows stream
through; what must be known of all of them lies on the disk (splitting.py).

    rejected.jsonl   {"source": "faq.jsonl:17", "reason": "empty answer", "detail": "...", "seen": "{\\"q\\": ..."}

`reason` is one of a few phrases to count by. Rows equal to an earlier one are listed too, as "duplicate", but are no
fault: they do not count against data.max_rejected. When that is exceeded only rejected.jsonl is written, and older
splits stay as they are.
Worst bug: a row that disappears (tests/chat/test_processing.py).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from .. import console
from ..config.schema import DataSection
from ..errors import DataError
from ..files import json_line, sha256_file, whole_file, write_json
from ..units import percent
from .cleaning import clean
from .formats import UNKNOWN_SHAPE, detect, to_conversation
from .readers import Source, find_sources
from .report import DUPLICATE, ProcessReport
from .rows import RawRow, Rejected, RowError, clip, compact_json
from .splitting import SPLITS, SplitTable


def process(section: DataSection, seed: int, raw_paths: Sequence[str], out_dir: str | Path) -> ProcessReport:
    """Make the splits. DataError when too many rows, or all of them, cannot be used."""
    out = Path(out_dir)
    sources, skipped = find_sources(raw_paths, section.encoding)
    report = ProcessReport(seed, {name: getattr(section.split, name) for name in SPLITS})
    report.skipped = [{"path": path, "why": why} for path, why in skipped]
    with SplitTable(seed) as table:
        with whole_file(out / "rejected.jsonl") as rejected:
            _take_in(sources, section.columns, table, report, rejected)
        _check_rejected(report, section.max_rejected, out / "rejected.jsonl")
        questions = table.assign(report.shares)
        rows = _write_splits(table, out, report.kept_rows)
    for name in SPLITS:
        digest = sha256_file(out / f"{name}.jsonl")
        report.splits[name] = {"rows": rows[name], "questions": questions[name], "sha256": digest}
    write_json(out / "report.json", asdict(report))
    return report


def _take_in(
    sources: Sequence[Source], columns: Mapping[str, str], table: SplitTable, report: ProcessReport, rejected: IO[str]
) -> None:
    """Read everything once: usable rows go into the table, the others into `rejected`, all into the report."""
    sizes = [source.size for source in sources if source.size is not None]
    in_bytes = len(sizes) == len(sources)
    with console.Meter("raw data", sum(sizes) if in_bytes else None, unit=" bytes" if in_bytes else " rows") as meter:
        for source in sources:
            before = report.read
            for row in source.read(meter.advance if in_bytes else None):
                outcome = _take(row, columns, table, report)
                if outcome is not None:
                    report.reject(outcome)
                    rejected.write(json_line({key: clip(value) for key, value in asdict(outcome).items()}))
                if not in_bytes:
                    meter.advance()
            report.close_file(source, report.read - before, sha256_file(source.path) if source.path else None)


def _take(
    row: RawRow | Rejected, columns: Mapping[str, str], table: SplitTable, report: ProcessReport
) -> Rejected | None:
    """Put one row into the table, or say why not."""
    if isinstance(row, Rejected):
        return row
    try:
        format = detect(row.value, columns)
        conversation, changes = clean(to_conversation(row.value, format, row.source))
        unused = format.left_out(row.value)
    except RowError as error:
        return Rejected(row.source, error.reason, error.detail, compact_json(row.value))
    if first := table.add(conversation):
        return Rejected(row.source, DUPLICATE, f"equal to {first}", compact_json(row.value))
    report.accept(format, changes, unused, row.source)
    return None


def _check_rejected(report: ProcessReport, allowed: float, listed: Path) -> None:
    """DataError when more rows were rejected than allowed, or none is left."""
    if report.read == 0:
        names = ", ".join(file["path"] for file in report.files)
        raise DataError("The raw data holds no rows.", where=names, cure="Add rows, or choose other data.raw_path.")
    if report.kept_rows and report.rejected_rows <= allowed * report.read:
        return
    report.show_rejected()
    reason, count, example = report.main_reason()
    raise DataError(
        f"{report.rejected_rows} of {report.read} rows ({percent(report.rejected_rows, report.read)}) cannot be used, "
        f"{count} of them for: {reason}, as in {example}",
        where=str(listed),
        expected=f"at most {percent(allowed, 1)} (data.max_rejected), and one usable row or more",
        cure=(
            "Add the line `data.columns: ...` named above to the config."
            if reason == UNKNOWN_SHAPE and "data.columns: {" in example
            else "Repair the rows listed in that file, or raise data.max_rejected. Older splits were left as they are."
        ),
    )


def _write_splits(table: SplitTable, out: Path, total: int) -> Counter[str]:
    """Write the three files, and let them appear together."""
    rows: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        streams = {name: stack.enter_context(whole_file(out / f"{name}.jsonl")) for name in SPLITS}
        for name, line in console.progress(table.rows(), "splits", total):
            streams[name].write(line)
            rows[name] += 1
    return rows
