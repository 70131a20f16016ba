"""Looks at every row of processed splits: conversations, or the rendered pairs of `make render`.

In: the files of the splits, and the threshold of near duplicates. Out: a `Survey` with the findings, and the numbers of
rows, turns, languages and words by data set. Rows stream through once; where an example is to show a row that is known
to matter only later (a duplicate), the files are read a second time, up to the last such row.

    survey = look({"train": Path("data/processed/train.jsonl"), ...}, threshold=0.8)
    survey.findings[0].title                 ->  "Questions that stand in two splits"

Worst bug: a row that no check has seen (tests/chat/quality/test_survey.py).
"""

from __future__ import annotations

import re
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ... import console
from ..leaks import asked_by
from ..questions import fold, spoken
from ..stored import RenderedPair, Row, split_rows
from .answers import faults_of
from .characters import odd_characters
from .findings import Example, Finding, Findings, Place, Style, Tally, beside, excerpt
from .language import SURE, UNKNOWN, Languages, differ
from .private import find_private
from .repeats import Repeated, Repeats, Said

STRAY_OF, STRAY_BESIDE, STRAY_BELOW = 50, 0.9, 0.02  # rows of known language, share of the main one, of a stray one
_MARKERS = re.compile(r"(?:\s*<[^<>\s]{1,40}>\s*)+$")  # the end-of-turn that a rendered target ends with


class Exchange(NamedTuple):
    """An answer that is trained, and the message before it."""

    question: str
    answer: str


@dataclass
class Survey:
    """What was seen. Counters are by data set (`""` where there is one without a name)."""

    findings: list[Finding] = field(default_factory=list)
    styles: list[Style] = field(default_factory=list)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)  # (split, data set)
    turns: Counter[tuple[str, int]] = field(default_factory=Counter)
    languages: Counter[tuple[str, str]] = field(default_factory=Counter)  # "" is unknown
    words: dict[tuple[str, str], tuple[array, array]] = field(default_factory=dict)  # of a row, and of its answers
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long a stage takes."""
        began = time.monotonic()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began


def look(splits: Mapping[str, Path], threshold: float | None) -> Survey:
    """Look at every row. threshold: of near duplicates; None looks for none."""
    survey, found = Survey(), Findings()
    places: list[Place] = []
    with Repeats(list(splits), threshold) as repeats:
        with survey.timed("rows, one by one"):
            watch = _Watch(survey, found)
            total = sum(map(_lines, splits.values()))
            for split, row in console.progress(_rows(splits), "rows", total):
                places.append(watch.see(split, row))
                repeats.add(split, row.dataset, _said(row))
            watch.close()
        with survey.timed("rows, compared"), console.Meter("rows compared", None) as meter:
            repeated = []
            for one in repeats.found():
                repeated.append(one)
                meter.advance()
    with survey.timed("examples"):
        _count_repeated(repeated, places, found, splits)
    survey.findings, survey.styles = found.close()
    return survey


class _Watch:
    """The checks that need one row and no other."""

    def __init__(self, survey: Survey, found: Findings) -> None:
        self._survey, self._found, self._languages = survey, found, Languages()
        self._by_language: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)

    def see(self, split: str, row: Row) -> Place:
        """Look at a row; where it stands."""
        place = Place(split, row.dataset, row.source)
        texts, exchanges, turns = _texts(row), _exchanges(row), _turns(row)
        self._found.count_row(place)
        self._survey.rows[split, place.dataset] += 1
        self._survey.turns[place.dataset, turns] += 1
        words, answers = self._survey.words.setdefault((split, place.dataset), (array("L"), array("L")))
        words.append(sum(len(text.split()) for text in texts))
        answers.append(sum(len(one.answer.split()) for one in exchanges))
        self._see_texts(place, texts)
        self._see_answers(place, exchanges, is_single=turns == 1)
        self._see_languages(place, exchanges)
        return place

    def close(self) -> None:
        """Languages that hardly any row of a data set has."""
        for dataset in {dataset for dataset, _ in self._by_language}:
            own = {code: tally for (of, code), tally in self._by_language.items() if of == dataset}
            known = sum(tally.rows for tally in own.values())
            if known < STRAY_OF or max(tally.rows for tally in own.values()) < STRAY_BESIDE * known:
                continue
            for tally in own.values():
                if tally.rows < STRAY_BELOW * known:
                    self._found.merge("stray_language", dataset, tally)

    def _see_texts(self, place: Place, texts: list[str]) -> None:
        seen: dict[str, Callable[[], str]] = {}
        for text in texts:
            for kind, (start, end) in odd_characters(text).items():
                seen.setdefault(kind, _later(text, start, end))
            for kind, start, end in find_private(text):
                seen.setdefault(kind, _later(text, start, end))
        for kind, example in seen.items():
            self._found.add(kind, place, example)

    def _see_answers(self, place: Place, exchanges: list[Exchange], *, is_single: bool) -> None:
        seen: dict[str, Callable[[], str]] = {}
        for question, answer in exchanges:
            for kind in faults_of(question, answer):
                if kind != "one_word" or is_single:  # in a talk `Yes.` is an answer like others
                    ends = kind == "cut_off"
                    seen.setdefault(kind, _later(answer, len(answer) - 1 if ends else 0, len(answer) if ends else None))
        for kind, example in seen.items():
            self._found.add(kind, place, example)

    def _see_languages(self, place: Place, exchanges: list[Exchange]) -> None:
        if not exchanges:
            self._survey.languages[place.dataset, ""] += 1
            return
        question, answer = map(self._languages.of, exchanges[-1])
        told = answer if answer != UNKNOWN else question
        self._survey.languages[place.dataset, told.code] += 1
        if told.sureness >= SURE:
            self._by_language[place.dataset, told.code].add(place, _later(exchanges[-1].answer))
        if differ(question, answer):
            text = f"{question.code}: {exchanges[-1].question[:100]} | {answer.code}: {exchanges[-1].answer[:100]}"
            self._found.add("answer_language", place, _later(text))


def _count_repeated(repeated: list[Repeated], places: list[Place], found: Findings, splits: Mapping[str, Path]) -> None:
    """Count what several rows are together, with one example a kind and data set, which is read again."""
    shown: dict[tuple[str, str], Repeated] = {}
    for one in repeated:
        shown.setdefault((one.kind, places[one.row].dataset), one)
    wanted = {number for one in shown.values() for number in (one.row, one.other)}
    texts: dict[int, str] = {}
    for number, (_, row) in enumerate(_rows(splits)):
        if len(texts) == len(wanted):
            break
        if number in wanted:
            texts[number] = " → ".join(_texts(row)[-2:])
    tallies: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for one in repeated:
        tallies[one.kind, places[one.row].dataset].add(places[one.row], None)
    for (kind, dataset), one in shown.items():
        text, other = beside(texts[one.row], texts[one.other])
        tallies[kind, dataset].example = Example(places[one.row].source, text, places[one.other].source, other)
    for (kind, dataset), tally in tallies.items():
        found.merge(kind, dataset, tally)


def _rows(splits: Mapping[str, Path]) -> Iterator[tuple[str, Row]]:
    for split, path in splits.items():
        for row in split_rows(path):
            yield split, row


def _texts(row: Row) -> list[str]:
    if isinstance(row, RenderedPair):
        return [row.input, row.target]
    return [message.content for message in row.messages]


def _turns(row: Row) -> int:
    return 1 if isinstance(row, RenderedPair) else sum(message.role == "assistant" for message in row.messages)


def _exchanges(row: Row) -> list[Exchange]:
    """What is trained, with what it answers; calls of tools say nothing in words."""
    if isinstance(row, RenderedPair):
        return [Exchange(row.input, _MARKERS.sub("", row.target))]
    return [
        Exchange(before.content, message.content)
        for before, message in zip(row.messages, row.messages[1:], strict=False)
        if message.role == "assistant" and message.content.strip() and message.is_trained
    ]


def _said(row: Row) -> Said:
    opening, prompt = asked_by(row)
    if isinstance(row, RenderedPair):
        whole = f"{row.input}\0{row.target}"
        return Said(whole, fold(whole), opening, prompt, fold(row.target), f"{row.input}\n{row.target}")
    whole = repr(row.messages)
    last = next((message for message in reversed(row.messages) if message.role == "assistant"), row.messages[-1])
    folded = repr([(message.role, fold(message.content), message.extra) for message in row.messages])
    return Said(whole, folded, opening, prompt, f"{fold(last.content)}{last.extra}", spoken(row.messages))


def _later(text: str, start: int = 0, end: int | None = None) -> Callable[[], str]:
    """An excerpt, made only if it is kept."""
    return lambda: excerpt(text, start, end)


def _lines(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(1 for _ in stream)
