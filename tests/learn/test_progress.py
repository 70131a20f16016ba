"""Plain lines where there is no terminal, and nothing left on the screen after an error."""

from __future__ import annotations

import pytest
from tiny_training import llama, make_rows
from transformers import TrainerCallback

from sftlib.config.schema import LoggingSection
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.progress import Progress


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("training")]


def test_a_line_every_log_interval_steps(make_trainer, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"train": {"batch_size": 2}, "logging": LoggingSection(backend="none", log_interval=3)}
    fit(make_trainer(llama(), make_rows(8), **options))
    lines = said(capsys)
    assert [line.split()[1] for line in lines] == ["3/8", "6/8"]
    assert "loss " in lines[0]
    assert "tok/s" in lines[0]


def test_where_the_time_ends_it_no_count_of_steps_is_promised(make_trainer, capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        "train": {"batch_size": 2, "max_minutes": 60.0},
        "logging": LoggingSection(backend="none", log_interval=4),
    }
    fit(make_trainer(llama(), make_rows(8), **options))
    lines = said(capsys)
    assert [line.split()[1] for line in lines] == ["4", "8"]
    assert not any(" left" in line for line in lines)


def test_a_resumed_run_says_so(make_trainer, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"logging": LoggingSection(backend="none", log_interval=1)}
    fit(
        make_trainer(
            llama(), make_rows(8), train={"max_steps": 2, "save_strategy": "steps", "save_steps": 2}, **options
        )
    )
    capsys.readouterr()
    trainer = make_trainer(
        llama(), make_rows(8), train={"max_steps": 4, "save_strategy": "steps", "save_steps": 2}, **options
    )
    fit(trainer, newest_checkpoint(trainer.run.path))
    assert [line.split(" in ")[0] for line in said(capsys)] == [
        "training from step 2: 1/2",
        "training from step 2: 2/2",
    ]


def test_an_error_takes_the_display_away(make_trainer) -> None:
    class Fail(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            raise ZeroDivisionError

    trainer = make_trainer(llama(), make_rows(8))
    trainer.add_callback(Fail())
    with pytest.raises(ZeroDivisionError):
        fit(trainer)
    (progress,) = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, Progress)]
    assert progress._meter is None
