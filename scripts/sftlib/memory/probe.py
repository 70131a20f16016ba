"""What this machine has, measured: the device training runs on, its memory, and the peak of this process.

In comes nothing; out goes a `Device` (memory in bytes). On CUDA the numbers come from the driver
(`cudaMemGetInfo`), so what other processes hold counts as taken; on a CPU they come from the operating system and
from the limit of the container, whichever is less. Whether a model *fits* is not decided here: that is estimate and
plan.

    Device("cuda", "NVIDIA RTX 3070", total_bytes=8 * GIB, free_bytes=7 * GIB, capability=(8, 6), has_bf16=True)

Worst bug: memory that is not there, reported as free (tests/memory/test_probe.py).
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from ..run.launch import find_launch

CGROUP = Path("/sys/fs/cgroup")  # version 2, where containers and systemd put their limits


@dataclass(frozen=True, slots=True)
class Device:
    """The device that trains.

    Args:
        kind: as PyTorch names it.
        name: as a person knows it.
        total_bytes, free_bytes: of the device's own memory; of main memory for `cpu` and `mps`.
        capability: CUDA compute capability, None elsewhere.
        has_bf16: whether the hardware computes in bfloat16 rather than emulating it.
        index: number of the GPU; each process of one training has its own.
    """

    kind: Literal["cuda", "cpu", "mps"]
    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None = None
    has_bf16: bool = False
    index: int = 0


def find_device() -> Device:
    """The CUDA (or ROCm) device of this process, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        index = find_launch().local_rank
        free, total = torch.cuda.mem_get_info(index)
        # What a process is allowed of a card is all that there is for it.
        allowed = int(total * torch.cuda.get_per_process_memory_fraction(index))
        free, total = min(free, allowed - torch.cuda.memory_reserved(index)), min(total, allowed)
        capability = torch.cuda.get_device_capability(index)
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Device("cuda", torch.cuda.get_device_name(index), total, free, capability, has_bf16, index)
    total, free = main_memory()
    capabilities = torch.cpu.get_capabilities()
    name = capabilities.get("cpu_name") or capabilities.get("architecture", "CPU")
    if torch.backends.mps.is_available():
        return Device("mps", f"{name} GPU", total, free)
    has_bf16 = any(capabilities.get(flag) for flag in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))
    return Device("cpu", name, total, free, has_bf16=has_bf16)


def drives_display() -> bool:
    """Whether a screen hangs on the GPU. Where nvidia-smi does not say, it is taken to: that leaves more free."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=display_active", "--format=csv,noheader", f"--id={_uuid()}"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return True
    return done.stdout.strip() != "Disabled"


def _uuid() -> str:
    """Of the first visible GPU, as nvidia-smi writes it: its numbers know nothing of CUDA_VISIBLE_DEVICES."""
    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


def main_memory() -> tuple[int, int]:
    """Total and free bytes of main memory, a container's limit respected."""
    memory = psutil.virtual_memory()
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or "max": no limit
        return memory.total, memory.available
    reclaimable = int(statistics.get("inactive_file", 0))  # page cache that the kernel gives back under pressure
    return min(memory.total, limit), min(memory.available, max(limit - used + reclaimable, 0))


def process_peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts in bytes, Linux in KiB
