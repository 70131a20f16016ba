"""Text that looks like something of a person or a secret: found, and masked before anybody sees it.

    find_private("Write to jo.doe@mail.org")   ->  [Found("email", 9, 24)]
    mask("Write to jo.doe@mail.org")           ->  "Write to jo.***@****.***"      as long as before

Numbers are only taken for what their check digits say: IBANs and cards by python-stdnum (ISO 13616, Luhn and the
issuers' first digits), public addresses by `ipaddress`. Telephone numbers have no check digits; they count with a
country code, in a form that only they have, or behind a word such as "call". Keys count by the prefixes that their
issuers publish (those of GitHub's and gitleaks' scanners). Names and street addresses are not looked for: without a
model that is mostly false alarms. Addresses at example.com and its like (RFC 2606) are nobody's.

Worst bug: a secret shown in full in a report (tests/chat/quality/test_private.py).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

SHOWN = 3  # characters of a masked text that stay: enough to find it again in its row
_KEYS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*"
    r"|\b(?:sk-[A-Za-z0-9_-]{20,}|[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{36,}"
    r"|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}|hf_[A-Za-z]{30,}|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{35}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})"
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[A-Za-z]{2,24}\b")
_NOBODYS = re.compile(r"@(?:.*\.)?(?:example\.(?:com|org|net)|example|test|invalid|localhost)$", re.I)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.,+-])\d(?:[ -]?\d){12,18}(?![\w-])")
_ISSUERS = re.compile(  # Visa, Mastercard, Amex, Diners, JCB and Discover, each with its lengths
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:35|60|64|65)\d{14}"
)
_IP4 = re.compile(r"(?<![\w.:-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IP6 = re.compile(r"(?<![\w:])[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){4,7}(?![\w:])")
_NUMBER = re.compile(r"\d(?:\D{0,3}\d){3}")  # what every number below begins with; most texts have none
_VERSION = re.compile(r"(?:\bv|version|release|section|§)\.? ?$", re.I)
_PHONE = re.compile(
    r"(?<![\w.,+/-])(?:\+\d{1,3}(?:[ .()/-]{0,2}\d){7,13}"  # +46 70 123 45 67
    r"|(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"  # (555) 123-4567
    r"|(?<!\d )0[1-9]\d{0,2}[-/]\d{2,3}(?: \d{2,3}){1,3})(?![\w-])"  # 040-123 45 67
)
_CALL = re.compile(
    r"\b(?:tel|telephone|phone|mobile|call|fax|whatsapp|telefon|telefono|teléfono|móvil|llam[ae]\w*|handy|"
    r"téléphone|tfn|ring)\b[^\d\n]{0,12}(\d(?:[ ./()-]{0,2}\d){6,13})(?![\w,.]*\d)",
    re.I,
)


class Found(NamedTuple):
    """A kind, and where in the text it stands."""

    kind: str
    start: int
    end: int


def find_private(text: str) -> list[Found]:
    """Everything that looks private, in the order of the text; what lies in another is left out."""
    found: list[Found] = []
    for one in sorted(_candidates(text), key=lambda one: (one.start, -one.end)):
        if not found or one.start >= found[-1].end:
            found.append(one)
    return found


def mask(text: str) -> str:
    """The text with stars in the place of what looks private; its length stays."""
    pieces, at = [], 0
    for _, start, end in find_private(text):
        shown = start + min(SHOWN, (end - start) // 3)
        pieces += [text[at:shown], re.sub(r"\w", "*", text[shown:end])]
        at = end
    return "".join([*pieces, text[at:]])


def _candidates(text: str) -> Iterator[Found]:
    for match in _KEYS.finditer(text):
        yield Found("secret", *match.span())
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _NOBODYS.search(match.group()) and not match.group().startswith("git@"):
                yield Found("email", *match.span())
    if text.count(":") >= 4:
        yield from _addresses(_IP6, text)
    if not _NUMBER.search(text):
        return
    yield from _numbers(text)
    yield from _addresses(_IP4, text)
    for match in _PHONE.finditer(text):
        yield Found("phone", *match.span())
    for match in _CALL.finditer(text):
        yield Found("phone", *match.span(1))


def _numbers(text: str) -> Iterator[Found]:
    for match in _IBAN.finditer(text):
        from stdnum import iban

        if iban.is_valid(match.group()):
            yield Found("iban", *match.span())
    for match in _CARD.finditer(text):
        from stdnum import luhn

        digits = re.sub(r"\D", "", match.group())
        if _ISSUERS.fullmatch(digits) and luhn.is_valid(digits):
            yield Found("card", *match.span())


def _addresses(pattern: re.Pattern[str], text: str) -> Iterator[Found]:
    for match in pattern.finditer(text):
        try:
            address = ipaddress.ip_address(match.group())
        except ValueError:
            continue
        is_numbering = address.version == 4 and max(address.packed) < 10  # 1.2.3.4 is a chapter, 8.8.8.8 everybody's
        if (
            address.is_global
            and not is_numbering
            and not _VERSION.search(text, max(0, match.start() - 12), match.start())
        ):
            yield Found("ip", *match.span())
