"""What each shipped template needs from a tokenizer and does to an answer, written down by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sftlib.chat.templates import SHIPPED, ChatTemplate


@dataclass(frozen=True)
class Family:
    """One shipped template with the special tokens of a model that speaks it."""

    tokens: dict[str, str]
    end: str  # of a turn
    markers: tuple[str, ...] = ()
    trim: Callable[[str], str] = field(default=str)  # what the family does to an answer; str leaves it as it is
    lead: str = ""  # what the model says before the answer

    def template(self, name: str, source: str | None = None) -> ChatTemplate:
        """The template of this family, or another source with its tokens."""
        source = source if source is not None else (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")
        return ChatTemplate(source, f"{name}.jinja", self.tokens, {*self.markers, self.end})


CHATML = ("<|im_start|>", "<|im_end|>")
GEMMA = Family({"bos_token": "<bos>", "eos_token": "<eos>"}, "<end_of_turn>", ("<start_of_turn>",), str.strip)

FAMILIES = {
    "default": Family({"eos_token": "<|endoftext|>"}, "<|im_end|>", CHATML),
    "chatml": Family({"bos_token": "<s>", "eos_token": "</s>"}, "<|im_end|>", CHATML),
    "qwen2.5": Family({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "<|im_end|>", CHATML),
    "qwen3": Family({"eos_token": "<|im_end|>"}, "<|im_end|>", CHATML, lambda answer: answer.lstrip("\n")),
    "smollm2": Family({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}, "<|im_end|>", CHATML),
    "llama3": Family(
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
        str.strip,
    ),
    "mistral": Family({"bos_token": "<s>", "eos_token": "</s>"}, "</s>", ("[INST]", "[/INST]"), str.strip, " "),
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "phi3": Family({"eos_token": "<|endoftext|>"}, "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>")),
    "phi4": Family({"eos_token": "<|im_end|>"}, "<|im_end|>", (*CHATML, "<|im_sep|>")),
    "deepseek": Family(
        {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
        "<｜end▁of▁sentence｜>",
        ("<｜User｜>", "<｜Assistant｜>"),
    ),
}
