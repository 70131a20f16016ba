"""An analysis on the terminal: what was found, what to do, how long the rows are. It fits two screens.

In: the dict of `build_analyze.analyze`. Out: tables; examples and all the rest are on the page.
Worst bug: a finding that is on the page and not here (tests/test_analyze.py).
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from .. import console
from ..units import percent

SOURCES = 2  # shown of a finding
SETS = 12
RARE = 0.001  # languages of a smaller share are on the page


def show(analysis: dict[str, Any]) -> None:
    """All tables."""
    _show_sets(analysis)
    _show_findings(analysis)
    _show_limits(analysis)


def _show_sets(analysis: dict[str, Any]) -> None:
    unit = analysis["unit"]
    splits = [split["name"] for split in analysis["splits"]]
    headers = ["", "rows", *splits, "turns", "languages", f"{unit}: median", "95 %", "longest", "supervised"]
    rows = [
        [
            one["name"], one["rows"], *(one["by_split"].get(split, 0) for split in splits), one["turns"],
            _languages(one["languages"], one["rows"]), *_lengths(one["lengths"]),
        ]
        for one in analysis["sets"][:SETS]
    ]  # fmt: skip
    if len(analysis["sets"]) > 1:
        sums = [split["rows"] for split in analysis["splits"]]
        told = {one["code"]: one["rows"] for one in analysis["languages"][:3] if one["code"]}
        turns = sum(one["turns"] * one["rows"] for one in analysis["turns"]) / analysis["rows"]
        rows.append(
            [
                "all",
                analysis["rows"],
                *sums,
                round(turns, 2),
                _languages(told, analysis["rows"]),
                *_lengths(analysis["lengths"]),
            ]
        )
    console.table("What there is", headers, rows)
    if len(analysis["sets"]) > SETS:
        console.result(f"and {len(analysis['sets']) - SETS} more data sets")
    console.result()


def _lengths(lengths: dict[str, Any] | None) -> list[Any]:
    if lengths is None:
        return ["-"] * 4
    rows = lengths["rows"]
    return [rows["median"], rows["p95"], rows["max"], percent(lengths["answers"]["sum"], rows["sum"])]


def _languages(counts: dict[str, int], rows: int) -> str:
    shown = {code: count for code, count in counts.items() if count >= RARE * rows}
    return ", ".join(f"{code} {percent(count, rows)}" for code, count in shown.items()) or "not told"


def _show_findings(analysis: dict[str, Any]) -> None:
    findings = analysis["findings"]
    for style in analysis["styles"]:
        share = percent(style["share"], 1)
        console.note(f"{style['title']}: {share} of {style['dataset']}. So many are its style, and no finding.")
    if not findings:
        console.result(f"Nothing to look at: {len(analysis['not_found'])} kinds of faults were looked for.\n")
        return
    rows = [
        [
            "!" if one["is_serious"] else "", one["title"], one["rows"], percent(one["share"], 1),
            ", ".join(PurePath(source).name for source in one["sources"][:SOURCES]),
        ]
        for one in findings
    ]  # fmt: skip
    console.table("To look at (! is serious)", ["", "", "rows", "share", "the first"], rows)
    console.result("\nWhat to do")
    for one in findings:
        console.result(f"  {one['title']}: {one['advice']}")
    console.result()


def _show_limits(analysis: dict[str, Any]) -> None:
    limits = analysis["limits"]
    if limits is None:
        return
    rows = [
        [
            choice["limit"], ", ".join(choice["names"]), choice["rows_longer"], percent(choice["rows_longer_share"], 1),
            percent(choice["dropped_share"], 1), percent(choice["cut_share"], 1), percent(choice["trained_share"], 1),
            f"{choice['attention']:.2f}x", "-" if choice["memory"] is None else f"{choice['memory']:.2f} GiB",
        ]
        for choice in limits["choices"]
    ]  # fmt: skip
    headers = ["max_seq_len", "", "rows longer", "", "lost if dropped", "if cut", "trained", "attention", "memory"]
    title = f"What model.max_seq_len costs, in supervised tokens (data.truncation is {limits['policy']})"
    console.table(title, headers, rows)
    console.result(limits["advice"])
