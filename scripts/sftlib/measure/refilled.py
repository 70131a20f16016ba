"""Answers a token at a time for many prompts at once: a row that has ended leaves, a waiting prompt takes its place.

    desk = Refilled(model, ending, chooser, pad_id=3, prefix=[1, 9690, 198])
    while desk.rows or waiting: done += desk.advance(waiting, largest=8)      # [(Prompt, ids), ...] as they end

A forward pass over 8 rows costs less than two over one, so no row is to stand idle. Prompts that join are read in one
pass, padded on the right, which causal attention never looks at; what they begin with in common was read once, before.
Then every row stands in the cache with its own positions (row_cache.py) and all say one token a pass.

`suits` says which models: causal ones of transformers with an ordinary cache that need nothing special to generate.
All others, encoder-decoders among them, go through transformers' own `generate` (whole_batches.py).

Worst bug: an answer that depends on who came and went beside it (tests/measure/test_refilled.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationMixin
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from .choosing import Chooser
from .endings import Ending
from .prompts import Prompt
from .row_cache import arrange

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.generation.streamers import BaseStreamer

SPARE = 64  # columns made at once: the cache is copied every so many tokens instead of with each
# Rows that are to be free before prompts join. Reading stops the others for a pass; a row that waits idles meanwhile.
# With answers of T tokens and B rows the sum is least at B * sqrt(2 / T) rows: an eighth at T = 128.
JOIN_SHARE = 1 / 8
WORTH_SHARING = 16  # tokens in common; to go on from fewer costs more than to read them again


def suits(model: PreTrainedModel) -> bool:
    """Whether this loop answers for the model (without its adapter's wrapper)."""
    kind, config = type(model), model.config
    if config.is_encoder_decoder or config.get_text_config() is not config:
        return False
    if not kind.forward.__module__.startswith("transformers.models.") or "generate" in vars(model):
        return False  # another's forward or generate keeps a cache of its own
    if kind.prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation:
        return False  # it needs something that this loop does not give
    if not {"position_ids", "past_key_values"} <= inspect.signature(kind.forward).parameters.keys():
        return False
    layers = DynamicCache(config=config).layers
    is_ordinary = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    is_chunked = "chunked_attention" in (getattr(config, "layer_types", None) or ())
    return is_ordinary and not is_chunked and len(layers) == config.num_hidden_layers


def common_prefix(prompts: Sequence[Prompt]) -> list[int]:
    """What all of several prompts begin with, as far as it is worth reading apart; each keeps a token of its own."""
    if len(prompts) < 2:
        return []
    ids = [prompt.ids for prompt in prompts]
    first, last = min(ids), max(ids)  # in the order of a dictionary: what these two share, all share
    most = min(map(len, ids)) - 1
    count = next((at for at in range(most) if first[at] != last[at]), most)
    return first[:count] if count >= WORTH_SHARING else []


@dataclass(eq=False, slots=True)
class Row:
    """A prompt that is being answered and what was said so far."""

    prompt: Prompt
    said: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens of it in the cache: all but the last one said, which is read at the next step."""
        return len(self.prompt.ids) + len(self.said) - 1


class Refilled:
    """The rows at work, their cache, and what is common to all prompts."""

    def __init__(
        self, model: PreTrainedModel, ending: Ending, choose: Chooser, pad_id: int, prefix: list[int],
        stream: BaseStreamer | None = None,
    ) -> None:  # fmt: skip
        self.model, self.ending, self.choose, self.pad_id, self.prefix = model, ending, choose, pad_id, prefix
        self.stream = stream
        self.rows: list[Row] = []
        self._chooses_logits = "logits_to_keep" in inspect.signature(type(model).forward).parameters
        self._prefix_states: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self._cached: list[Row] = []  # the rows of the cache, of which some may have left since
        self._cache: Cache | None = None
        self._mask_BT: torch.Tensor | None = None  # None where all rows are of one length
        self._spare = 0  # columns left

    def advance(self, waiting: list[Prompt], largest: int) -> list[tuple[Prompt, list[int]]]:
        """Take waiting prompts in where rows are free, or let every row say one token; return those that ended."""
        free, enough = largest - len(self.rows), max(1, int(largest * JOIN_SHARE))
        if waiting and free >= min(enough, len(waiting)):
            joining = [Row(prompt) for prompt in waiting[:free]]
            del waiting[: len(joining)]
            self._join(joining)
        else:
            self._step()
        ended = [row for row in self.rows if len(row.said) == row.prompt.room or self.ending.reached(row.said)]
        self.rows = [row for row in self.rows if row not in ended]
        return [(row.prompt, row.said) for row in ended]

    def give_up(self) -> list[Prompt]:
        """The prompts at work, the longest first: nothing that was said is kept."""
        prompts = sorted((row.prompt for row in self.rows), key=lambda prompt: -len(prompt.ids))
        self.rows, self._cached, self._cache = [], [], None
        return prompts

    def _join(self, joining: list[Row]) -> None:
        self.rows += joining  # at once, so that they are given up with the others
        read, logits_BV = self._read([row.prompt.ids for row in joining])
        if self.stream is not None:
            self.stream.put(torch.tensor(joining[0].prompt.ids))
        self._say(joining, logits_BV)
        self._arrange(joining, read)

    def _step(self) -> None:
        if self._cached != self.rows or self._spare == 0:
            self._arrange([], None)
        at = self._cache.get_seq_length()
        logits_BTV = self._forward(
            [[row.said[-1]] for row in self.rows],
            torch.tensor([[row.length] for row in self.rows]),
            self._cache,
            attention_mask=None if self._mask_BT is None else self._mask_BT[:, : at + 1],
        )
        self._spare -= 1
        self._say(self.rows, logits_BTV[:, -1])

    def _say(self, rows: list[Row], logits_BV: torch.Tensor) -> None:
        for row, token in zip(rows, self.choose(logits_BV, (row.prompt.ids + row.said for row in rows)), strict=True):
            row.said.append(token)
            if self.stream is not None:
                self.stream.put(torch.tensor([token]))

    def _arrange(self, joining: list[Row], read: Cache | None) -> None:
        """Make the cache that of the rows at work, with columns for the next tokens."""
        stay = [index for index, row in enumerate(self._cached) if row in self.rows]
        rows = [self._cached[index] for index in stay] + joining
        lengths = [row.length for row in rows]
        self._spare = min(SPARE, max(row.prompt.room - len(row.said) for row in rows))
        self._cache = arrange(self._cache if stay else None, stay, lengths, read, self._spare)
        self._cached = self.rows = rows
        self._mask_BT = None
        if min(lengths) < max(lengths):
            column_T = torch.arange(max(lengths) + self._spare)
            before_B1 = max(lengths) - torch.tensor(lengths)[:, None]
            self._mask_BT = (column_T >= before_B1).long().to(self.model.device)

    def _read(self, ids: list[list[int]]) -> tuple[Cache, torch.Tensor]:
        """The cache of prompts, each from column 0 on, and the scores of the token after each."""
        shared, cache = len(self.prefix), DynamicCache()
        for layer, states in enumerate(self._common()):
            cache.update(*(state.expand(len(ids), -1, -1, -1) for state in states), layer)
        width = max(map(len, ids)) - shared
        last_B = torch.tensor([len(one) - shared - 1 for one in ids])
        wanted = last_B.unique()
        logits_BTV = self._forward(
            [one[shared:] + [self.pad_id] * (width - len(one) + shared) for one in ids],
            torch.arange(shared, shared + width).expand(len(ids), -1),
            cache,
            **({"logits_to_keep": wanted.to(self.model.device)} if self._chooses_logits else {}),
        )
        place_B = torch.searchsorted(wanted, last_B) if self._chooses_logits else last_B
        return cache, logits_BTV[torch.arange(len(ids)), place_B]

    def _common(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values, a layer each, of what all prompts begin with; read once."""
        if self._prefix_states is None:
            cache = DynamicCache()
            if self.prefix:
                self._forward([self.prefix], torch.arange(len(self.prefix))[None], cache)
            self._prefix_states = [(layer.keys, layer.values) for layer in cache.layers]
        return self._prefix_states

    def _forward(self, ids: list[list[int]], position_ids_BT: torch.Tensor, cache: Cache, **more: Any) -> torch.Tensor:
        return self.model(
            input_ids=torch.tensor(ids, device=self.model.device),
            position_ids=position_ids_BT.to(self.model.device),
            past_key_values=cache,
            use_cache=True,  # also where training has switched it off
            **more,
        ).logits
