"""The page a user sees: the right tags, one folder a run, no step twice, and W&B offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_training import llama, make_rows
from transformers import TrainerCallback

from sftlib.config.schema import LoggingSection
from sftlib.errors import MachineError
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.curves import make_sinks
from sftlib.learn.fitting import fit
from sftlib.learn.samples import SampleAnswers, SampleRow

CURVES = {
    "train/loss", "train/learning_rate", "train/grad_norm", "train/tokens_per_second", "train/supervised_tokens",
    "train/memory_gib", "train/peak_memory_gib", "eval/loss", "eval/rougeL",
}  # fmt: skip
SETTINGS = {
    "train.learning_rate": 1e-2,
    "model.name": "tiny",
    "tuning.lora.target_modules": ["q_proj"],
    "train.max_steps": None,
}


def options(**train: Any) -> dict[str, Any]:
    rows = [SampleRow("prompt", "What is 2+2?", "4")]
    return {
        "eval_set": make_rows(3),
        "samples": SampleAnswers(rows, lambda prompts: ["five | no"], lambda given, wanted: 0.25),
        "logging": LoggingSection(backend="tensorboard"),
        "settings": SETTINGS,
        "train": {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
        | train,
    }


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_the_tensorboard_page(make_trainer) -> None:
    trainer = make_trainer(llama(), make_rows(8), **options())
    fit(trainer)
    assert trainer.run.tensorboard == trainer.run.root / "tb" / "run"
    assert [path.is_file() for path in trainer.run.tensorboard.iterdir()] == [
        True
    ]  # one event file, no second run under it
    page = read(trainer.run.tensorboard)
    assert set(page.Tags()["scalars"]) == CURVES
    logged = [record for record in trainer.state.log_history if "loss" in record]
    assert [(event.step, event.value) for event in page.Scalars("train/loss")] == [
        (record["step"], pytest.approx(record["loss"], rel=1e-6)) for record in logged
    ]
    assert [(event.step, event.value) for event in page.Scalars("eval/rougeL")] == [(2, 0.25), (4, 0.25)]
    assert [event.step for event in page.Tensors("samples/answers/text_summary")] == [2, 4]
    text = page.Tensors("samples/answers/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| What is 2+2? | 4 | five \\| no |" in text
    assert "_hparams_/session_start_info" in page.summary_metadata


def test_the_settings_are_on_the_hparams_page(make_trainer) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    trainer = make_trainer(llama(), make_rows(8), **options())
    fit(trainer)
    content = read(trainer.run.tensorboard).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["train.learning_rate"].number_value == 1e-2
    assert start.hparams["model.name"].string_value == "tiny"
    assert start.hparams["tuning.lora.target_modules"].string_value == "['q_proj']"


def test_a_resumed_run_replaces_what_lies_beyond_its_checkpoint(make_trainer) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            control.should_training_stop |= state.global_step == 3

    trainer = make_trainer(llama(), make_rows(8), **options())
    trainer.add_callback(Stop())
    fit(trainer)
    again = make_trainer(llama(), make_rows(8), **options())
    fit(again, newest_checkpoint(again.run.path))
    page = read(again.run.tensorboard)
    assert [event.step for event in page.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in page.Scalars("eval/loss")] == [2, 4]


def test_none_and_lists(tmp_path: Path) -> None:
    def sinks(backend: Any) -> list[str]:
        made = make_sinks(backend, name="run", run_folder=tmp_path, tensorboard=tmp_path / "tb", settings={})
        return [type(sink).__name__ for sink in made]

    assert sinks("none") == []
    assert sinks("tensorboard") == ["TensorBoard"]
    assert sinks(["tensorboard", "tensorboard"]) == ["TensorBoard"]
    assert sinks([]) == []


@pytest.mark.parametrize(("backend", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_missing_package_names_its_install_command(
    backend: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError, match=f"{backend} is not installed") as caught:
        make_sinks(backend, name="run", run_folder=tmp_path, tensorboard=tmp_path / "tb", settings={})
    assert f"pip install {backend}" in caught.value.cure


def test_wandb_offline(make_trainer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    logged: list[dict[str, Any]] = []
    log = wandb.Run.log
    monkeypatch.setattr(
        wandb.Run, "log", lambda self, values, step=None: (logged.append(values), log(self, values, step=step))
    )
    trainer = make_trainer(llama(), make_rows(8), **{**options(), "logging": LoggingSection(backend="wandb")})
    fit(trainer)
    (record,) = trainer.run.path.glob("wandb/offline-run-*/run-run.wandb")
    assert record.stat().st_size > 1000
    assert {tag for values in logged for tag in values} == CURVES | {"samples/answers"}
    assert "W&B runs offline" in capfd.readouterr().err
    assert wandb.run is None
