"""The suggested rates, against the published rule computed by hand."""

from __future__ import annotations

import pytest

from sftlib.learn.rates import suggest_learning_rate


@pytest.mark.parametrize(
    ("config", "mode", "rate"),
    [
        ({"hidden_size": 2000}, "lora", 5e-4),
        ({"hidden_size": 2000}, "full", 5e-5),
        ({"hidden_size": 4096}, "qlora", 2.9e-4),  # 5e-4 * 0.571
        ({"hidden_size": 2048}, "qlora", 4.9e-4),
        ({"hidden_size": 576}, "lora", 1.3e-3),
        ({"text_config": {"hidden_size": 2000}, "vision_config": {"hidden_size": 9}}, "lora", 5e-4),
        ({"n_embd": 2000}, "lora", 5e-4),
        ({}, "lora", 2.9e-4),
    ],
)
def test_rates(config, mode, rate):
    assert suggest_learning_rate(config, mode) == pytest.approx(rate)
