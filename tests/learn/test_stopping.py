"""A run that was asked to stop at any step, and taken up again, is the one that was not."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from tiny_training import llama, make_rows, with_lora
from transformers import TrainerCallback

from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.stopping import SIGNALS, Stopper
from sftlib.run.folder import RunFolder

RHYTHMS = {
    "steps": {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2},
    "epoch": {"eval_strategy": "epoch", "save_strategy": "epoch"},
    "never": {"eval_strategy": "no", "save_strategy": "no"},
}


class SignalAt(TrainerCallback):
    """Sends this process a real signal at the beginning of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


class CountSaves(TrainerCallback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_save(self, args, state, control, **kwargs) -> None:
        self.steps.append(state.global_step)


def run(make_trainer, rhythm: str, name: str, *, stop: int = 0):
    best = {"load_best_model_at_end": True} if rhythm != "never" else {}
    train = {"epochs": 2.0, "grad_accum": 1, "save_total_limit": 1, **RHYTHMS[rhythm], **best}
    trainer = make_trainer(
        with_lora(llama(), dropout=0.3), make_rows(12), train=train, name=name, eval_set=make_rows(3, seed=8)
    )
    saves = CountSaves()
    trainer.add_callback(saves)
    if stop:
        trainer.add_callback(SignalAt(stop))
    return trainer, fit(trainer, newest_checkpoint(trainer.run.path)), saves.steps


def records(trainer) -> list[dict]:
    kept = ("step", "loss", "learning_rate", "grad_norm", "eval_loss")
    return [
        {k: row[k] for k in kept if k in row} for row in trainer.state.log_history if {"loss", "eval_loss"} & {*row}
    ]


@pytest.mark.parametrize("rhythm", RHYTHMS)
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])  # 3 steps an epoch
def test_it_goes_on_as_if_it_had_not_stopped(make_trainer, rhythm: str, stop: int) -> None:
    whole, expected, _ = run(make_trainer, rhythm, "whole")
    assert (expected.steps, expected.stopped) == (6, "")
    _, report, saves = run(make_trainer, rhythm, "cut", stop=stop)
    assert (report.steps, report.planned_steps, report.stopped) == (stop, 6, "SIGTERM")
    assert saves == sorted(set(saves))  # no step is saved twice, the second time over a whole checkpoint
    assert saves[-1] == stop
    again, report, _ = run(make_trainer, rhythm, "cut")
    assert (report.steps, report.resumed_from, report.stopped) == (6, stop, "")
    assert report.best == expected.best
    assert records(again) == records(whole)
    for (name, wanted), (_, given) in zip(whole.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(wanted, given), name


def test_a_signal_in_the_last_step_does_not_keep_it_from_its_end(make_trainer) -> None:
    _, report, _ = run(make_trainer, "epoch", "last", stop=6)
    assert (report.steps, report.stopped) == (6, "")


def test_the_handlers_from_before_are_put_back(make_trainer) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    run(make_trainer, "never", "whole")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def listen() -> None:
        with Stopper(RunFolder("outputs", "run")).listening():
            seen.append([signal.getsignal(number) for number in SIGNALS])

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
