"""A choice is kept for its key and for no other, in a file that is whole or made anew."""

from __future__ import annotations

import pytest

from sftlib.files import read_json
from sftlib.memory.remembered import KEPT, NAME, Remembered
from sftlib.memory.search import Choice

KEY = {"base": "9f2c", "longest": 512, "targets": ["q_proj"], "card": "a GPU", "free": 28, "versions": {"torch": "2"}}


def test_a_choice_comes_back(tmp_path):
    kept = Remembered(tmp_path / ".cache", KEY)
    assert kept.recall() is None
    kept.remember(Choice(4, True, False))
    assert Remembered(tmp_path / ".cache", dict(reversed(KEY.items()))).recall() == Choice(4, True, False)
    kept.remember(Choice(2, True, False))
    assert kept.recall() == Choice(2, True, False)
    assert [entry["key"] for entry in read_json(tmp_path / ".cache" / NAME).values()] == [KEY]


@pytest.mark.parametrize("part", KEY)
def test_every_part_of_the_key_counts(part, tmp_path):
    Remembered(tmp_path, KEY).remember(Choice(4, True, False))
    assert Remembered(tmp_path, KEY | {part: "another"}).recall() is None


def test_the_oldest_are_dropped(tmp_path):
    for number in range(KEPT + 1):
        Remembered(tmp_path, {"number": number}).remember(Choice(1, False, False))
    Remembered(tmp_path, {"number": 1}).remember(Choice(2, False, False))  # the newest now
    Remembered(tmp_path, {"number": "last"}).remember(Choice(1, False, False))
    gone = [number for number in range(KEPT + 1) if Remembered(tmp_path, {"number": number}).recall() is None]
    assert gone == [0, 2]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"x": 1}', '{"x": {}}', '{"x": {"choice": {"size": 1}}}',
     '{"x": {"choice": {"size": "4", "checkpointing": true, "offload": false, "paged": false, "stream": false}}}'],
)  # fmt: skip
def test_a_file_that_is_broken_is_made_anew_with_a_word(text, tmp_path, capsys):
    (tmp_path / NAME).write_text(text, encoding="utf-8")
    kept = Remembered(tmp_path, KEY)
    assert kept.recall() is None
    assert "is not readable" in capsys.readouterr().err
    kept.remember(Choice(4, True, False))
    assert kept.recall() == Choice(4, True, False)
