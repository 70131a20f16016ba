"""From the runs of a bench to its figures: medians, spread, ratios; as tables, as JSON and as lines of a page.

    one = found(work, standings)                        -> `Found`: a comparison and a line for each entrant
    publish(folder, page, "train", rounds, command, [one])
    -> outputs/bench/train-20261121-200000.json, and docs/BENCHMARKS.md between its marks

A ratio is an entrant's median over that of the first line, so above 1 the first line is ahead. Spread is (slowest -
fastest) / median.

Worst bug: a ratio of figures that are no comparison (tests/bench/test_results.py).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import console
from ..errors import DataError
from ..files import write_json, write_text
from .campaign import Standing
from .entrants import spelled
from .work import Column, Work


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of a table: medians, spreads and ratios by the value of their column. `note`: why something is missing.

    is_void: it ran, and is no comparison.
    """

    name: str
    title: str
    options: str
    versions: Mapping[str, str]
    runs: Sequence[Mapping[str, Any]]
    medians: Mapping[str, float] = field(default_factory=dict)
    spreads: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    is_void: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A comparison and its lines."""

    work: Work
    lines: Sequence[Figures]


def found(work: Work, standings: Mapping[str, Standing]) -> Found:
    """The figures of all; ratios only where both sides ran and nothing speaks against them."""
    first, *others = standings.values()
    ours = _figures(work.columns, first, None)
    return Found(work, [ours, *(_figures(work.columns, other, ours) for other in others)])


def _figures(columns: Iterable[Column], standing: Standing, first: Figures | None) -> Figures:
    entrant = standing.entrant
    runs = [
        {"process_seconds": ran.process_seconds, "peak_gib": ran.peak_gib, **ran.report} for ran in standing.runs
    ]  # fmt: skip
    medians, spreads, ratios = {}, {}, {}
    note = standing.error or "; ".join(standing.faults)
    for column in columns:
        values = [run[column.value] for run in runs if run.get(column.value) is not None]
        if not values and standing.found.get(column.value) is not None:
            values = [standing.found[column.value]]
        if not values:
            continue
        middle = medians[column.value] = statistics.median(values)
        if column.with_spread and middle:
            spreads[column.value] = (max(values) - min(values)) / middle
        if column.is_compared and first is not None and not first.note and not note and first.medians.get(column.value):
            ratios[column.value] = middle / first.medians[column.value]
    return Figures(
        entrant.name, entrant.title, spelled(entrant.options), runs[0]["versions"] if runs else {}, runs, medians,
        spreads, ratios, note, bool(standing.faults),
    )  # fmt: skip


def tables(all_found: Sequence[Found]) -> list[tuple[list[str], list[list[str]]]]:
    """Headers and cells; comparisons with the same columns share a table, in which their labels stand first."""
    made = []
    for columns, group in groupby(all_found, key=lambda one: one.work.columns):
        several = list(group)
        labels = ["What"] if len(several) > 1 else []
        headers = [*labels, "Who", *(header for column in columns for header in _headers(column))]
        rows = [
            [*[one.work.label] * len(labels), line.title, *(cell for each in columns for cell in _cells(each, line))]
            for one in several
            for line in one.lines
        ]  # fmt: skip
        made.append((headers, rows))
    return made


def page_lines(about: Mapping[str, Any], all_found: Sequence[Found]) -> list[str]:
    """What stands on the page: what was run where, the tables, and what each line was run with."""
    lines = [f"{about['date']}, {about['device']}, {about['rounds']} rounds: `{about['command']}`", ""]
    for one in all_found:
        lines.append(f"- {one.work.label + ': ' if one.work.label else ''}{one.work.said}.")
    for headers, rows in tables(all_found):
        lines += ["", f"| {' | '.join(headers)} |", f"|{' --- |' * len(headers)}"]
        lines += [f"| {' | '.join(cells)} |" for cells in rows]
    said = [_line_said(line) for one in all_found for line in one.lines]
    remarks = [f"- {remark}" for one in all_found for remark in one.work.remarks]
    return [*lines, "", *dict.fromkeys([*filter(None, said), *remarks])]


def write_results(path: Path, about: Mapping[str, Any], all_found: Sequence[Found]) -> None:
    """Everything that was measured, each run by itself."""
    comparisons = [
        {"kind": type(one.work).__name__, "work": asdict(one.work), "entrants": [asdict(line) for line in one.lines]}
        for one in all_found
    ]  # fmt: skip
    write_json(path, {"about": dict(about), "comparisons": comparisons})


def publish(folder: Path, page: Path, name: str, rounds: int, command: str, all_found: Sequence[Found]) -> None:
    """Write a bench down: a new file in the folder, and the page's table of this name, where it has one."""
    now = datetime.now()
    about = {
        "workload": name, "date": f"{now:%Y-%m-%d}", "device": all_found[0].work.device, "rounds": rounds,
        "command": command,
    }  # fmt: skip
    write_results(folder / f"{name}-{now:%Y%m%d-%H%M%S}.json", about, all_found)
    if has_place(page, name):
        update_page(page, name, page_lines(about, all_found))
    else:
        console.note(f"{page} has no table `{name}`, so it stays as it is.")


def has_place(page: Path, name: str) -> bool:
    """Whether the page has a table of this name."""
    return page.is_file() and f"<!-- bench:{name} -->" in page.read_text(encoding="utf-8")


def update_page(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put lines between the marks of this name. DataError when the page does not have them, once each, in order."""
    text = page.read_text(encoding="utf-8")
    opened, closed = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    if len(re.findall(f"{opened}\n.*?{closed}", text, re.S)) != 1 or text.count(opened) + text.count(closed) != 2:
        raise DataError(
            "The page has no place for this table.", where=str(page),
            expected=f"one line {opened}, and below it {closed}", cure="Put both lines where the table belongs.",
        )  # fmt: skip
    before, _, rest = text.partition(opened)
    after = rest.partition(closed)[2]
    write_text(page, "\n".join([before + opened, *lines, closed]) + after)


def _headers(column: Column) -> list[str]:
    return [column.header, *["spread"] * column.with_spread, *["ratio"] * column.is_compared]


def _cells(column: Column, line: Figures) -> list[str]:
    cells = [(line.medians, column.form, ""), *[(line.spreads, ".0%", "")] * column.with_spread]
    cells += [(line.ratios, ".2f", "x")] * column.is_compared
    return ["-" if column.value not in of else f"{of[column.value]:{form}}{unit}" for of, form, unit in cells]


def _line_said(line: Figures) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in line.versions.items())
    said = [part for part in (versions, line.options and f"`{line.options}`", line.note and f"**{line.note}**") if part]
    return f"- {line.title}: {'; '.join(said)}." if said else ""
