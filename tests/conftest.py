"""Fixtures shared by all tests. OMP is kept to the machine's cores and the hub is never asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("COLUMNS", None)  # xdist gives its workers 80, and tables would fold

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama with a ChatML tokenizer (tests/tiny.py). Read it, never write into it."""
    from tiny import make_model

    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def fake_unsloth(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The stand-in for unsloth on the path, for this process and its children; all that it changes is put back."""
    import transformers

    from sftlib.model.backend import unsloth

    folder = ROOT / "tests" / "fake_unsloth"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    for name in unsloth.SWITCHES:
        monkeypatch.setenv(name, "unset")
    monkeypatch.setattr(transformers.Trainer, "get_batch_samples", transformers.Trainer.get_batch_samples)
    for name in ("xformers", "unsloth"):  # set, so that it is known that they were not there
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    unsloth._trial.cache_clear()
    return monkeypatch
