"""Values of another tool's file are read as that tool reads them, and a wrong one has its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.config.converting.foreign import read_section
from sftlib.config.reading import Layer


def read(text: str):
    Path("x.yml").write_text(text, encoding="utf-8")
    layer = Layer()
    return read_section(Path("x.yml"), "x.yml", layer), layer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_values_by_their_kind():
    section, layer = read("a: 2e-5\nb: '2e-5'\nc: 010\nd: yes\ne: [x, y]\nf: x, y\ng: {h: 1}\ni: 1e3\n")
    take = section.take
    assert take("a").number() == take("b").number() == 2e-5
    assert take("c").whole() == 10
    assert take("d").boolean() is True
    assert take("e").texts() == take("f").texts() == ["x", "y"]
    assert take("g").section().take("h").whole() == 1
    assert take("i").whole() == 1000
    assert layer.faults == []


@pytest.mark.parametrize("nothing", ["", "null", "~", "None", "''", "[]", "{}"])
def test_nothing_is_not_given(nothing):
    section, _ = read(f"a: {nothing}\n")
    assert section.take("a") is None
    assert section.take("b") is None


def test_what_is_switched_off():
    section, _ = read("a: false\nb: 0\nc: 0.0\nd: no\ne: 1\nf: true\ng: [a]\n")
    assert [section.take(key).is_on for key in "abcdefg"] == [False] * 4 + [True] * 3


def test_wrong_kinds_are_faults_with_name_and_line():
    section, layer = read("a:\n  - b: x\n    c: [1]\n")
    inner = section.take("a").items()[0].section()
    assert inner.take("b").number() is None
    assert inner.take("c").text() is None
    assert section.take("a").boolean() is None
    assert [(fault.place, fault.seen, fault.expected) for fault in layer.faults] == [
        ("x.yml:2", "`a[0].b` is `x`.", "a number"),
        ("x.yml:3", "`a[0].c` is `[1]`.", "a text"),
        ("x.yml:1", "`a` is `[...]`.", "true or false"),
    ]


def test_what_nobody_has_taken():
    section, _ = read("a: 1\nb: 2\nc: 3\n")
    section.take("b", "c")
    assert list(section.unread()) == ["a"]


def test_anchors_are_read_and_json_too():
    section, layer = read("a: &x {b: 1}\nc: *x\n")
    assert section.take("c").section().take("b").whole() == 1
    section, layer = read('{"a": {"file_name": "x.json", "n": 3}}')
    assert section.take("a").section().take("file_name").text() == "x.json"
    assert layer.faults == []
