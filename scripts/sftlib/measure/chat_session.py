"""A talk: its history, its commands, and the loop that reads lines. It knows no terminal and no model.

Lines come from a function, answers go piece by piece to another one, so that tests and pipes drive it like a person:

    you> What is 2+2?          a line is a message; a backslash at its end goes on with the next line, and what stands
    4                          between two lines of three double quotes is one message
    you> /save talk.jsonl      commands: /system TEXT, /reset, /save FILE, /help, /quit

When the history no longer fits the model's context, the oldest turns are dropped, and that is said. Ctrl-C ends an
answer, not the talk; what was said until then stays in the history. Ctrl-D ends the talk.

Worst bug: a history that the model sees differently from what was said (tests/measure/test_chat_session.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..errors import SftError, UsageError
from ..files import write_jsonl

FENCE = '"""'
HELP = f"""\
/system TEXT  speak under this system message from now on; alone, it removes the message
/reset        forget what was said
/save FILE    write the talk as a row of training data (JSON Lines)
/help         this
/quit         leave, as Ctrl-D does
A backslash at the end of a line goes on with the next line; the lines between two lines of {FENCE} are one message.
Ctrl-C ends an answer."""


class Answers(Protocol):
    """What a talk needs of a model; Responder offers it."""

    def answer(self, messages: list[dict[str, Any]], on_text: Callable[[str], None]) -> Any:
        """Answer, giving pieces of text as they come."""

    def fits(self, messages: list[dict[str, Any]]) -> bool:
        """Whether the prompt leaves room for an answer."""


class ChatSession:
    """The history of one talk.

    Args:
        responder: what answers.
        write: gets the pieces of an answer, and the line end after it.
        say: gets what the program itself has to say.
        system: the system message; None leaves it to the template.
    """

    def __init__(
        self, responder: Answers, write: Callable[[str], None], say: Callable[[str], None], system: str | None = None
    ) -> None:
        self.responder, self.write, self.say, self.system = responder, write, say, system
        self.turns: list[dict[str, Any]] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the model is shown."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*system, *self.turns]

    def take(self, message: str) -> bool:
        """Take a message or a command; False when the talk is over."""
        if not message.startswith("/"):
            self._ask(message)
            return True
        name, _, rest = message.partition(" ")
        if name == "/quit":
            return False
        commands = {"/reset": self._reset, "/system": self._system, "/save": self._save, "/help": self._help}
        if name in commands:
            commands[name](rest.strip())
        else:
            self.say(
                f"There is no command {name}; /help lists them. To begin a message with a slash, put a blank first."
            )
        return True

    def _ask(self, text: str) -> None:
        self.turns.append({"role": "user", "content": text.strip()})
        pieces: list[str] = []

        def show(piece: str) -> None:
            pieces.append(piece)
            self.write(piece)

        try:
            self._make_room()
            self.responder.answer(self.messages, show)
        except KeyboardInterrupt:
            self.say("\n(stopped)")
        except SftError as error:
            self.say(str(error))
        else:
            self.write("\n")
        if pieces:
            self.turns.append({"role": "assistant", "content": "".join(pieces)})
        else:  # nothing was answered: as if it had not been asked
            self.turns.pop()

    def _make_room(self) -> None:
        dropped = 0
        while not self.responder.fits(self.messages):
            if len(self.turns) == 1:
                raise UsageError(
                    "This message alone is too long for the model's context.", cure="Shorten it, or send it in parts."
                )
            del self.turns[:2]  # a question with its answer
            dropped += 1
        if dropped:
            self.say(f"(forgotten, to fit the model's context: the oldest questions and answers, {dropped} of each)")

    def _reset(self, _: str) -> None:
        self.turns.clear()
        self.say("(forgotten)")

    def _system(self, text: str) -> None:
        self.system = text or None
        self.say("(under this system message from now on)" if text else "(without a system message from now on)")

    def _save(self, file: str) -> None:
        if not file:
            self.say("Where to? /save FILE")
        elif Path(file).exists():
            self.say(f"{file} is there already; choose another name.")
        elif not self.turns:
            self.say("Nothing was said yet.")
        else:
            try:
                write_jsonl(file, [{"messages": self.messages, "source": "chat"}])
            except OSError as error:
                self.say(f"{file} cannot be written: {error.strerror}.")
            else:
                self.say(f"(saved to {file})")

    def _help(self, _: str) -> None:
        self.say(HELP)


def run_chat(session: ChatSession, read_line: Callable[[str], str]) -> None:
    """Talk until /quit or the end of the input.

    read_line: shows the prompt it is given and returns a line without its end; EOFError ends the talk, and
    KeyboardInterrupt throws away what was typed so far.
    """
    while True:
        try:
            message = _read_message(read_line)
        except KeyboardInterrupt:
            session.say("\n(Ctrl-D or /quit leaves)")
            continue
        except EOFError:
            return
        if message.strip() and not session.take(message):
            return


def _read_message(read_line: Callable[[str], str]) -> str:
    line = read_line("you> ")
    if line.strip() == FENCE:
        lines: list[str] = []
        while (line := _next_line(read_line)) is not None and line.strip() != FENCE:
            lines.append(line)
        return "\n".join(lines)
    lines = []
    while line.endswith("\\"):
        lines.append(line[:-1])
        following = _next_line(read_line)
        if following is None:
            return "\n".join(lines)
        line = following
    return "\n".join([*lines, line])


def _next_line(read_line: Callable[[str], str]) -> str | None:
    """A further line of a message; None at the end of the input, where the message begun still counts."""
    try:
        return read_line("...> ")
    except EOFError:
        return None
