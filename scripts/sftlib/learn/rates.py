"""The learning rate when the config leaves it open: by the width of the model and by what is trained.

In comes the model's config.json and the mode; out goes a peak rate. The rule is that of tinker-cookbook
(`hyperparam_utils.get_lr`) and of "LoRA Without Regret" (Thinking Machines Lab, 2025), with its exponent for Llama,
the more cautious one for wide models:

    5e-5 * (10 for an adapter, 1 for all weights) * (2000 / hidden size) ** 0.781
    suggest_learning_rate({"hidden_size": 4096}, "qlora")  ->  0.00029      8B
    suggest_learning_rate({"hidden_size": 576}, "lora")    ->  0.0013       135M

Worst bug: a rate at which training diverges or nothing is learnt (tests/learn/test_rates.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FULL_RATE, REFERENCE_WIDTH, EXPONENT = 5e-5, 2000, 0.781
ADAPTER_FACTOR = 10
UNKNOWN_WIDTH = 4096  # of a config that does not say: a cautious rate


def suggest_learning_rate(model_config: Mapping[str, Any], mode: str) -> float:
    """Peak rate, two digits. model_config: content of config.json, that of a multimodal model included."""
    text = model_config.get("text_config") or model_config
    width = text.get("hidden_size") or text.get("n_embd") or text.get("d_model") or UNKNOWN_WIDTH
    factor = 1 if mode == "full" else ADAPTER_FACTOR
    return float(f"{FULL_RATE * factor * (REFERENCE_WIDTH / width) ** EXPONENT:.1e}")
