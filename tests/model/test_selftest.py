"""Kernels that are right pass in every precision; each way to be wrong is seen."""

from __future__ import annotations

import pytest
import torch
from model_parts import BF16, CPU, FP32

from sftlib.errors import MachineError
from sftlib.model.backend import Backend, bnb
from sftlib.model.backend.selftest import self_test

bitsandbytes = pytest.importorskip("bitsandbytes")
QLORA, LORA = Backend("bnb", "bnb", "qlora", ""), Backend("plain", "plain", "lora", "")


@pytest.mark.parametrize("precision", [BF16, FP32], ids=lambda precision: precision.name)
@pytest.mark.parametrize("backend", [QLORA, LORA], ids=lambda backend: backend.mode)
def test_what_is_right_passes(backend, precision) -> None:
    assert f"products in {precision.name} are right" in self_test(backend, precision, CPU)


def refuse(backend: Backend, precision, code: str, words: str) -> None:
    with pytest.raises(MachineError, match=words) as caught:
        self_test(backend, precision, CPU)
    assert caught.value.code == code


def test_a_4_bit_product_that_is_off_by_a_tenth(monkeypatch) -> None:
    right = bitsandbytes.matmul_4bit
    monkeypatch.setattr(bitsandbytes, "matmul_4bit", lambda *given, **named: right(*given, **named) * 1.1)
    refuse(QLORA, BF16, "E407", "are wrong: by 10.* % of their size; rounding explains 3.1 %")


def test_a_kernel_that_is_not_there(monkeypatch) -> None:
    def missing(*given, **named):
        raise RuntimeError("CUDA error: no kernel image is available\nlong text")

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", missing)
    refuse(QLORA, BF16, "E407", r"fail on test CPU: CUDA error: no kernel image is available\n")


def test_a_weight_that_comes_out_of_its_4_bits_as_another(monkeypatch) -> None:
    right = bitsandbytes.functional.dequantize_4bit
    monkeypatch.setattr(bitsandbytes.functional, "dequantize_4bit", lambda *given: right(*given).roll(1, 0))
    refuse(QLORA, BF16, "E407", "NF4 explains 10.0 %")


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"), reason="the packing is that of CPUs with AVX512-BF16"
)
def test_a_weight_that_an_evaluation_repacks(monkeypatch) -> None:
    """What bnb.py switches off: after it the gradient is wrong, or not there."""
    monkeypatch.setattr(bnb, "keep_packing", lambda model: None)
    refuse(QLORA, BF16, "E407", "are wrong")


def test_a_16_bit_product_that_is_wrong_or_not_finite(monkeypatch) -> None:
    right = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: right(*given) * 1.01)
    refuse(LORA, FP32, "E408", "by 1.0 % of their size")
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: right(*given) * float("nan"))
    refuse(LORA, BF16, "E408", "not finite, or not there")


def test_a_gradient_that_is_wrong_while_the_output_is_right(monkeypatch) -> None:
    right = torch.nn.functional.linear

    def half(inputs, weight, bias=None):
        found = right(inputs, weight, bias)
        return found * 0.5 + found.detach() * 0.5

    monkeypatch.setattr(torch.nn.functional, "linear", half)
    refuse(LORA, FP32, "E408", "by 50.0 % of their size")


def test_a_4_bit_gradient_that_is_wrong_while_the_output_is_right(monkeypatch) -> None:
    right = bitsandbytes.matmul_4bit

    def half(*given, **named):
        found = right(*given, **named)
        return found * 0.5 + found.detach() * 0.5

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", half)
    refuse(QLORA, FP32, "E407", "by 50.0 % of their size")
