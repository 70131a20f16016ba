"""Tokens are counted without padding, rates since the last record, time inside steps only."""

from __future__ import annotations

import mmap
import time
from typing import Any

import pytest
import torch

from sftlib.learn import tally as room
from sftlib.learn.tally import Tally


def batch(*lengths: int) -> dict[str, Any]:
    longest = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths])
    return {"attention_mask": mask}


def test_counts_and_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 100.0, 101.0, 200.0, 205.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    tally = Tally(with_memory=False)
    assert tally.rates() == {}
    for _ in range(2):  # 2 s, then 1 s; what lies between is not counted
        tally.on_step_begin(None, None, None)
        tally.count(batch(3, 5), supervised=4)
        tally.count(batch(4), supervised=2)
        tally.on_step_end(None, None, None)
    assert tally.rates() == {"tokens_per_second": 24 / 3, "supervised_tokens": 6.0}
    tally.on_step_begin(None, None, None)
    tally.count(batch(10), supervised=9)
    tally.on_step_end(None, None, None)
    assert tally.rates() == {"tokens_per_second": 2.0, "supervised_tokens": 9.0}
    assert tally.totals() == {
        "steps": 3, "tokens": 34, "supervised_tokens": 21, "seconds_in_steps": 8.0, "tokens_per_second": 4.2,
    }  # fmt: skip


def test_of_nothing_there_is_no_rate() -> None:
    assert Tally().totals()["tokens_per_second"] is None


def test_memory_in_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "memory_bytes", lambda: (2**30, 3 * 2**29))
    assert Tally(with_memory=True).rates() == {"memory_gib": 1.0, "peak_memory_gib": 1.5}


def test_memory_of_this_process_is_real() -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch has a GPU here, whose memory is reported instead")
    used, _ = room.memory_bytes()
    block = mmap.mmap(-1, 64 * 2**20)  # fresh pages, where an allocator might hand out what it had kept
    block.write(b"x" * len(block))
    more, peak = room.memory_bytes()
    assert 60 * 2**20 < more - used < 80 * 2**20
    assert peak >= more - 2**20
    block.close()
