"""Talks with a scripted person and a scripted model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib.errors import ModelError
from sftlib.measure.chat_session import ChatSession, run_chat


class Parrot:
    """Repeats the last message in capitals, word by word; remembers what it was shown. `room`: characters that fit."""

    def __init__(self, room: int = 10_000) -> None:
        self.room, self.shown = room, []

    def fits(self, messages) -> bool:
        return sum(len(message["content"]) for message in messages) <= self.room

    def answer(self, messages, on_text) -> None:
        self.shown.append([(message["role"], message["content"]) for message in messages])
        last = messages[-1]["content"]
        if last == "fail":
            raise ModelError("The template refuses this.")
        for index, word in enumerate(last.upper().split(" ")):
            if word == "CTRL-C":
                raise KeyboardInterrupt
            on_text(word if index == 0 else f" {word}")


def talk(*lines: str | type[BaseException], system: str | None = None, room: int = 10_000):
    """Run a whole talk; return (session, what was written, what was said, the prompts that were shown)."""
    written, said, prompts, script = [], [], [], list(lines)

    def read_line(prompt: str) -> str:
        prompts.append(prompt)
        if not script:
            raise EOFError
        line = script.pop(0)
        if isinstance(line, str):
            return line
        raise line

    session = ChatSession(Parrot(room), written.append, said.append, system)
    run_chat(session, read_line)
    return session, "".join(written), said, prompts


def test_history_is_what_was_said():
    session, written, _, _ = talk("hello you", "again")
    assert written == "HELLO YOU\nAGAIN\n"
    assert session.responder.shown == [
        [("user", "hello you")],
        [("user", "hello you"), ("assistant", "HELLO YOU"), ("user", "again")],
    ]


def test_system_message_first_and_changed_on_the_way():
    session, _, _, _ = talk("a", "/system Be brief.", "b", "/system", "c", system="Be kind.")
    first, second, third = session.responder.shown
    assert first == [("system", "Be kind."), ("user", "a")]
    assert second[0] == ("system", "Be brief.")
    assert second[1:] == [("user", "a"), ("assistant", "A"), ("user", "b")]
    assert third[0] == ("user", "a")


def test_reset_forgets_turns_but_not_the_system_message():
    session, _, _, _ = talk("a", "/reset", "b", system="S")
    assert session.responder.shown[-1] == [("system", "S"), ("user", "b")]


def test_quit_ends_the_talk_and_blank_lines_are_nothing():
    _, written, _, _ = talk("", "   ", "a", "/quit", "never read")
    assert written == "A\n"


def test_help_and_unknown_commands():
    _, _, said, _ = talk("/help", "/frobnicate now", " /not a command")
    assert "/save FILE" in said[0]
    assert "/frobnicate" in said[1]
    assert len(said) == 2


def test_ctrl_c_ends_the_answer_and_keeps_what_was_said():
    session, written, said, _ = talk("one two ctrl-c three", "next")
    assert written == "ONE TWONEXT\n"
    assert said == ["\n(stopped)"]
    assert session.responder.shown[-1][1] == ("assistant", "ONE TWO")


def test_ctrl_c_before_the_first_word_is_as_if_nothing_was_asked():
    session, _, _, _ = talk("ctrl-c", "next")
    assert session.responder.shown[-1] == [("user", "next")]


def test_ctrl_c_while_typing_throws_the_line_away():
    _, written, said, _ = talk(KeyboardInterrupt, "a\\", KeyboardInterrupt, "b")
    assert written == "B\n"
    assert said == ["\n(Ctrl-D or /quit leaves)"] * 2


def test_an_error_is_said_and_the_talk_goes_on():
    session, _, said, _ = talk("fail", "fine")
    assert said == ["The template refuses this."]
    assert session.responder.shown[-1] == [("user", "fine")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (['"""', "one", "", "/two", '"""'], "one\n\n/two"),
        (['"""', "one", "two"], "one\ntwo"),  # the input ends first
        (["one\\"], "one"),
        (['say """ this'], 'say """ this'),
    ],
)
def test_messages_of_several_lines(lines: list[str], message: str):
    session, _, _, _ = talk(*lines)
    assert session.responder.shown == [[("user", message)]]


def test_further_lines_have_another_prompt():
    assert talk("one\\", "two")[3] == ["you> ", "...> ", "you> "]


def test_the_oldest_turns_are_dropped_when_the_context_is_full():
    session, _, said, _ = talk("aaaa", "bbbb", "cccc", room=13, system="S")  # S + bbbb + BBBB + cccc = 13
    assert session.responder.shown[-1] == [("system", "S"), ("user", "bbbb"), ("assistant", "BBBB"), ("user", "cccc")]
    assert len(said) == 1
    assert "1 of each" in said[0]


def test_a_message_that_never_fits_is_refused_and_the_talk_goes_on():
    session, written, said, _ = talk("a" * 50, "b", room=20)
    assert "too long" in said[0]
    assert written == "B\n"
    assert session.responder.shown == [[("user", "b")]]


def test_save_writes_a_row_that_can_be_trained_on(tmp_path: Path):
    file = tmp_path / "talk.jsonl"
    _, _, said, _ = talk(
        "/save", f"/save {file}", "a", f"/save {file}", f"/save {file}", f"/save {file}/below", system="S"
    )
    from sftlib.chat.conversation import Conversation

    row = json.loads(file.read_text())
    assert [m.to_dict() for m in Conversation.from_row(row).messages] == [
        {"role": "system", "content": "S"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "A"}
    ]  # fmt: skip
    assert [line.split()[0] for line in said[:2]] == ["Where", "Nothing"]
    assert said[2] == f"(saved to {file})"
    assert "is there already" in said[3]
    assert "cannot be written" in said[4]
