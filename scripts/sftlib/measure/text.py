"""Metrics of one answer against one reference, as pure functions of texts; the prompt is never among them.

    rouge("the cat", "the cat sat")    -> {"rouge1": 0.8, "rouge2": 0.667, "rougeL": 0.8}      F-measures, 0 to 1
    sari(["The cat sat down."], ["The cat sat."], ["The cat sat."])  -> [100.0]                0 to 100
    normalise_answer("The answer: 3.5!")  -> "answer 3.5"

ROUGE comes from rouge-score, without stemming; SARI from `evaluate` with our own module (sari_metric/). A metric that
has no meaning for a reference is None, never 0. Other means, and what is compared with what, are evaluation.py's.

Worst bug: non-English text that scores 0 because its letters were thrown away (tests/measure/test_text.py).
"""

from __future__ import annotations

import functools
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import regex

SARI_MODULE = Path(__file__).parent / "sari_metric"
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")

# Scripts written without spaces: one character (with its marks) counts as a word, as is usual for ROUGE on Chinese.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+")
# Punctuation that is part of a number stays: 3.5, 1/2, 5-10, -4, 10%. Everything else that is punctuation goes.
_PUNCTUATION = regex.compile(r"((?<=\d)\p{P}(?=\d)|(?<!\w)-(?=\d)|(?<=\d)%)|\p{P}")
_ARTICLES = regex.compile(r"\b(?:a|an|the)\b")


def words(text: str) -> list[str]:
    """Lower-cased words: runs of letters, marks and digits of any script; for ASCII rouge-score's own tokens."""
    return _WORD.findall(unicodedata.normalize("NFC", text.lower()))


def rouge(answer: str, reference: str) -> dict[str, float] | None:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), without stemming; None when the reference has no word."""
    if not words(reference):
        return None
    return {name: score.fmeasure for name, score in _rouge_scorer().score(reference, answer).items()}


def mean_rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L of the answers whose reference has a word; 0 when none has."""
    found = [rouge(answer, reference) for answer, reference in zip(answers, references, strict=True)]
    known = [scores["rougeL"] for scores in found if scores]
    return sum(known) / len(known) if known else 0.0


def sari(sources: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """SARI of each answer, 0 to 100. `sources` are the texts to be rewritten; in a chat, what the user wrote last."""
    if not sources:
        return []
    scores = _sari_metric().compute(
        sources=list(sources), predictions=list(answers), references=[[text] for text in references]
    )
    return scores["by_row"]


def exact_match(answer: str, reference: str) -> float:
    """1.0 if the texts are the same character by character, white space at both ends aside; else 0.0."""
    return float(answer.strip() == reference.strip())


def exact_match_normalised(answer: str, reference: str) -> float:
    """1.0 if the texts are the same after `normalise_answer`; else 0.0."""
    return float(normalise_answer(answer) == normalise_answer(reference))


def normalise_answer(text: str) -> str:
    """What is left of an answer for a lenient comparison, after SQuAD's (Rajpurkar et al. 2016), for any script.

    Compatibility forms are unified (NFKC), case is folded, punctuation is removed unless it belongs to a number
    (SQuAD's own script makes 35 of 3.5), the English articles are removed, and white space becomes single spaces.
    Symbols (+, <, $) are kept: they carry meaning. A text of which nothing would be left is only folded.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub(r"\1", folded)).split())
    return kept or " ".join(folded.split())


class _Words:
    """The tokenizer that rouge-score is given: its own one drops every letter outside a-z."""

    tokenize = staticmethod(words)


@functools.cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(ROUGE_TYPES, tokenizer=_Words())


@functools.cache
def _sari_metric() -> Any:
    # Imported here: `evaluate` brings in datasets and pandas, which takes seconds.
    import evaluate

    folder = Path(_scratch().name)
    # `evaluate` copies a local module into its module cache before it imports it, and takes no parameter for the place.
    kept, evaluate.config.HF_MODULES_CACHE = evaluate.config.HF_MODULES_CACHE, folder / "modules"
    try:
        return evaluate.load(str(SARI_MODULE), cache_dir=str(folder / "metrics"), keep_in_memory=True)
    finally:
        evaluate.config.HF_MODULES_CACHE = kept


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="sft-play-evaluate-")  # removed when the process ends
