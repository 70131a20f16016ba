"""Losses, on top of log-probabilities of supervised tokens.

In come log-probabilities, [N]; out goes a scalar that is a *sum*: what it is divided by is the count of the whole
step, which only the trainer knows, so that splitting a batch changes nothing.

    nll_sum(tensor([-1.0, -3.0]))  ->  4.0

Worst bug: a mean in here, which makes the loss depend on accumulation (tests/learn/test_trainer.py).
"""

from __future__ import annotations

from torch import Tensor


def nll_sum(logprobs_N: Tensor) -> Tensor:
    """Negative log-likelihood of the supervised tokens, summed."""
    return -logprobs_N.sum()
