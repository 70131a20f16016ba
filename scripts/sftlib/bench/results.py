"""From the runs of a bench to its figures: medians, spread, ratios; as a table, as JSON and as lines of a page.

    figures(standings)                    -> one `Figures` an entrant, ours first
    write_results(path, about, figures)   -> outputs/bench/training-20261121-200000.json
    update_page(page, "training", lines)  -> docs/BENCHMARKS.md, between its marks

A ratio is the peer's median over ours, so above 1 we are ahead. Spread is (slowest - fastest) / median.

Worst bug: a ratio of figures that are no comparison (tests/bench/test_results.py).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import write_json, write_text
from .campaign import Standing
from .entrants import OURS, spelled
from .work import Work

HEADERS = (
    "Who", "training, s", "spread", "ratio", "whole command, s", "ratio", "peak GiB", "ratio", "loss, first batch",
    "loss, unseen rows",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table. None where there is nothing to say; `note`: why."""

    name: str
    title: str
    options: str
    versions: Mapping[str, str]
    runs: int
    seconds: float | None = None
    spread: float | None = None
    ratio: float | None = None
    process_seconds: float | None = None
    process_ratio: float | None = None
    peak_gib: float | None = None
    peak_ratio: float | None = None
    steps: int | None = None
    first_loss: float | None = None
    unseen_loss: float | None = None
    note: str = ""


def about(work: Work, rounds: int, date: str, command: str) -> dict[str, Any]:
    """What a table says of itself."""
    said = f"{work.rows} rows, {work.supervised} supervised tokens, batch {work.batch}, {work.epochs:g} epoch(s)"
    adapter = f"LoRA r={work.lora['r']} on {', '.join(work.lora['target_modules'])}"
    precision = "bf16" if work.settings["bf16"] else "fp32"
    return {
        "date": date, "device": work.device, "command": command, "rounds": rounds,
        "work": f"{said}; {Path(work.model).name}, {adapter}, {precision}; {rounds} rounds, {work.unseen} unseen rows",
        "unseen_loss": work.unseen_loss, "settings": asdict(work),
    }  # fmt: skip


def figures(standings: Mapping[str, Standing]) -> list[Figures]:
    """The figures of all; ratios only where both sides ran and nothing speaks against them."""
    ours = _figures(standings[OURS], None)
    return [ours, *(_figures(standing, ours) for name, standing in standings.items() if name != OURS)]


def _figures(standing: Standing, ours: Figures | None) -> Figures:
    entrant, runs = standing.entrant, standing.runs
    common = {
        "name": entrant.name, "title": entrant.title, "options": spelled(entrant.options), "runs": len(runs),
        "versions": runs[0].report["versions"] if runs else {}, "first_loss": standing.first_loss,
        "unseen_loss": standing.outcome.unseen_loss if standing.outcome else None,
        "note": standing.error or "; ".join(standing.faults),
    }  # fmt: skip
    if not runs:
        return Figures(**common)
    seconds = [ran.report["seconds"] for ran in runs]
    medians = {
        "seconds": statistics.median(seconds),
        "process_seconds": statistics.median(ran.process_seconds for ran in runs),
        "peak_gib": statistics.median(ran.peak_gib for ran in runs),
    }
    names = {"seconds": "ratio", "process_seconds": "process_ratio", "peak_gib": "peak_ratio"}
    is_comparison = ours is not None and ours.seconds is not None and not ours.note and not common["note"]
    ratios = {ratio: medians[name] / getattr(ours, name) for name, ratio in names.items()} if is_comparison else {}
    spread = (max(seconds) - min(seconds)) / medians["seconds"]
    return Figures(**common, **medians, **ratios, spread=spread, steps=runs[0].report["steps"])


def rows(all_figures: Sequence[Figures]) -> list[list[str]]:
    """The cells below HEADERS."""
    return [
        [
            one.title, _number(one.seconds, ".1f"), _number(one.spread, ".0%"), _times(one.ratio),
            _number(one.process_seconds, ".1f"), _times(one.process_ratio), _number(one.peak_gib, ".2f"),
            _times(one.peak_ratio), _number(one.first_loss, ".4f"), _number(one.unseen_loss, ".4f"),
        ]
        for one in all_figures
    ]  # fmt: skip


def page_lines(told: Mapping[str, Any], all_figures: Sequence[Figures]) -> list[str]:
    """What stands on the page: what was run where, the table, and what each line was run with."""
    lines = [
        f"{told['date']}, {told['device']}; {told['work']}: `{told['command']}`",
        "",
        f"| {' | '.join(HEADERS)} |",
        f"|{' --- |' * len(HEADERS)}",
        *(f"| {' | '.join(cells)} |" for cells in rows(all_figures)),
        "",
    ]
    for one in all_figures:
        versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
        said = [part for part in (versions, one.options and f"`{one.options}`", one.note and f"**{one.note}**") if part]
        lines.append(f"- {one.title}: {'; '.join(said)}.")
    return [*lines, f"- Before training: loss {told['unseen_loss']:.4f} on the unseen rows."]


def write_results(path: Path, about: Mapping[str, Any], standings: Mapping[str, Standing]) -> None:
    """Everything that was measured, each run by itself."""
    entries = [
        asdict(one) | {"each": [asdict(ran) for ran in standings[one.name].runs]} for one in figures(standings)
    ]  # fmt: skip
    write_json(path, {"about": dict(about), "entrants": entries})


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


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
