"""Which library loads the base, and why: one small interface over `plain` and `bnb`.

In come the settled tuning section and the device; out goes a `Backend` that loads a base folder into a model. What was
asked and what really runs are both kept, with the reason, for the screen and for backend.json. Nothing here attaches
an adapter (adapters.py does) and nothing outside this folder names bitsandbytes or unsloth.

    choose_backend(TuningSection(mode="qlora", backend="unsloth"), device)
    -> Backend(name="bnb", asked="unsloth", mode="qlora", reason="unsloth is not installed")

| mode \\ backend | plain | bnb |
|---|---|---|
| qlora | refused | NF4, double quantisation |
| lora | 16-bit weights | 16-bit weights, loaded as plain does |
| full | float32 master weights | the same |

Worst bug: a backend other than the one named in backend.json did the training (tests/model/test_backend.py).
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import console
from ...config.schema import TuningSection
from ...errors import ConfigError, MachineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ...memory.probe import Device
    from ..precision import Precision

# On its import, which peft and transformers bring about, it warns that a kernel of the hub is not there: a faster one
# for generation on some CPUs, which nobody asked for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend that runs.

    Args:
        name: `plain` or `bnb`.
        asked: what tuning.backend says.
        mode: `qlora`, `lora` or `full`.
        reason: why `name` is not `asked`, or how `auto` was settled; empty when it is what was asked.
    """

    name: str
    asked: str
    mode: str
    reason: str

    def load_base(
        self,
        folder: str | Path,
        *,
        precision: Precision,
        device: Device,
        attn_implementation: str = "auto",
        trust_remote_code: bool = False,
        training: bool = True,
        sharded: bool = False,
    ) -> PreTrainedModel:
        """Load a base (or a fully tuned model) from its folder, on the device.

        Args:
            precision: dtype of the weights, and the compute dtype of 4-bit ones; a full fine-tune keeps float32
                weights beside it (see plain.py).
            training: no key-value cache, and float32 master weights for mode `full`; false for generation.
            sharded: no device is to hold all of it: it stays in main memory until it is cut up.
        """
        if self.mode == "qlora":
            from .bnb import load_base
        else:
            from .plain import load_base
        return load_base(
            Path(folder), mode=self.mode, precision=precision, attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code, device=device, training=training,
            sharded=sharded,
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """For backend.json: what runs, what was asked and why they differ, and the number format of the base."""
        return {
            "backend": self.name, "asked": self.asked, "mode": self.mode, "reason": self.reason,
            "quantization": self.quantization,
        }  # fmt: skip

    @property
    def quantization(self) -> str | None:
        """`nf4` when the base is held in 4 bits, else None."""
        return "nf4" if self.mode == "qlora" else None


def choose_backend(tuning: TuningSection, device: Device) -> Backend:
    """Settle tuning.backend for a settled tuning.mode.

    Raises ConfigError for a combination that cannot be, MachineError when a package or a device is missing and
    nothing may take its place.
    """
    mode, asked = tuning.mode, tuning.backend
    if mode == "auto":
        raise ValueError("tuning.mode must be settled before the backend is chosen")
    if asked == "plain" and mode == "qlora":
        raise ConfigError(
            "The plain backend holds no 4-bit weights.", where="tuning.mode, tuning.backend",
            expected="mode lora or full with plain, or backend bnb with qlora", cure="Set tuning.backend to bnb.",
        )  # fmt: skip
    name, reason = asked, ""
    if asked == "auto":
        name = "bnb" if mode == "qlora" else "plain"
        reason = f"the default for {mode}"
    elif asked == "unsloth":
        name, reason = "bnb", _why_not_unsloth(device)
        if not tuning.backend_fallback:
            raise MachineError(
                f"The backend unsloth cannot run: {reason}.", where="tuning.backend",
                expected="a backend that runs here, as tuning.backend_fallback is false",
                cure="Set tuning.backend to bnb, or tuning.backend_fallback to true.",
            )  # fmt: skip
        console.warn(f"tuning.backend asks for unsloth, but {reason}; training with bnb instead.")
    if name == "bnb" and mode == "qlora":
        _need_bitsandbytes(device)
    return Backend(name, asked, mode, reason)


def _why_not_unsloth(device: Device) -> str:
    if device.kind != "cuda":
        return f"unsloth needs an NVIDIA or AMD GPU and this machine trains on {device.kind}"
    if importlib.util.find_spec("unsloth") is None:
        return "unsloth is not installed"
    return "this version of SFT-Play does not drive unsloth yet"


def _need_bitsandbytes(device: Device) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MachineError(
            "The package bitsandbytes, which holds the 4-bit weights of qlora, is not installed.", where="tuning.mode",
            cure="Run `make install`, or `pip install bitsandbytes`, or set tuning.mode to lora.",
        )  # fmt: skip
    from .bnb import runs_on

    if not runs_on(device):
        raise MachineError(
            f"The installed bitsandbytes has no 4-bit kernels for {device.kind}.", where="tuning.mode",
            cure="Set tuning.mode to lora.",
        )  # fmt: skip
