"""Answers to prompts, in batches or as a stream: the text of the answer alone, no prompt, no special token.

    generate_answers(model, tokenizer, ["<|im_start|>user\\n2+2?..."], max_new_tokens=32, batch_size=8, stop_ids=[2])
        -> [Answer(text="4", tokens=1, stopped=True)]

Prompts are sorted by length (the longest first, so that a batch too large fails at once), padded on the left, masked
by position, and answered greedily unless `Sampling` says otherwise; answers come back in the order of the prompts.
When memory runs out the batch is halved. The model's own generation config is put aside meanwhile: only what is asked
for here counts. White space at both ends of an answer belongs to the template and is stripped. An encoder-decoder reads
the prompt apart: what it generates begins with the id that its decoder starts from.

In float32 an answer does not depend on the batch it was in. In 16 bits the sums are rounded differently by the shape of
a batch, and greedy decoding turns a near-tie into another text: of 8 answers of SmolLM2-135M in bfloat16, 5 changed
within 48 tokens between batches of 1 and 8, none in float32. So evaluations record dtype and batch size.

What it does not do: render prompts (chat/rendering.py) or judge answers (evaluation.py).

Worst bug: an answer that depends on the batch it was in (tests/measure/test_generate.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from .. import console
from ..errors import DataError, MachineError
from ..memory.out_of_memory import unless_out_of_memory
from ..units import some
from .stream import TextStream, cut_at_stop, trim, without_lead

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_NAMED = 5  # places listed in a message; the rest is a count


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `tokens`: how many were generated, the end-of-turn not counted; `stopped`: it ended by itself."""

    text: str
    tokens: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy, whatever top_p and top_k say.

    seed: of the draws; None goes on with torch's own random state. Sampled answers depend on the batch they were in.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None


GREEDY = Sampling()


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
    decoder = _Decoder(model, tokenizer, tuple(stop_ids), tuple(stop_strings), lead.strip(), sampling)
    waiting = _prepare(model, tokenizer, prompts, max_new_tokens, names)
    answers: dict[int, Answer] = {}
    largest = batch_size
    with _ready(model), _seeded(sampling.seed, model.device), console.Meter(description, len(prompts)) as meter:
        while waiting:
            batch = waiting[: _batch_length(waiting, largest, sampling)]
            done = unless_out_of_memory(partial(decoder.answer, batch, None))
            if done is None:
                if largest == batch_size:
                    console.warn(f"Memory ran out with {len(batch)} prompts at once; going on with fewer.")
                largest = _half(batch)
                continue
            answers.update(zip((prompt.index for prompt in batch), done, strict=True))
            waiting = waiting[len(batch) :]
            meter.advance(len(batch))
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
    decoder = _Decoder(model, tokenizer, tuple(stop_ids), tuple(stop_strings), lead.strip(), sampling)
    batch = _prepare(model, tokenizer, [prompt], max_new_tokens, None)
    stream = TextStream(tokenizer, on_text, decoder.stop_ids, decoder.stop_strings, decoder.lead)
    with _ready(model), _seeded(sampling.seed, model.device):
        done = unless_out_of_memory(partial(decoder.answer, batch, stream))
    if done is None:
        _half(batch)  # raises: there is no half of one
    stream.finish(done[0].text)
    return done[0]


def context_length(model: PreTrainedModel) -> int | None:
    """Tokens that prompt and answer may have together; None when the architecture has no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


@dataclass(frozen=True, slots=True)
class _Prompt:
    index: int  # among the caller's prompts
    ids: list[int]
    room: int  # tokens that the answer may have


def _prepare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    names: Sequence[str] | None,
) -> list[_Prompt]:
    """Tokenize and sort, the longest first; refuse prompts that leave no room for an answer, name those with less."""
    ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
    names = names or [f"prompt {index + 1}" for index in range(len(prompts))]
    context = context_length(model)
    room = [max_new_tokens if context is None else min(max_new_tokens, context - len(one)) for one in ids]
    if empty := [names[i] for i in range(len(ids)) if not ids[i]]:
        raise DataError(
            f"{len(empty)} of {len(prompts)} prompts have no token: {some(empty, MOST_NAMED)}.", expected="some text"
        )
    if full := [f"{names[i]} ({len(ids[i])} tokens)" for i in range(len(ids)) if room[i] < 1]:
        raise DataError(
            f"{len(full)} of {len(prompts)} prompts fill the whole context of the model: {some(full, MOST_NAMED)}.",
            expected=f"prompts of fewer than {context} tokens",
            cure="Shorten them, leave these rows out, or use a model with a longer context.",
        )
    if short := [f"{names[i]} ({room[i]} tokens)" for i in range(len(ids)) if room[i] < max_new_tokens]:
        console.warn(
            f"{len(short)} of {len(prompts)} answers have less room than {max_new_tokens} tokens, because prompt and "
            f"answer share a context of {context}: {some(short, MOST_NAMED)}."
        )
    return sorted(map(_Prompt, range(len(ids)), ids, room), key=lambda prompt: -len(prompt.ids))


def _batch_length(waiting: list[_Prompt], largest: int, sampling: Sampling) -> int:
    """How many of the waiting prompts go together: those of one room and, where padding counts, of one length."""
    first = waiting[0]
    for index, prompt in enumerate(waiting[:largest]):
        if prompt.room != first.room:
            return index
        # transformers penalises padding as if it had been said, which would make answers depend on their neighbours.
        if sampling.repetition_penalty != 1 and len(prompt.ids) != len(first.ids):
            return index
    return min(largest, len(waiting))


def _half(batch: list[_Prompt]) -> int:
    if len(batch) == 1:
        tokens = len(batch[0].ids)
        raise MachineError(
            f"Memory ran out while answering a single prompt of {tokens} tokens.",
            expected=f"memory for {tokens + batch[0].room} tokens of context",
            cure="Lower max_new_tokens, close what else uses the device, or load the model in 4 bits "
            "(--set tuning.mode=qlora).",
        )
    return len(batch) // 2


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Everything but the prompts."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    lead: str
    sampling: Sampling

    def answer(self, batch: list[_Prompt], stream: TextStream | None) -> list[Answer]:
        """Answer prompts of one room, the longest of which is the first."""
        width, device = len(batch[0].ids), self.model.device
        before = 1 if self.model.config.is_encoder_decoder else width  # ids of the output that are no answer
        input_ids_BT = torch.full((len(batch), width), self.tokenizer.pad_token_id)
        attention_mask_BT = torch.zeros_like(input_ids_BT)
        for row, prompt in enumerate(batch):
            input_ids_BT[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            attention_mask_BT[row, width - len(prompt.ids) :] = 1
        criteria = [_StopStrings(self, before)] if self.stop_strings else []
        with torch.inference_mode():
            output_BT = self.model.generate(
                input_ids=input_ids_BT.to(device),
                attention_mask=attention_mask_BT.to(device),
                generation_config=self._config(batch[0].room),
                stopping_criteria=StoppingCriteriaList(criteria),
                streamer=stream,
            )
        return [self._answer(ids) for ids in output_BT[:, before:].tolist()]

    def text(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text up to the first stop id or stop string, and whether there was one."""
        ids, by_token = trim(ids, self.stop_ids)
        text, by_string = cut_at_stop(self.tokenizer.decode(ids, skip_special_tokens=True), self.stop_strings)
        return text, by_token or by_string

    def _answer(self, ids: list[int]) -> Answer:
        text, stopped = self.text(ids)
        return Answer(without_lead(text, self.lead), len(trim(ids, self.stop_ids)[0]), stopped)

    def _config(self, max_new_tokens: int) -> GenerationConfig:
        chosen: dict[str, float | int | bool] = {"do_sample": False}
        if self.sampling.temperature > 0:
            chosen = {"do_sample": True, "temperature": self.sampling.temperature}
            chosen |= {"top_p": self.sampling.top_p, "top_k": self.sampling.top_k}
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            repetition_penalty=self.sampling.repetition_penalty,
            eos_token_id=list(self.stop_ids) or None,
            pad_token_id=self.tokenizer.pad_token_id,
            decoder_start_token_id=getattr(self.model.config, "decoder_start_token_id", None),
            use_cache=True,  # also where training has switched it off
            **chosen,
        )


class _StopStrings(StoppingCriteria):
    """Ends the rows whose answer holds a stop string, whichever tokens spell it; the prompt is not looked at."""

    def __init__(self, decoder: _Decoder, before: int) -> None:
        self.decoder, self.before = decoder, before
        # As many tokens as the longest stop string can be spelled with (a byte each), and the one before them.
        self.tail = max(len(text.encode()) for text in decoder.stop_strings) + 1

    def __call__(self, input_ids_BT: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        tails = input_ids_BT[:, self.before :][:, -self.tail :].tolist()
        return torch.tensor([self.decoder.text(ids)[1] for ids in tails], device=input_ids_BT.device)


@contextlib.contextmanager
def _ready(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into evaluation mode without its own generation config; give it all back afterwards."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # of a PeftModel
    modes = [(module, module.training) for module in model.modules()]
    kept, inner.generation_config = inner.generation_config, GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        inner.generation_config = kept
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from `seed` and give torch its random state back; None draws on."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
