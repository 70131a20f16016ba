"""Backends: what is chosen and why, dtypes truly as asked, and 4-bit gradients that an evaluation does not spoil."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_parts import A100, BF16, CPU, FP32, load

from sftlib.config.schema import LoraSection, TuningSection
from sftlib.errors import ConfigError, MachineError, ModelError
from sftlib.model import backend
from sftlib.model.adapters import attach_adapter
from sftlib.model.backend import choose_backend

bnb = pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize(
    ("mode", "asked", "name"),
    [
        ("qlora", "auto", "bnb"), ("lora", "auto", "plain"), ("full", "auto", "plain"), ("lora", "plain", "plain"),
        ("qlora", "bnb", "bnb"), ("lora", "bnb", "bnb"), ("full", "bnb", "bnb"),
    ],
)  # fmt: skip
def test_choice(mode, asked, name):
    chosen = choose_backend(TuningSection(mode=mode, backend=asked), CPU)
    assert (chosen.name, chosen.asked, chosen.mode) == (name, asked, mode)
    assert bool(chosen.reason) == (asked == "auto")
    assert chosen.describe()["quantization"] == ("nf4" if mode == "qlora" else None)


def test_plain_has_no_4_bit():
    with pytest.raises(ConfigError, match="4-bit"):
        choose_backend(TuningSection(mode="qlora", backend="plain"), CPU)


def test_unsloth_falls_back_aloud(capsys):
    chosen = choose_backend(TuningSection(mode="qlora", backend="unsloth"), CPU)
    assert (chosen.name, chosen.asked) == ("bnb", "unsloth")
    assert "GPU" in chosen.reason
    assert chosen.reason in " ".join(capsys.readouterr().err.split())


def test_unsloth_missing_on_a_gpu(monkeypatch):
    find = backend.importlib.util.find_spec
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None if name == "unsloth" else find(name))
    chosen = choose_backend(TuningSection(mode="lora", backend="unsloth"), A100)
    assert (chosen.name, chosen.reason) == ("plain", "unsloth is not installed (make install-unsloth)")


def test_no_fallback_is_an_error():
    with pytest.raises(MachineError, match="unsloth"):
        choose_backend(TuningSection(mode="qlora", backend="unsloth", backend_fallback=False), CPU)


def test_missing_bitsandbytes_names_the_command(monkeypatch):
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        choose_backend(TuningSection(mode="qlora", backend="bnb"), CPU)
    assert "pip install bitsandbytes" in caught.value.cure


@pytest.mark.parametrize("precision", [BF16, FP32])
@pytest.mark.parametrize("training", [True, False])
def test_lora_base_has_the_dtype_asked_for(tiny_model: Path, precision, training):
    model = load(tiny_model, precision, training=training)
    assert {p.dtype for p in model.parameters()} == {precision.dtype}
    assert model.config.use_cache is not training
    assert not model.training


def test_full_trains_float32_and_generates_in_the_precision(tiny_model: Path):
    assert {p.dtype for p in load(tiny_model, BF16, mode="full", training=True).parameters()} == {torch.float32}
    assert {p.dtype for p in load(tiny_model, BF16, mode="full", training=False).parameters()} == {torch.bfloat16}


def test_attention_as_asked(tiny_model: Path):
    chosen = choose_backend(TuningSection(mode="lora"), CPU)
    model = chosen.load_base(tiny_model, precision=FP32, device=CPU, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    assert load(tiny_model).config._attn_implementation == "short_rows"
    by_sdpa = chosen.load_base(tiny_model, precision=FP32, device=CPU, attn_implementation="sdpa")
    assert by_sdpa.config._attn_implementation == "sdpa"


def test_missing_attention_package(tiny_model: Path):
    chosen = choose_backend(TuningSection(mode="lora"), CPU)
    with pytest.raises((MachineError, ModelError)) as caught:
        chosen.load_base(tiny_model, precision=BF16, device=CPU, attn_implementation="flash_attention_2")
    assert "lash" in caught.value.seen


def test_missing_weights_are_refused(stored):
    from safetensors.torch import load_file, save_file

    file = stored.folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load(stored.folder)


def test_quantised_checkpoint_is_refused(stored):
    config = json.loads((stored.folder / "config.json").read_text())
    (stored.folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="gptq"):
        load(stored.folder)


def test_folder_without_a_model(tmp_path: Path):
    with pytest.raises(ModelError, match=r"config\.json"):
        load(tmp_path)


def test_loading_is_silent(tiny_model: Path, capfd):
    load(tiny_model)
    assert capfd.readouterr() == ("", "")


def load_4_bit(folder: Path, precision=BF16):
    chosen = choose_backend(TuningSection(mode="qlora"), CPU)
    return chosen.load_base(folder, precision=precision, device=CPU)


@pytest.mark.parametrize("precision", [BF16, FP32])
def test_4_bit_where_it_should_be(tiny_model: Path, precision):
    model = load_4_bit(tiny_model, precision)
    four_bit = {n for n, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)}
    assert len(four_bit) == 2 * 7  # two blocks of q, k, v, o, gate, up, down
    for name, module in model.named_modules():
        if name in four_bit:
            assert module.weight.dtype == torch.uint8
            assert module.compute_dtype == precision.dtype
            assert module.weight.quant_type == "nf4"
            assert module.weight.quant_state.nested
    rest = {n: p.dtype for n, p in model.named_parameters() if n.removesuffix(".weight") not in four_bit}
    assert "model.embed_tokens.weight" in rest
    assert set(rest.values()) == {precision.dtype}
    assert model.get_output_embeddings().weight.dtype == precision.dtype


def gradients(model) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad()
    ids = torch.arange(4, 36).reshape(2, 16)
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_4_bit_gradients_survive_an_evaluation(tiny_model: Path):
    model = attach_adapter(load_4_bit(tiny_model), LoraSection(r=4), seed=0)
    before = gradients(model)
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.arange(4, 20).reshape(1, 16))
    after = gradients(model)
    assert before.keys() == after.keys()
    assert sum(float(g.abs().sum()) for g in before.values()) > 0
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name
