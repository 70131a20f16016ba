"""The bitsandbytes backend: the base in 4 bits (NF4 with double quantisation, Dettmers et al. 2023, arXiv:2305.14314).

In comes a folder of 16-bit weights; out goes a model whose linear layers hold 4-bit weights and compute in the
precision's dtype, while embeddings, norms and the output head stay in that dtype. Runs on CUDA and on a CPU.

    load_base(Path("models/Qwen--Qwen2.5-3B-Instruct"), mode="qlora", precision=bf16, device=cuda)

Worst bug: gradients that are silently wrong after an evaluation on a CPU (tests/model/test_backend.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .plain import load_weights

if TYPE_CHECKING:
    from torch import nn
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
    """Load a model with 4-bit linear layers."""
    from transformers import BitsAndBytesConfig

    assert mode == "qlora", mode
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.dtype,
        # FSDP2 cuts up floating-point tensors only: the 4-bit bytes are kept in one that calls itself the other dtype
        bnb_4bit_quant_storage=precision.dtype if sharded else torch.uint8,
    )  # fmt: skip
    place = {"device_map": {"": "cpu"}} if on_host else {}
    with _quantised_on(device) if on_host else contextlib.nullcontext():
        model = load_weights(
            folder, precision.dtype, attn_implementation, trust_remote_code, None if sharded or on_host else device,
            quantization_config=quantisation, **place,
        )  # fmt: skip
    if on_host and device.kind == "cuda":
        model.hf_device_map = {
            "": f"cuda:{device.index}"
        }  # where it will compute: Accelerate refuses to train on a CPU
    model.config.use_cache = not training
    keep_packing(model)
    return model


@contextlib.contextmanager
def _quantised_on(device: Device) -> Iterator[None]:
    """Let each weight be quantised where the model will compute, and wait in main memory.

    bitsandbytes 0.50.2 quantises where a weight is; its kernels for a CPU need not round as those for CUDA do, and the
    weights are to be those of a model that is loaded on the device.
    """
    from bitsandbytes.nn import Params4bit

    quantise = Params4bit._quantize

    def there_and_back(self: Params4bit, place: torch.device) -> Params4bit:
        quantise(self, torch.device(device.kind, device.index) if device.kind == "cuda" else place)
        self.data = self.data.to(place)
        self.quant_state.to(place)
        return self

    Params4bit._quantize = there_and_back
    try:
        yield
    finally:
        Params4bit._quantize = quantise


def keep_packing(model: nn.Module) -> None:
    """Keep every 4-bit weight in the order of bytes in which it is trained.

    On a CPU with AVX512-BF16 a forward in evaluation mode repacks the weight for a faster kernel; training then reads
    the repacked bytes in the old order and gets wrong gradients. Measured with 0.50.2; the packing is also at fault in
    https://github.com/bitsandbytes-foundation/bitsandbytes/issues/2078.
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def runs_on(device: Device) -> bool:
    """Whether the installed bitsandbytes has kernels for this kind of device."""
    import bitsandbytes

    return device.kind in bitsandbytes.supported_torch_devices
