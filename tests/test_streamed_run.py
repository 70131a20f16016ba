"""Runs with streamed layers, by the real scripts: bit-equal to resident ones, through evaluations, resume and merge."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny import make_model
from tiny_project import call, make_processed_project

from sftlib import build_batch, build_speaking, build_training
from sftlib.config import load_config
from sftlib.errors import MachineError
from sftlib.files import read_json
from sftlib.learn import probing
from sftlib.memory.probe import Device
from sftlib.memory.search import Choice
from sftlib.model.streaming import LayerStream

GIB = 2**30
OPEN = ("train.batch_size=auto", "train.effective_batch_size=4", "train.stream_layers=auto")


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a model of five blocks, of which two are there at a time."""
    folder = tmp_path_factory.mktemp("streamed")
    return make_processed_project(folder / "project", make_model(folder / "model", layers=5))


@pytest.fixture(autouse=True)
def project(processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(processed, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[LayerStream]:
    """Every stream that is begun."""
    made, begin = [], LayerStream.__init__

    def watched(self: LayerStream, *args) -> None:
        made.append(self)
        begin(self, *args)

    monkeypatch.setattr(LayerStream, "__init__", watched)
    return made


def run(name: str, *settings: str) -> bytes:
    assert call("train", settings=(f"run_name={name}", *settings)) == 0
    return weights(name)


def weights(name: str) -> bytes:
    return Path(f"outputs/{name}/adapter/adapter_model.safetensors").read_bytes()


def losses(name: str) -> list[str]:
    return [line.split(",")[1] for line in Path(f"outputs/{name}/train_log.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    "settings",
    [(), ("tuning.mode=qlora", "train.gradient_checkpointing=true", "tuning.lora.dropout=0.1")],
    ids=["lora", "qlora, checkpointed"],
)
def test_a_run_ends_with_the_weights_of_a_resident_one(settings, streams, capsys):
    resident = run("resident", *settings)
    assert streams == []
    assert run("streamed", "train.stream_layers=true", *settings) == resident
    assert len(streams) == 1
    assert losses("streamed") == losses("resident")
    assert "train.stream_layers saves nothing on a cpu" in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_run_goes_on_to_the_same_weights_and_merges(streams):
    whole = run("tiny", "train.stream_layers=true")
    for path in ("adapter", "checkpoint-4"):
        shutil.rmtree(f"outputs/tiny/{path}")
    Path("outputs/tiny/summary.json").unlink()
    assert run("tiny", "train.stream_layers=true") == whole
    assert len(streams) == 2
    assert call("merge_lora", "--out", "merged") == 0


def test_check_looks_at_the_weights_where_they_wait(streams, capsys):
    assert call("check", settings=("train.stream_layers=true",)) == 0
    assert len(streams) == 1
    assert "frozen ones as they were" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """Trials on the CPU, which is taken for a card of its own memory; the list holds those that were run."""
    asked: list[Choice] = []
    trial = probing.Trial.__call__

    def watched(self, *choice):
        asked.append(Choice(*choice))
        if not asked[-1].stream:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return trial(self, *choice)

    monkeypatch.setattr(probing.Trial, "__call__", watched)
    monkeypatch.setattr(build_batch, "PROBED", ("cpu",))
    device = Device("cpu", "test card", 64 * GIB, 64 * GIB, has_bf16=True)
    monkeypatch.setattr(build_training, "find_device", lambda: device)
    settled = build_batch.open_rungs
    monkeypatch.setattr(
        build_batch, "open_rungs", lambda train: settled(train.model_copy(update={"stream_layers": "auto"}))
    )
    return asked


def test_the_probe_streams_as_the_last_resort_says_so_and_what_it_costs(card, streams, monkeypatch, capsys):
    monkeypatch.setattr(probing, "SHORTEST", 4)
    stated = ("train.effective_batch_size=4", "train.gradient_checkpointing=true", "train.stream_layers=true")
    found = run("probed", *OPEN, "train.gradient_checkpointing=true")
    said = " ".join(capsys.readouterr().err.split())
    assert [choice.stream for choice in card[:2]] == [False, True]
    assert "Not even one row fits without layer streaming: it is turned on." in said
    assert "Cost of layer streaming, measured on rows of" in said
    assert "with gradient checkpointing and layer streaming: the fastest of" in said
    report = read_json("outputs/probed/backend.json")["batch"]
    assert report["stream_layers"] is True
    assert 0 < report["costs"]["stream"]["speed_left"] < 2
    assert report["costs"]["checkpointing"]["length"] < report["costs"]["stream"]["length"]
    settled = load_config("outputs/probed/config.yaml").train
    assert (settled.stream_layers, settled.gradient_checkpointing) == (True, True)
    assert len(streams) > 2  # begun anew for each trial, and for the training
    assert run("stated", f"train.batch_size={settled.batch_size}", *stated) == found


def test_weights_that_do_not_fit_are_never_loaded_whole(card, streams, monkeypatch, capsys):
    monkeypatch.setattr(build_batch, "weights_of", lambda *args: 65 * GIB)
    run("large", *OPEN)
    assert all(choice.stream for choice in card)
    assert len(streams) == 1  # from the start to the end
    assert "The weights alone (65.00 GiB) do not fit test card" in " ".join(capsys.readouterr().err.split())


def test_a_load_that_ran_out_of_memory_is_tried_streamed(card, streams, monkeypatch):
    load = build_training.build_backend.load_trainable

    def small(*args, stream: bool, **options):
        if not stream:
            raise MachineError("The weights do not fit.", code="E409")
        return load(*args, stream=stream, **options)

    monkeypatch.setattr(build_training.build_backend, "load_trainable", small)
    run("large", *OPEN)
    assert all(choice.stream for choice in card)
    assert len(streams) == 1


@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_what_does_not_fit_is_streamed_to_answer_as_well(mode, streams, monkeypatch, capsys):
    run("tiny", f"tuning.mode={mode}")
    answers = []
    for is_streamed in (False, True):
        monkeypatch.setattr(build_speaking, "_must_stream", lambda *args, now=is_streamed: now)
        assert call("eval", "--split", "test") == 0
        answers.append(Path("outputs/samples.jsonl").read_text())
    assert answers[0] == answers[1]
    assert streams
    assert "layers are streamed from main memory" in " ".join(capsys.readouterr().err.split())


def test_only_a_gpu_with_less_than_the_weights_makes_answers_streamed():
    config = build_training.build_backend.Config()
    config = config.model_copy(update={"tuning": config.tuning.model_copy(update={"mode": "qlora"})})
    config = config.model_copy(update={"train": config.train.model_copy(update={"bf16": True, "fp16": False})})
    folder = Path(load_config("config.yaml").model.name)
    for kind, total, is_streamed in (("cuda", 2**20, False), ("cuda", 2**16, True), ("cpu", 2**16, False)):
        device = Device(kind, "a device", total, total, (8, 6), has_bf16=True)
        assert build_speaking._must_stream(config, folder, device) == is_streamed
