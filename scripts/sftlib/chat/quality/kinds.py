"""What can be found in data: the name of each kind, whether it is serious, and what to do about it.

`group` is what `make analyze FAIL_ON=...` names. A kind that `is_style_when_common` is no fault of a data set where
more than half of the rows have it: a classifier is to answer in one word, and sums end without a full stop.

    KINDS["mojibake"].title  ->  "Letters read in a wrong encoding"

Worst bug: a kind that a check finds and nobody knows (tests/chat/quality/test_findings.py).
"""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = ("leaks", "duplicates", "conflicts", "answers", "language", "characters", "private")
BLOCK = "Repair them at their source, or list them in data.blocklist, and make process."


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding."""

    group: str
    title: str
    advice: str
    is_serious: bool = False
    is_style_when_common: bool = False


KINDS = {
    "leak": Kind(
        "leaks", "Questions that stand in two splits",
        "Scores are too good by them. make process keeps equal questions in one split.", is_serious=True,
    ),
    "near_leak": Kind(
        "leaks", "Rows that nearly say what a row of another split says",
        "Scores are too good by them. make process keeps them in one split (data.near_duplicates).", is_serious=True,
    ),
    "duplicate": Kind(
        "duplicates", "Rows said before, to the letter", "They count double. make process keeps the first of them.",
    ),
    "folded_duplicate": Kind(
        "duplicates", "Rows said before, but for case and white space",
        "They count double. List all but one of each in data.blocklist.",
    ),
    "near_duplicate": Kind(
        "duplicates", "Rows nearly said before",
        "A few do no harm; many count as often as they stand there. List them in data.blocklist, or lower the weight "
        "of their data set.",
    ),
    "conflict": Kind(
        "conflicts", "Rows whose question has another answer elsewhere",
        "The model learns the mean of both. Keep the right answer, or say in the prompt what makes the difference.",
        is_serious=True,
    ),
    "empty": Kind("answers", "Answers that say nothing", "They are what an export writes for nothing. " + BLOCK),
    "refusal": Kind(
        "answers", "Answers that refuse",
        "A model learns to refuse from few of them. Leave in only what it is to refuse; the others: data.blocklist.",
    ),
    "repeats_question": Kind(
        "answers", "Answers that begin with the whole question", "The model learns to echo. Cut the question off.",
    ),
    "one_word": Kind(
        "answers", "Answers of one word among longer ones", "Right for a label, else too short: look at them.",
        is_style_when_common=True,
    ),
    "cut_off": Kind(
        "answers", "Answers that end in mid-sentence",
        "They were probably cut at a limit, and teach to stop there. Complete them, or list them in data.blocklist.",
        is_style_when_common=True,
    ),
    "answer_language": Kind(
        "language", "Answers in another language than their question",
        "Right where the task is to translate, else the model learns to change its language. " + BLOCK,
        is_style_when_common=True,
    ),
    "stray_language": Kind(
        "language", "Rows in a language that hardly any other row has",
        "Too few to learn it from. Look whether they belong here; add more of them, or list them in data.blocklist.",
    ),
    "mojibake": Kind(
        "characters", "Letters read in a wrong encoding",
        "The model learns to write Ã© for é. Read the raw file in its own encoding: data.encoding.", is_serious=True,
    ),
    "replacement": Kind(
        "characters", "Replacement characters (U+FFFD)",
        "A letter was lost before this tool saw it. Export the raw data again, as UTF-8.",
    ),
    "invisible": Kind(
        "characters", "Invisible characters",
        "Zero-width blanks, soft hyphens or marks of direction: tokens that nobody sees. Remove them at the source.",
    ),
    "private_use": Kind(
        "characters", "Characters of private use",
        "Icons of a font, or what a PDF left: no model knows them. Remove them at the source.",
    ),
    "control": Kind("characters", "Control characters", "Probably Windows-1252 read as Latin-1: see data.encoding."),
    "open_fence": Kind(
        "characters", "Code fences that are not closed", "The answer was cut, or the closing ``` was lost. " + BLOCK,
    ),
    "html": Kind("characters", "Remains of HTML", "The model learns to write tags. Export the data as plain text."),
    "secret": Kind(
        "private", "What looks like a key or a password",
        "A model can say it word for word. Take it out, and change the key: it has been in a file.", is_serious=True,
    ),
    "card": Kind(
        "private", "Numbers of payment cards", "A model can say them word for word. Replace them.", is_serious=True,
    ),
    "iban": Kind(
        "private", "Bank accounts (IBAN)", "A model can say them word for word. Replace them.", is_serious=True,
    ),
    "email": Kind("private", "E-mail addresses", "Leave in only what the model may tell everybody."),
    "phone": Kind("private", "Telephone numbers", "Leave in only what the model may tell everybody."),
    "ip": Kind("private", "Public IP addresses", "Leave in only what the model may tell everybody."),
}  # fmt: skip
