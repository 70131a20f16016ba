"""Answers by transformers' own `generate`, a whole batch at a time: for models that need what only it knows.

    desk = WholeBatches(model, ending, sampling, pad_id=3)
    while desk.rows or waiting: done += desk.advance(waiting, largest=8)      # [(Prompt, ids), ...] of a batch

Encoder-decoders, models with states instead of a cache, models whose forward another library has replaced. Prompts are
padded on the left and masked by position; a row that has ended is padded until the last of its batch has. What an
encoder-decoder generates begins with the id that its decoder starts from. All others: refilled.py.

Worst bug: an answer that depends on the batch it was in (tests/measure/test_generate.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from .choosing import Sampling
from .endings import Ending
from .prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.generation.streamers import BaseStreamer


class WholeBatches:
    """The batch at work, if any."""

    def __init__(
        self, model: PreTrainedModel, ending: Ending, sampling: Sampling, pad_id: int,
        stream: BaseStreamer | None = None,
    ) -> None:  # fmt: skip
        self.model, self.ending, self.sampling, self.pad_id, self.stream = model, ending, sampling, pad_id, stream
        self.rows: list[Prompt] = []

    def advance(self, waiting: list[Prompt], largest: int) -> list[tuple[Prompt, list[int]]]:
        """Answer the next batch."""
        self.rows = waiting[: self._length(waiting, largest)]
        del waiting[: len(self.rows)]
        said = self._generate(self.rows)
        done, self.rows = self.rows, []
        return list(zip(done, said, strict=True))

    def give_up(self) -> list[Prompt]:
        """The prompts at work: nothing of them is kept."""
        prompts, self.rows = self.rows, []
        return prompts

    def _length(self, waiting: list[Prompt], largest: int) -> int:
        """How many of the waiting prompts go together: those of one room and, where padding counts, of one length."""
        first = waiting[0]
        for index, prompt in enumerate(waiting[:largest]):
            if prompt.room != first.room:
                return index
            # transformers penalises padding as if it had been said: answers would depend on their neighbours.
            if self.sampling.repetition_penalty != 1 and len(prompt.ids) != len(first.ids):
                return index
        return min(largest, len(waiting))

    def _generate(self, batch: list[Prompt]) -> list[list[int]]:
        width, device = len(batch[0].ids), self.model.device
        before = 1 if self.model.config.is_encoder_decoder else width  # ids of the output that are no answer
        input_ids_BT = torch.full((len(batch), width), self.pad_id)
        attention_mask_BT = torch.zeros_like(input_ids_BT)
        for row, prompt in enumerate(batch):
            input_ids_BT[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            attention_mask_BT[row, width - len(prompt.ids) :] = 1
        criteria = [_StopStrings(self.ending, before)] if self.ending.stop_strings else []
        output_BT = self.model.generate(
            input_ids=input_ids_BT.to(device),
            attention_mask=attention_mask_BT.to(device),
            generation_config=self._config(batch[0].room),
            stopping_criteria=StoppingCriteriaList(criteria),
            streamer=self.stream,
        )
        return output_BT[:, before:].tolist()

    def _config(self, max_new_tokens: int) -> GenerationConfig:
        chosen: dict[str, float | int | bool] = {"do_sample": False}
        if self.sampling.temperature > 0:
            chosen = {"do_sample": True, "temperature": self.sampling.temperature}
            chosen |= {"top_p": self.sampling.top_p, "top_k": self.sampling.top_k}
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            repetition_penalty=self.sampling.repetition_penalty,
            eos_token_id=list(self.ending.stop_ids) or None,
            pad_token_id=self.pad_id,
            decoder_start_token_id=getattr(self.model.config, "decoder_start_token_id", None),
            use_cache=True,  # also where training has switched it off
            **chosen,
        )


class _StopStrings(StoppingCriteria):
    """Ends the rows whose answer holds a stop string; the prompt is not looked at."""

    def __init__(self, ending: Ending, before: int) -> None:
        self.ending, self.before = ending, before

    def __call__(self, input_ids_BT: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        said = input_ids_BT[:, self.before :].tolist()
        return torch.tensor([self.ending.reached(ids) for ids in said], device=input_ids_BT.device)
