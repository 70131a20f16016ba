"""Planted faults of every kind are found in real files, clean rows are not, and rendered rows are looked at as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib.chat.quality.kinds import KINDS
from sftlib.chat.quality.survey import Survey, look

SENTENCE = "The permit of house number {n} was granted by the municipality in the {n}th week of the year."
LONG = " ".join(f"word{number} and" for number in range(40))
# kind -> the answer of a row; the others need more than one row
PLANTED = {
    "empty": "N/A",
    "refusal": "I'm sorry, but I can't help with that request.",
    "repeats_question": "What is planted as repeats_question? It is this.",
    "one_word": "Yes.",
    "cut_off": "The permit was granted by the municipality in the week of",
    "answer_language": "Det beror på kommunen, och på hur stor tillbyggnaden är. Räkna med tio veckor till det.",
    "mojibake": "The cafÃ© was granted a permit.",
    "replacement": "The caf\ufffd was granted a permit.",
    "invisible": "The per\u200bmit was granted.",
    "private_use": "The permit \ue001 was granted.",
    "control": "It\x92s granted by the municipality.",
    "open_fence": "Type this:\n```sh\nls",
    "html": "The permit<br>was granted.",
    "secret": "The key is sk-abcdEFGH1234abcdEFGH1234, and it works.",
    "card": "It was paid with 4111 1111 1111 1111.",
    "iban": "It was paid to DE89 3704 0044 0532 0130 00.",
    "email": "Write to anna.lind@bygg-lind.se.",
    "phone": "Ring +46 70 123 45 67.",
    "ip": "It runs on 93.184.216.34 alone.",
}


def row(question: str, answer: str, source: str, dataset: str = "") -> dict:
    named = {"dataset": dataset} if dataset else {}
    return {"system": "", "user": question, "assistant": answer, "source": source, **named}


def clean_rows(count: int, dataset: str = "", start: int = 0) -> list[dict]:
    return [
        row(
            f"When was the permit of house number {n} granted, please?",
            SENTENCE.format(n=n),
            f"clean.jsonl:{n}",
            dataset,
        )
        for n in range(start, start + count)
    ]


def write(folder: Path, **splits: list[dict]) -> dict[str, Path]:
    paths = {}
    for name, rows in splits.items():
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return paths


def kinds(survey: Survey) -> dict[str, int]:
    return {one.kind: one.rows for one in survey.findings}


def test_clean_rows_have_no_finding(tmp_path: Path) -> None:
    survey = look(write(tmp_path, train=clean_rows(60), val=clean_rows(10, start=100)), 0.8)
    assert kinds(survey) == {}
    assert survey.styles == []
    assert survey.rows == {("train", ""): 60, ("val", ""): 10}
    assert survey.turns == {("", 1): 70}
    assert survey.languages == {("", "en"): 70}
    rows, answers = survey.words["train", ""]
    assert (len(rows), rows[0], answers[0]) == (60, 10 + 18, 18)


def test_every_kind_that_is_planted_is_found_with_its_source(tmp_path: Path) -> None:
    rows = clean_rows(150, "faq")
    rows += [row(f"What is planted as {kind}?", answer, f"bad.jsonl:{kind}", "faq") for kind, answer in PLANTED.items()]
    rows[100] = row(
        "Where?", "Räkna med ungefär tio veckor till beslut från kommunen, om ansökan är komplett.", "bad:stray", "faq"
    )
    rows.append(rows[0] | {"source": "bad:duplicate"})
    rows.append(rows[1] | {"user": rows[1]["user"].upper(), "source": "bad:folded"})
    rows.append(rows[2] | {"assistant": "It was never granted.", "source": "bad:conflict"})
    rows += [
        row(LONG, "One answer for it.", "long:1", "faq"),
        row(LONG.replace("word20", "x"), "One answer for it.", "long:2", "faq"),
    ]
    others = clean_rows(20, "faq", start=300)
    others += [
        rows[3] | {"source": "bad:leak"},
        row(LONG.replace("word30", "y"), "One answer for it.", "bad:near", "faq"),
    ]
    survey = look(write(tmp_path, train=rows, val=others), 0.8)
    found = kinds(survey)
    assert set(found) == set(KINDS)
    first = {one.kind: one.sources for one in survey.findings}
    for kind in PLANTED:
        assert f"bad.jsonl:{kind}" in first[kind]
    assert first["duplicate"] == ["bad:duplicate"]
    assert first["folded_duplicate"] == ["bad:folded"]
    assert first["near_duplicate"] == ["long:2"]
    assert first["leak"] == ["bad:leak"]
    assert first["near_leak"] == ["bad:near"]
    assert sorted(first["conflict"]) == ["bad:conflict", "clean.jsonl:2"]
    assert first["stray_language"] == ["bad:stray", "bad.jsonl:answer_language"]
    for one in survey.findings:
        assert one.by_set == {"faq": one.rows}
        assert one.example is not None
        assert "4111 1111" not in one.example.text
    conflict = next(one.example for one in survey.findings if one.kind == "conflict")
    assert {conflict.source, conflict.other_source} == {"clean.jsonl:2", "bad:conflict"}
    assert "never" in conflict.other_text


def test_answers_that_differ_in_white_space_alone_are_no_conflict(tmp_path: Path) -> None:
    rows = [row("Where is it?", answer, f"a:{answer}") for answer in ("In the old town.", "in the\nold town. ")]
    assert kinds(look(write(tmp_path, train=rows), None)) == {"folded_duplicate": 1}


def test_a_set_of_labels_is_its_style_and_the_other_set_is_judged(tmp_path: Path) -> None:
    labels = [row(f"Is house {n} old?", "Yes." if n % 2 else "No.", f"labels.jsonl:{n}", "labels") for n in range(20)]
    survey = look(write(tmp_path, train=[*clean_rows(20, "faq"), *labels]), 0.8)
    assert kinds(survey) == {}
    assert [(one.kind, one.dataset, one.rows) for one in survey.styles] == [("one_word", "labels", 20)]


def test_a_talk_may_hold_a_short_answer_and_only_what_is_trained_is_judged(tmp_path: Path) -> None:
    talk = [
        ("user", "Is it granted by the municipality?"),
        ("assistant", "Yes."),
        ("user", "When?"),
        ("assistant", "In May of this year."),
    ]
    messages = [{"role": role, "content": text} for role, text in talk]
    survey = look(write(tmp_path, train=[*clean_rows(12), {"messages": messages, "source": "talk:1"}]), 0.8)
    assert kinds(survey) == {}
    assert survey.turns == {("", 1): 12, ("", 2): 1}


def test_rendered_pairs_are_looked_at_without_their_markers(tmp_path: Path) -> None:
    rows = [
        {"input": f"<|im_start|>user\nHouse {n}?<|im_end|>\n", "target": f"{answer}<|im_end|>\n", "source": f"r:{n}"}
        for n, answer in enumerate(
            ["It was granted in May of the year.", "I'm sorry, but I can't help with that.", "N/A"]
        )
    ]
    survey = look(write(tmp_path, train=rows, val=[rows[0] | {"source": "r:9"}]), 0.8)
    assert kinds(survey) == {"leak": 1, "refusal": 1, "empty": 1}


def test_without_a_threshold_no_near_duplicates_are_looked_for(tmp_path: Path) -> None:
    rows = [row(LONG, "One answer for it.", "long:1"), row(LONG.replace("word20", "x"), "One answer for it.", "long:2")]
    paths = write(tmp_path, train=rows)
    assert kinds(look(paths, 0.8)) == {"near_duplicate": 1}
    assert kinds(look(paths, None)) == {}


@pytest.mark.parametrize("text", ["{}", '{"user": "a"}'])
def test_a_broken_row_is_an_error_with_its_line(tmp_path: Path, text: str) -> None:
    from sftlib.errors import DataError

    paths = write(tmp_path, train=clean_rows(2))
    with open(paths["train"], "a", encoding="utf-8") as stream:
        stream.write(text + "\n")
    with pytest.raises(DataError, match=r"train\.jsonl:3"):
        look(paths, 0.8)
