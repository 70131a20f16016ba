"""Findings are counted once a row, by data set and split; what most rows of a set do is its style."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sftlib.chat.quality import findings as room
from sftlib.chat.quality.findings import Findings, Place, Tally, excerpt
from sftlib.chat.quality.kinds import GROUPS, KINDS

SCRIPTS = Path(room.__file__).parents[2]


def filled(rows: int, of_a_kind: int, kind: str, dataset: str = "faq") -> Findings:
    found = Findings()
    for number in range(rows):
        place = Place("train", dataset, f"{dataset}.csv:{number}")
        found.count_row(place)
        if number < of_a_kind:
            found.add(kind, place, lambda: "the first text")
    return found


def test_a_finding_says_how_many_where_and_shows_the_first() -> None:
    found = filled(8, 2, "mojibake")
    place = Place("val", "sums", "sums.csv:1")
    found.count_row(place)
    found.count_row(Place("val", "sums", "sums.csv:2"))
    found.add("mojibake", place, lambda: "another text")
    [finding], styles = found.close()
    assert styles == []
    assert (finding.rows, finding.share) == (3, 0.3)
    assert finding.by_set == {"faq": 2, "sums": 1}
    assert finding.by_split == {"train": 2, "val": 1}
    assert finding.sources == ["faq.csv:0", "faq.csv:1", "sums.csv:1"]
    assert (finding.example.source, finding.example.text) == ("faq.csv:0", "the first text")


def test_the_serious_come_first_then_the_frequent() -> None:
    found = filled(9, 1, "mojibake")
    for number, kind in enumerate(["html", "html", "email", "email", "email", "leak"]):
        found.add(kind, Place("train", "faq", f"faq.csv:{number}"))
    assert [one.kind for one in found.close()[0]] == ["leak", "mojibake", "email", "html"]


@pytest.mark.parametrize(("rows", "of_a_kind", "is_style"), [(20, 11, True), (20, 10, False), (9, 9, False)])
def test_what_most_rows_of_a_set_do_is_its_style(rows: int, of_a_kind: int, is_style: bool) -> None:
    findings, styles = filled(rows, of_a_kind, "one_word").close()
    assert bool(styles) == is_style
    assert bool(findings) != is_style


def test_a_fault_never_becomes_a_style() -> None:
    findings, styles = filled(20, 20, "mojibake").close()
    assert [one.rows for one in findings] == [20]
    assert styles == []


def test_the_style_of_one_set_is_a_finding_of_another() -> None:
    found = filled(20, 20, "one_word", "labels")
    for number in range(20):
        place = Place("train", "faq", f"faq.csv:{number}")
        found.count_row(place)
        if number == 7:
            found.add("one_word", place)
    [finding], [style] = found.close()
    assert (finding.by_set, finding.rows) == ({"faq": 1}, 1)
    assert (style.dataset, style.rows) == ("labels", 20)


def test_a_kind_that_nobody_knows_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="moji"):
        Findings().add("moji", Place("train", "", "a:1"))


def test_sources_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LISTED", 3)
    found = filled(50, 5, "html")
    more = Tally()
    more.add(Place("train", "faq", "faq.csv:40"), None)
    found.merge("html", "faq", more)
    [finding], _ = found.close()
    assert finding.rows == 6
    assert finding.sources == ["faq.csv:0", "faq.csv:1", "faq.csv:2"]


def test_an_excerpt_is_masked_before_it_is_cut() -> None:
    text = "x" * 100 + " anna.lind@mail-host.org " + "y" * 300
    at = text.index("lind")
    shown = excerpt(text, at, at + 4)
    assert "lind" not in shown
    assert "mail" not in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown) < 140
    card = "4111 1111 1111 1111 " + "z" * 50 + "!" + "z" * 100  # the excerpt begins in its middle
    assert "1111" not in excerpt(card, card.index("!"), card.index("!") + 1)
    assert excerpt("two\nlines") == "two lines"
    assert len(excerpt("z" * 1000)) == room.EXAMPLE + 2


def test_two_texts_that_begin_alike_are_shown_where_they_part() -> None:
    text, other = room.beside("a" * 300 + " here " + "b" * 200, "a" * 300 + " there " + "b" * 200)
    assert "here" in text
    assert "there" in other
    assert text.startswith("… ")
    assert room.beside("short one", "short two") == ("short one", "short two")
    assert room.beside("c" * 400, "c" * 400) == (excerpt("c" * 400), excerpt("c" * 400))


def test_every_kind_is_found_by_some_check_and_stands_in_a_group() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in SCRIPTS.glob("chat/quality/*.py") if path.stem != "kinds"
    )
    assert {kind for kind in KINDS if not re.search(rf'"{kind}"', code)} == set()
    assert {known.group for known in KINDS.values()} == set(GROUPS)
    assert all(known.advice.endswith(".") for known in KINDS.values())
