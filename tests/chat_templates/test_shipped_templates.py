"""Every shipped template: its text letter by letter, and the properties that training rests on.

In the expected texts « and » stand around what is trained; they are not part of the text.
"""

from __future__ import annotations

import functools
import re

import pytest
from families import FAMILIES
from hypothesis import given, settings
from strategies import conversations

from sftlib.chat import rendering
from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.rendering import Rendered, answer_lead, render_conversation, render_prompt
from sftlib.chat.shipped import read_head, read_heads
from sftlib.chat.templates import SHIPPED, ChatTemplate
from sftlib.errors import DataError

WITH_SYSTEM = Conversation((Message("system", "Be brief."), Message("user", "2+2?"), Message("assistant", "4")), "t:1")
TWO_TURNS = Conversation(
    (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"), Message("assistant", "See\nyou.")),
    "t:2",
)
ONE_TURN = Conversation(TWO_TURNS.messages[:2], "t:4")
EMPTY_SYSTEM = Conversation((Message("system", ""), *TWO_TURNS.messages[:2]), "t:3")

CHATML_SYSTEM = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»\n"
)
CHATML_TURNS = (
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>»\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n«See\nyou.<|im_end|>»\n"
)
CHATML_FIRST = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>»\n"
SMOL = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
QWEN = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
GEMMA = (
    "<bos><start_of_turn>user\nBe brief.\n\n2+2?<end_of_turn>\n<start_of_turn>model\n«4<end_of_turn>»\n",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n«Hello!<end_of_turn>»\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n«See\nyou.<end_of_turn>»\n",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n«Hello!<end_of_turn>»\n",
)
EMPTY_BLOCK = "<|im_start|>system\n<|im_end|>\n"

# name: (with a system message, two turns without one, an empty system message and one turn)
EXPECTED = {
    "default": (CHATML_SYSTEM, CHATML_TURNS, CHATML_FIRST),
    "chatml": ("<s>" + CHATML_SYSTEM, "<s>" + CHATML_TURNS, "<s>" + CHATML_FIRST),
    "smollm2": (CHATML_SYSTEM, SMOL + CHATML_TURNS, EMPTY_BLOCK + CHATML_FIRST),
    "qwen2.5": (CHATML_SYSTEM, QWEN + CHATML_TURNS, EMPTY_BLOCK + CHATML_FIRST),
    "qwen3": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n«4<|im_end|>»\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«Hello!<|im_end|>»\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«See\nyou.<|im_end|>»\n",
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n«Hello!<|im_end|>»\n",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«4<|eot_id|>»",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Hello!<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«See\nyou.<|eot_id|>»",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Hello!<|eot_id|>»",
    ),
    "mistral": (
        "<s>[INST] Be brief.\n\n2+2?[/INST]« 4</s>»",
        "<s>[INST] Hi[/INST]« Hello!</s>»[INST] Bye[/INST]« See\nyou.</s>»",
        "<s>[INST] Hi[/INST]« Hello!</s>»",
    ),
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "phi3": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\n2+2?<|end|>\n<|assistant|>\n«4<|end|>»\n",
        "<|user|>\nHi<|end|>\n<|assistant|>\n«Hello!<|end|>»\n<|user|>\nBye<|end|>\n<|assistant|>\n«See\nyou.<|end|>»\n",
        "<|user|>\nHi<|end|>\n<|assistant|>\n«Hello!<|end|>»\n",
    ),
    "phi4": (
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>2+2?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>«4<|im_end|>»",
        "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>«Hello!<|im_end|>»"
        "<|im_start|>user<|im_sep|>Bye<|im_end|><|im_start|>assistant<|im_sep|>«See\nyou.<|im_end|>»",
        "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>«Hello!<|im_end|>»",
    ),
    "deepseek": (
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>2+2?<｜Assistant｜>«4<｜end▁of▁sentence｜>»",
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>«Hello!<｜end▁of▁sentence｜>»"
        "<｜User｜>Bye<｜Assistant｜>«See\nyou.<｜end▁of▁sentence｜>»",
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>«Hello!<｜end▁of▁sentence｜>»",
    ),
}

# What the published template writes for one turn, for two, and with a system message, by hand; None where it refuses.
# Where that is not what ours writes, the head of the file says so in the words that stand behind it.
IM_TURN = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
IM_TURNS = f"{IM_TURN}<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSee\nyou.<|im_end|>\n"
IM_SYSTEM = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
)
GEMMA_TURNS = (
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\nSee\nyou.<end_of_turn>\n",
)
THINK = "<think>\n\n</think>\n\n"
PUBLISHED = {
    "default": (IM_TURN, IM_TURNS, IM_SYSTEM),
    "chatml": (f"<s>{IM_TURN}", f"<s>{IM_TURNS}", f"<s>{IM_SYSTEM}"),
    "smollm2": (SMOL + IM_TURN, SMOL + IM_TURNS, IM_SYSTEM),
    "qwen2.5": (QWEN + IM_TURN, QWEN + IM_TURNS, IM_SYSTEM),
    "qwen3": (
        IM_TURN.replace("assistant\n", f"assistant\n{THINK}"),
        IM_TURNS.replace("See", f"{THINK}See"),
        IM_SYSTEM.replace("assistant\n", f"assistant\n{THINK}"),
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nSee\nyou.<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>",
    ),
    "mistral": (
        "<s>[INST] Hi[/INST] Hello!</s>",
        "<s>[INST] Hi[/INST] Hello!</s>[INST] Bye[/INST] See\nyou.</s>",
        "<s>[INST] 2+2?[/INST] 4</s>",
    ),
    "gemma2": (*GEMMA_TURNS, None),
    "gemma3": (
        *GEMMA_TURNS,
        "<bos><start_of_turn>user\nBe brief.\n\n2+2?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>\n",
    ),
    "phi3": (
        "<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n<|endoftext|>",
        "<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\nSee\nyou.<|end|>\n"
        "<|endoftext|>",
        "<|system|>\nBe brief.<|end|>\n<|user|>\n2+2?<|end|>\n<|assistant|>\n4<|end|>\n<|endoftext|>",
    ),
    "phi4": (
        "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>Hello!<|im_end|>",
        "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>Hello!<|im_end|>"
        "<|im_start|>user<|im_sep|>Bye<|im_end|><|im_start|>assistant<|im_sep|>See\nyou.<|im_end|>",
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>2+2?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>4<|im_end|>",
    ),
    "deepseek": (
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Hello!<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Hello!<｜end▁of▁sentence｜>"
        "<｜User｜>Bye<｜Assistant｜>See\nyou.<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>2+2?<｜Assistant｜>4<｜end▁of▁sentence｜>",
    ),
}
DECLARED = {  # where ours is another text, and the words of the head that say it
    ("qwen3", 1): "every answer of a conversation has that block, the published template only the last one",
    ("mistral", 2): "it is missing from the text of an answered conversation",
    ("gemma2", 2): "the published template refuses a system message",
    **{("phi3", case): "the published template ends the whole text with <|endoftext|>" for case in range(3)},
}

ALL = pytest.mark.parametrize("name", sorted(FAMILIES))


def marked(rendered: Rendered) -> str:
    text = rendered.text
    for start, end in reversed(rendered.spans):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text


@functools.cache
def shipped(name: str) -> ChatTemplate:
    return FAMILIES[name].template(name)


@functools.cache
def without_tags(name: str) -> ChatTemplate:
    assert shipped(name).has_generation
    bare = FAMILIES[name].template(name, re.sub(r"\{%- (end)?generation %\}", "", shipped(name).source))
    assert not bare.has_generation
    return bare


def test_every_shipped_template_is_tested() -> None:
    files = {file.stem for file in SHIPPED.glob("*.jinja")}
    assert files == set(FAMILIES) == set(EXPECTED) == set(PUBLISHED)


@ALL
def test_header_names_models_source_and_differences(name: str) -> None:
    text = (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")
    head = read_head(SHIPPED / f"{name}.jinja")
    assert head.name == name
    assert re.search(r"\b[\w.-]+/[\w.-]+\b", head.source) or head.source.startswith("the ChatML format (OpenAI, 2023")
    for part in (head.models, head.source, head.differences):
        assert part.endswith(".")
        assert part in " ".join(text.partition("-#}")[0].split())
    assert [one.name for one in read_heads()] == sorted(FAMILIES)


@ALL
@pytest.mark.parametrize("case", range(3))
def test_the_text_is_that_of_the_published_template_or_the_head_says_why_not(name: str, case: int) -> None:
    conversation = (ONE_TURN, TWO_TURNS, WITH_SYSTEM)[case]
    ours = render_conversation(conversation, shipped(name)).text
    declared = DECLARED.get((name, case))
    assert (ours == PUBLISHED[name][case]) is (declared is None)
    if declared is not None:
        assert declared in " ".join(read_head(SHIPPED / f"{name}.jinja")[2:])


@ALL
def test_a_text_has_one_bos_and_ends_each_answer_with_the_end_of_turn(name: str) -> None:
    family = FAMILIES[name]
    for conversation in (ONE_TURN, TWO_TURNS, WITH_SYSTEM, EMPTY_SYSTEM):
        rendered = render_conversation(conversation, shipped(name))
        bos = family.tokens.get("bos_token")
        if bos and bos != "<|im_start|>":  # SmolLM2's BOS is the marker that opens every turn
            assert rendered.text.startswith(bos)
            assert rendered.text.count(bos) == 1
        answers = [message for message in conversation.messages if message.role == "assistant"]
        assert len(rendered.spans) == len(answers)
        for start, end in rendered.spans:
            assert rendered.text[start:end].endswith(family.end)
            assert rendered.text[start:end].count(family.end) == 1


@ALL
@pytest.mark.parametrize("case", range(3))
def test_text_and_mask_letter_by_letter(name: str, case: int) -> None:
    conversation = (WITH_SYSTEM, TWO_TURNS, EMPTY_SYSTEM)[case]
    template = shipped(name)
    assert marked(render_conversation(conversation, template)) == EXPECTED[name][case]
    assert marked(render_conversation(conversation, without_tags(name))) == EXPECTED[name][case]


@ALL
def test_generation_prompt_letter_by_letter(name: str) -> None:
    template = shipped(name)
    prompt = render_prompt(WITH_SYSTEM.to_dicts()[:-1], template)
    assert prompt == EXPECTED[name][0].partition("«")[0]
    assert answer_lead(WITH_SYSTEM.to_dicts()[:-1], template) == FAMILIES[name].lead


@ALL
@settings(max_examples=100, deadline=None)
@given(conversation=conversations())
def test_properties(name: str, conversation: Conversation) -> None:
    family, messages = FAMILIES[name], conversation.to_dicts()
    template = shipped(name)
    rendered = render_conversation(conversation, template)

    answers = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
    assert len(rendered.spans) == len(answers)
    for k, (start, end) in zip(answers, rendered.spans, strict=True):
        assert rendered.text[:start] == render_prompt(messages[:k], template)
        assert rendered.text[start:end] == family.lead + family.trim(messages[k]["content"]) + family.end
        assert rendered.text.startswith(template.render(messages[: k + 1]))  # earlier turns are unchanged

    bos = family.tokens.get("bos_token")
    if bos and bos != "<|im_start|>":  # SmolLM2's BOS is the marker that opens every turn
        assert rendered.text.startswith(bos)
        assert rendered.text.count(bos) - sum(message["content"].count(bos) for message in messages) <= 1

    assert render_conversation(conversation, without_tags(name)) == rendered


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3"])
def test_qwen_tool_calls_are_trained_and_results_are_not(name: str) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "note": "<é>"}}}
    conversation = Conversation(
        (
            Message("system", "S"),
            Message("user", "2+2?"),
            Message("assistant", "", (("tool_calls", [call, call]),)),
            Message("tool", "4"),
            Message("tool", "5"),
            Message("assistant", "Four."),
        ),
        "t:1",
    )
    think = "<think>\n\n</think>\n\n" if name == "qwen3" else ""
    said = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "note": "<é>"}}\n</tool_call>'
    template = FAMILIES[name].template(name)
    expected = (
        f"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n{think}"
        f"«{said}\n{said}<|im_end|>»\n<|im_start|>user\n<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n"
        f"</tool_response><|im_end|>\n<|im_start|>assistant\n{think}«Four.<|im_end|>»\n"
    )
    assert marked(render_conversation(conversation, template)) == expected
    assert marked(render_conversation(conversation, without_tags(name))) == expected


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"qwen2.5", "qwen3"}))
def test_what_a_template_cannot_say_is_refused_not_dropped(name: str) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    conversation = Conversation(
        (Message("user", "?"), Message("assistant", "", (("tool_calls", [call]),))), "raw.jsonl:7"
    )
    with pytest.raises(DataError, match="tool") as caught:
        render_conversation(conversation, FAMILIES[name].template(name))
    assert caught.value.where == "raw.jsonl:7"


@ALL
def test_tags_and_prefixes_are_compared_while_training_begins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(rendering, "_compare", lambda *arguments: compared.append(arguments[-1]))
    template = FAMILIES[name].template(name)
    for _ in range(rendering.COMPARED + 3):
        render_conversation(WITH_SYSTEM, template)
    assert compared == ["t:1"] * rendering.COMPARED
