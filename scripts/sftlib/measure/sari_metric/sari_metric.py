"""SARI as a metric module of `evaluate`, loaded by its path: no hub is asked.

Written after Xu et al. 2016, "Optimizing Statistical Machine Translation for Text Simplification", TACL 4:401-415
(https://aclanthology.org/Q16-1029). For n-grams of 1 to 4 words it asks what the answer kept from the source, deleted
from it and added to it, and whether the references did so too:

    SARI = 100 * mean over n of (F1 of keep + precision of delete + F1 of add) / 3

Two points are taken as tensor2tensor's `sari_hook.py` and Hugging Face's `evaluate-metric/sari` take them, so that
numbers can be compared with theirs: 0/0 is 1 (nothing to do and nothing done is right), and the recall of keep counts
all occurrences rather than averaging ratios. Text is lower-cased and tokenized as sacrebleu's 13a. The authors' own
SARI.py differs in both points: on its first example it gives 26.83 where this gives 26.95.

Worst bug: a score that no published implementation gives (tests/measure/test_sari.py).
"""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import datasets
import evaluate
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

LONGEST_NGRAM = 4  # words, as in the paper


class SariMetric(evaluate.Metric):
    """`compute(sources, predictions, references)` -> {"sari": mean, "by_row": [a score each]}, 0 to 100."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="SARI of answers to sources, given one or more references each.",
            citation="Xu et al. 2016, TACL 4:401-415, https://aclanthology.org/Q16-1029",
            inputs_description="sources: texts; predictions: texts; references: a list of texts a row.",
            features=datasets.Features({"sources": text, "predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(self, sources: list[str], predictions: list[str], references: list[list[str]]) -> dict:
        words = Tokenizer13a()
        by_row = [
            100 * _sari(_words(words, source), _words(words, prediction), [_words(words, text) for text in texts])
            for source, prediction, texts in zip(sources, predictions, references, strict=True)
        ]
        return {"sari": fmean(by_row), "by_row": by_row}


def _words(tokenizer: Tokenizer13a, text: str) -> list[str]:
    # An empty text is one empty word, as in the published implementations: an empty answer must not pass for
    # "added nothing, so nothing wrong was added".
    return tokenizer(text.lower()).split(" ")


def _sari(source: list[str], prediction: list[str], references: list[list[str]]) -> float:
    scores = []
    for length in range(1, LONGEST_NGRAM + 1):
        wanted = sum((_ngrams(words, length) for words in references), Counter())
        # The paper averages counts over the references; repeating the other side as often keeps them whole.
        had = _repeat(_ngrams(source, length), len(references))
        said = _repeat(_ngrams(prediction, length), len(references))
        scores += [_keep(had, said, wanted), _delete(had, said, wanted), _add(had, said, wanted)]
    return fmean(scores)


def _keep(had: Counter, said: Counter, wanted: Counter) -> float:
    kept, to_keep = had & said, had & wanted
    rightly = kept & wanted
    precision = fmean(rightly[ngram] / kept[ngram] for ngram in kept) if kept else 1.0
    recall = rightly.total() / to_keep.total() if to_keep else 1.0
    return _f1(precision, recall)


def _delete(had: Counter, said: Counter, wanted: Counter) -> float:
    deleted = had - said
    rightly = deleted - wanted
    return fmean(rightly[ngram] / deleted[ngram] for ngram in deleted) if deleted else 1.0


def _add(had: Counter, said: Counter, wanted: Counter) -> float:
    added, to_add = said.keys() - had.keys(), wanted.keys() - had.keys()
    rightly = added & to_add
    precision = len(rightly) / len(added) if added else 1.0
    recall = len(rightly) / len(to_add) if to_add else 1.0
    return _f1(precision, recall)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _ngrams(words: list[str], length: int) -> Counter:
    return Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def _repeat(counts: Counter, times: int) -> Counter:
    return Counter({ngram: count * times for ngram, count in counts.items()})
