"""Sample answers while training: a few fixed validation rows, answered at every evaluation and scored.

In come the rows, a function that answers prompts and one that scores answers (both given by the assembly, so nothing
here knows how text is generated or compared); out go a score in [0, 1], logged as eval/rougeL, and the answers
themselves for the text panel. The loss on the whole validation split is the trainer's business.

    SampleAnswers(rows, answer, score).ask()  ->  0.41

Worst bug: answers put beside the wrong question (tests/learn/test_samples.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SampleRow:
    """What is asked and expected.

    Args:
        prompt: rendered text up to where the answer begins.
        question: what a person reads in the panel, without markers.
        reference: the expected answer.
    """

    prompt: str
    question: str
    reference: str


@dataclass
class SampleAnswers:
    """The rows, how they are answered, and the latest answers.

    Args:
        rows: at least one.
        answer: prompts -> answers, in order; greedy, so that evaluations can be compared.
        score: (answers, references) -> a number in [0, 1].
    """

    rows: Sequence[SampleRow]
    answer: Callable[[list[str]], list[str]]
    score: Callable[[list[str], list[str]], float]
    latest: list[str] = field(default_factory=list)

    def ask(self) -> float:
        """Answer every row with the model as it is now; return the score."""
        self.latest = self.answer([row.prompt for row in self.rows])
        assert len(self.latest) == len(self.rows), "one answer a prompt"
        return self.score(self.latest, [row.reference for row in self.rows])

    def as_markdown(self) -> str:
        """The latest answers as a table for the text panel of TensorBoard."""
        lines = ["| question | expected | answer |", "|---|---|---|"]
        for row, answer in zip(self.rows, self.latest, strict=True):
            lines.append("| " + " | ".join(_cell(text) for text in (row.question, row.reference, answer)) + " |")
        return "\n".join(lines)


def _cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return escaped.replace("\n", "<br>")
