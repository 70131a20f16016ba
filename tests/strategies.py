"""Random conversations for property tests: every script, white space at the edges, and text that looks like markers."""

from __future__ import annotations

from hypothesis import strategies as st

from sftlib.chat.conversation import Conversation, Message

MARKER_LIKE = [
    "<|im_start|>", "<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n", "<|im_sep|>", "<|eot_id|>",
    "<|end|>", "<s>", "</s>", "<end_of_turn>\n", "<start_of_turn>model\n", "[INST]", "[/INST]",
    "<think>\n\n</think>\n\n", "</think>",
    "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "{{ eos_token }}", "{% generation %}", "{# #}", "Assistant:",
    "\nUser: ", "\ufdd0", "\ufdd1\ue000",
]  # fmt: skip
WORDS = [
    "yes", "four", " ", "\n", "\t", "\r\n", "  x  ", "é", "漢字", "עברית", "مرحبا", "👩‍🚀", "🇪🇺", "e\u0301", "\u200b",
    "\u2028", "\u3000", "1234", "日本", "ß", "<", "|", ">", "\\n", '"quoted"', "'s",
]  # fmt: skip


def contents(markers: bool = True) -> st.SearchStrategy[str]:
    """The text of a message, also empty; with `markers`, text that looks like template markers too."""
    pieces = st.sampled_from([*WORDS, *MARKER_LIKE] if markers else WORDS)
    free = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
    return st.lists(st.one_of(pieces, pieces, free), max_size=5).map("".join)


def conversations(markers: bool = True) -> st.SearchStrategy[Conversation]:
    """An optional system message, possibly empty, then one to three turns."""
    system = st.one_of(st.none(), st.just(""), contents(markers))
    turns = st.lists(st.tuples(contents(markers), contents(markers)), min_size=1, max_size=3)
    return st.builds(_conversation, system, turns)


def _conversation(system: str | None, turns: list[tuple[str, str]]) -> Conversation:
    head = () if system is None else (Message("system", system),)
    body = (Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True))
    return Conversation((*head, *body), "random.jsonl:1")
