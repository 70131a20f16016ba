"""The page says what the numbers say, reaches for nothing, and no text of the data becomes a part of it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from report_parts import analysis, finding

from sftlib.report import page

HOSTILE = '</blockquote><script>alert("x")</script><img src=http://evil.example/x.png onerror=1>{{ 7*7 }} &amp;'


class Read(HTMLParser):
    """Tags, attributes and text of a page; a tag that is not closed is an error."""

    VOID = frozenset({"meta", "br", "use", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.text += f" {data}"


@pytest.fixture(scope="module")
def shown() -> str:
    return page.render(analysis())


def words(text: str) -> str:
    return " ".join(Read(text).text.split())


def test_the_numbers_are_on_the_page(shown: str) -> None:
    text = words(shown)
    for number in (
        "10,000 rows in train, val", "1 kind of finding, none serious", "1,234,567 tokens", "50.0 % of them supervised",
        "1,234 · 12.3 %", "faq 1,200 , sums 34", "train 1,000 , val 234", "331", "290", "777", "451 (4.5 %)",
        "20,002 (7.9 %)", "7,003 (2.2 %)", "91.3 %", "0.19 ×", "2.46 GiB", "336 holds most.", "8,001", "1,999",
        "9,500", "617,283", "617,284", "1m 06s",
    ):  # fmt: skip
        assert number.replace(" ,", ",") in text.replace(" ,", ","), number


def test_it_is_whole_and_every_tag_is_closed(shown: str) -> None:
    assert shown.lstrip().startswith("<!DOCTYPE html>")
    assert Read(shown).open == []


def test_nothing_is_fetched(shown: str) -> None:
    assert "http" not in shown
    assert "@import" not in shown
    read = Read(shown)
    assert not set(read.tags) & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for name, value in read.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#")
    assert set(re.findall(r"url\(([^)]*)\)", shown)) <= set(re.findall(r"url\((#[^)]*)\)", shown))


def test_what_a_plot_refers_to_is_in_it_and_no_name_stands_twice(shown: str) -> None:
    names = re.findall(r'\bid="([^"]+)"', shown)
    assert len(names) == len(set(names))
    for name in re.findall(r'(?:href="|url\()#([^")]+)', shown):
        assert name in names


@pytest.mark.parametrize("field", ["text", "source", "other_text", "other_source"])
def test_a_hostile_row_stays_text(field: str) -> None:
    example = {"source": "a:1", "text": "x", "other_source": "b:2", "other_text": "y"} | {field: HOSTILE}
    text = page.render(analysis(findings=[finding(example=example)]))
    read = Read(text)
    assert not set(read.tags) & {"script", "img"}
    assert HOSTILE in read.text
    assert html.escape(HOSTILE, quote=False)[:20] in text


def test_a_hostile_name_of_a_data_set_stays_text_in_plots_too() -> None:
    sets = analysis()["sets"]
    sets[0]["name"] = "<script>x</script>$\\frac{1}{2}$"
    text = page.render(
        analysis(sets=sets, project=HOSTILE, findings=[finding(by_set={"<b>": 1, "x": 2}, sources=["<i>:1"])])
    )
    assert not set(Read(text).tags) & {"script", "img", "i"}


def test_clean_data_give_a_short_page(shown: str) -> None:
    text = words(page.render(analysis(findings=[])))
    assert "Nothing was found." in text
    assert "What was looked for" in text
    assert len(text) < len(words(shown))


def test_the_serious_stand_first_and_are_named_so_in_words() -> None:
    text = words(page.render(analysis(findings=[finding(title="Worst", is_serious=True), finding(title="Lesser")])))
    assert text.index("Worst serious") < text.index("Lesser look")


def test_words_instead_of_tokens_are_said_loudly_and_suggest_no_limit() -> None:
    text = words(page.render(analysis(unit="words", why_words="There is no tokenizer.", limits=None)))
    assert "Words are counted, not tokens. There is no tokenizer." in text
    assert "How long a row may be" not in text


def test_a_style_is_told_and_five_sources_are_shown(shown: str) -> None:
    style = {"kind": "one_word", "title": "Answers of one word", "dataset": "labels", "rows": 9, "share": 0.9}
    assert "Answers of one word: 90.0 % of labels." in words(page.render(analysis(styles=[style])))
    assert "faq.csv:4" in shown
    assert "faq.csv:5" not in shown


def test_a_set_whose_tokens_are_not_known_has_dashes() -> None:
    sets = analysis()["sets"]
    sets[1]["lengths"] = None
    assert "1.25 – – – –" in words(page.render(analysis(sets=sets)))
