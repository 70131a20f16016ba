"""Whether the installed PyTorch can use the GPU that this machine has.

In comes the device that training would run on; out goes an error when there is a GPU and it is not that device. The
GPU is looked for where the driver shows it, without PyTorch. CUDA_VISIBLE_DEVICES that hides every GPU is a wish, not
a fault.

    refuse_unused_gpu(find_device())  ->  MachineError E404: There is an NVIDIA GPU, and torch 2.13.0+cpu is ...

Worst bug: a night on the CPU beside an idle GPU (tests/memory/test_torch_build.py).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from ..errors import MachineError
from .probe import Device

DRIVER_SIGNS = (Path("/proc/driver/nvidia/gpus"), Path("/dev/nvidia0"), Path("/usr/lib/wsl/lib/libcuda.so.1"))


def refuse_unused_gpu(device: Device, cuda: str | None = torch.version.cuda) -> None:
    """Raise MachineError when an NVIDIA GPU is there and training would not use it. cuda: what torch was built for."""
    if device.kind != "cpu" or is_hidden() or not has_nvidia_gpu():
        return
    if cuda is None:
        release = torch.__version__.partition("+")[0]
        raise MachineError(
            f"There is an NVIDIA GPU, and torch {torch.__version__} is a build without CUDA.", where=sys.executable,
            expected="the CUDA build of the same release",
            cure=f"{sys.executable} -m pip install --force-reinstall torch=={release} "
            "--index-url https://pypi.org/simple. To train on the CPU on purpose: CUDA_VISIBLE_DEVICES=-1",
            code="E404",
        )  # fmt: skip
    raise MachineError(
        f"There is an NVIDIA GPU, and torch {torch.__version__}, built for CUDA {cuda}, cannot use it.",
        where=sys.executable, expected=f"a driver for CUDA {cuda}",
        cure="Update the NVIDIA driver (nvidia-smi shows what it supports); in a container: docker run --gpus all. "
        "To train on the CPU on purpose: CUDA_VISIBLE_DEVICES=-1",
        code="E405",
    )  # fmt: skip


def has_nvidia_gpu() -> bool:
    """Whether a driver shows one."""
    return any(any(sign.iterdir()) if sign.is_dir() else sign.exists() for sign in DRIVER_SIGNS)


def is_hidden() -> bool:
    """Whether the user hid every GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1")
