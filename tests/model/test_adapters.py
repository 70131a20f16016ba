"""Adapters: the layers that get one, equal seeds, float32, checkpointing, and loading back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_parts import BF16, FP32, load
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, OPTConfig, Phi3Config

from sftlib.config.schema import LoraSection
from sftlib.errors import ConfigError, MixError, ModelError
from sftlib.model.adapters import (
    attach_adapter,
    enable_gradient_checkpointing,
    find_target_modules,
    load_adapter,
    lora_pairs,
    read_adapter_info,
)

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
OPT = {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]


def make(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("config", "spec", "expected"),
    [
        (LlamaConfig(**SMALL), "attn", ATTENTION),
        (LlamaConfig(**SMALL), "attn_mlp", LINEAR),
        (LlamaConfig(**SMALL), "auto", LINEAR),
        (Phi3Config(**SMALL, pad_token_id=0), "attn", ["o_proj", "qkv_proj"]),
        (Phi3Config(**SMALL, pad_token_id=0), "all-linear", ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
        (LlamaConfig(**SMALL), ["q_proj", "mlp.up_proj"], ["q_proj", "up_proj"]),
        (LlamaConfig(**SMALL), ["0.self_attn.q_proj"], ["model.layers.0.self_attn.q_proj"]),
        (GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64), "all-linear", ["c_attn", "c_fc", "c_proj"]),
        (
            OPTConfig(**OPT, word_embed_proj_dim=16),
            "attn_mlp", ["fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj"],
        ),
        (
            OPTConfig(**OPT, word_embed_proj_dim=16),
            "all-linear", ["fc1", "fc2", "k_proj", "out_proj", "project_in", "project_out", "q_proj", "v_proj"],
        ),
    ],
)  # fmt: skip
def test_targets(config, spec, expected):
    assert find_target_modules(make(config), spec) == expected


def test_gpt2_attention_needs_whole_paths():
    """`c_proj` ends attention and MLP alike, so the ending alone would pick too much."""
    targets = find_target_modules(make(GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=64)), "attn")
    assert targets == ["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"]


def test_routers_are_left_out_of_attn_mlp():
    model = make(MixtralConfig(**SMALL, num_local_experts=2, num_key_value_heads=2))
    assert "gate" not in find_target_modules(model, "attn_mlp")


def test_the_head_is_never_chosen_by_a_word():
    for spec in ("attn", "attn_mlp", "all-linear", "auto"):
        assert not any("lm_head" in t for t in find_target_modules(make(LlamaConfig(**SMALL)), spec))


def test_unknown_ending_names_near_ones():
    with pytest.raises(ConfigError) as caught:
        find_target_modules(make(LlamaConfig(**SMALL)), ["q_proj", "qproj"])
    assert "`qproj`" in caught.value.seen
    assert "q_proj" in caught.value.expected
    assert caught.value.where == "tuning.lora.target_modules"


def test_a_layer_that_is_not_linear_is_refused():
    with pytest.raises(ConfigError, match="norm"):
        find_target_modules(make(LlamaConfig(**SMALL)), ["norm"])


def test_tied_head_is_refused_and_a_free_one_allowed():
    with pytest.raises(ConfigError, match="shares its weight"):
        find_target_modules(make(LlamaConfig(**SMALL, tie_word_embeddings=True)), ["lm_head"])
    assert find_target_modules(make(LlamaConfig(**SMALL, tie_word_embeddings=False)), ["lm_head"]) == ["lm_head"]


def attach(folder: Path, seed: int = 3, precision=BF16, **settings):
    return attach_adapter(load(folder, precision, training=True), LoraSection(**{"r": 4, **settings}), seed=seed)


def trainable(model) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def test_equal_seeds_make_equal_adapters(tiny_model: Path):
    first = trainable(attach(tiny_model))
    torch.rand(7)  # the global generator has moved on
    second, other = trainable(attach(tiny_model)), trainable(attach(tiny_model, seed=4))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in first.items())


def test_attaching_leaves_the_global_generator_alone(tiny_model: Path):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    attach(tiny_model)
    assert torch.equal(torch.rand(3), expected)


def test_adapter_is_float32_on_a_frozen_16_bit_base(tiny_model: Path):
    model = attach(tiny_model)
    names = trainable(model)
    assert all("lora_" in name for name in names)
    assert {weight.dtype for weight in names.values()} == {torch.float32}
    assert {w.dtype for n, w in model.named_parameters() if n not in names} == {torch.bfloat16}
    # by hand, rank 4: q 32+32, k and v 32+16, o 32+32, gate and up 32+64, down 64+32; two blocks
    assert sum(w.numel() for w in names.values()) == 4 * 2 * (64 + 48 + 48 + 64 + 96 + 96 + 96)


def test_a_fresh_adapter_changes_nothing(tiny_model: Path):
    ids = torch.arange(4, 20).reshape(1, 16)
    base = load(tiny_model)
    expected = base(input_ids=ids).logits
    assert torch.equal(attach_adapter(base, LoraSection(r=4), seed=0).eval()(input_ids=ids).logits, expected)


def test_the_trainable_count_is_said(tiny_model: Path, capsys):
    attach(tiny_model)
    assert "14 linear layers" in capsys.readouterr().err


@pytest.mark.parametrize("precision", [BF16, FP32])
def test_checkpointing_changes_no_gradient(tiny_model: Path, precision):
    def gradients(is_checkpointed: bool) -> dict[str, torch.Tensor]:
        model = attach(tiny_model, precision=precision)
        torch.manual_seed(0)
        for name, weight in trainable(model).items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        if is_checkpointed:
            enable_gradient_checkpointing(model)
            assert model.is_gradient_checkpointing
        model.train()
        ids = torch.arange(4, 36).reshape(2, 16)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is BF16):
            model(input_ids=ids, labels=ids).loss.backward()
        return {name: weight.grad for name, weight in trainable(model).items()}

    plain, checkpointed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        assert torch.equal(gradient, checkpointed[name]), name
        assert gradient.abs().sum() > 0, name


def test_no_input_is_cast_to_float32_under_autocast_and_every_bit_stays(tiny_model: Path):
    def gradients(is_cast: bool) -> tuple[dict[str, torch.Tensor], int]:
        model = attach(tiny_model, dropout=1e-9).train()  # which is what makes layers go peft's own way
        torch.manual_seed(0)
        for name, weight in trainable(model).items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        if is_cast:
            for layer in model.modules():
                vars(layer).pop("cast_input_dtype_enabled", None)  # peft's own again
        upcasts = 0

        class Count(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                nonlocal upcasts
                is_cast = func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.float32
                upcasts += is_cast and args[0].dtype is torch.bfloat16 and args[0].ndim == 3
                return func(*args, **kwargs or {})

        ids = torch.arange(4, 36).reshape(2, 16)
        with Count(), torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return {name: weight.grad for name, weight in trainable(model).items()}, upcasts

    (with_casts, many), (without, few) = gradients(True), gradients(False)
    assert many - few == 14  # the linear layers of two blocks
    assert all(torch.equal(gradient, with_casts[name]) for name, gradient in without.items())


def test_without_autocast_an_adapter_with_dropout_still_computes_in_float32(tiny_model: Path):
    model = attach(tiny_model, dropout=1e-9).train()
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(1, 3, 32).bfloat16()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (layer.base_layer(x) + (x.float() @ a.T @ b.T) * layer.scaling["default"]).bfloat16()
    assert torch.equal(layer(x), expected)


def test_saved_adapter_loads_back(stored, make_adapter):
    folder = make_adapter()
    ids = torch.arange(4, 20).reshape(1, 16)
    tuned = load_adapter(load(stored.folder), folder)
    with torch.no_grad():
        adapted, base = tuned(input_ids=ids).logits, load(stored.folder)(input_ids=ids).logits
    assert not torch.allclose(adapted, base, atol=0.05)
    assert not trainable(tuned)
    assert trainable(load_adapter(load(stored.folder), folder, trainable=True))


@pytest.mark.parametrize(("use_rslora", "scaling"), [(False, 2.0), (True, 4.0)])
def test_info(make_adapter, use_rslora, scaling):
    info = read_adapter_info(make_adapter(use_rslora=use_rslora, target_modules="attn"))
    assert (info.r, info.alpha, info.scaling) == (4, 8, scaling)  # 8 / 4 and 8 / sqrt(4)
    assert info.base_name == "pip:tiny"
    assert info.target_modules == tuple(ATTENTION)


def test_missing_adapter_names_make_train(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        read_adapter_info(tmp_path / "none")
    assert "make train" in caught.value.cure
    assert "does not exist" in caught.value.seen


def test_pickled_adapter_is_refused(make_adapter):
    folder = make_adapter()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        read_adapter_info(folder)


def test_adapter_of_another_shape(make_adapter, tmp_path: Path):
    folder = make_adapter()
    with torch.device("cpu"):
        other = AutoModelForCausalLM.from_config(
            LlamaConfig(**SMALL | {"intermediate_size": 96}, num_key_value_heads=2)
        )
    with pytest.raises(MixError, match=r"another base.*32 -> 96 in the base and 32 -> 64|another base.*96 -> 32"):
        load_adapter(other, folder)


def test_only_lora_pairs():
    pair = [f"base_model.model.lm_head.lora_{x}.weight" for x in "AB"]
    assert lora_pairs(pair) == {"lm_head": tuple(pair)}
    for odd in ("base_model.model.lm_head.lora_magnitude_vector", "base_model.model.lm_head.modules_to_save.weight"):
        with pytest.raises(ModelError, match="lm_head"):
            lora_pairs([*pair, odd])
    with pytest.raises(ModelError):
        lora_pairs(pair[:1])


def test_config_keeps_no_path_of_this_machine(make_adapter, tmp_path: Path):
    folder = make_adapter()
    assert str(tmp_path) not in (folder / "adapter_config.json").read_text()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "pip:tiny"
