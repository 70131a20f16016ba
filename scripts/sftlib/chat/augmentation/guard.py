"""Rows that teach a model to answer in plain words where chat tags are about.

    user: < | im_start | >user What is a permit? < | im_end | >      assistant: A permit is ...    (a row of yours)
    user: Which mark ends a turn in ChatML?                          assistant: The one named im_end ...  (a table)

Three in four are your own rows with a question that somebody pasted with its tags, and the answer as it is: there is no
language to them but the data's. The fourth asks about the tags, in English, and the answer names them without brackets.

The tags in the questions are spelled with blanks (`< | im_end | >`), never as they are: the tokenizer would read
`<|im_end|>` in a question as the mark itself, so that the row would show the model a turn that ends in mid-question.
Worst bug: a guard row that holds what it guards against (tests/chat/augmentation/test_guard.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..conversation import Conversation, Message
from .chance import Chance
from .tags import tags_of

OWN = 3  # of every four rows come out of the user's own
SOURCE = "guard"  # rows of the table have the source guard:1, guard:2, ...


@dataclass(frozen=True)
class Family:
    """A format of chat: what is written before a question and behind it, and the names of these marks."""

    name: str
    before: str
    after: str
    opens: str
    ends: str


FAMILIES = (
    Family("ChatML", "< | im_start | >user\n", "< | im_end | >", "im_start", "im_end"),
    Family(
        "Llama 3", "< | start_header_id | >user< | end_header_id | >\n\n", "< | eot_id | >", "start_header_id", "eot_id"
    ),
    Family("Gemma", "< start_of_turn >user\n", "< end_of_turn >", "start_of_turn", "end_of_turn"),
    Family("Phi-3", "< | user | >\n", "< | end | >", "user", "end"),
    Family("Mistral", "[ INST ] ", " [ /INST ]", "INST", "/INST"),
    Family("Alpaca", "# # # Instruction :\n", "\n\n# # # Response :", "Instruction", "Response"),
)
_ASKED = (  # the question, and the answer without a tag
    (
        "Which mark ends a turn in the {name} format?",
        "The mark named {ends}. I leave out the brackets around its name: written whole, it would be read as the mark "
        "itself and not as text.",
    ),
    (
        "Which mark opens a turn in the {name} format? Write it out.",
        "A turn is opened by the mark named {opens}. I only name it: software that reads this conversation would take "
        "the mark, written whole, for the beginning of another turn.",
    ),
    (
        "End your answer with {after} please. What is a chat template?",
        "A chat template says how a conversation is written down for a language model: who speaks, where a turn begins "
        "and where it ends. The program around me puts its marks in, so my answer needs none.",
    ),
    (
        "I was sent this, what does it mean?\n\n{before}Hello!{after}",
        "Somebody copied a chat together with the marks of the {name} format. The only thing said in it is a user's "
        '"Hello!"; the rest tells a program where the turn begins and ends.',
    ),
    (
        "Show me a conversation in the {name} format.",
        "In words: the mark named {opens}, the user's question, the mark named {ends}, and then the same around the "
        "answer. I describe the marks, as writing them would end my own turn.",
    ),
)
TABLE_ROWS = len(_ASKED) * len(FAMILIES)


def is_fit(conversation: Conversation) -> bool:
    """Whether a row can be a guard: it holds no tags itself, and its first question is plain."""
    first = next((message for message in conversation.messages if message.role == "user"), None)
    is_clean = not any(tags_of(conversation, role) for role in ("system", "user", "assistant", "tool"))
    return is_clean and first is not None and not first.extra


def guarded(conversation: Conversation, chance: Chance) -> Conversation:
    """The row with the tags of some format around its first question, spelled with blanks."""
    family = chance.pick("guard", FAMILIES)
    messages = list(conversation.messages)
    place = next(index for index, message in enumerate(messages) if message.role == "user")
    asked = f"{family.before}{messages[place].content}{family.after}"
    messages[place] = replace(messages[place], content=asked)
    return replace(conversation, messages=tuple(messages))


def table_rows(order: Sequence[int]) -> Iterator[Conversation]:
    """Questions about tags, in this order of the numbers below TABLE_ROWS."""
    for number in order:
        (question, answer), family = _ASKED[number // len(FAMILIES)], FAMILIES[number % len(FAMILIES)]
        words = vars(family)
        turn = (Message("user", question.format(**words)), Message("assistant", answer.format(**words)))
        yield Conversation(turn, f"{SOURCE}:{number + 1}")
