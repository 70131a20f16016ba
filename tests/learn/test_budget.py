"""By a simulated clock: a run with train.max_minutes ends on time and with a low rate, also across a stop."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from tiny_training import llama, make_rows, with_lora
from transformers import TrainerCallback

from sftlib.learn import budget as budget_module
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit

MINUTES = 2.0
SECONDS = MINUTES * 60
PEAK = 1e-2


class Clock(TrainerCallback):
    """Stands still but for what the training is said to take; keeps the rate of each step and when it began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, step: float, evaluation: float, save: float) -> None:
        self.now, self.step, self.evaluation, self.save = 1000.0, step, evaluation, save
        self.chance = random.Random(3)
        self.rates: list[tuple[float, float]] = []
        self.stop_at: int | None = None
        monkeypatch.setattr(budget_module, "monotonic", lambda: self.now)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.began = self.now

    def on_step_begin(self, args, state, control, optimizer, **kwargs) -> None:
        self.rates.append((self.now, optimizer.param_groups[0]["lr"]))
        self.now += self.step * self.chance.uniform(0.7, 1.3)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.stop_at:
            control.should_training_stop = control.should_save = True

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self.now += self.evaluation

    def on_save(self, args, state, control, **kwargs) -> None:
        self.now += self.save


def train(
    make_trainer, clock: Clock, *, stop: int | None = None, max_minutes: float | None = MINUTES, evaluated: int = 2,
    **changes: Any,
):  # fmt: skip
    settings = {
        "epochs": 1000.0, "lr_scheduler_type": "cosine", "max_minutes": max_minutes, "learning_rate": PEAK,
        "eval_strategy": "steps", "eval_steps": 25, "save_strategy": "steps", "save_steps": 25, "save_total_limit": 1,
    } | changes  # fmt: skip
    trainer = make_trainer(
        with_lora(llama()), make_rows(4), train=settings, name="timed", eval_set=make_rows(evaluated, seed=8)
    )
    clock.stop_at = stop
    trainer.add_callback(clock)
    return trainer, fit(trainer, newest_checkpoint(trainer.run.path))


@pytest.mark.parametrize(
    ("step", "evaluation", "changes"),
    [
        (1.0, 5.0, {}),  # a few evaluations on the way
        (4.0, 0.5, {}),  # none: a training of thirty steps
        (0.5, 0.0, {"eval_strategy": "no", "save_strategy": "no"}),
        (3.0, 1.0, {"eval_strategy": "epoch", "save_strategy": "epoch", "eval_steps": None, "save_steps": None}),
        (1.0, 2.0, {"lr_scheduler_type": "linear", "warmup_ratio": 0.1}),
    ],
)
def test_it_ends_on_time_and_annealed(make_trainer, monkeypatch, step, evaluation, changes) -> None:
    clock = Clock(monkeypatch, step=step, evaluation=evaluation, save=0.2)
    _, report = train(make_trainer, clock, **changes)
    assert report.stopped == ""
    assert 10 < report.steps < report.planned_steps
    assert clock.now - clock.began == pytest.approx(SECONDS, rel=0.03)
    rates = [rate for _, rate in clock.rates]
    assert rates[-1] < 0.05 * PEAK
    assert max(rates) > 0.9 * PEAK
    if "warmup_ratio" not in changes:
        assert rates == sorted(rates, reverse=True)


def test_the_rate_follows_the_elapsed_share(make_trainer, monkeypatch) -> None:
    clock = Clock(monkeypatch, step=1.0, evaluation=0.0, save=0.0)
    train(make_trainer, clock, eval_strategy="no", save_strategy="no")
    assert len(clock.rates) > 100
    for now, rate in clock.rates:
        share = (now - clock.began) / SECONDS
        assert rate == pytest.approx(PEAK * 0.5 * (1 + math.cos(math.pi * share)), abs=1e-9)


@pytest.mark.parametrize("away", [0.0, 5000.0])
def test_across_a_stop_it_takes_the_same_time_in_all(make_trainer, monkeypatch, away: float) -> None:
    clock = Clock(monkeypatch, step=1.0, evaluation=2.0, save=0.2)
    trainer, report = train(make_trainer, clock, stop=40)
    assert report.steps == 40
    assert not trainer.had_ended()
    first, last_rate = clock.now - clock.began, clock.rates[-1][1]
    assert first < 0.5 * SECONDS
    clock.now += away  # the machine was off
    trainer, report = train(make_trainer, clock)
    assert report.resumed_from == 40
    assert first + clock.now - clock.began == pytest.approx(SECONDS, rel=0.03)
    rates = [rate for _, rate in clock.rates]
    assert rates == sorted(rates, reverse=True)
    assert rates[40] == pytest.approx(last_rate, rel=0.1)  # no jump where it was taken up
    assert rates[-1] < 0.05 * PEAK
    # a run whose time was over takes no further step when it is taken up once more
    steps = len(clock.rates)
    trainer, again = train(make_trainer, clock)
    assert again.steps == report.steps
    assert len(clock.rates) == steps


def test_steps_that_run_out_first_anneal_as_without_a_budget(make_trainer, monkeypatch) -> None:
    clock = Clock(monkeypatch, step=1.0, evaluation=0.0, save=0.0)
    settings = {"epochs": 20.0, "eval_strategy": "no", "save_strategy": "no", "eval_steps": None, "save_steps": None}
    _, report = train(make_trainer, clock, **settings)
    assert (report.steps, report.planned_steps) == (20, 20)
    timed = [rate for _, rate in clock.rates]
    clock.rates = []
    train(make_trainer, clock, max_minutes=None, **settings)
    assert timed == [rate for _, rate in clock.rates]


def test_the_first_evaluation_is_provided_for(make_trainer, monkeypatch) -> None:
    """Nothing says yet how long it takes: of thirty times the rows of a step, a third of thirty steps."""
    clock = Clock(monkeypatch, step=1.0, evaluation=10.0, save=0.0)
    train(make_trainer, clock, evaluated=120, eval_steps=1000, save_steps=1000)
    assert clock.now - clock.began == pytest.approx(SECONDS, rel=0.03)
    assert clock.rates[-1][1] < 0.05 * PEAK


def test_one_step_is_always_taken(make_trainer, monkeypatch) -> None:
    clock = Clock(monkeypatch, step=1.0, evaluation=0.0, save=0.0)
    trainer, report = train(make_trainer, clock, max_minutes=0.0001)
    assert report.steps == 1
    assert newest_checkpoint(trainer.run.path).name == "checkpoint-1"
