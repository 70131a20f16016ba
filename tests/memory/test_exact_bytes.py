"""Exact terms are equal to what is allocated when the model is loaded through our own backends, in every family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memory_parts import CPU, FAMILIES, SIZES, check_held_bytes, held_bytes, load, make

from sftlib.config.schema import LoraSection
from sftlib.errors import ModelError
from sftlib.memory.estimate import Setup, weight_bytes
from sftlib.memory.shape import Trained, adapter_bytes, nf4_bytes, optimizer_bytes, plain_bytes, quantised_bytes
from sftlib.model.blueprint import read_blueprint
from sftlib.model.streaming import stream_layers

TIED = ("qwen3", "gemma2", "gemma3_text")  # as most published models of these families


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_adapter_and_buffers_are_equal_to_the_byte(family: str, tmp_path: Path) -> None:
    check_held_bytes(make(family, tmp_path, tie_word_embeddings=family in TIED))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_with_streamed_layers_it_is_two_of_them_to_the_byte(family: str, mode: str, tmp_path: Path) -> None:
    model, shape = load(make(family, tmp_path, num_hidden_layers=4), mode, "bf16")
    setup = Setup(
        mode=mode, rank=4, dropout=False, optim="adamw_torch", checkpointing=True, width=2, rows=1, length=8,
        accumulates=False, answer_rows=0, eval_rows=1, eval_tokens=1, logits_bytes=2**20,
        softmax_bytes=2**20, device="cpu", stream=True,
    )  # fmt: skip
    resident = held_bytes(model)
    stream = stream_layers(model, CPU)
    terms = weight_bytes(shape, setup, mode)
    assert terms["layer buffers"] == stream.device_bytes
    assert held_bytes(model) == sum(terms.values()) < resident
    assert sum(weight_bytes(shape, replace(setup, stream=False), mode).values()) == resident


def test_the_vision_tower_of_gemma_3_is_counted_and_its_blocks_are_not_the_decoder_s(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, Gemma3Config

    text = {key: value for key, value in SIZES.items() if key != "tie_word_embeddings"} | {"head_dim": 16}
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    model, shape = load(tmp_path, "qlora", "bf16")
    assert (shape.family, shape.layers) == ("gemma3_text", 2)
    assert [linear.leaf for linear in shape.block] == [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    ]  # fmt: skip
    held = plain_bytes(shape, "qlora", 2) + quantised_bytes(shape) + adapter_bytes(shape, 4)
    assert held_bytes(model) == held


def test_nf4_by_hand() -> None:
    # 128 numbers: 64 bytes packed, 2 scales, a scale of scales in 4 bytes, 4 of offset, 16 + 256 table entries of 4
    assert nf4_bytes(128) == 64 + 2 + 4 + 4 + 1088
    assert nf4_bytes(129) == 65 + 3 + 4 + 4 + 1088
    assert nf4_bytes(64 * 257) == 64 * 257 // 2 + 257 + 2 * 4 + 4 + 1088


def test_the_adapter_goes_where_it_is_attached(tmp_path: Path) -> None:
    folder = make("llama", tmp_path)
    _, shape = load(folder, "lora", "bf16", targets="attn")
    assert sorted({linear.leaf for linear in shape.targets}) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    # r (in + out) x 4 bytes: q and o 64 -> 64, k and v 64 -> 32, two blocks
    assert adapter_bytes(shape, 4) == 2 * 4 * 4 * (128 + 128 + 96 + 96)


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "adamw_8bit", "paged_adamw_8bit",
                                   "paged_adamw_32bit"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_optimizer_state_is_equal_to_the_byte(mode: str, optim: str, tmp_path: Path) -> None:
    from bitsandbytes.optim import GlobalOptimManager
    from transformers import Trainer, TrainingArguments

    # It remembers parameters by their address, and a later test may get one of an earlier model.
    GlobalOptimManager.get_instance().initialize()
    model, shape = load(make("llama", tmp_path, vocab_size=2048), mode, "fp32", rank=80)
    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), optim=optim, report_to="none", use_cpu=True)
    optimizer = Trainer(model=model, args=arguments).create_optimizer()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    held = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
    assert sum(optimizer_bytes(shape.trained_tensors(mode, 80), optim)) == held


def test_only_large_state_is_paged() -> None:
    tensors = [Trained((400, 250)), Trained((333, 300)), Trained((64,))]  # 100,000, 99,900 and 64 numbers
    assert optimizer_bytes(tensors, "paged_adamw_32bit") == (8 * (99_900 + 64), 8 * 100_000)
    own, paged = optimizer_bytes(tensors, "paged_adamw_8bit")
    assert paged == 2 * 100_000
    assert own == 8 * 391 + 2 * 99_900 + 8 * 391 + 8 * 64 + 2048  # scales a 256, small ones in 32 bits, two tables


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture-of-experts model (mixtral, 8 experts)"),
        ({"model_type": "qwen3_moe", "num_experts": 128}, "mixture-of-experts model (qwen3_moe, 128 experts)"),
        ({"model_type": "bloom"}, "a `bloom` model keeps in memory is not known"),
        ({}, "a `nameless` model"),
    ],
)
def test_what_is_not_known_is_refused_with_words(numbers: dict, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(numbers))
    with pytest.raises(ModelError) as caught:
        read_blueprint(tmp_path / "config.json", LoraSection(), "auto")
    assert words in str(caught.value)
    assert "llama" in caught.value.expected
    assert caught.value.exit_code == 6


def test_a_dense_model_that_says_it_has_no_experts_is_known(tmp_path: Path) -> None:
    folder = make("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"num_experts": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_blueprint(folder / "config.json", LoraSection(), "auto").family == "llama"


def test_sizes_that_do_not_go_together_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_act": "no-such-activation"}))
    with pytest.raises(ModelError, match="transformers cannot build this model"):
        read_blueprint(tmp_path / "config.json", LoraSection(), "auto")


def test_no_weight_is_read(tmp_path: Path) -> None:
    folder = make("llama", tmp_path)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    assert read_blueprint(folder / "config.json", LoraSection(), "auto").layers == 2
