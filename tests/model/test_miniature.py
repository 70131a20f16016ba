"""A miniature has the architecture of its model in every family, and speaks with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from sftlib.errors import ModelError
from sftlib.files import read_json, write_json
from sftlib.model.miniature import shrink, write_miniature

LONG = {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
PUBLISHED: dict[str, dict[str, Any]] = {  # the numbers of config.json on the hub, a vocabulary of 512 apart
    "SmolLM2-135M": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True, "rope_theta": 100000,
    },
    "Llama-3.2-1B": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3",
            "original_max_position_embeddings": 8192,
        },
    },
    "Qwen2.5-0.5B": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "max_window_layers": 21, "use_sliding_window": False,
        "sliding_window": 32768,
    },
    "Qwen3-0.6B": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    },
    "Mistral-7B": {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": 4096,
    },
    "SmolLM3-3B": {
        "model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 4, "no_rope_layers": [1, 1, 1, 0] * 9,
        "layer_types": ["full_attention"] * 36,
    },
    "Gemma-2-2B": {
        "model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
    },
    "Gemma-3-1B": {
        "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 512, "layer_types": [*(["sliding_attention"] * 5 + ["full_attention"]) * 4,
        *["sliding_attention"] * 2],
    },
    "Phi-2": {
        "model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": None, "partial_rotary_factor": 0.4,
    },
    "Phi-3-mini-128k": {
        "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "sliding_window": 262144, "rope_scaling": LONG,
        "original_max_position_embeddings": 64, "max_position_embeddings": 131072,
    },
}  # fmt: skip
# heads, heads of the keys, layers
SHAPES = {
    "SmolLM2-135M": (6, 2, 2), "Llama-3.2-1B": (8, 2, 2), "Qwen2.5-0.5B": (14, 2, 2), "Qwen3-0.6B": (4, 2, 2),
    "Mistral-7B": (8, 2, 2), "SmolLM3-3B": (8, 2, 4), "Gemma-2-2B": (4, 2, 2), "Gemma-3-1B": (4, 1, 6), "Phi-2": (2, 2,
    2),
    "Phi-3-mini-128k": (2, 2, 2),
}  # fmt: skip


def described(folder: Path, numbers: dict[str, Any], tokenizer: Path) -> Path:
    folder.mkdir()
    write_json(
        folder / "config.json", {"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3} | numbers
    )
    for file in tokenizer.iterdir():
        if file.name.startswith(("tokenizer", "chat_template")):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_miniature_of_every_family_speaks(name: str, tmp_path: Path, tiny_model: Path) -> None:
    source = described(tmp_path / "source", PUBLISHED[name], tiny_model)
    folder = write_miniature(source, tmp_path / "small", seed=1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.num_hidden_layers) == SHAPES[name]
    assert config.model_type == PUBLISHED[name]["model_type"]
    assert model.num_parameters() < 3_000_000
    ids = torch.arange(4, 104)[None]  # longer than the sliding window, and than Phi-3's original length
    assert torch.isfinite(model(ids).logits).all()
    assert model.generate(ids[:, :5], max_new_tokens=3, do_sample=False).shape[1] <= 8
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / file).read_bytes() == (source / file).read_bytes()


def test_every_kind_of_layer_is_kept_and_slides() -> None:
    small = shrink(PUBLISHED["Gemma-3-1B"])
    assert small["layer_types"] == ["sliding_attention"] * 5 + ["full_attention"]
    assert small["sliding_window"] == 32
    assert shrink(PUBLISHED["SmolLM3-3B"])["no_rope_layers"] == [1, 1, 1, 0]


def test_sizes_keep_their_relations() -> None:
    small = shrink(PUBLISHED["SmolLM2-135M"])
    assert (small["hidden_size"], small["intermediate_size"]) == (96, 256)  # 6 heads of 16; 1536 / 576 of that
    assert "head_dim" not in small  # where the config leaves it to hidden_size / heads, it is left there
    wide = shrink(PUBLISHED["Gemma-2-2B"])
    assert (wide["hidden_size"], wide["head_dim"], wide["query_pre_attn_scalar"]) == (
        80,
        16,
        16,
    )  # 2304 is 9/8 of 8 x 256
    assert shrink(PUBLISHED["Phi-3-mini-128k"])["rope_scaling"]["long_factor"] == [2.0] * 8


def test_a_model_with_eyes_is_made_small_as_a_whole(tmp_path: Path, tiny_model: Path) -> None:
    text = PUBLISHED["Gemma-3-1B"] | {"vocab_size": 512}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16, "image_size": 28, "patch_size": 14}  # fmt: skip
    numbers = {"model_type": "gemma3", "text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    folder = write_miniature(described(tmp_path / "source", numbers, tiny_model), tmp_path / "small", seed=1)
    assert read_json(folder / "config.json")["vision_config"]["num_hidden_layers"] == 1
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() < 3_000_000


def test_two_miniatures_are_equal_and_what_was_quantised_is_not(tmp_path: Path, tiny_model: Path) -> None:
    numbers = PUBLISHED["SmolLM2-135M"] | {"quantization_config": {"quant_method": "bitsandbytes"}}
    source = described(tmp_path / "source", numbers, tiny_model)
    weights = [(write_miniature(source, tmp_path / n, 7) / "model.safetensors").read_bytes() for n in ("a", "b")]
    assert weights[0] == weights[1]
    assert "quantization_config" not in read_json(tmp_path / "a" / "config.json")


@pytest.mark.parametrize("numbers", [{"model_type": "no-such"}, {"model_type": "t5"}, {}])
def test_what_transformers_does_not_know_is_refused_with_words(numbers, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="No small copy of this"):
        write_miniature(described(tmp_path / "source", numbers, tiny_model), tmp_path / "small", seed=1)
