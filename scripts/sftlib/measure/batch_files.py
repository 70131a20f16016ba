"""Files of questions in, files of answers out; which form they have is said by their extension.

    .jsonl, in    {"user": "2+2?"} or {"prompt": "2+2?"} or {"messages": [...]}, with "system" and anything else if you
                  like; an assistant message at the end is what the row expects and is not shown to the model
    .jsonl, out   the same row with "generated", "generated_tokens" and "stopped" added
    else, in      one question a line; a blank line stays blank in the answers
    else, out     one answer a line; a line break within it is written \\n, a backslash \\\\

Answers come in the order of the questions. A prompt is a user's message, and goes through the chat template.

Worst bug: an answer on another question's line (tests/measure/test_batch_files.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chat.decoding import choose_encoding, numbered_lines, text_blocks
from ..errors import DataError
from ..files import whole_file, write_jsonl
from .generate import Answer

JSON_LINES = (".jsonl", ".ndjson")
TEXT_KEYS = ("user", "prompt")  # either holds the user's message
EXPECTED = '{"user": "..."}, {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}'


@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """One question: the row that it came in, its messages (none for a blank line) and its place (`in.jsonl:3`)."""

    row: dict[str, Any]
    messages: list[dict[str, Any]]
    place: str


def read_questions(path: Path, system: str | None) -> list[BatchQuestion]:
    """Read all questions; `system` is put before those that bring no system message of their own."""
    is_json = path.suffix.lower() in JSON_LINES
    questions = []
    for number, line in numbered_lines(text_blocks(path, choose_encoding(path, "auto")), str(path)):
        place = f"{path}:{number}"
        if not is_json:
            questions.append(_from_line(line.rstrip("\r"), place, system))
        elif line.strip():
            questions.append(_from_row(line, place, system))
    if not any(question.messages for question in questions):
        raise DataError("There is no question in this file.", where=str(path), expected="one question a line")
    return questions


def answer_questions(
    questions: Sequence[BatchQuestion], answers: Callable[[list[list[dict[str, Any]]], list[str]], list[Answer]]
) -> list[Answer | None]:
    """The answers, in order; None for blank lines. `answers` takes messages and places, as Responder.answers does."""
    asked = [index for index, question in enumerate(questions) if question.messages]
    given = answers([questions[index].messages for index in asked], [questions[index].place for index in asked])
    by_index = dict(zip(asked, given, strict=True))
    return [by_index.get(index) for index in range(len(questions))]


def write_answers(path: Path, questions: Sequence[BatchQuestion], answers: Sequence[Answer | None]) -> None:
    """Write all answers, the file whole or not at all."""
    pairs = list(zip(questions, answers, strict=True))
    if path.suffix.lower() in JSON_LINES:
        write_jsonl(path, ({**question.row, **_columns(answer)} for question, answer in pairs if answer is not None))
        return
    with whole_file(path) as stream:
        for _, answer in pairs:
            stream.write(_one_line(answer.text if answer else "") + "\n")


def _columns(answer: Answer) -> dict[str, Any]:
    return {"generated": answer.text, "generated_tokens": answer.tokens, "stopped": answer.stopped}


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")


def _from_line(line: str, place: str, system: str | None) -> BatchQuestion:
    messages = _with_system([{"role": "user", "content": line.strip()}], system) if line.strip() else []
    return BatchQuestion({"prompt": line}, messages, place)


def _from_row(line: str, place: str, system: str | None) -> BatchQuestion:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"This line is not JSON: {error}.", where=place, expected=EXPECTED) from error
    if not isinstance(row, dict):
        raise DataError(f"This line holds {type(row).__name__}, not an object.", where=place, expected=EXPECTED)
    return BatchQuestion(row, _with_system(_messages(row, place), row.get("system") or system), place)


def _messages(row: dict[str, Any], place: str) -> list[dict[str, Any]]:
    messages = row.get("messages")
    if messages is None:
        texts = [row[key] for key in TEXT_KEYS if isinstance(row.get(key), str) and row[key].strip()]
        if len(texts) != 1:
            raise DataError(
                f"This row has {'no question' if not texts else 'both a user and a prompt'}; it has the keys "
                f"{', '.join(map(repr, row)) or '(none)'}.",
                where=place, expected=EXPECTED,
            )  # fmt: skip
        return [{"role": "user", "content": texts[0]}]
    if not (isinstance(messages, list) and all(_is_message(message) for message in messages)):
        raise DataError("The messages of this row are not a list of role and content.", where=place, expected=EXPECTED)
    if messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    if not messages or messages[-1]["role"] == "system":
        raise DataError("In this row nobody asks anything.", where=place, expected=EXPECTED)
    return messages


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _with_system(messages: list[dict[str, Any]], system: str | None) -> list[dict[str, Any]]:
    if system is None or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]
