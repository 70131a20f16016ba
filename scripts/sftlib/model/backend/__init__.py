"""Which library loads the base, and why: one small interface over `plain`, `bnb` and `unsloth`.

In come the settled tuning section and the device; out goes a `Backend` that loads a base folder into a model, to answer
or to be trained. What was asked and what really runs are both kept, with the reason, for the screen and for
backend.json. Nothing outside this folder names bitsandbytes or unsloth.

    choose_backend(TuningSection(mode="qlora", backend="unsloth"), device)
    -> Backend(name="bnb", asked="unsloth", mode="qlora", reason="unsloth is not installed (make install-unsloth)")

| mode \\ backend | plain | bnb | unsloth |
|---|---|---|---|
| qlora | refused | NF4, double quantisation | the same |
| lora | 16-bit weights | 16-bit weights, loaded as plain does | 16-bit weights |
| full | float32 master weights | the same | the same |

Unsloth trains only. Answers come from bnb in qlora and from plain otherwise, and these take its place where it cannot
train.

Worst bug: a backend other than the one named in backend.json did the training (tests/model/test_backend.py).
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import console
from ...config.schema import LoraSection, ModelSection, TuningSection
from ...errors import ConfigError, MachineError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from ...memory.probe import Device
    from ..precision import Precision
    from .unsloth import LoadRequest

# On its import, which peft and transformers bring about, it warns that a kernel of the hub is not there: a faster one
# for generation on some CPUs, which nobody asked for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend that runs.

    Args:
        name: `plain`, `bnb` or `unsloth`.
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
        on_host: bool = False,
    ) -> PreTrainedModel:
        """Load a base (or a fully tuned model) from its folder, on the device; never by unsloth, which only trains.

        Args:
            precision: dtype of the weights, and the compute dtype of 4-bit ones; a full fine-tune keeps float32
                weights beside it (see plain.py).
            training: no key-value cache, and float32 master weights for mode `full`; false for generation.
            sharded: no device is to hold all of it: it stays in main memory until it is cut up.
            on_host: it stays in main memory, with the weights that it would have on the device.
        """
        if self.name == "unsloth":
            raise ValueError("unsloth only trains: load_trainable")
        if self.mode == "qlora":
            from .bnb import load_base
        else:
            from .plain import load_base
        return load_base(
            Path(folder), mode=self.mode, precision=precision, attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code, device=device, training=training, sharded=sharded, on_host=on_host,
        )  # fmt: skip

    def load_trainable(
        self,
        folder: str | Path,
        *,
        model: ModelSection,
        lora: LoraSection,
        checkpointing: bool,
        seed: int,
        precision: Precision,
        device: Device,
        sharded: bool = False,
        stream: bool = False,
    ) -> PreTrainedModel | PeftModel:
        """Load a base and make it ready to be trained: with a fresh adapter, but for mode full.

        stream: its layers are streamed from the start, so that the device never holds all of it.
        checkpointing: heeded by unsloth alone, which sets it up while it loads; else see `enable_checkpointing`.
        """
        if self.name == "unsloth":
            from . import unsloth

            return unsloth.load_trainable(
                load_request(
                    folder, mode=self.mode, model=model, lora=lora, checkpointing=checkpointing, seed=seed,
                    precision=precision,
                )
            )  # fmt: skip
        from ..adapters import attach_adapter
        from ..streaming import stream_layers

        base = self.load_base(
            folder, precision=precision, device=device, attn_implementation=model.attn_implementation,
            trust_remote_code=model.trust_remote_code, sharded=sharded, on_host=stream,
        )  # fmt: skip
        if self.mode == "full":
            return base
        adapted = attach_adapter(base, lora, seed=seed)
        if stream:
            stream_layers(adapted, device)
        return adapted

    def enable_checkpointing(self, model: PreTrainedModel | PeftModel, *, offload: bool = False) -> None:
        """Recompute activations in the backward pass; unsloth has seen to that, or not, when it loaded the model."""
        if self.name != "unsloth":
            from ..adapters import enable_gradient_checkpointing

            enable_gradient_checkpointing(model, offload=offload)

    def import_first(self) -> None:
        """Import what wants to be imported before transformers."""
        if self.name == "unsloth":
            from .unsloth import import_first

            import_first()

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


def load_request(
    folder: str | Path,
    *,
    mode: str,
    model: ModelSection,
    lora: LoraSection,
    checkpointing: bool,
    seed: int,
    precision: Precision,
) -> LoadRequest:
    """What Unsloth would load for a training, for `choose_backend`."""
    from .unsloth import LoadRequest

    return LoadRequest(
        str(Path(folder).resolve()), mode, precision.name, model.max_seq_len, model.attn_implementation,
        model.trust_remote_code, checkpointing, lora.model_dump_json(), seed,
    )  # fmt: skip


def choose_backend(
    tuning: TuningSection, device: Device, request: LoadRequest | None = None, *, training: bool = True
) -> Backend:
    """Settle tuning.backend for a settled tuning.mode.

    Args:
        request: what is to be trained; needed where unsloth is asked for and there is a GPU.
        training: false for a model that is only to answer.

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
    ordinary = "bnb" if mode == "qlora" else "plain"
    if asked == "auto":
        name, reason = ordinary, f"the default for {mode}"
    elif asked == "unsloth" and not training:
        name, reason = ordinary, "unsloth only trains"
    elif asked == "unsloth":
        from .unsloth import why_not

        reason = why_not(device, request)
        if reason and not tuning.backend_fallback:
            raise MachineError(
                f"The backend unsloth cannot run: {reason}.", where="tuning.backend",
                expected="a backend that runs here, as tuning.backend_fallback is false",
                cure="Set tuning.backend to bnb, or tuning.backend_fallback to true.", code="E406",
            )  # fmt: skip
        if reason:
            name = ordinary
            console.warn(f"tuning.backend asks for unsloth, but {reason}; training with {name} instead.")
    if name == "bnb" and mode == "qlora":
        _need_bitsandbytes(device)
    return Backend(name, asked, mode, reason)


def has_bitsandbytes() -> bool:
    """Whether its 4-bit weights and paged optimizers are installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def _need_bitsandbytes(device: Device) -> None:
    if not has_bitsandbytes():
        raise MachineError(
            "The package bitsandbytes, which holds the 4-bit weights of qlora, is not installed.", where="tuning.mode",
            cure="Run `make install`, or `pip install bitsandbytes`, or set tuning.mode to lora.", code="E406",
        )  # fmt: skip
    from .bnb import runs_on

    if not runs_on(device):
        raise MachineError(
            f"The installed bitsandbytes has no 4-bit kernels for {device.kind}.", where="tuning.mode",
            cure="Set tuning.mode to lora.", code="E406",
        )  # fmt: skip
