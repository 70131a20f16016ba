"""What the processes of one training tell each other, so that all of them do the same thing at the same step.

Every function is called by all processes or by none: one that waits for an answer which nobody gives waits for ever.
With one process each returns what it was given, so that a training by one is the same with and without these lines.
The words go over the CPU (gloo), beside the gradients, and cost no wait for a GPU.

    join(find_launch())                      once, before anything else
    with first_goes_first(): read(path)      process 0 fills the cache, the others read it
    any_of(is_broken)                        whether it is so in any process
    gathered(["raw.jsonl:3"])                [["raw.jsonl:3"], []], in every process

Worst bug: a decision that one process takes alone, upon which the others wait for it (tests/learn/test_processes.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import MachineError
from ..run.launch import Launch

T = TypeVar("T")
# Process 0 may fetch a model from the hub meanwhile. One that dies is noticed by the launcher, which ends the others.
LONGEST_WAIT = timedelta(hours=2)


def join(launch: Launch) -> None:
    """Meet the other processes of the launch, each on its own GPU. Accelerate finds the group as it is made here."""
    if launch.kind == "single" or dist.is_initialized():
        return
    if not torch.cuda.is_available():
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")  # else `cpu:1`, to which torch.load can load nothing
        dist.init_process_group("gloo", timeout=LONGEST_WAIT)
        return
    if launch.local_rank >= torch.cuda.device_count():
        raise MachineError(
            f"Process {launch.local_rank} of this machine has no GPU: it has {torch.cuda.device_count()}.",
            where="num_processes", expected="one process a GPU", cure=f"PROCESSES={torch.cuda.device_count()}",
        )  # fmt: skip
    torch.cuda.set_device(launch.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl", timeout=LONGEST_WAIT)


def wait() -> None:
    """Wait for the others."""
    any_of(False)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """Run the block in process 0, then in all the others."""
    if is_first():
        yield
    wait()
    if not is_first():
        yield


def any_of(flag: bool) -> bool:
    """Whether it is so in any process."""
    return bool(largest(int(flag)))


def largest(number: int) -> int:
    """The largest of the numbers of all processes."""
    return _reduced([number], dist.ReduceOp.MAX)[0]


def totals(numbers: Sequence[int]) -> list[int]:
    """The sums over all processes, one a place."""
    return _reduced(numbers, dist.ReduceOp.SUM)


def first_says(thing: T) -> T:
    """What process 0 was given; everything that is measured or drawn has to go through here before it decides."""
    if not dist.is_initialized():
        return thing
    box = [thing]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gathered(thing: T) -> list[T]:
    """What each process was given, in their order."""
    if not dist.is_initialized():
        return [thing]
    boxes: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    # Not all_gather_object: with a GPU that goes over the GPU.
    for rank, box in enumerate(boxes):
        box.append(thing)
        dist.broadcast_object_list(box, src=rank, device=torch.device("cpu"))
    return [box[0] for box in boxes]


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: a shard under FSDP2, else all of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _reduced(numbers: Sequence[int], how: dist.ReduceOp) -> list[int]:
    if not dist.is_initialized():
        return list(numbers)
    box = torch.tensor(list(numbers), dtype=torch.int64)
    dist.all_reduce(box, how)
    return box.tolist()
