"""SARI against published numbers: the paper's examples, as tensor2tensor's tests and evaluate's card give them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sftlib.measure import text

SOURCE = "About 95 species are currently accepted."
REFERENCES = [
    "About 95 species are currently known.",
    "About 95 species are now accepted.",
    "95 species are now accepted.",
]


@pytest.fixture(scope="module")
def metric():
    """The module as `evaluate` loads it, with no way to the network."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    kept, socket.socket.connect = socket.socket.connect, refuse
    try:
        yield text._sari_metric()
    finally:
        socket.socket.connect = kept


@pytest.mark.parametrize(
    ("prediction", "published"),
    [
        ("About 95 you now get in.", 26.953601953601954),  # card of evaluate-metric/sari; sari_hook_test: 0.2695360
        ("About 95 species are now agreed.", 61.709656084656075),  # huggingface/evaluate#376; sari_hook_test: 0.6170966
        ("About 95 species are currently agreed.", 50.88682),  # sari_hook_test: 0.5088682
    ],
)
def test_published_numbers(metric, prediction: str, published: float):
    scores = metric.compute(sources=[SOURCE], predictions=[prediction], references=[REFERENCES])
    assert scores["sari"] == pytest.approx(published, abs=1e-5)
    if published == 26.953601953601954:
        assert scores["sari"] == pytest.approx(published, abs=1e-12)


def test_all_the_same_is_100(metric):
    same = "About 95 species are currently accepted ."
    assert metric.compute(sources=[same], predictions=[same], references=[[same]])["sari"] == 100.0


def test_one_word_by_hand(metric):
    # source "a", answer "b", reference "c". Unigrams: nothing kept nor to keep: 1; "a" deleted rightly: 1; "b" added
    # wrongly: 0. Longer n-grams: nothing anywhere, 1 each. (1 + 1 + 0 + 9) / 12
    assert metric.compute(sources=["a"], predictions=["b"], references=[["c"]])["sari"] == pytest.approx(100 * 11 / 12)


def test_an_empty_answer_adds_an_empty_word(metric):
    # As in the published implementations. Source and reference "a": keep 0 (recall 0), delete "a" wrongly 0, add "" 0
    # (precision 0, though nothing was to add); longer n-grams: 1 each.
    assert metric.compute(sources=["a"], predictions=[""], references=[["a"]])["sari"] == pytest.approx(100 * 9 / 12)


def test_rows_keep_their_order_and_their_scores(metric):
    ours = text.sari([SOURCE, "a"], ["About 95 you now get in.", "b"], [REFERENCES[0], "c"])
    alone = [text.sari([SOURCE], ["About 95 you now get in."], [REFERENCES[0]])[0], 100 * 11 / 12]
    assert ours == pytest.approx(alone)
    assert text.sari([], [], []) == []


def test_nothing_is_written_outside_the_scratch_folder(metric):
    import evaluate

    assert Path(metric.data_dir).is_relative_to(text._scratch().name)
    assert Path(__import__(type(metric).__module__, fromlist=["x"]).__file__).is_relative_to(text._scratch().name)
    assert os.fspath(evaluate.config.HF_MODULES_CACHE) != text._scratch().name  # given back to others
