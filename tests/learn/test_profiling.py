"""Watching a real training of a tiny model, and leaving no trace of it in the trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_training import llama, make_rows, with_lora

from sftlib.learn import profiling
from sftlib.learn.breakdown import break_down
from sftlib.learn.fitting import fit
from sftlib.learn.profiling import named_ranges, products_a_second, steps_needed, watching
from sftlib.learn.trainer import SftTrainer

ALL = [
    "get_batch_samples", "_prepare_inputs", "compute_loss", "_clip_grad_norm", "backward", "step", "zero_grad",
    "_forward_hooks", "_forward_pre_hooks",
]  # fmt: skip


def wrapped(trainer: SftTrainer) -> list[str]:
    """What of a trainer and its parts is not its own."""
    owners = [*[trainer] * 4, trainer.accelerator, trainer.optimizer, trainer.model]
    methods = [name for owner, name in zip(owners, ALL, strict=False) if is_ours(getattr(owner, name))]
    return [*methods, *(name for name in ALL[len(owners) :] if getattr(trainer.model, name))]


def is_ours(method: Callable[..., Any]) -> bool:
    return method.__module__ == profiling.__name__


def test_steps_are_timed_without_the_profiler_and_then_seen_by_it(make_trainer) -> None:
    rows = make_rows(16)
    trainer = make_trainer(with_lora(llama()), rows, train={"max_steps": steps_needed(2), "grad_accum": 2})
    callbacks = list(trainer.callback_handler.callbacks)
    with watching(trainer, 2) as watch:
        assert fit(trainer).steps == 2 + 2 + 1 + 2
    assert trainer.callback_handler.callbacks == callbacks
    assert wrapped(trainer) == []
    assert [len(watch.timed), len(watch.profiled)] == [2, 2]
    assert all(step.seconds > 0 for step in watch.timed)
    # Two steps of 8 rows are an epoch: timed are steps 3 and 4, the whole of the second one.
    seen = [batch for step in watch.timed for batch in step.batches]
    assert sorted(length for batch in seen for length in batch.lengths) == sorted(rows.lengths)
    assert sum(batch.supervised for batch in seen) == sum(
        sum(label != -100 for label in rows[row].labels[1:]) for row in range(16)
    )
    assert all(batch.positions == len(batch.lengths) * max(batch.lengths) for batch in seen)

    found = break_down(watch.profiler.events(), with_device=False)
    assert found.steps == 2
    assert all(found.phases[name] > 0 for name in ("data", "forward", "loss and head", "backward", "optimizer", "rest"))
    assert sum(found.phases.values()) == pytest.approx(sum(found.kinds.values()))
    # What lies within a step is all of it: no operation is missing and none counted twice.
    spans = [event.time_range.elapsed_us() for event in watch.profiler.events() if "ProfilerStep" in event.name]
    assert found.seconds == pytest.approx(sum(spans) * 1e-6 / 2, rel=1e-3)
    assert found.kinds.get("other", 0) < 0.02 * found.seconds


def test_packed_rows_have_no_padding(make_trainer) -> None:
    rows = make_rows(8)
    trainer = make_trainer(with_lora(llama()), rows, train={"max_steps": steps_needed(1), "packing": True})
    with watching(trainer, 1) as watch:
        fit(trainer)
    [batch] = watch.timed[0].batches
    assert len(batch.lengths) == 4
    assert batch.positions == sum(batch.lengths) < 4 * max(batch.lengths)


def test_what_is_timed_are_steps_without_the_profiler(make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a played clock, on which step n takes 2n - 1 seconds; the profiler is seen at the end of each step."""
    trainer = make_trainer(with_lora(llama()), make_rows(16), train={"max_steps": steps_needed(2)})
    is_on: dict[int, bool] = {}

    def now() -> float:
        is_on.setdefault(trainer.state.global_step, torch.autograd._profiler_enabled())
        return float(trainer.state.global_step**2)

    monkeypatch.setattr(profiling, "_now", now)
    with watching(trainer, 2) as watch:
        fit(trainer)
    assert [step.seconds for step in watch.timed] == [2 * 3 - 1, 2 * 4 - 1]
    assert [step.seconds for step in watch.profiled] == [2 * 6 - 1, 2 * 7 - 1]
    assert [step for step, seen in is_on.items() if seen] == [6, 7]


def test_ranges_go_also_when_the_step_fails(make_trainer) -> None:
    trainer = make_trainer(with_lora(llama()), make_rows(8), train={"max_steps": 1})
    trainer.create_optimizer()

    def fail_inside() -> None:
        with named_ranges(trainer):
            assert wrapped(trainer) == ALL
            raise RuntimeError("in the step")

    with pytest.raises(RuntimeError, match="in the step"):
        fail_inside()
    assert wrapped(trainer) == []


def test_the_rate_of_a_product_is_measured_in_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 x 3 x 4 x 5 operations in a second of a played clock, of which every product takes one."""
    clock = [0.0]
    asked = []

    def linear(x: torch.Tensor, weight: torch.Tensor) -> None:
        clock[0] += 1.0
        asked.append((tuple(x.shape), tuple(weight.shape), x.dtype, weight.dtype))

    monkeypatch.setattr(profiling, "_now", lambda: clock[0])
    monkeypatch.setattr(profiling.F, "linear", linear)
    assert products_a_second(3, 4, 5, torch.bfloat16, "cpu") == 2 * 3 * 4 * 5
    assert set(asked) == {((3, 4), (5, 4), torch.bfloat16, torch.bfloat16)}
