"""Answers that a model had better not learn: empty in all but name, refusing, echoing, too short, cut off.

    faults_of("What is a bygglov?", "I'm sorry, but I can't help with that.")  ->  ["refusal"]

A refusal is known by how it begins, in eight languages, and only where it goes on with what an assistant refuses: to
help, answer, provide. "I'm sorry, I can't come on Monday" is a sentence like others. The list is short on purpose; a
longer one finds more and is wrong more often.
An answer is cut off when its last line is prose of several words that ends in a small letter, a comma or the like:
lists, titles, sums, code and scripts without full stops are not judged.

Worst bug: good answers called refusals (tests/chat/quality/test_answers_given.py).
"""

from __future__ import annotations

import re
import unicodedata

from ..near_duplicates import words_of
from ..questions import fold

ECHOED = 4  # words of a question from which on an answer that begins with it is an echo; "Hi" may be answered by "Hi"
PROSE = 6  # words of a last line that is prose: shorter ones are titles, names and labels
LOOKED_AT = 300  # characters in which a refusal shows itself

_PLACEHOLDERS = frozenset(  # `None` is not among them: "How many are left?" "None"
    ["n/a", "#n/a", "na", "null", "nan", "nil", "todo", "tbd", "tba", "undefined", "[deleted]", "[removed]", "<empty>",
     "<noinput>", "<nooutput>", "(empty)", "empty", "placeholder", "#value!", "#ref!"]
)  # fmt: skip
_ONLY_MARKS = frozenset(".…-–—_*#?'\"` \n\t")

# What is refused, a word of it: an assistant that cannot come on Monday refuses nothing.
_DOES = (
    r"(?:help|assist|fulfil|comply|provide|answer|create|generate|write|discuss|do (?:that|this|so)|share|give|support|"
    r"engage|continue|access|browse|offer|complete|make|recommend|predict|tell|translate|respond|process|perform)"
)
_TUT = r"(?:helfen|beantworten|weiterhelfen|geben|erstellen|bereitstellen|unterstützen|ausführen|erfüllen)"
_HACE = r"(?:ayud|asist|proporcion|respond|cumpl|gener|crear|hacer eso|acced|ofrec|compart)"
_FAIT = r"(?:aider|fournir|répondre|créer|générer|donner|accéder|faire cela|satisfaire)"
_FA = r"(?:aiut|forni|rispond|crea|genera|dare|acced|soddisf)"
_FAZ = r"(?:ajud|fornec|respond|cri|ger|dar|acess|atend)"
_CANNOT = r"(?:can(?:not|'t| not)|am (?:unable|not able) to|won't(?: be able to)?)"
_NOT_ABLE = r"i'm (?:unable|not able|not comfortable) (?:to )?"
_SORRY = r"(?:(?:i'm|i am) (?:very |so |really |truly )?(?:sorry|afraid)|sorry|apologies|unfortunately|i apologi[sz]e)"
_MODEL = r"(?:an? )?(?:ai|artificial intelligence|(?:large |ai )?language model)"
_REFUSALS = re.compile(
    "|".join(
        (
            # English
            rf"{_SORRY}[,.]? (?:but )?(?:as {_MODEL}[^.]{{0,40}}, )?(?:that )?(?:i {_CANNOT}|{_NOT_ABLE}) ?{_DOES}",
            rf"(?:i {_CANNOT} |{_NOT_ABLE})(?!help but){_DOES}(?: with| you| that| this| any)",
            rf"as {_MODEL}(?: (?:model|assistant))?,? (?:i|it)\b",
            r"i (?:must|have to) (?:respectfully )?decline",
            # German
            rf"(?:es )?tut mir (?:sehr )?leid\b[^.]{{0,60}}\b(?:kann|darf)\b[^.]{{0,60}}{_TUT}",
            rf"leider (?:kann|darf) ich [^.]{{0,60}}(?:nicht|keine)[^.]{{0,40}}{_TUT}",
            r"als (?:ein(?:e)? )?(?:ki|ki-modell|sprachmodell|künstliche intelligenz)\b",
            # Spanish
            rf"(?:lo siento|lo lamento)(?: mucho)?[,.]? (?:pero )?no (?:puedo|me es posible) {_HACE}",
            rf"no puedo {_HACE}",
            r"como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b",
            # French
            rf"(?:je suis )?d[ée]sol[ée]e?[,.]? (?:mais )?je ne (?:peux|puis) pas (?:vous |t'|y )?{_FAIT}",
            rf"je ne (?:peux|puis) pas (?:vous |t'|y )?{_FAIT}",
            r"en tant qu(?:e |')(?:ia|intelligence artificielle|modèle de langage|assistant)\b",
            # Italian, Portuguese
            rf"(?:mi dispiace[,.]? (?:ma )?)?non (?:posso|sono in grado di) {_FA}",
            r"come (?:ia|modello linguistico|intelligenza artificiale)\b",
            rf"(?:(?:desculpe|lamento|sinto muito)[,.]? (?:mas )?)?(?:eu )?não (?:posso|consigo) (?:te )?{_FAZ}",
            # Swedish
            r"(?:jag är ledsen|tyvärr)[,.]? (?:men )?(?:jag kan|kan jag) inte (?:hjälpa|svara|ge|göra)",
            # Chinese
            r"(?:很?抱歉|对不起|不好意思)[,，。]? ?(?:但是?)?我(?:无法|不能|没有办法)(?:回答|提供|帮助|满足|协助|完成)",
            r"作为(?:一个|一名|一款)?(?:ai|人工智能|语言模型)",
        )
    )
)
_OPENERS = re.compile(r"^[\s\"“'*_>-]+")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "´": "'"})
_NOT_PROSE = re.compile(r"^\s*(?:[-*+•|>#=]|\d+[.)]|[a-zA-Z][.)]\s|`{3}|~{3}|    |\t)")
_DANGLING = frozenset(",;([{-–—&/")


def faults_of(question: str, answer: str) -> list[str]:
    """The kinds that this answer is of; question: what it answers, the last message before it."""
    if is_empty(answer):
        return ["empty"]
    found = []
    if is_refusal(answer):
        found.append("refusal")
    if repeats(question, answer):
        found.append("repeats_question")
    if is_one_word(answer):
        found.append("one_word")
    if is_cut_off(answer):
        found.append("cut_off")
    return found


def is_empty(answer: str) -> bool:
    """Whether it is a word for nothing, or has no character that says anything."""
    said = answer.strip()
    return said.casefold() in _PLACEHOLDERS or _ONLY_MARKS.issuperset(said)


def is_refusal(answer: str) -> bool:
    """Whether it begins as refusals do."""
    start = _OPENERS.sub("", answer[:LOOKED_AT]).casefold().translate(_APOSTROPHES)
    return _REFUSALS.match(" ".join(start.split())) is not None


def repeats(question: str, answer: str) -> bool:
    """Whether it begins with the whole question."""
    asked = fold(question).rstrip(" ?.!:")
    return len(words_of(asked)) >= ECHOED and fold(answer).startswith(asked)


def is_one_word(answer: str) -> bool:
    """Whether it is a single word; of Chinese, Japanese or Thai a single letter."""
    return len(answer) < 40 and len(words_of(answer)) == 1


def is_cut_off(answer: str) -> bool:
    """Whether its last line is prose that does not come to an end."""
    last = answer.rstrip().rpartition("\n")[2]
    if _NOT_PROSE.match(last) or last.count(" ") + 1 < PROSE or "```" in last:
        return False
    end = last[-1]
    if end in _DANGLING:
        return True
    # Small letters exist in scripts that end a sentence with a full stop: Latin, Greek, Cyrillic, Armenian.
    is_link = "://" in last.rsplit(" ", 1)[1]
    return unicodedata.category(end) == "Ll" and not is_link
