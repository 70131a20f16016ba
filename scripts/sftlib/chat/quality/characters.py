"""Characters that do not belong in a text: traces of a wrong encoding, of a web page, of a copy from a PDF.

    odd_characters("CafÃ© <br>")  ->  {"mojibake": (3, 5), "html": (6, 10)}        kind -> where the first one stands

Mojibake is a run of characters that, written back as Windows-1252 or Latin-1, is UTF-8: "Ã©" is é, "â€™" is ’. Few
texts hold such a run by chance; capitals before a quotation mark may (IRMÃ”), and are left alone. What scripts need
stays unseen: joiners (Persian, Indic, emoji), flags of regions, marks of direction among Hebrew and Arabic letters.
Tags and entities count outside code, and not where the text itself speaks of HTML. Code fences by CommonMark 0.31, 4.5.

Worst bug: a false alarm for a whole script (tests/chat/quality/test_characters.py).
"""

from __future__ import annotations

import re

Span = tuple[int, int]

_CONTROL = re.compile("[\x80-\x9f]")
_INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b\u2060\ufeff\u202d\u202e]|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]"
)
_DIRECTION = re.compile("[\u202a-\u202c\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")

_HIGH_1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"  # what Windows-1252 has between 0x80 and 0x9f
_BYTES = {chr(byte): byte for byte in range(0x80, 0x100)} | {one: one.encode("cp1252")[0] for one in _HIGH_1252}
_GARBLED = re.compile(f"[\u00c2-\u00f4][\u0080-\u00bf{_HIGH_1252}]+")
_QUOTES = "”’»“‘«…–—"  # may follow a capital Ã or Â at the end of a word

_FENCE = re.compile(r"^[ \t>]*(?:[-*+]|\d+[.)])?[ \t]*(`{3,}|~{3,})(.*)$", re.M)
_CODE = re.compile(r"(?s)(`{3,}|~{3,}).*?(?:\1|\Z)|`[^`\n]+`|\$[^$\n]+\$")
_TAG = re.compile(
    r"</?(?:div|span|br|hr|li|ul|ol|td|th|tr|table|thead|tbody|font|h[1-6]|strong|em|img|script|style|iframe|center|"
    r"blockquote|section|article|pre|sub|sup)(?:\s[^<>]{0,200})?/?>"
    r"|</[abipu]>|<a\s+href[^<>]{0,300}>|<p(?:\s[^<>]{0,200})?>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|[a-z]{1,8}(?:uml|acute|grave|circ|tilde|cedil)|#\d{2,6}|#x[0-9a-f]{2,6});",
    re.I,
)
_ABOUT_HTML = re.compile(r"\b(?:html|xml|css|svg|xhtml|jsx|javascript|web ?(?:page|site)|markup|tags?)\b", re.I)


def odd_characters(text: str) -> dict[str, Span]:
    """For each kind in this text, where the first one stands."""
    found: dict[str, Span | None] = {}
    if not text.isascii():
        found["mojibake"] = _mojibake(text)
        found["replacement"] = _first("\ufffd", text)
        found["invisible"] = _span(_INVISIBLE.search(text)) or _lost_direction(text)
        found["private_use"] = _span(_PRIVATE_USE.search(text))
        # a garbled text holds control characters as well, and one name is enough
        found["control"] = None if found["mojibake"] else _span(_CONTROL.search(text))
    if "```" in text or "~~~" in text:
        found["open_fence"] = _open_fence(text)
    if "<" in text or "&" in text:
        found["html"] = _html(text)
    return {kind: span for kind, span in found.items() if span is not None}


def _mojibake(text: str) -> Span | None:
    for match in _GARBLED.finditer(text):
        raw = bytes(_BYTES[one] for one in match.group())
        size = 2 if raw[0] < 0xE0 else 3 if raw[0] < 0xF0 else 4
        try:
            raw[:size].decode("utf-8")
        except UnicodeDecodeError:
            continue
        before = text[match.start() - 1 : match.start()]
        if not (size == 2 and before.isupper() and match.group()[1] in _QUOTES):
            return match.start(), match.start() + size
    return None


def _open_fence(text: str) -> Span | None:
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        mark, rest = fence.groups()
        if opened is None:
            if not (mark[0] == "`" and "`" in rest):  # ```inline``` on one line
                opened = fence
        elif mark[0] == opened[1][0] and len(mark) >= len(opened[1]) and not rest.strip():
            opened = None
    return opened.span(1) if opened else None


def _html(text: str) -> Span | None:
    if _TAG.search(text) is None or _ABOUT_HTML.search(text):
        return None
    outside = _CODE.sub(lambda code: " " * len(code.group()), text)
    return _span(_TAG.search(outside))


def _lost_direction(text: str) -> Span | None:
    mark = _DIRECTION.search(text)
    return _span(mark) if mark and not _RIGHT_TO_LEFT.search(text) else None


def _first(character: str, text: str) -> Span | None:
    at = text.find(character)
    return (at, at + 1) if at >= 0 else None


def _span(match: re.Match[str] | None) -> Span | None:
    return match.span() if match else None
