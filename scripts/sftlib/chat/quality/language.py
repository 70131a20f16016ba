"""Which language a text is in, where that can be told.

    languages = Languages()
    languages.of("Vad är ett bygglov, och när behövs det?")   ->  Told("sv", 0.99)
    languages.of("2 + 2 = 4")                                 ->  Told("", 0.0)        nobody can tell

py3langid (Barbaresi's fork of langid.py, Lui and Baldwin 2012) judges the first 200 characters, code and links left
out; of 4,600 texts of the FAQ and GSM8K, 300 characters told all the same. Texts of fewer than 20 letters, and those it
is less than half sure of, are of no known language. Languages that it mixes up, such as Danish and Norwegian, count as
one when a question is compared with its answer.

Worst bug: short English answers taken for some other language (tests/chat/quality/test_language.py).
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

LOOKED_AT = 200  # characters
LETTERS = 20  # below, even people guess
FLOOR = 0.5  # of the probability that py3langid gives
SURE = 0.9  # from which on two texts are said to be in different languages

_LEFT_OUT = re.compile(r"(?s)```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+|<<.*?>>|[\d_#*=<>|\\{}\[\]]+")
_ALIKE = (
    {"no", "nb", "nn", "da"},
    {"hr", "sr", "bs"},
    {"id", "ms"},
    {"cs", "sk"},
    {"es", "gl", "ca", "an"},
    {"en", "pcm"},
)


class Told(NamedTuple):
    """An ISO 639-1 code, or "" where it cannot be told, and how sure that is."""

    code: str
    sureness: float


UNKNOWN = Told("", 0.0)


class Languages:
    """The identifier."""

    def __init__(self) -> None:
        self._identifier = _identifier()

    def of(self, text: str) -> Told:
        """The language of a text."""
        plain = " ".join(_LEFT_OUT.sub(" ", text[: 4 * LOOKED_AT]).split())[:LOOKED_AT]
        if sum(map(str.isalpha, plain)) < LETTERS:
            return UNKNOWN
        code, sureness = self._identifier.classify(plain)
        return Told(code, sureness) if sureness >= FLOOR else UNKNOWN


def differ(one: Told, other: Told) -> bool:
    """Whether two texts are surely in different languages."""
    if min(one.sureness, other.sureness) < SURE or one.code == other.code:
        return False
    return not any({one.code, other.code} <= alike for alike in _ALIKE)


@functools.cache
def _identifier() -> Any:
    """Loaded once: it takes a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
