"""What looks private is found by its check digits or its form, numbers of other kinds are not, and none is shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.chat.quality.private import find_private, mask

KEY = "sk-" + "abcdEFGH1234" * 3


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("Write to jo.doe+x@mail-host.co.uk.", "email", "jo.doe+x@mail-host.co.uk"),
        ("IBAN DE89 3704 0044 0532 0130 00, please", "iban", "DE89 3704 0044 0532 0130 00"),
        ("to GB82WEST12345698765432 today", "iban", "GB82WEST12345698765432"),
        ("card 4111 1111 1111 1111", "card", "4111 1111 1111 1111"),
        ("paid with 378282246310005.", "card", "378282246310005"),
        ("from 93.184.216.34 yesterday", "ip", "93.184.216.34"),
        ("host 2606:2800:220:1:248:1893:25c8:1946", "ip", "2606:2800:220:1:248:1893:25c8:1946"),
        ("+46 70 123 45 67", "phone", "+46 70 123 45 67"),
        ("(555) 123-4567", "phone", "(555) 123-4567"),
        ("ring 070-123 45 67", "phone", "070-123 45 67"),
        ("Call us: 612345678", "phone", "612345678"),
        (f"key {KEY} here", "secret", KEY),
        ("AKIAABCDEFGHIJKLMNOP", "secret", "AKIAABCDEFGHIJKLMNOP"),
        ("ghp_" + "a1B2" * 9, "secret", "ghp_" + "a1B2" * 9),
    ],
)
def test_what_is_private_is_found_and_masked(text: str, kind: str, shown: str) -> None:
    [found] = find_private(text)
    assert (found.kind, text[found.start : found.end]) == (kind, shown)
    hidden = mask(text)
    assert len(hidden) == len(text)
    assert shown[3:] not in hidden
    assert "*" in hidden


@pytest.mark.parametrize(
    "text",
    [
        "anna@example.com, me@sub.example.org and root@localhost",  # RFC 2606
        "git@github.com:org/name.git and @mention and a@b",
        "IBAN DE89 3704 0044 0532 0130 01",  # its check digits are wrong
        "4111 1111 1111 1112 and 1234 5678 9012 3456",  # so are these
        "0000 0000 0000 0000 and 3704 0044 0532 0130 01",
        "127.0.0.1, 192.168.1.10, 10.0.0.1 and 2001:db8:0:0:0:0:0:1",  # nobody's addresses
        "version 12.4.18.2, v10.20.30.40 and chapter 1.2.3.4",
        "999.1.2.300",
        "ca 25 000-60 000 SEK, 3 000-8 000 SEK",
        "Janet has 16 eggs, 3 + 4 = 7, and 10,000,000.50 dollars",
        "100 000 000 people on 2026-11-22 at 12:30:45",
        "01-02 2024, 2024/05/06, 1999-2004",
        "call 3 of them in 2019",
        "pi is 3.14159265358979323846",
        "the id 123456789012345678901234",
        "sk-learn and hf_hub and eyJust",
    ],
)
def test_other_numbers_and_names_are_not(text: str) -> None:
    assert find_private(text) == []
    assert mask(text) == text


def test_several_are_found_in_order_and_none_twice() -> None:
    text = f"a.b@mail.org, {KEY}, +46 70 123 45 67"
    assert [one.kind for one in find_private(text)] == ["email", "secret", "phone"]


@given(st.text(st.sampled_from("ab1 @.+-:/49DE07"), max_size=60))
@settings(max_examples=150, deadline=None)
def test_the_mask_keeps_lengths_and_is_final(text: str) -> None:
    hidden = mask(text)
    assert len(hidden) == len(text)
    assert all(one == other or other == "*" for one, other in zip(text, hidden, strict=True))
