"""An evaluation on paper and on the screen.

    metrics.json    {"split": "test", "base": {"rougeL": 0.21, ...}, "tuned": {...}, "difference": {...}, ...}
    samples.jsonl   one row a line: source, question, prompt, reference, and each system's answer with its scores
    samples.md      the same side by side for reading, the first rows only

They go to outputs/ (the newest evaluation's) and, for a run, to outputs/<run>/eval/<split>/. What could not be computed
is null in metrics.json and named under "remarks".

Worst bug: an answer shown under the wrong system's name (tests/measure/test_report.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import console
from ..files import write_json, write_jsonl, write_text
from .compare import CONFIDENCE, Interval
from .evaluation import EvaluationReport, Question, Scores

ROWS_TO_READ = 50  # in samples.md: more is not read by a person, and samples.jsonl has all
CLIPPED = 300  # characters of a text on the screen
TITLES = {  # in the order of the table: what a person reads for each metric, and its unit
    "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "sari": "SARI (0-100)", "exact_match": "exact match",
    "exact_match_normalised": "exact match, lenient", "valid_json": "valid JSON", "matches_regex": "regex matches",
    "stop_rate": "stop rate", "tokens": "tokens an answer", "words": "words an answer",
}  # fmt: skip


def write_report(report: EvaluationReport, folders: Sequence[Path]) -> None:
    """Write the three files into every folder, each file whole or not at all."""
    for folder in folders:
        write_json(folder / "metrics.json", metrics(report))
        write_jsonl(folder / "samples.jsonl", _samples(report))
        write_text(folder / "samples.md", _reading(report))


def show_report(report: EvaluationReport, *, answers: int = 3) -> None:
    """Print the table and a few answers side by side."""
    console.table(
        f"{report.split} split, {len(report.questions)} rows", ["metric", *report.systems, *_difference_title(report)],
        [[title, *_cells(report, metric)] for metric, title in TITLES.items() if metric in _first(report).means],
    )  # fmt: skip
    for system, scores in report.systems.items():
        for metric, remark in scores.remarks.items():
            console.note(f"{system}, {TITLES[metric]}: {remark}.")
        if scores.empty_answers:
            console.warn(f"{system}: {scores.empty_answers} of {len(scores.answers)} answers are empty.")
    for index, question in enumerate(report.questions[:answers]):
        console.result()
        for name, text in _texts(report, question, index):
            console.result(f"{name:>9}  " + _clip(text).replace("\n", "\n" + " " * 11))


def metrics(report: EvaluationReport) -> dict[str, Any]:
    """The content of metrics.json."""
    return {
        "split": report.split,
        "rows": len(report.questions),
        **{system: _summary(scores) for system, scores in report.systems.items()},
        **({"difference": _differences(report)} if report.differences else {}),
        "remarks": {system: scores.remarks for system, scores in report.systems.items() if scores.remarks},
        "conventions": {
            "rouge": "F-measure, 0 to 1, no stemming, words of any script",
            "sari": "0 to 100; source: what the user wrote last; one reference; numbers as evaluate-metric/sari",
            "exact_match": "0 to 1; white space at both ends aside",
            "exact_match_normalised": "0 to 1; case, punctuation, English articles and white space aside",
            "difference": f"tuned minus base, with the {CONFIDENCE} % interval of a paired bootstrap over the rows",
        },
        "settings": report.settings,
    }


def _summary(scores: Scores) -> dict[str, Any]:
    return {**scores.means, "empty_answers": scores.empty_answers, "seconds": scores.seconds}


def _differences(report: EvaluationReport) -> dict[str, Any]:
    return {metric: interval and asdict(interval) for metric, interval in report.differences.items()}


def _samples(report: EvaluationReport) -> Iterator[dict[str, Any]]:
    for index, question in enumerate(report.questions):
        yield {
            "source": question.source, "user": question.user, "prompt": question.prompt, "reference": question.reference
        } | {
            system: {
                **asdict(scores.answers[index]), "scores": {name: rows[index] for name, rows in scores.by_row.items()}
            }
            for system, scores in report.systems.items()
        }  # fmt: skip


def _reading(report: EvaluationReport) -> str:
    shown = report.questions[:ROWS_TO_READ]
    lines = [f"# Answers to the {report.split} split", ""]
    if len(shown) < len(report.questions):
        lines += [f"The first {len(shown)} of {len(report.questions)} rows; samples.jsonl has them all.", ""]
    lines += _markdown_table(report)
    for index, question in enumerate(shown):
        lines += [f"## {index + 1}. {question.source}", ""]
        for name, text in _texts(report, question, index):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            lines += [f"**{name}**{_row_score(report, name, index)}", "", f"{fence}text", text, fence, ""]
    return "\n".join(lines)


def _markdown_table(report: EvaluationReport) -> list[str]:
    headers = ["metric", *report.systems, *_difference_title(report)]
    rows = [[title, *_cells(report, metric)] for metric, title in TITLES.items() if metric in _first(report).means]
    return [*("| " + " | ".join(cells) + " |" for cells in [headers, ["---"] * len(headers), *rows]), ""]


def _texts(report: EvaluationReport, question: Question, index: int) -> list[tuple[str, str]]:
    asked = question.user if question.user is not None else question.prompt
    answers = [(system, scores.answers[index].text) for system, scores in report.systems.items()]
    return [("question", asked), ("reference", question.reference), *answers]


def _row_score(report: EvaluationReport, name: str, index: int) -> str:
    score = report.systems[name].by_row["rougeL"][index] if name in report.systems else None
    return "" if score is None else f" (ROUGE-L {score:.2f})"


def _cells(report: EvaluationReport, metric: str) -> list[str]:
    means = [_number(scores.means[metric]) for scores in report.systems.values()]
    return [*means, _interval(report.differences[metric])] if report.differences else means


def _difference_title(report: EvaluationReport) -> list[str]:
    return [f"difference [{CONFIDENCE} %]"] if report.differences else []


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.difference:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _first(report: EvaluationReport) -> Scores:
    return next(iter(report.systems.values()))


def _clip(text: str) -> str:
    text = text.strip()
    return text if len(text) <= CLIPPED else text[:CLIPPED].rstrip() + " ..."
