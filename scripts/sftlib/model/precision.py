"""The number format that training computes in, chosen once and with its reason.

In come the two config keys and the device; out goes a `Precision`. `auto` takes bfloat16 where the hardware computes
in it (NVIDIA Ampere and later, CPUs with AVX512-BF16 or AMX), float16 with loss scaling on older CUDA cards, float32
elsewhere. Never both. Which *weights* are kept in it is the backend's business.

    choose_precision("auto", "auto", Device("cuda", "T4", ..., capability=(7, 5)))
    -> Precision("fp16", torch.float16, "T4 has no bfloat16")

Worst bug: a precision the hardware emulates or cannot scale, taken without a word (tests/model/test_precision.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from .. import console
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..memory.probe import Device


@dataclass(frozen=True, slots=True)
class Precision:
    """`name` as in backend.json, the dtype it means, and why it was chosen."""

    name: Literal["bf16", "fp16", "fp32"]
    dtype: torch.dtype
    reason: str


def choose_precision(bf16: bool | Literal["auto"], fp16: bool | Literal["auto"], device: Device) -> Precision:
    """Settle train.bf16 and train.fp16 for this device.

    Raises ConfigError when both are asked for, or when the device cannot train in what is asked.
    """
    if bf16 is True and fp16 is True:
        raise ConfigError(
            "Both bf16 and fp16 are on.", where="train.bf16, train.fp16", expected="one of them, or `auto` for both",
            cure="Set one to false: bf16 on an Ampere GPU or later, fp16 on an older one.",
        )  # fmt: skip
    if bf16 is True:
        return Precision("bf16", torch.bfloat16, _reason_for_asked_bf16(device))
    if fp16 is True:
        if device.kind != "cuda":
            raise ConfigError(
                f"fp16 training needs a CUDA GPU (its loss scaling runs there); this machine trains on {device.kind}.",
                where="train.fp16", expected="auto or false", cure="Set train.fp16 to auto.",
            )  # fmt: skip
        return Precision("fp16", torch.float16, "asked for by train.fp16")
    if bf16 == "auto" and device.has_bf16:
        return Precision("bf16", torch.bfloat16, f"{device.name} computes in bfloat16")
    if fp16 == "auto" and device.kind == "cuda" and not device.has_bf16:
        return Precision("fp16", torch.float16, f"{device.name} has no bfloat16")
    if bf16 is False and device.has_bf16:
        return Precision("fp32", torch.float32, "train.bf16 is false")
    return Precision("fp32", torch.float32, f"{device.name} has no bfloat16" + (" and fp16 is off" * (fp16 is False)))


def _reason_for_asked_bf16(device: Device) -> str:
    if device.has_bf16:
        return "asked for by train.bf16"
    if device.kind == "cuda":
        raise ConfigError(
            f"{device.name} (compute capability {device.capability}) does not compute in bfloat16.",
            where="train.bf16", expected="auto or false", cure="Set train.bf16 to auto; fp16 is taken then.",
        )  # fmt: skip
    console.warn(f"train.bf16 is on, but {device.name} only emulates bfloat16: expect slower training than in float32.")
    return f"asked for by train.bf16; {device.name} emulates it"
