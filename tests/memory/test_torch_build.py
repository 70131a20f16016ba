"""An idle GPU beside a training on the CPU is named, with its reason; a GPU hidden on purpose is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_parts import GIB

from sftlib.errors import MachineError
from sftlib.memory import torch_build
from sftlib.memory.probe import Device
from sftlib.memory.torch_build import refuse_unused_gpu

CPU = Device("cpu", "test CPU", 16 * GIB, 8 * GIB)
GPU = Device("cuda", "test GPU", 8 * GIB, 8 * GIB, (8, 6))


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver that shows one GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch_build, "DRIVER_SIGNS", (tmp_path / "gpus", tmp_path / "nvidia0"))
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("cuda", "code", "words"), [(None, "E404", "a build without CUDA"), ("13.0", "E405", "built for CUDA 13.0")]
)
def test_a_gpu_that_is_not_used(driver: Path, cuda: str | None, code: str, words: str) -> None:
    with pytest.raises(MachineError, match=words) as caught:
        refuse_unused_gpu(CPU, cuda)
    assert caught.value.code == code


def test_a_gpu_that_is_used_or_hidden_or_not_there_is_no_fault(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unused_gpu(GPU, "13.0")
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        refuse_unused_gpu(CPU, None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(MachineError):
        refuse_unused_gpu(CPU, None)
    (driver / "gpus" / "0000:01:00.0").rmdir()  # a driver without a GPU
    refuse_unused_gpu(CPU, None)
    (driver / "nvidia0").touch()
    with pytest.raises(MachineError):
        refuse_unused_gpu(CPU, None)
