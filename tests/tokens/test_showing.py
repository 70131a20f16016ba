"""What is shown as trained is what the labels train."""

from __future__ import annotations

from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.showing import pieces


def test_pieces_follow_the_labels():
    example = Example([1, 7, 9, 12, 2, 5, 3], [IGNORED, IGNORED, IGNORED, 12, 2, IGNORED, 3], "raw.jsonl:1")
    assert pieces(example) == [([1, 7, 9], False), ([12, 2], True), ([5], False), ([3], True)]
