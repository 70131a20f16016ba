"""How the next token is chosen: scores in, one id a row out.

    Chooser(Sampling(temperature=0.7, seed=1))(logits_BV, [[1, 4093], [1, 89]])   ->  [260, 905]

Temperature 0 is greedy. Penalty, temperature, top-k and top-p are transformers' own, in the order of its `generate`, so
that one prompt gets from either the same answer. The penalty looks at the ids of its own row, never at padding: a
greedy answer does not depend on its neighbours. A sampled one does, because the rows share one random state.

Worst bug: a token that another row's words made less likely (tests/measure/test_generate.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


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


class Chooser:
    """The choice that a `Sampling` describes."""

    def __init__(self, sampling: Sampling) -> None:
        self.is_greedy = sampling.temperature == 0
        penalty = sampling.repetition_penalty
        self.penalise = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1 else None
        self.warp = LogitsProcessorList()
        if not self.is_greedy:
            self.warp.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self.warp.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self.warp.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, logits_BV: torch.Tensor, so_far: Iterable[list[int]]) -> list[int]:
        """Choose for every row; `so_far`: its prompt and what it has said."""
        if self.penalise is not None:
            logits_BV = torch.cat(
                [
                    self.penalise(torch.tensor([ids], device=logits_BV.device), scores_V[None].float())
                    for ids, scores_V in zip(so_far, logits_BV, strict=True)
                ]
            )
        if self.is_greedy:
            return logits_BV.argmax(-1).tolist()
        scores_BV = self.warp(None, logits_BV.float())
        return torch.multinomial(scores_BV.softmax(-1), 1).squeeze(-1).tolist()


@contextlib.contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from `seed` and give torch its random state back; None draws on."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
