"""Each answer stands beside its own question."""

from __future__ import annotations

import pytest

from sftlib.learn.samples import SampleAnswers, SampleRow


def test_answers_are_scored_and_shown_in_order() -> None:
    rows = [SampleRow("<user>1+1<assistant>", "1+1", "2"), SampleRow("<user>a|b<assistant>", "a|b", "line\nbreak")]
    seen: list[tuple[list[str], list[str]]] = []

    def score(answers: list[str], references: list[str]) -> float:
        seen.append((answers, references))
        return 0.5

    samples = SampleAnswers(rows, lambda prompts: [f"re {prompt}" for prompt in prompts], score)
    assert samples.ask() == 0.5
    assert seen == [(["re <user>1+1<assistant>", "re <user>a|b<assistant>"], ["2", "line\nbreak"])]
    assert samples.as_markdown().splitlines() == [
        "| question | expected | answer |",
        "|---|---|---|",
        "| 1+1 | 2 | re &lt;user>1+1&lt;assistant> |",
        "| a\\|b | line<br>break | re &lt;user>a\\|b&lt;assistant> |",
    ]


def test_a_missing_answer_is_a_bug_of_ours() -> None:
    samples = SampleAnswers([SampleRow("p", "q", "r")], lambda prompts: [], lambda answers, references: 1.0)
    with pytest.raises(AssertionError):
        samples.ask()
