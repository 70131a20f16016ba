"""A model one can talk to: messages in, the text of its answer out, as a stream or in batches.

    Responder(speaker, config.infer).answer([{"role": "user", "content": "2+2?"}], print)   ->  Answer("4", ...)

It joins what prompts (the speaker's own template) with what generates (generate.py) under one section of settings. It
remembers nothing: the history of a talk is chat_session.py's.

Worst bug: a prompt other than the one that was trained (tests/measure/test_responder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..chat.rendering import render_prompt
from .evaluation import Speaker, lead_of
from .generate import Answer, Sampling, context_length, generate_answers, stream_answer

if TYPE_CHECKING:
    from ..config.schema import InferSection

Messages = Sequence[dict[str, Any]]


def opening(text: str, system: str | None) -> list[dict[str, Any]]:
    """The messages of a first question; `system` None leaves the system message to the template."""
    question = {"role": "user", "content": text}
    return [question] if system is None else [{"role": "system", "content": system}, question]


class Responder:
    """A speaker with the settings of `infer`.

    seed: of sampled answers; None draws on torch's random state, so that a repeated question may get another answer.
    """

    def __init__(self, speaker: Speaker, section: InferSection, seed: int | None = None) -> None:
        self.speaker, self.section = speaker, section
        self._common = {
            "max_new_tokens": section.max_new_tokens,
            "stop_ids": speaker.stop_ids,
            "stop_strings": section.stop,
            "lead": lead_of(speaker.template),
            "sampling": Sampling(
                section.temperature, section.top_p, section.top_k, section.repetition_penalty, seed
            ),
        }  # fmt: skip

    def answer(self, messages: Messages, on_text: Callable[[str], None]) -> Answer:
        """Answer one conversation; pieces of the text go to `on_text` as they come."""
        prompt = self._prompt(messages)
        return stream_answer(self.speaker.model, self.speaker.tokenizer, prompt, on_text=on_text, **self._common)

    def answers(self, conversations: Sequence[Messages], names: Sequence[str]) -> list[Answer]:
        """Answer many conversations, in order; `names` say where each came from."""
        return generate_answers(
            self.speaker.model, self.speaker.tokenizer, [self._prompt(messages) for messages in conversations],
            batch_size=self.section.batch_size, names=names, **self._common,
        )  # fmt: skip

    def fits(self, messages: Messages) -> bool:
        """Whether the prompt leaves room for an answer: max_new_tokens, but never more than half of the context."""
        context = context_length(self.speaker.model)
        if context is None:
            return True
        ids = self.speaker.tokenizer(self._prompt(messages), add_special_tokens=False)["input_ids"]
        return len(ids) + min(self.section.max_new_tokens, context // 2) <= context

    def _prompt(self, messages: Messages) -> str:
        return render_prompt(messages, self.speaker.template)
