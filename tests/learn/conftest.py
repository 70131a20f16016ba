"""Fixtures of the learn room."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from tiny_training import PAD, llama, train_section, with_lora
from torch import nn

from sftlib.config.schema import LoggingSection
from sftlib.learn.fitting import build_trainer
from sftlib.model.adapters import enable_gradient_checkpointing
from sftlib.run.folder import RunFolder
from sftlib.tokens.dataset import ExampleDataset


@pytest.fixture(scope="session", autouse=True)
def _little_garbage() -> None:
    """Keep PyTorch's own objects out of the collection that Accelerate makes at each start of a training (1 s)."""
    with_lora(llama())
    gc.collect()
    gc.freeze()


@pytest.fixture
def make_trainer(tmp_path: Path):
    """A function that builds a trainer; `train` takes changes to `train_section`."""

    def make(
        model: nn.Module,
        rows: ExampleDataset,
        *,
        train: dict[str, Any] | None = None,
        name: str = "run",
        **options: Any,
    ):
        run = RunFolder(tmp_path / "outputs", name)
        run.path.mkdir(parents=True, exist_ok=True)
        given = {"eval_set": None, "logging": LoggingSection(backend="none"), "precision": "fp32", "seed": 7} | options
        section = train_section(**train or {})
        if section.gradient_checkpointing:
            enable_gradient_checkpointing(model, offload=section.activation_offload)
        return build_trainer(model, train=section, run=run, device="cpu", train_set=rows, pad_id=PAD, **given)

    return make
