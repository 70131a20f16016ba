"""Tuned folders: complete, movable, offline, refusing NaN and other bases, and never answered for by the base."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_parts import BF16, FP32, load
from safetensors.torch import load_file, save_file
from tiny import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftlib.config.schema import LoraSection
from sftlib.errors import MixError, ModelError, TrainingError
from sftlib.model.adapters import attach_adapter
from sftlib.model.base import describe_base
from sftlib.model.tokenizer import load_tokenizer
from sftlib.model.tuned import load_tuned, save_tuned

IDS = torch.arange(4, 24).reshape(1, 20)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_adapter_folder_is_complete(make_adapter):
    assert sorted(file.name for file in make_adapter().iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "base.json", "chat_template.jinja",
        "generation_config.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_adapter_comes_back_the_same_after_a_move(stored, make_adapter, tmp_path: Path, no_network: None, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    saved = make_adapter()
    before = logits(load_tuned(saved, load, stored).model)
    moved = tmp_path / "elsewhere" / "adapter"
    shutil.move(saved, moved)
    shutil.move(stored.folder, tmp_path / "elsewhere" / "base")
    tuned = load_tuned(moved, load, replace(stored, folder=tmp_path / "elsewhere" / "base"))
    assert tuned.is_adapter
    assert not tuned.model.training
    assert torch.equal(logits(tuned.model), before)
    assert not torch.allclose(before, logits(load(tmp_path / "elsewhere" / "base")), atol=0.01)


def test_saving_opens_no_socket(make_adapter, no_network: None, monkeypatch):
    """peft asks the hub about a base that is no local folder, unless it is told what it wants to know."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    make_adapter()


def test_the_template_and_the_stops_come_with_it(stored, make_adapter, template):
    tuned = load_tuned(make_adapter(), load, stored)
    assert tuned.template == template.source
    assert tuned.stop_ids == (2,)
    assert tuned.model.generation_config.eos_token_id == [2]
    settings = json.loads((make_adapter("second") / "generation_config.json").read_text())
    assert (settings["eos_token_id"], settings["pad_token_id"]) == ([2], 3)


def test_plain_transformers_and_peft_load_it(stored, make_adapter):
    from peft import PeftModel

    folder = make_adapter()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(stored.folder), folder).eval()
    assert torch.equal(logits(theirs), logits(load_tuned(folder, load, stored).model))
    assert AutoTokenizer.from_pretrained(folder).chat_template.startswith("{% for message")


def test_missing_adapter(stored, tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        load_tuned(tmp_path / "none", load, stored)
    assert "make train" in caught.value.cure


def test_an_emptied_adapter_is_not_the_base(stored, make_adapter):
    folder = make_adapter()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load_tuned(folder, load, stored)


def test_adapter_without_a_base(make_adapter):
    with pytest.raises(ModelError, match="needs its base"):
        load_tuned(make_adapter(), load)


def test_other_base_of_the_same_shape(stored, make_adapter, tmp_path: Path):
    other = replace(stored, folder=make_model(tmp_path / "other", seed=9))
    with pytest.raises(MixError, match="the weights differ"):
        load_tuned(make_adapter(), load, other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_weights_are_never_saved(stored, template, tmp_path: Path, bad):
    model = attach_adapter(load(stored.folder), LoraSection(r=2), seed=0)
    with torch.no_grad():
        next(w for n, w in model.named_parameters() if "lora_B" in n)[0, 0] = bad
    with pytest.raises(TrainingError, match="lora_B"):
        save(tmp_path / "run", model, stored, template)
    assert not (tmp_path / "run").exists()


def save(folder: Path, model, stored, template, **options) -> None:
    save_tuned(
        folder, model, load_tokenizer(stored.folder), template, base=describe_base(stored), stop_ids=[2], **options
    )


def test_never_overwritten_unless_told(stored, template, make_adapter):
    folder = make_adapter()
    model = attach_adapter(load(stored.folder), LoraSection(r=2), seed=0)
    with pytest.raises(MixError, match="never overwritten"):
        save(folder, model, stored, template)
    save(folder, model, stored, template, replace=True)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_full_model_is_saved_in_16_bit_and_reloads_alone(stored, template, tmp_path: Path):
    model = load(stored.folder, BF16, mode="full", training=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    save(tmp_path / "full", model, stored, template)
    weights = load_file(tmp_path / "full" / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in weights  # tied: stored once
    config = json.loads((tmp_path / "full" / "config.json").read_text())
    assert (config["dtype"], config["use_cache"]) == ("bfloat16", True)
    assert str(tmp_path) not in (tmp_path / "full" / "config.json").read_text()
    shutil.rmtree(stored.folder)
    tuned = load_tuned(tmp_path / "full", load)
    assert not tuned.is_adapter
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    assert torch.equal(logits(tuned.model), logits(model.eval()))


def test_untied_full_model_keeps_both_ends(template, stored, tmp_path: Path):
    base = replace(stored, folder=make_model(tmp_path / "untied", tie=False))
    save(tmp_path / "full", load(base.folder, FP32, mode="full"), base, template, dtype=torch.float32)
    before, after = (load_file(f / "model.safetensors") for f in (base.folder, tmp_path / "full"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_broken_generation_config_of_the_base_is_no_obstacle(stored, template, tmp_path: Path):
    """Some well-known models ship a temperature without do_sample, which transformers refuses to save."""
    model = attach_adapter(load(stored.folder), LoraSection(r=2), seed=0)
    model.generation_config.temperature, model.generation_config.do_sample = 0.6, False
    save(tmp_path / "run", model, stored, template)
    assert json.loads((tmp_path / "run" / "generation_config.json").read_text())["eos_token_id"] == [2]


def test_an_adapter_from_elsewhere_without_a_tokenizer(stored, make_adapter, capsys):
    folder = make_adapter()
    for name in (
        "base.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        (folder / name).unlink()
    tuned = load_tuned(folder, load, stored)
    assert tuned.template is None
    assert tuned.stop_ids == (2,)
    assert "does not say on which weights" in " ".join(capsys.readouterr().err.split())


def test_a_file_of_the_adapter_changed_by_hand(stored, make_adapter):
    folder = make_adapter()
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_B" in name)
    save_file({**weights, name: weights[name][:-1].contiguous()}, folder / "adapter_model.safetensors")
    with pytest.raises(MixError, match="another base"):
        load_tuned(folder, load, stored)
