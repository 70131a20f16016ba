"""From a raw row to a conversation: which of the known shapes a row has, and what its fields say.

Each row is judged by its own fields (missing ones do not count), so a file may mix shapes; the report counts them.
The first shape that fits is taken; upper case, spaces, - and _ in names make no difference:

    messages               {"messages": [{"role", "content"}, ...]}            OpenAI, ChatML, tools; also as JSON text
    sharegpt               {"conversations": [{"from", "value"}, ...]}
    system/user/assistant  {"system", "user", "assistant"}
    alpaca                 {"instruction", "input", "output"}                   user = instruction, blank line, input
    dolly                  {"instruction", "context", "response"}               likewise with context
    prompt/completion      {"prompt", "completion"}                             texts, or lists of messages (TRL)
    question/answer        q/a, query/response, prompt/response, input/output, problem/solution, ...

All but the first two may also have a `system` field, and `history`, a list of [question, answer] before this one.
`data.columns` names fields of other rows as ours: {"user": "pregunta", "assistant": "respuesta"}. Fields that are not
used are counted as left out. Whether an answer is to be learnt (data.loss_on: flagged) say `train` or `training` (true,
false) or OpenAI's `weight` (1, 0) in its message. How a field becomes text stands in rows.py; whether the result can be
trained on is decided in cleaning.py.
Worst bug: the wrong field taken for the answer (tests/chat/test_formats.py).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .conversation import Conversation, Message
from .rows import NOT_TEXT, RowError, is_missing, kind, parse_json, plain, to_text

UNKNOWN_SHAPE = "unknown shape"
UNKNOWN_ROLE = "unknown role"
BROKEN_MESSAGE = "broken message"

_MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns")
_SYSTEM = ("system", "systemprompt", "systemmessage")
_USERS = ("user", "question", "q", "query", "prompt", "instruction", "problem", "human", "input")
_ASSISTANTS = ("assistant", "answer", "a", "response", "completion", "solution", "reply", "output")
_SHAPES = (  # name, the fields of the user's side, of more for the user, of the answer
    ("system/user/assistant", ("user",), (), ("assistant",)),
    ("alpaca", ("instruction",), ("input",), ("output",)),
    ("dolly", ("instruction",), ("context", "input"), ("response",)),
    ("prompt/completion", ("prompt",), (), ("completion",)),
    ("question/answer", ("question",), ("context",), ("answer",)),
    *(
        ("question/answer", (user,), (), (assistant,))
        for user, assistant in (
            ("q", "a"), ("query", "response"), ("prompt", "response"), ("input", "output"), ("problem", "solution"),
        )
    ),
    ("question/answer", _USERS, (), _ASSISTANTS),
)  # fmt: skip
_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "functioncall": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "functionresponse": "tool",
}  # fmt: skip
_FLAGS = ("train", "training", "weight")
_KEPT = ("name", "tool_calls", "tool_call_id", "reasoning_content")  # what templates read besides role and content


@dataclass(frozen=True)
class Format:
    """What a row was taken for, why, and which of its fields stands for what (system, user, more, assistant, ...)."""

    name: str
    reason: str
    fields: Mapping[str, str]

    def left_out(self, row: Mapping[str, Any]) -> list[str]:
        """The fields of a row of this format that are not used, those of its messages as `messages[].weight`."""
        used = set(self.fields.values())
        unused = [name for name, value in row.items() if name not in used and value not in (None, "")]
        if "messages" in self.fields:
            known = {"role", "from", "content", "value", "function_call", *_FLAGS, *_KEPT}
            items = _as_list(row[self.fields["messages"]]) or []
            inner = {key for item in items if isinstance(item, Mapping) for key, v in item.items() if v is not None}
            unused += [f"{self.fields['messages']}[].{key}" for key in sorted(inner - known)]
        return unused


def detect(row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> Format:
    """The format of a row. RowError when it has none, with the mapping for data.columns that would make it one."""
    filled = {name: value for name, value in row.items() if not is_missing(value)}
    for fields in (filled, row):  # an answer that is null is still an answer's field: "no answer", not "unknown shape"
        found = _by_columns(fields, columns) if columns else _by_names(fields)
        if found is not None:
            return found
    raise RowError(UNKNOWN_SHAPE, advice(row, columns or {}))


def to_conversation(row: Mapping[str, Any], format: Format, source: str, dataset: str = "") -> Conversation:
    """The conversation that a row of this format says."""
    fields = format.fields
    system = to_text(row[fields["system"]]) if "system" in fields else None
    messages = [Message("system", system)] if system else []
    if "messages" in fields:
        items = _as_list(row[fields["messages"]])
        if items is None:
            raise RowError(BROKEN_MESSAGE, f"{fields['messages']!r} is no list of messages")
        messages += [_message(item) for item in items]
    else:
        if "history" in fields:
            messages += _history(row[fields["history"]])
        messages += _side("user", row[fields["user"]], row.get(fields.get("more", "")))
        messages += _side("assistant", row[fields["assistant"]], None)
    return Conversation(tuple(messages), source, dataset)


def advice(row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """What to do about a row of unknown shape: the nearest known one, and what to write into data.columns."""
    names = _names(row)
    has = f"it has {', '.join(map(repr, row)) or 'no fields'}"
    if missing := [yours for yours in columns.values() if yours not in row]:
        return f"there is no {', '.join(map(repr, missing))}, as data.columns says; {has}"
    if {"prompt", "chosen"} <= set(names):
        return f"a preference pair; to train on the chosen answers add {_mapping(names['prompt'], names['chosen'])}"
    if {"role", "content"} <= set(names):
        return "a single message; put the messages of one conversation into one row, under 'messages'"
    nearest, users, _, assistants = max(_SHAPES, key=lambda shape: _likeness(names, shape))
    texts = sorted((name for name in row if isinstance(row[name], str)), key=lambda name: len(row[name]))
    user, assistant = _closest(names, _USERS), _closest(names, _ASSISTANTS)
    texts = [name for name in texts if name not in (user, assistant)]
    assistant = assistant or (texts.pop() if texts else None)  # what is longest is most likely the answer,
    user = user or (texts.pop() if texts else None)  # and what is longest then the question
    if user is None or assistant is None or user == assistant:
        return f"two texts are needed, the question and the answer, such as {users[0]!r} and {assistants[0]!r}; {has}"
    return f"nearest is {nearest} ({users[0]!r}, {assistants[0]!r}); add {_mapping(user, assistant)}; {has}"


def _by_names(row: Mapping[str, Any]) -> Format | None:
    names = _names(row)
    fields = _take(names, system=_SYSTEM)
    for key in _MESSAGES:
        if key in names and (found := _message_format(row[names[key]])):
            why = "role and content" if found == "messages" else "from and value"
            return Format(found, f"{names[key]!r} lists messages with {why}", {"messages": names[key], **fields})
    for name, users, more, assistants in _SHAPES:
        taken = _take(names, user=users, more=more, assistant=assistants, history=("history",))
        if "user" in taken and "assistant" in taken:
            said = [repr(taken[slot]) for slot in ("user", "more", "assistant") if slot in taken]
            return Format(name, f"has {' and '.join(said)}", {**fields, **taken})
    return None


def _by_columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> Format | None:
    """As data.columns says; what it leaves open is found by the usual names."""
    mapped = {ours: yours for ours, yours in columns.items() if yours in row}
    why = "data.columns: " + ", ".join(f"{ours} is {yours!r}" for ours, yours in mapped.items())
    if "messages" in mapped:
        return Format("data.columns", why, {**_take(_names(row), system=_SYSTEM), **mapped})
    if "user" in mapped or "assistant" in mapped:
        free = {key: name for key, name in _names(row).items() if name not in mapped.values()}
        usual = _take(free, user=_USERS, assistant=_ASSISTANTS, system=_SYSTEM, history=("history",))
        fields = {**{slot: name for slot, name in usual.items() if slot not in columns}, **mapped}
        return Format("data.columns", why, fields) if "user" in fields and "assistant" in fields else None
    if set(columns) == {"system"}:
        found = _by_names(row)
        return found and Format(found.name, found.reason, {**found.fields, **mapped})
    return None


def _take(names: Mapping[str, str], **slots: Sequence[str]) -> dict[str, str]:
    """For each slot the first of its spellings that a row has: slot -> the row's own name. No field is taken twice."""
    taken: dict[str, str] = {}
    for slot, spellings in slots.items():
        for spelling in spellings:
            if spelling in names and names[spelling] not in taken.values():
                taken[slot] = names[spelling]
                break
    return taken


def _side(role: str, value: Any, more: Any) -> list[Message]:
    """One side of a row: a text, or a list of messages where TRL's conversational form is used."""
    if isinstance(value, (list, tuple)) and _message_format(value):
        return [_message(item) for item in value]
    text, extra = to_text(value) or "", to_text(more)
    if extra and extra.strip():
        text = f"{text}\n\n{extra}" if text.strip() else extra
    return [Message(role, text)]  # type: ignore[arg-type]


def _history(value: Any) -> list[Message]:
    pairs = _as_list(value)
    if pairs is None or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise RowError(BROKEN_MESSAGE, "'history' is no list of [question, answer] pairs")
    return [
        message
        for user, assistant in pairs
        for message in (*_side("user", user, None), *_side("assistant", assistant, None))
    ]


def _message(item: Any) -> Message:
    """One message of a list, in OpenAI's or in ShareGPT's words."""
    if not isinstance(item, Mapping):
        raise RowError(BROKEN_MESSAGE, f"a message is {kind(item)}, not an object with role and content")
    said = item.get("role", item.get("from"))
    role = _ROLES.get(_fold(said)) if isinstance(said, str) else None
    if role is None:
        known = ", ".join(dict.fromkeys(_ROLES.values()))
        raise RowError(UNKNOWN_ROLE, f"{said!r}; known are {known}, and human, gpt, function and the like")
    content = _content(item.get("content", item.get("value")))
    extra = {key: plain(item[key]) for key in _KEPT if item.get(key) not in (None, [], "")}
    if call := item.get("function_call"):  # OpenAI's words before tool_calls
        extra.setdefault("tool_calls", [{"type": "function", "function": plain(call)}])
    elif _fold(str(said)) == "functioncall" and (call := _parsed(content)) is not None:  # ShareGPT's: JSON in the text
        extra["tool_calls"], content = [{"type": "function", "function": plain(call)}], ""
    if "tool_calls" in extra:
        extra["tool_calls"] = [_tool_call(call) for call in _as_list(extra["tool_calls"]) or []]
    is_trained = role != "assistant" or _is_trained(item)
    return Message(role, content, tuple(extra.items()), is_trained)  # type: ignore[arg-type]


def _is_trained(item: Mapping[str, Any]) -> bool:
    """What the row says of an answer; another share than all or nothing has no meaning here."""
    said = {name: plain(item[name]) for name in _FLAGS if item.get(name) is not None}
    for name, value in said.items():
        if value not in (0, 1):  # true and false are these too
            raise RowError(
                BROKEN_MESSAGE, f"{name!r} of an answer is {value!r}; only true, false, 1 and 0 have a meaning"
            )
    if len({bool(value) for value in said.values()}) > 1:
        raise RowError(BROKEN_MESSAGE, f"an answer contradicts itself: {said}")
    return all(said.values())


def _content(value: Any) -> str:
    """The text of a message; parts of text are put together, other parts (images, sound) cannot be trained on here."""
    if not isinstance(value, (list, tuple)):
        return to_text(value) or ""
    texts = []
    for part in value:
        text = part.get("text") if isinstance(part, Mapping) else part
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise RowError(NOT_TEXT, f"a part of a message is of type {kind!r}")
        texts.append(text)
    return "".join(texts)


def _tool_call(call: Any) -> Any:
    """A tool call whose arguments are an object, as templates expect them; OpenAI writes them as JSON text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise RowError(BROKEN_MESSAGE, "a tool call has no 'function' object")
    if (arguments := _parsed(function.get("arguments"))) is not None:
        function = {**function, "arguments": plain(arguments)}
    return {**call, "function": function}


def _message_format(value: Any) -> str | None:
    """messages or sharegpt for a list of such messages (or its JSON text), None for anything else."""
    items = _as_list(value)
    if not items or not isinstance(items[0], Mapping):
        return None
    if "role" in items[0]:
        return "messages"
    return "sharegpt" if "from" in items[0] else None


def _as_list(value: Any) -> list[Any] | None:
    """A list, also where CSV or Parquet keeps it as JSON text."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = parse_json(value.strip())
        except ValueError:
            return None
        return value if isinstance(value, list) else None
    return None


def _parsed(value: Any) -> Mapping[str, Any] | None:
    """The object in a JSON text, None where there is none."""
    if not isinstance(value, str):
        return None
    try:
        value = parse_json(value.strip())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _likeness(names: Mapping[str, str], shape: tuple[str, Sequence[str], Sequence[str], Sequence[str]]) -> int:
    """How many of the two sides of a shape a row has."""
    _, users, _, assistants = shape
    return (not names.keys().isdisjoint(users)) + (not names.keys().isdisjoint(assistants))


def _closest(names: Mapping[str, str], spellings: Sequence[str]) -> str | None:
    """The row's own name that is spelled most like one of these."""
    for spelling in spellings:
        if close := difflib.get_close_matches(spelling, list(names), n=1, cutoff=0.8):
            return names[close[0]]
    return None


def _mapping(user: str, assistant: str) -> str:
    """A line for the config."""
    user, assistant = (
        name if re.fullmatch(r"[A-Za-z]\w*", name) else json.dumps(name, ensure_ascii=False)
        for name in (user, assistant)
    )
    return f"data.columns: {{user: {user}, assistant: {assistant}}}"


def _names(row: Mapping[str, Any]) -> dict[str, str]:
    """Folded name -> the row's own; of two spellings of one name the first counts."""
    return {_fold(name): name for name in reversed(row)}


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
