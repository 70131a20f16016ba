"""Equal, nearly equal, contradicting and leaking rows, told apart."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.chat.quality.repeats import Repeats, Said
from sftlib.chat.questions import fold

LONG = " ".join(f"word{number}" for number in range(60))


def said(question: str, answer: str, system: str = "") -> Said:
    whole = f"{system}|{question}|{answer}"
    return Said(whole, fold(whole), fold(question), fold(f"{system}|{question}"), fold(answer), f"{question} {answer}")


def found(rows: list[tuple[str, Said]], threshold: float | None = 0.8) -> list[tuple[str, int, int]]:
    with Repeats(["train", "val", "test"], threshold) as repeats:
        for split, one in rows:
            repeats.add(split, "", one)
        return [tuple(one) for one in repeats.found()]


def test_rows_of_their_own_are_nothing() -> None:
    assert found([("train", said("a?", "b")), ("train", said("b?", "b")), ("val", said("c?", "b"))]) == []


def test_the_same_to_the_letter_or_but_for_case() -> None:
    rows = [
        said("Why is that so?", "Because."),
        said("Why is that so?", "Because."),
        said("WHY is  that so?", "because."),
    ]
    assert found([("train", one) for one in rows]) == [("duplicate", 1, 0), ("folded_duplicate", 2, 0)]


def test_a_row_counts_as_one_kind_of_duplicate() -> None:
    one = said("why?", "so.")
    rows = [said("Why?", "So."), one, one]
    assert found([("train", row) for row in rows]) == [("folded_duplicate", 1, 0), ("duplicate", 2, 1)]


def test_nearly_the_same() -> None:
    rows = [said(LONG, "yes it is"), said(LONG.replace("word30", "other"), "yes it is"), said("short one", "no")]
    assert found([("train", one) for one in rows]) == [("near_duplicate", 1, 0)]
    assert found([("train", one) for one in rows], threshold=None) == []
    assert found([("train", rows[0]), ("test", rows[1])]) == [("near_leak", 1, 0)]


def test_the_same_question_in_two_splits_is_a_leak_once_a_split() -> None:
    rows = [("train", "one"), ("train", "one more"), ("val", "one"), ("val", "one"), ("test", "one")]
    kinds = found([(split, said("What is it?", answer)) for split, answer in rows])
    assert [one for one in kinds if one[0] == "leak"] == [("leak", 2, 0), ("leak", 4, 0)]


def test_a_row_of_another_split_is_no_duplicate() -> None:
    one = said("What is it?", "It is this and nothing else.")
    assert found([("train", one), ("val", one)]) == [("leak", 1, 0)]


def test_other_answers_to_one_question_are_a_conflict_of_all_rows_that_ask_it() -> None:
    rows = [
        said("2+2?", "4"),
        said("3+3?", "6"),
        said("2+2?", "5"),
        said("2+2?", "4 "),
        said("2+2?", "5", system="Lie."),
    ]
    conflicts = [one for one in found([("train", row) for row in rows], None) if one[0] == "conflict"]
    assert conflicts == [("conflict", 0, 2), ("conflict", 2, 0), ("conflict", 3, 2)]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["train", "val"])), max_size=12)
)
@settings(max_examples=40, deadline=None)
def test_no_row_is_told_twice_of_one_kind(rows: list[tuple[str, str, str]]) -> None:
    rows.sort(key=lambda row: row[2])
    told = [(kind, row) for kind, row, _ in found([(split, said(q, a)) for q, a, split in rows])]
    assert len(told) == len(set(told))
    duplicates = sum(kind == "duplicate" for kind, _ in told)
    assert duplicates == len(rows) - len(set(rows))
