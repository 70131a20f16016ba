"""Fixtures shared by all tests. OMP is kept to the machine's cores and the hub is never asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

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
