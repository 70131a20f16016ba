"""Answers to prompts, many at once or as a stream: the text of the answer alone, no prompt, no special token.

    generate_answers(model, tokenizer, ["<|im_start|>user\\n2+2?..."], max_new_tokens=32, batch_size=8, stop_ids=[2])
        -> [Answer(text="4", tokens=1, stopped=True)]

Prompts are sorted by length (the longest first, so that what is too large fails at once) and answered greedily unless
`Sampling` says otherwise; answers come back in the order of the prompts. `batch_size` rows are at work at a time; one
that has ended makes room for the next prompt (refilled.py), and models that need transformers' own `generate` answer
batch by batch (whole_batches.py). When memory runs out the rows are halved and what they were at begins again. The
model's own generation config is put aside meanwhile: only what is asked for here counts.

In float32 an answer does not depend on the rows beside it. In 16 bits the sums are rounded differently by the shape of
a batch, and greedy decoding turns a near-tie into another text: of 8 answers of SmolLM2-135M in bfloat16, 5 changed
within 48 tokens between batches of 1 and 8, none in float32. So evaluations record dtype and batch size.

What it does not do: render prompts (chat/rendering.py) or judge answers (evaluation.py).

Worst bug: an answer that depends on the batch it was in (tests/measure/test_generate.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from .. import console
from ..errors import MachineError
from ..memory.out_of_memory import unless_out_of_memory
from .choosing import GREEDY, Chooser, Sampling, seeded
from .endings import Answer, Ending
from .prompts import Prompt, context_length, prepare_prompts
from .refilled import Refilled, common_prefix, suits
from .stream import TextStream
from .whole_batches import WholeBatches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["GREEDY", "Answer", "Sampling", "context_length", "generate_answers", "stream_answer"]


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
    stop_ids: Sequence[int],
    stop_strings: Sequence[str] = (),
    lead: str = "",
    sampling: Sampling = GREEDY,
    names: Sequence[str] | None = None,
    description: str = "answers",
) -> list[Answer]:
    """Answer every prompt; see the head of this file.

    Args:
        prompts: rendered texts, tokenized without adding special tokens.
        stop_ids: end-of-turn tokens.
        stop_strings: texts that end an answer, whichever of its tokens spell them; they are not part of it.
        lead: what the template has the model say before its answer, such as an empty thinking block; no part of it.
        names: where each prompt came from, for messages.
        description: stands beside the progress bar.
    """
    ending = Ending(tokenizer, tuple(stop_ids), tuple(stop_strings), lead.strip())
    waiting = prepare_prompts(model, tokenizer, prompts, max_new_tokens, names)
    with console.Meter(description, len(prompts)) as meter:
        answers = _answer_all(model, ending, sampling, waiting, batch_size, on_done=meter.advance)
    return [answers[index] for index in range(len(prompts))]


def stream_answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    on_text: Callable[[str], None],
    stop_strings: Sequence[str] = (),
    lead: str = "",
    sampling: Sampling = GREEDY,
) -> Answer:
    """Answer one prompt and hand each piece of the text to `on_text` as soon as it is certain.

    The pieces joined are the text of the answer. It runs in the caller's thread, so that Ctrl-C ends it at once.
    """
    ending = Ending(tokenizer, tuple(stop_ids), tuple(stop_strings), lead.strip())
    waiting = prepare_prompts(model, tokenizer, [prompt], max_new_tokens, None)
    stream = TextStream(tokenizer, on_text, ending.stop_ids, ending.stop_strings, ending.lead)
    answer = _answer_all(model, ending, sampling, waiting, 1, stream=stream)[0]
    stream.finish(answer.text)
    return answer


def _answer_all(
    model: PreTrainedModel,
    ending: Ending,
    sampling: Sampling,
    waiting: list[Prompt],
    batch_size: int,
    *,
    on_done: Callable[[int], None] = lambda count: None,
    stream: TextStream | None = None,
) -> dict[int, Answer]:
    """Answers by the index of their prompt."""
    answers: dict[int, Answer] = {}
    largest, pad_id = batch_size, ending.tokenizer.pad_token_id
    with _ready(model) as inner, seeded(sampling.seed, model.device), torch.inference_mode():
        desk: Refilled | WholeBatches
        if suits(inner):
            desk = Refilled(inner, ending, Chooser(sampling), pad_id, common_prefix(waiting), stream)
        else:
            desk = WholeBatches(model, ending, sampling, pad_id, stream)
        while waiting or desk.rows:
            done = unless_out_of_memory(partial(desk.advance, waiting, largest))
            if done is None:
                lost = desk.give_up()
                if largest == batch_size:
                    console.warn(f"Memory ran out with {len(lost)} prompts at once; going on with fewer.")
                largest = _half(lost)
                waiting[:0] = lost
                continue
            answers |= {prompt.index: ending.answer(ids) for prompt, ids in done}
            on_done(len(done))
    return answers


def _half(batch: list[Prompt]) -> int:
    if len(batch) == 1:
        tokens = len(batch[0].ids)
        raise MachineError(
            f"Memory ran out while answering a single prompt of {tokens} tokens.",
            expected=f"memory for {tokens + batch[0].room} tokens of context",
            cure="Lower max_new_tokens, close what else uses the device, or load the model in 4 bits "
            "(--set tuning.mode=qlora).",
        )
    return len(batch) // 2


@contextlib.contextmanager
def _ready(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Put the model into evaluation mode without its own generation config; give it all back afterwards.

    Yields the model without the wrapper of its adapter, whose weights are inside it.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # of a PeftModel
    modes = [(module, module.training) for module in model.modules()]
    kept, inner.generation_config = inner.generation_config, GenerationConfig()
    model.eval()
    try:
        yield inner
    finally:
        inner.generation_config = kept
        for module, mode in modes:
            module.training = mode
