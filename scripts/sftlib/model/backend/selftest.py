"""A small product through the very kernels that a training will use, compared with what it should be.

In come the backend, the precision and the device; nothing is loaded. For `qlora` a 4-bit layer, made as bnb.py makes
it, is run forward and backward, before and after a forward in evaluation mode, and compared with its own weight taken
out of the 4 bits; that weight is compared with the one that went in. For 16-bit weights a plain layer is compared with
float64. What is wrong is wrong by its own size, what is right is within rounding.

    self_test(backend, precision, device)  ->  "4-bit products in bf16 are right to 0.3 %"      else MachineError

Worst bug: a broken kernel that passes (tests/model/test_selftest.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import MachineError, first_line
from ...units import percent

if TYPE_CHECKING:
    from ...memory.probe import Device
    from ..precision import Precision
    from . import Backend

ROWS, SIZE_IN, SIZE_OUT = 48, 512, 256  # several 4-bit blocks, and more than one tile of any kernel
ROUNDINGS = 4  # times the precision's epsilon; of float32 a thousand more, as TF32 keeps 10 bits
NF4_ERROR = 0.1  # of normal weights after NF4, as a share of their size; 0.092 measured for the weight drawn here
SEED = 0


def self_test(backend: Backend, precision: Precision, device: Device) -> str:
    """What was found, as half a sentence. MachineError when a kernel fails or its result is wrong."""
    is_4_bit = backend.mode == "qlora"
    what = "4-bit products" if is_4_bit else "products"
    try:
        error = _four_bit_error(precision, device) if is_4_bit else _plain_error(precision, device)
    except (RuntimeError, NotImplementedError) as problem:
        text = first_line(problem)
        raise _refusal(f"The {what} in {precision.name} fail on {device.name}: {text}", is_4_bit=is_4_bit) from problem
    if not error <= _rounding(precision):
        raise _refusal(
            f"The {what} in {precision.name} on {device.name} are wrong: {_size(error)}; rounding explains "
            f"{percent(_rounding(precision), 1)}.", is_4_bit=is_4_bit,
        )  # fmt: skip
    return f"{what} in {precision.name} are right to {percent(error, 1)} of their size, forward and backward"


def _plain_error(precision: Precision, device: Device) -> float:
    """The largest error of a linear layer's output and of both gradients."""
    layer = nn.Linear(SIZE_IN, SIZE_OUT, bias=False, device=device.kind, dtype=precision.dtype)
    _, inputs, outputs = _draw(precision, device)
    with torch.no_grad():
        layer.weight.copy_(_draw(precision, device)[0])
    inputs.requires_grad_()
    found = layer(inputs)
    found.backward(outputs)
    weight, given, back = _exact(layer.weight), _exact(inputs), _exact(outputs)
    pairs = [(found, given @ weight.T), (inputs.grad, back @ weight), (layer.weight.grad, back.T @ given)]
    return _worst([_apart(one, other) for one, other in pairs])


def _four_bit_error(precision: Precision, device: Device) -> float:
    """The largest error of a 4-bit layer's output and of the gradient that it hands down."""
    import bitsandbytes

    from .bnb import keep_packing

    weight, inputs, outputs = _draw(precision, device)
    layer = bitsandbytes.nn.Linear4bit(
        SIZE_IN, SIZE_OUT, bias=False, compute_dtype=precision.dtype, compress_statistics=True, quant_type="nf4"
    )
    layer.weight = bitsandbytes.nn.Params4bit(
        weight.to("cpu"), requires_grad=False, compress_statistics=True, quant_type="nf4", module=layer
    )
    layer = layer.to(device.kind)
    keep_packing(layer)
    unpacked = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    rounded = _apart(unpacked, _exact(weight))
    if not rounded <= NF4_ERROR:
        raise _refusal(
            f"A weight comes out of its 4 bits {percent(rounded, 1)} away from what went in; NF4 explains "
            f"{percent(NF4_ERROR, 1)}.", is_4_bit=True,
        )  # fmt: skip
    exact, asked, handed = _exact(unpacked.to(precision.dtype)), _exact(inputs), _exact(outputs)
    errors = []
    for _ in range(2):
        layer.train()
        given = inputs.clone().requires_grad_()
        found = layer(given)
        found.backward(outputs)
        errors += [_apart(found, asked @ exact.T), _apart(given.grad, handed @ exact)]
        layer.eval()
        with torch.no_grad():
            errors.append(_apart(layer(inputs), asked @ exact.T))
    return _worst(errors)


def _draw(precision: Precision, device: Device) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, inputs and gradients of the output, normally distributed."""
    dice = torch.Generator().manual_seed(SEED)
    sizes = ((SIZE_OUT, SIZE_IN), (ROWS, SIZE_IN), (ROWS, SIZE_OUT))
    drawn = [torch.randn(size, generator=dice) for size in sizes]
    drawn[0] /= SIZE_IN**0.5
    return tuple(one.to(device.kind, precision.dtype) for one in drawn)


def _apart(found: Tensor | None, right: Tensor) -> float:
    """The distance of two tensors as a share of the size of the second; NaN when one is not finite or not there."""
    if found is None:
        return float("nan")
    return float((_exact(found) - right).norm() / right.norm())


def _worst(errors: list[float]) -> float:
    """The largest; NaN, which Python's own max may pass over, is the worst of all."""
    return float(torch.tensor(errors).max())


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _size(error: float) -> str:
    return f"by {percent(error, 1)} of their size" if math.isfinite(error) else "not finite, or not there at all"


def _rounding(precision: Precision) -> float:
    epsilon = torch.finfo(precision.dtype).eps
    return ROUNDINGS * (epsilon if precision.dtype.itemsize < 4 else 1000 * epsilon)


def _refusal(seen: str, *, is_4_bit: bool) -> MachineError:
    cure = "Install the pinned versions again (pip install --force-reinstall -r requirements.txt); update the driver. "
    if is_4_bit:
        return MachineError(seen, where="tuning.mode: qlora", cure=f"{cure}Or set tuning.mode to lora.", code="E407")
    return MachineError(seen, where="train.bf16, train.fp16", cure=f"{cure}Or set both to false.", code="E408")
