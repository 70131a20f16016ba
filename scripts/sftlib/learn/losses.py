"""Losses, on top of log-probabilities of supervised tokens.

In come log-probabilities, [N]; out goes a scalar that is a *sum*: what it is divided by is the count of the whole
step, which only the trainer knows, so that splitting a batch changes nothing.

    nll_sum(tensor([-1.0, -3.0]))  ->  4.0
    nll_of_rows(tensor([-1.0, -3.0, -2.0]), tensor([0, 2, 2]), 3)  ->  [[1, 1], [0, 0], [5, 2]]

Worst bug: a mean in here, which makes the loss depend on accumulation (tests/learn/test_trainer.py).
"""

from __future__ import annotations

import torch
from torch import Tensor


def nll_sum(logprobs_N: Tensor) -> Tensor:
    """Negative log-likelihood of the supervised tokens, summed."""
    return -logprobs_N.sum()


def nll_of_rows(logprobs_N: Tensor, rows_N: Tensor, rows: int) -> Tensor:
    """Of each row of a micro-batch the same sum, and the count of its supervised tokens, [B, 2]."""
    sums_B2 = torch.zeros(rows, 2, device=logprobs_N.device)
    return sums_B2.index_add_(0, rows_N, torch.stack([-logprobs_N, torch.ones_like(logprobs_N)], dim=1))
