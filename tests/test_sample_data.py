"""The sample data keeps every promise of data/sample/README.md: style, counts, variety, and sums that are right.

The checkers below are plain functions from a text to the faults they see, so that each is also shown failing here.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"
ROWS = [json.loads(line) for line in (SAMPLE / "teaching_steps.jsonl").read_text("utf-8").splitlines()]
README = (SAMPLE / "README.md").read_text("utf-8")

LABELS = ("Step 1: ", "Step 2: ", "Step 3: Check that ", "Answer: ")
NUMBER = r"\d+(?:\.\d+)?(?:/\d+)?"
TERM = rf"\(*-?{NUMBER}\)*"
SIDE = rf"{TERM}(?: [-+*/] {TERM})*"
EQUATION = re.compile(rf"(?<![\w.]){SIDE}(?: = {SIDE})+")
SMALL_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
CODE_RESULT = re.compile(r"`([^`]+)` gives `([^`]+)`")


def style_faults(answer: str) -> list[str]:
    lines = answer.split("\n")
    if len(lines) != len(LABELS):
        return [f"{len(lines)} lines"]
    faults = [f"no {label!r}" for label, line in zip(LABELS, lines, strict=True) if not line.startswith(label)]
    faults += [f"open end: {line}" for line in lines if not line.endswith((".", '."'))]
    faults += [f"long line: {line}" for line in lines if len(line.split()) > 30]
    faults += [f"spaces: {line!r}" for line in lines if line != " ".join(line.split())]
    if not 1 <= len(lines[-1].removeprefix(LABELS[-1]).split()) <= 10:
        faults.append(f"last line: {lines[-1]}")
    if not 35 <= len(answer.split()) <= 75:
        faults.append(f"{len(answer.split())} words")
    return faults


def value(side: str) -> Fraction:
    """The exact value of one side; the grammar above admits numbers, brackets and four operators only."""
    return eval(re.sub(NUMBER, lambda number: f"Fraction('{number[0]}')", side), {"Fraction": Fraction})


def arithmetic_faults(answer: str) -> list[str]:
    """Wrong equations, and operators outside of any equation, which nothing would check."""
    prose = re.sub(r"`[^`]*`", "", answer)
    wrong = [found[0] for found in EQUATION.finditer(prose) if len({value(side) for side in found[0].split(" = ")}) > 1]
    return wrong + re.findall(r"=| [-+*/] ", EQUATION.sub("", prose))


def code_faults(answer: str) -> list[str]:
    """Python expressions that do not give the value they are said to give."""
    return [code for code, said in CODE_RESULT.findall(answer) if repr(eval(code)) != repr(ast.literal_eval(said))]


def figures(text: str) -> set[str]:
    """Numbers as they are written, with small spelled ones as digits: "four" and "4" are the same figure."""
    for number, word in enumerate(SMALL_NUMBERS):
        text = re.sub(rf"\b{word}\b", str(number), text)
    return set(re.findall(r"\d+(?:[./:]\d+)*", text))


def words(question: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", question.lower()))


def likeness(one: str, other: str) -> float:
    """Jaccard: shared words over all words of the two questions."""
    return len(words(one) & words(other)) / len(words(one) | words(other))


@pytest.mark.parametrize("row", ROWS, ids=[f"line{number}" for number in range(1, len(ROWS) + 1)])
def test_row_keeps_style_and_is_right(row: dict[str, str]) -> None:
    assert list(row) == ["question", "answer"]
    assert style_faults(row["answer"]) == []
    assert arithmetic_faults(row["answer"]) == []
    assert code_faults(row["answer"]) == []
    assert re.fullmatch(r"[ -~\n]+", row["answer"])
    assert re.fullmatch(r"[!-~][ -~]*[.?]", row["question"])
    assert 4 <= len(row["question"].split()) <= 30


def test_figures_in_last_line_come_from_the_row() -> None:
    """A last line that contradicts its own steps, such as a typing slip, would teach the wrong thing."""
    for row in ROWS:
        steps, _, last = row["answer"].rpartition("\nAnswer: ")
        assert figures(last) <= figures(steps + " " + row["question"]), row["question"]


def test_240_rows_and_no_two_questions_alike() -> None:
    assert len(ROWS) == 240
    pairs = combinations((row["question"] for row in ROWS), 2)
    assert [pair for pair in pairs if likeness(*pair) >= 0.7] == []
    assert len({row["answer"] for row in ROWS}) == 240


def test_table_of_topics_covers_each_line_once() -> None:
    table = re.findall(r"^\| [A-Z].* \| (\d+) \| (\d+)-(\d+) \|$", README, flags=re.M)
    ranges = [range(int(first), int(last) + 1) for _, first, last in table]
    assert [len(lines) for lines in ranges] == [int(rows) for rows, _, _ in table]
    assert [line for lines in ranges for line in lines] == list(range(1, len(ROWS) + 1))


def test_readme_shows_a_real_row() -> None:
    shown = json.loads(re.search(r"```json\n(.*)\n```", README)[1])
    assert shown in ROWS


def test_file_is_plain_jsonl() -> None:
    content = (SAMPLE / "teaching_steps.jsonl").read_bytes()
    assert content.isascii()
    assert b"\r" not in content
    assert content.endswith(b"}\n")
    assert content.count(b"\n") == 240


def test_checks_find_something_to_check() -> None:
    answers = [row["answer"] for row in ROWS]
    assert sum(len(EQUATION.findall(answer)) for answer in answers) > 300
    assert sum(len(CODE_RESULT.findall(answer)) for answer in answers) > 20


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("so 2 + 2 = 5.", ["2 + 2 = 5"]),
        ("1/2 = 3/6 = 0.5, and (68 - 32) * 5 / 9 = 20.", []),
        ("3/4 / 1/2 = 1.5 and 0 - 3 = -3.", []),
        ("1 / 3 = 0.33", ["1 / 3 = 0.33"]),
        ("so 7 * 4 is 28", [" * "]),
        ("x = 3, but `x = 3` is code", ["="]),
    ],
)
def test_arithmetic_check(text: str, faults: list[str]) -> None:
    assert arithmetic_faults(text) == faults


def test_code_check() -> None:
    assert code_faults("`7 // 2` gives `3`, and `3 == 3` gives `1`.") == ["3 == 3"]


def test_style_check() -> None:
    good = ROWS[0]["answer"]
    assert style_faults(good) == []
    assert style_faults("Sure! " + good) == ["no 'Step 1: '"]
    assert style_faults(good + "\nBye.") == ["5 lines"]
    assert style_faults(good.removesuffix(".")) == ["open end: Answer: 75"]
    assert style_faults(good.removesuffix("75.") + "75" + " or so" * 5 + ".") == [
        "last line: Answer: 75" + " or so" * 5 + "."
    ]


def test_likeness_by_hand() -> None:
    assert likeness("What is DNA?", "what is rust") == pytest.approx(2 / 4)


def test_figures_by_hand() -> None:
    assert figures("At 8:17, two thirds of 3.5 is not 2/3 of one.") == {"8:17", "2", "3.5", "2/3", "1"}


def test_the_second_data_set_keeps_its_promises() -> None:
    with open(SAMPLE / "project_faq.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (len(rows), list(rows[0])) == (36, ["topic", "asked", "told"])
    assert len({row["asked"].casefold() for row in rows}) == 36
    for row in rows:
        assert row["asked"].endswith("?")
        assert 1 <= len(re.findall(r"[.!](?: |$)", row["told"])) <= 3, row["told"]
        assert (row["asked"] + row["told"]).isascii()
