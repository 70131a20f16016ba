"""The page of an analysis: one file that needs no network, no script and no other file.

In: the dict of `build_analyze.analyze`. Out: HTML. Jinja escapes every text of the data; only the plots, which hold no
text of the data but names of data sets and languages that matplotlib escapes, go in as they are.

Worst bug: a row whose text becomes part of the page (tests/report/test_page.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..units import human_duration, percent
from . import plots

TEMPLATE = "analysis.html.jinja"
SOURCES = 5  # shown of a finding; report.json has more
SETS = 12  # of a plot; a table has all


def render(analysis: dict[str, Any]) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": lambda value: f"{value:,}", "percent": lambda share: percent(share, 1)}
    environment.globals |= {"shown_sources": SOURCES}
    return environment.get_template(TEMPLATE).render(
        **analysis, plots={name: Markup(svg) for name, svg in _plots(analysis).items()},
        duration=human_duration(sum(analysis["seconds"].values())),
    )  # fmt: skip


def _plots(analysis: dict[str, Any]) -> dict[str, str]:
    unit, limits = analysis["unit"], analysis["limits"]
    marks = [(f"95 % of rows: {analysis['lengths']['rows']['p95']:,}", analysis["lengths"]["rows"]["p95"])]
    drawn = {
        "supervised": plots.supervised(
            analysis["supervised"]["by_row"], analysis["supervised"]["share"], f"Rows by supervised share of {unit}"
        ),
    }  # fmt: skip
    for name, key, label in (
        ("sets", "name", "data set"),
        ("languages", "code", "language"),
        ("turns", "turns", "turns"),
    ):
        if len(analysis[name]) > 1:
            drawn[name] = plots.shares(*_named(analysis[name], key), f"Share of rows by {label}")
    if limits:
        now = (f"model.max_seq_len now: {limits['configured']:,}", limits["configured"])
        of_training = (f"95 % of rows: {limits['p95']:,}", limits["p95"])
        bend = (f"knee: {limits['knee']:,}", limits["knee"])
        drawn["kept"] = plots.kept(
            limits["curve"], [of_training, bend, now], "Supervised tokens kept by model.max_seq_len"
        )
        marks.append(now)
    drawn["lengths"] = plots.lengths(analysis["histogram"], marks, unit, f"Rows by their length in {unit}")
    return drawn


def _named(entries: list[dict[str, Any]], key: str) -> tuple[list[str], list[float]]:
    """Names and shares of the first entries, the others added up."""
    shown = [(_name(one[key]), one["share"]) for one in entries[:SETS]]
    if len(entries) > SETS:
        shown.append(("others", sum(one["share"] for one in entries[SETS:])))
    return [label for label, _ in shown], [share for _, share in shown]


def _name(value: str | int) -> str:
    return "not told" if value == "" else str(value)
