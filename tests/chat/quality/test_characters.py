"""Odd characters are found where they stand, and whole scripts are left in peace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents

from sftlib.chat.quality.characters import odd_characters

FINE = [
    "Plain text, 3 < 4 & 5 > 2, a<b>c.",
    "Crème brûlée, Ärger, ação, IRMÃ”, NÃO, SÃO PAULO, Ångström, â, Ã, Ð",
    "«Noël» – “quoted” … 20 °C, 5 €, ½",
    "Привет, мир. Γειά σου. 漢字かな交じり文。 สวัสดี",
    "می‌خواهم",  # a joiner that Persian needs
    "👩‍🚀 🏳️‍🌈 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u2067שלום\u2069 and \u202bمرحبا\u202c",
    "```python\nprint('<br>')\n```",
    "Use `<br>` for a line break.",
    "~~~~\n```\nnot closed in here\n~~~~",
    "- item\n  ```sh\n  ls\n  ```\n- next",
    "In HTML, <b>bold</b> is written with a tag.",
    "the inline ```code``` on one line",
]


@pytest.mark.parametrize("text", FINE)
def test_what_belongs_there_is_not_odd(text: str) -> None:
    assert odd_characters(text) == {}


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("CafÃ© au lait", "mojibake", "Ã©"),
        ("itâ€™s", "mojibake", "â€™"),
        ("10\u00c2\u00a0km", "mojibake", "\u00c2\u00a0"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "mojibake", "ÐŸ"),
        ("NoÃ«l", "mojibake", "Ã«"),
        ("ðŸ˜€", "mojibake", "ðŸ˜€"),
        ("\u00c3\u0081rbol", "mojibake", "\u00c3\u0081"),
        ("na\ufffdve", "replacement", "\ufffd"),
        ("zero\u200bwidth", "invisible", "\u200b"),
        ("soft\u00adhyphen", "invisible", "\u00ad"),
        ("abc\u202edef", "invisible", "\u202e"),
        ("left \u2066alone\u2069", "invisible", "\u2066"),
        ("tag \U000e0041 hidden", "invisible", "\U000e0041"),
        ("icon \ue001", "private_use", "\ue001"),
        ("it\x92s", "control", "\x92"),
        ("```python\nprint(1)", "open_fence", "```"),
        ("```\na\n```\n```\nb", "open_fence", "```"),
        ("````\na\n```", "open_fence", "````"),
        ("a line<br/>and another", "html", "<br/>"),
        ("5&nbsp;km", "html", "&nbsp;"),
        ("it&#39;s", "html", "&#39;"),
        ("see <a href='x'>there</a>", "html", "<a href='x'>"),
        ("`<br>` but then <div class=x>", "html", "<div class=x>"),
    ],
)
def test_what_does_not_is_named_and_placed(text: str, kind: str, shown: str) -> None:
    found = odd_characters(text)
    assert list(found) == [kind]
    assert text[slice(*found[kind])] == shown


def test_each_fault_of_a_text_is_named() -> None:
    assert sorted(odd_characters("Ã© \ufffd \u200b \ue000 <br>\n```")) == [
        "html", "invisible", "mojibake", "open_fence", "private_use", "replacement",
    ]  # fmt: skip


@given(st.text(st.characters(categories=("Ll", "Lu", "Lo", "Nd", "Zs"), max_codepoint=0x24F), max_size=20))
@settings(max_examples=60, deadline=None)
def test_what_is_garbled_is_seen(text: str) -> None:
    """Any text with a letter beyond ASCII, read as Latin-1, is mojibake."""
    garbled = text.encode("utf-8").decode("latin-1")
    assert ("mojibake" in odd_characters(garbled)) == (garbled != text) or _ends_in_a_quote(garbled)


def _ends_in_a_quote(text: str) -> bool:
    """Capitals before what may be a quotation mark are left alone."""
    return any(
        text[at - 1].isupper() and "Â" <= text[at] <= "ß" and text[at + 1] in "»«" for at in range(1, len(text) - 1)
    )


@given(contents())
@settings(max_examples=60, deadline=None)
def test_every_place_lies_in_the_text(text: str) -> None:
    for start, end in odd_characters(text).values():
        assert 0 <= start < end <= len(text)
