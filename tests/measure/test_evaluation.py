"""Rows asked and scored: what is compared with what."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sftlib.chat.stored import read_split
from sftlib.config import EvalSection
from sftlib.measure import evaluation, text
from sftlib.measure.evaluation import Question, compare, evaluate_systems, make_questions, score_answers
from sftlib.measure.generate import Answer, generate_answers

ROWS = [
    {"system": "", "user": "Name a colour.", "assistant": "red", "source": "raw.jsonl:1"},
    {"system": "Be short.", "user": "2+2?", "assistant": "4", "source": "raw.jsonl:2"},
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Where does the sun rise?"},
            {"role": "assistant", "content": "In the east."},
        ],
        "source": "raw.jsonl:3",
    },
]


@pytest.fixture
def split(tmp_path: Path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return read_split(path)


def question(reference: str, user: str | None = "the source text") -> Question:
    return Question("PROMPT", reference, user, "raw.jsonl:1")


def test_questions_end_before_the_last_answer(speaker, split):
    first, _, third = make_questions(split, speaker.template, speaker.tokenizer)
    assert first == Question(
        "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n", "red", "Name a colour.", "raw.jsonl:1"
    )
    assert third.prompt.endswith("<|im_start|>user\nWhere does the sun rise?<|im_end|>\n<|im_start|>assistant\n")
    assert "Hello" in third.prompt
    assert "In the east." not in third.prompt
    assert (third.user, third.reference) == ("Where does the sun rise?", "In the east.")


def test_rendered_rows_are_asked_as_they_stand(speaker, tmp_path: Path):
    path = tmp_path / "test.jsonl"
    row = {"input": "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n", "target": "4 it is<|im_end|>"}
    path.write_text(json.dumps(row | {"source": "x:1"}), encoding="utf-8")
    [asked] = make_questions(read_split(path), speaker.template, speaker.tokenizer)
    assert asked == Question(row["input"], "4 it is", None, "x:1")  # the end-of-turn is no text


def test_limit_draws_rows_by_the_seed_in_their_order(speaker, tmp_path: Path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(ROWS[0] | {"source": f"x:{i}"}) + "\n" for i in range(50)), encoding="utf-8")
    split = read_split(path)

    def drawn(seed: int, limit: int | None = 10) -> list[int]:
        asked = make_questions(split, speaker.template, speaker.tokenizer, limit=limit, seed=seed)
        return [int(one.source[2:]) for one in asked]

    assert drawn(1) == sorted(set(drawn(1))) == drawn(1)
    assert len(drawn(1)) == 10
    assert drawn(1) != drawn(2)
    assert drawn(1) != list(range(10))
    assert drawn(1, None) == drawn(1, 50) == drawn(1, 99) == list(range(50))


def test_scores_by_hand():
    questions = [question("the cat sat"), question("Paris"), question("42")]
    answers = [Answer("the cat", 2, True), Answer("paris.", 3, True), Answer("", 256, False)]
    scores = score_answers(questions, answers)
    assert scores.by_row["rougeL"] == pytest.approx([0.8, 1.0, 0.0])
    assert scores.by_row["exact_match"] == [0, 0, 0]
    assert scores.by_row["exact_match_normalised"] == [0, 1, 0]
    assert scores.means["rougeL"] == pytest.approx(0.6)
    assert scores.means["stop_rate"] == pytest.approx(2 / 3)
    assert scores.means["tokens"] == pytest.approx(87)
    assert scores.means["words"] == pytest.approx(1)
    assert scores.empty_answers == 1
    assert scores.remarks == {}
    assert scores.by_row["sari"] == text.sari(
        ["the source text"] * 3, ["the cat", "paris.", ""], ["the cat sat", "Paris", "42"]
    )


def test_the_prompt_is_never_scored():
    with_prompt = [Question("Answer: red", "red", "say red", "x:1")]
    assert score_answers(with_prompt, [Answer("blue", 1, True)]).means["rouge1"] == 0.0


def test_a_metric_without_a_value_is_none_with_the_reason_and_never_0():
    questions = [question("?!", user=None), question("east", user=None)]
    scores = score_answers(questions, [Answer("west", 1, True), Answer("east", 1, True)])
    assert scores.by_row["rougeL"] == [None, 1.0]
    assert scores.means["rougeL"] == 1.0
    assert scores.remarks["rougeL"] == "1 of 2 rows left out: the reference holds no word"
    assert scores.means["sari"] is None
    assert scores.remarks["sari"].startswith("2 of 2 rows left out")


def test_checks_become_metrics():
    class Short:
        name = "short"

        def holds(self, answer: str) -> bool:
            return len(answer) < 4

    scores = score_answers([question("a"), question("b")], [Answer("abc", 1, True), Answer("abcd", 1, True)], [Short()])
    assert scores.by_row["short"] == [1.0, 0.0]
    assert scores.means["short"] == 0.5


def test_answers_and_questions_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        score_answers([question("a")], [])


def test_tuned_is_compared_with_base_in_this_direction():
    questions = [question("east"), question("west")]
    worse = score_answers(questions, [Answer("no", 1, False)] * 2)
    better = score_answers(questions, [Answer("east", 1, True), Answer("west", 1, True)])
    difference = compare({"base": worse, "tuned": better}, samples=100, seed=0)
    assert difference["rougeL"].difference == 1.0
    assert compare({"tuned": better}, samples=100, seed=0) == {}


def test_two_systems_answer_the_same_rows(speaker, split):
    tuned = SimpleNamespace(**vars(speaker) | {"stop_ids": [2, 40, 41, 42, 43], "name": "tiny, tuned"})
    section = EvalSection(batch_size=2, max_new_tokens=6)
    report = evaluate_systems([("base", speaker), ("tuned", tuned)], split, section, name="test", seed=7)
    assert [asked.source for asked in report.questions] == ["raw.jsonl:1", "raw.jsonl:2", "raw.jsonl:3"]
    for system, one in (("base", speaker), ("tuned", tuned)):
        expected = generate_answers(
            one.model, one.tokenizer, [asked.prompt for asked in report.questions],
            max_new_tokens=6, batch_size=1, stop_ids=one.stop_ids,
        )  # fmt: skip
        assert report.systems[system].answers == expected
        assert report.settings["systems"][system]["name"] == one.name
    assert report.differences["stop_rate"].difference == pytest.approx(
        report.systems["tuned"].means["stop_rate"] - report.systems["base"].means["stop_rate"]
    )
    assert report.settings["max_new_tokens"] == 6
    assert report.settings["sha256"] == evaluation.sha256_file(split.path)
    assert report.settings["systems"]["base"]["dtype"] == "float32"
    assert report.settings["systems"]["base"]["depends_on_batch_size"] is False
