"""Precision: each device's `auto`, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
from model_parts import A100, CPU, T4

from sftlib.errors import ConfigError
from sftlib.model.precision import choose_precision

OLD_CPU = dataclasses.replace(CPU, has_bf16=False)


@pytest.mark.parametrize(
    ("bf16", "fp16", "device", "name"),
    [
        ("auto", "auto", A100, "bf16"),
        ("auto", "auto", T4, "fp16"),
        ("auto", "auto", CPU, "bf16"),
        ("auto", "auto", OLD_CPU, "fp32"),
        (False, "auto", A100, "fp32"),
        (False, "auto", T4, "fp16"),
        ("auto", False, T4, "fp32"),
        (False, False, A100, "fp32"),
        (True, "auto", A100, "bf16"),
        (True, False, OLD_CPU, "bf16"),
        ("auto", True, A100, "fp16"),
        (False, True, T4, "fp16"),
    ],
)
def test_choice(bf16, fp16, device, name):
    precision = choose_precision(bf16, fp16, device)
    assert precision.name == name
    assert str(precision.dtype) == {"bf16": "torch.bfloat16", "fp16": "torch.float16", "fp32": "torch.float32"}[name]
    assert precision.reason


@pytest.mark.parametrize(("bf16", "fp16", "device"), [(True, True, A100), (True, False, T4), (False, True, CPU)])
def test_refused(bf16, fp16, device):
    with pytest.raises(ConfigError) as caught:
        choose_precision(bf16, fp16, device)
    assert caught.value.cure
    assert caught.value.where.startswith("train.")
