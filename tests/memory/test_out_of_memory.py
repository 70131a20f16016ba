"""Memory that ran out is told from other errors, and what the attempt held is free afterwards."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from sftlib.memory.out_of_memory import is_out_of_memory, unless_out_of_memory

FAR_TOO_MUCH = 2**50  # bytes; no machine can even address them


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(FAR_TOO_MUCH, dtype=torch.uint8),
        lambda: np.empty(FAR_TOO_MUCH, dtype=np.uint8),
        lambda: bytearray(2**62),
    ],
    ids=["torch", "numpy", "python"],
)
def test_what_an_allocator_really_raises(ask) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask()
    assert is_out_of_memory(caught.value)
    assert unless_out_of_memory(ask) is None


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.60 GiB"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1.2 MB)"),
        RuntimeError("HIP error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to"),
    ],
    ids=lambda error: str(error)[:25],
)
def test_what_drivers_and_libraries_say(error) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 4x8)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("The disk is out of memory"),
        KeyboardInterrupt("out of memory"),
    ],
    ids=lambda error: str(error)[:25],
)
def test_another_error_passes_through(error) -> None:
    assert not is_out_of_memory(error)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        unless_out_of_memory(fail)
    assert caught.value is error


def test_what_the_attempt_held_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive_when_emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive_when_emptied.append(held[0]() is not None))

    def passes_on(tensor: torch.Tensor) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        except torch.OutOfMemoryError as error:
            kept = error  # a frame that refers to its own exception: only the garbage collector ends this
            raise kept from None

    def work() -> None:
        weight = torch.ones(8, requires_grad=True)
        tensor = weight.exp()
        held.append(weakref.ref(tensor))
        passes_on(tensor)

    assert unless_out_of_memory(work) is None
    assert alive_when_emptied == [False]


def test_what_fits_is_given_back() -> None:
    assert unless_out_of_memory(lambda: [3]) == [3]
