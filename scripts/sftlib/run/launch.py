"""How this process was started: by itself, or by `accelerate launch` as one of several that are one training.

In comes the environment that a launcher leaves; out goes a `Launch`. No torch: the size of a step and the name on the
screen are settled before it is imported. What the processes tell each other is the business of `learn.processes`.

    RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 ACCELERATE_USE_FSDP=true FSDP_VERSION=2
    ->  Launch(processes=2, rank=1, local_rank=1, kind="fsdp2")

Worst bug: a step of another size than was asked for, once processes are added (tests/run/test_launch.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError

Kind = Literal["single", "ddp", "fsdp2", "zero2", "zero3"]
TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Launch:
    """One process and those beside it.

    Args:
        processes: how many are one training.
        rank: its number among them; process 0 speaks and writes.
        local_rank: its number on this machine, which is that of its GPU.
        kind: what is spread over them, named as in configs/accelerate/.
    """

    processes: int = 1
    rank: int = 0
    local_rank: int = 0
    kind: Kind = "single"

    @property
    def is_first(self) -> bool:
        """Whether it is the one that speaks and writes."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """Whether no process holds the whole model."""
        return self.kind in ("fsdp2", "zero3")

    @property
    def is_deepspeed(self) -> bool:
        """Whether DeepSpeed holds optimizer and gradients."""
        return self.kind in ("zero2", "zero3")

    @property
    def variables(self) -> str:
        """What is typed after `make train` for a launch like this; empty for one process."""
        return "" if self.kind == "single" else f" ACCELERATE={self.kind} PROCESSES={self.processes}"

    def settings(self) -> dict[str, str]:
        """For the stamp: checkpoints of one kind and number are not read by another."""
        return {} if self.kind == "single" else {"launch": f"{self.kind}, {self.processes} processes"}


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that this process belongs to. UsageError for a kind that this project does not drive."""
    processes, rank = int(environment.get("WORLD_SIZE", 1)), int(environment.get("RANK", 0))
    return Launch(processes, rank, int(environment.get("LOCAL_RANK", 0)), _kind(environment, processes))


def _kind(environment: Mapping[str, str], processes: int) -> Kind:
    def is_on(name: str) -> bool:
        return environment.get(name, "").lower() in TRUE

    if is_on("ACCELERATE_USE_FSDP"):
        if environment.get("FSDP_VERSION", "1") != "2":
            raise UsageError(
                "This launch asks for the first version of FSDP.", where="fsdp_version", expected="2",
                cure="ACCELERATE=fsdp2, or fsdp_version: 2 in your own Accelerate config.",
            )  # fmt: skip
        return "fsdp2"
    if is_on("ACCELERATE_USE_DEEPSPEED"):
        return "zero3" if environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3" else "zero2"
    return "single" if processes == 1 else "ddp"
