"""Tiny models of four families, rows of random tokens and settings of a few steps, for the tests of the learn room."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sftlib.config.schema import TrainSection
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example

VOCABULARY, PAD = 64, 0
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": PAD,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def llama(seed: int = 0, **changes: Any) -> nn.Module:
    """A random Llama of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(**SIZES | {"tie_word_embeddings": False, "attn_implementation": "sdpa"} | changes)
    )


def family(name: str) -> nn.Module:
    """A random model whose logits are capped (gemma2), multiplied (cohere) or divided (granite); or plain (llama)."""
    from transformers import (
        CohereConfig,
        CohereForCausalLM,
        Gemma2Config,
        Gemma2ForCausalLM,
        GraniteConfig,
        GraniteForCausalLM,
    )

    torch.manual_seed(0)
    if name == "llama":
        return llama()
    if name == "gemma2":  # a cap near the size of random logits, so that leaving it out shows
        return Gemma2ForCausalLM(
            Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.1, query_pre_attn_scalar=8)
        )
    if name == "cohere":
        return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.25))
    return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0))


def with_lora(model: nn.Module, targets: list[str] | None = None, dropout: float = 0.0, seed: int = 1) -> nn.Module:
    """The model with a rank-4 adapter on the attention, or on `targets`."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, target_modules=targets or ["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def make_rows(count: int, seed: int = 0) -> ExampleDataset:
    """Rows of 4 to 20 tokens, of which 1 to all but the first are supervised."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    examples = []
    for row in range(count):
        length = draw(4, 21)
        ids = [draw(3, VOCABULARY) for _ in range(length)]
        begin = draw(1, length)
        examples.append(Example(ids, [-100] * begin + ids[begin:], f"raw.jsonl:{row + 1}", True))
    return ExampleDataset(examples)


def train_section(**changes: Any) -> TrainSection:
    """Settled settings for a training of a few steps, without evaluation."""
    settings = {
        "epochs": 2.0, "learning_rate": 1e-2, "lr_scheduler_type": "linear", "warmup_ratio": 0.0, "batch_size": 4,
        "grad_accum": 1, "effective_batch_size": None, "gradient_checkpointing": False,
        "activation_offload": False, "stream_layers": False, "optim": "adamw_torch", "bf16": False, "fp16": False,
        "packing": False,
        "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False,
    }  # fmt: skip
    return TrainSection(**settings | changes)
