"""LoRA layers whose update is added in one product: y + s (x A^T) B^T.

In come the layers that peft made; they stay what they are, and compute the same in fewer steps. peft scales and adds
whole outputs, each a pass over memory and back; here scale and sum are part of the second product, and what is kept for
the backward pass is the input, which its neighbours keep too, and x A^T. Weights stay float32 and are cast to the dtype
of the layer's output where they are used, so that answers are computed as training computes, with autocast or without.
Dropout, DoRA, several adapters and merged ones go peft's own way.

    fuse(model)     # after get_peft_model

Worst bug: another gradient than peft's (tests/model/test_fused.py).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn


def fuse(model: nn.Module) -> None:
    """Let every LoRA layer over a linear layer, 16 or 4 bits, add its update in one product."""
    kinds = [Linear]
    try:
        from peft.tuners.lora.bnb import Linear4bit

        kinds.append(Linear4bit)
    except ImportError:
        pass  # there is no bitsandbytes, so there are no such layers
    for layer in model.modules():
        if type(layer) in kinds:
            layer.__class__ = _fused(type(layer))


@functools.cache
def _fused(kind: type[LoraLayer]) -> type[LoraLayer]:
    return type(kind.__name__, (_OneProduct, kind), {})


class _OneProduct:
    """The forward pass of a LoRA layer; mixed in before peft's class."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weights = self._own_weights(kwargs)
        if weights is None:
            return super().forward(x, *args, **kwargs)
        a_RI, b_OR, scale = weights
        output = self.base_layer(x, *args, **kwargs)
        return _AddUpdate.apply(x, output, a_RI, b_OR, scale)

    def _own_weights(self, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor, float] | None:
        """A, B and the scale; None where there is not one plain adapter."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1 or "adapter_names" in kwargs:
            return None
        [name] = self.active_adapters
        is_plain = (
            name in self.lora_A
            and (isinstance(self.lora_dropout[name], nn.Identity) or not self.training)
            and name not in self.lora_variant
            and self.lora_B[name].bias is None
        )
        return (self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]) if is_plain else None


class _AddUpdate(torch.autograd.Function):
    """y + s (x A^T) B^T, in the dtype of y. x: [..., I], y: [..., O], A: [R, I], B: [O, R]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, a_RI: Tensor, b_OR: Tensor, scale: float) -> Tensor:
        x_NI, y_NO = x.reshape(-1, x.shape[-1]).to(y.dtype), y.reshape(-1, y.shape[-1])
        inner_NR = x_NI @ a_RI.to(y.dtype).t()
        ctx.save_for_backward(x_NI, inner_NR, a_RI, b_OR)
        ctx.scale, ctx.like_x = scale, (x.shape, x.dtype)
        return torch.addmm(y_NO, inner_NR, b_OR.to(y.dtype).t(), alpha=scale).view(y.shape)

    @staticmethod
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, inner_NR, a_RI, b_OR = ctx.saved_tensors
        by_y_NO = by_y.reshape(-1, by_y.shape[-1])
        by_inner_NR = (by_y_NO @ b_OR.to(by_y.dtype)) * ctx.scale
        by_b_OR = (by_y_NO.t() @ inner_NR).to(b_OR.dtype) * ctx.scale
        by_a_RI = (by_inner_NR.t() @ x_NI).to(a_RI.dtype)
        by_x = None
        if ctx.needs_input_grad[0]:
            shape, dtype = ctx.like_x
            by_x = (by_inner_NR @ a_RI.to(by_y.dtype)).view(shape).to(dtype)
        return by_x, by_y, by_a_RI, by_b_OR, None
