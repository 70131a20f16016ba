"""Memory that ran out: what counts as that, and how it is given back. Training, evaluation and generation ask here.

    answers = unless_out_of_memory(lambda: model(batch))      # None: it did not fit, and everything it made is freed

An exception holds its traceback, the traceback its frames, and these the tensors of the failed attempt, the whole graph
of a backward pass among them: only when the handler has been left is there anything to free. What is tried next, and
how much smaller, is the caller's business.

Worst bug: another error taken for this one, so that it is tried again and again (tests/memory/test_out_of_memory.py).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

SAID = (  # in lower case; PyTorch has an exception of its own only for its own GPU allocators
    "out of memory",  # CUDA and ROCm drivers ("CUDA error: out of memory"), bitsandbytes, Apple's MPS
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED: their workspaces
    "defaultcpuallocator: can't allocate memory",  # Linux and macOS
    "defaultcpuallocator: not enough memory",  # Windows
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that there is not enough memory, of the GPU or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in SAID)


def unless_out_of_memory(work: Callable[[], T]) -> T | None:
    """What `work` gives; None when memory ran out, and then all that it held is free again."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()  # frames that caught the exception on its way refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    return None
