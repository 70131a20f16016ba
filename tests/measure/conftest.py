"""A tiny speaker: random Llama, byte-level tokenizer, ChatML. What it says means nothing, but differs by the prompt."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

PROMPTS = [
    "What is two plus two?",
    "a",
    "Where does the sun rise? " * 6,
    "How many days has a week?",
    "system user assistant",
    "The answer is in the question. " * 3,
    "Step 1: look at the numbers.",
    "?",
]


@pytest.fixture(scope="session")
def speaker(tiny_model: Path) -> SimpleNamespace:
    """What build.load_tuned_model gives: model (fp32), tokenizer, template, stop ids and a name."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sftlib.chat.model_files import read_model_template
    from sftlib.chat.templates import choose_template

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as it is initialised it repeats one token for ever
        for weight in model.model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.5, generator=draw)
        head = torch.randn(model.lm_head.weight.shape, generator=draw)
        head[len(tokenizer) :] = 0  # ids without a text
    model.lm_head.weight = torch.nn.Parameter(head)
    return SimpleNamespace(
        model=model, tokenizer=tokenizer, stop_ids=[2], name="tiny",
        template=choose_template("auto", *read_model_template(tiny_model)),
    )  # fmt: skip


@pytest.fixture
def prompts() -> list[str]:
    """Eight prompts of different lengths, rendered."""
    return [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in PROMPTS]
