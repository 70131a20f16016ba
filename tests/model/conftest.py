"""Fixtures of the model room: a CPU, precisions, a stored tiny base, adapters that change something."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_parts import load

from sftlib.chat.model_files import read_model_template
from sftlib.chat.templates import ChatTemplate, choose_template
from sftlib.config.schema import LoraSection
from sftlib.model.adapters import attach_adapter
from sftlib.model.base import describe_base
from sftlib.model.store import StoredModel
from sftlib.model.tokenizer import load_tokenizer
from sftlib.model.tuned import save_tuned


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any socket is an error."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"a socket was opened: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def stored(tiny_model: Path, tmp_path: Path) -> StoredModel:
    """A tiny base with tied embeddings, in the test's own folder."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    return StoredModel(folder, "pip:tiny", None, "pip:tiny==1")


@pytest.fixture
def template(stored: StoredModel) -> ChatTemplate:
    """The base's own template."""
    return choose_template("auto", *read_model_template(stored.folder))


@pytest.fixture
def make_adapter(stored: StoredModel, template: ChatTemplate, tmp_path: Path) -> Callable[..., Path]:
    """Save an adapter with random B, so that it changes the model: `make_adapter(use_rslora=True) -> folder`."""

    def make(name: str = "adapter", strength: float = 0.3, base: StoredModel = stored, **settings) -> Path:
        lora = LoraSection(**({"r": 4, "alpha": 8} | settings))
        model = attach_adapter(load(base.folder), lora, seed=1)
        torch.manual_seed(2)
        with torch.no_grad():
            for name_, weight in model.named_parameters():
                if "lora_B" in name_:
                    weight.normal_(std=strength)
        folder = tmp_path / "run" / name
        save_tuned(
            folder, model, load_tokenizer(base.folder), template, base=describe_base(base), stop_ids=[2],
        )  # fmt: skip
        return folder

    return make
