"""Merging: equal to peft's own merge, in every shape a checkpoint may have, and refusing what it cannot do."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_parts import load
from safetensors.torch import load_file, save_file
from tiny import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftlib.errors import MixError, ModelError
from sftlib.model import merge
from sftlib.model.adapters import load_adapter
from sftlib.model.base import tensor_files
from sftlib.model.merge import merge_adapter

IDS = torch.arange(4, 24).reshape(1, 20)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: load_file(file)[name] for name, file in tensor_files(folder).items()}


def merged_by_peft(base_folder: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = load_adapter(load(base_folder), adapter).merge_and_unload()
    return model.state_dict()


def assert_equal_to_peft(merged: Path, base_folder: Path, adapter: Path, dtype: torch.dtype) -> None:
    ours, theirs = weights_of(merged), merged_by_peft(base_folder, adapter)
    base = weights_of(base_folder)
    assert ours.keys() == base.keys()
    changed = {name for name, weight in ours.items() if not torch.equal(weight, base[name].to(dtype))}
    assert len(changed) == 14
    for name, weight in ours.items():
        assert weight.dtype == dtype
        # peft scales B @ A before adding, we while adding: float32 may differ in the last place before the one rounding
        difference = (weight.double() - theirs[name].double()).abs()
        assert (difference <= torch.finfo(dtype).eps * theirs[name].abs().double() + 1e-7).all(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"r": 3, "alpha": 5}], ids=str)
def test_equals_peft(stored, make_adapter, tmp_path: Path, dtype, settings):
    adapter = make_adapter(**settings)
    merge_adapter(stored, adapter, tmp_path / "merged", dtype)
    assert_equal_to_peft(tmp_path / "merged", stored.folder, adapter, dtype)


def test_one_layer_by_hand(stored, make_adapter, tmp_path: Path):
    """W + alpha / r * B @ A with small numbers: r = 4, alpha = 8, so the update counts twice."""
    adapter = make_adapter(target_modules=["0.self_attn.k_proj"])
    weights = load_file(adapter / "adapter_model.safetensors")
    a, b = (next(n for n in weights if f"lora_{x}" in n) for x in "AB")
    weights[a], weights[b] = torch.zeros(4, 32), torch.zeros(16, 4)
    weights[a][1, 5], weights[b][7, 1] = 3.0, 0.5
    save_file(weights, adapter / "adapter_model.safetensors")
    merge_adapter(stored, adapter, tmp_path / "merged", torch.float32)
    difference = weights_of(tmp_path / "merged")["model.layers.0.self_attn.k_proj.weight"].double()
    difference -= weights_of(stored.folder)["model.layers.0.self_attn.k_proj.weight"].double()
    assert difference.nonzero().tolist() == [[7, 5]]
    assert difference[7, 5].item() == pytest.approx(2 * 3.0 * 0.5, abs=1e-6)


def test_sharded_base_and_sharded_output(stored, make_adapter, tmp_path: Path):
    adapter = make_adapter()
    (stored.folder / "model.safetensors").unlink()
    load(make_model(tmp_path / "again")).save_pretrained(stored.folder, max_shard_size="20KB")
    merge_adapter(stored, adapter, tmp_path / "merged", torch.float32, shard_bytes=10_000)
    files = set(tensor_files(tmp_path / "merged").values())
    assert len(files) > 5
    biggest = max(tensor.nbytes for tensor in weights_of(tmp_path / "merged").values())
    assert all(sum(t.nbytes for t in load_file(f).values()) <= max(10_000, biggest) for f in files)
    assert {f.name for f in files} == {f.name for f in (tmp_path / "merged").glob("*.safetensors")}
    assert_equal_to_peft(tmp_path / "merged", stored.folder, adapter, torch.float32)


def test_memory_is_bounded_by_a_shard(stored, make_adapter, tmp_path: Path, monkeypatch):
    """Of the base's tensors only those of the shard at hand are alive, and the one that is being folded."""
    adapter = make_adapter()
    refs: list[weakref.ref] = []
    alive: list[int] = []
    real = merge._tensors

    def watched(*args):
        for name, tensor in real(*args):
            if "embed_tokens" not in name:  # larger than all the others of this model
                refs.append(weakref.ref(tensor))
                alive.append(sum(one.nbytes for ref in refs if (one := ref()) is not None))
            yield name, tensor
            del tensor

    monkeypatch.setattr(merge, "_tensors", watched)
    merge_adapter(stored, adapter, tmp_path / "merged", torch.float32, shard_bytes=10_000)
    total = sum(t.nbytes for name, t in weights_of(stored.folder).items() if "embed_tokens" not in name)
    assert max(alive) <= 10_000 + 2 * 8_192  # a shard, the tensor that opens the next, the one before it
    assert total > 2 * max(alive)


def test_loads_with_plain_transformers(stored, make_adapter, tmp_path: Path, no_network: None):
    adapter = make_adapter()
    merge_adapter(stored, adapter, tmp_path / "merged", torch.bfloat16, shard_bytes=30_000)
    shutil.rmtree(stored.folder)
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == [2]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == (adapter / "chat_template.jinja").read_text()


def test_tied_embeddings_stay_tied_and_untouched(stored, make_adapter, tmp_path: Path):
    merge_adapter(stored, make_adapter(), tmp_path / "merged", torch.float32)
    after, before = weights_of(tmp_path / "merged"), weights_of(stored.folder)
    assert "lm_head.weight" not in after
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])


def test_an_adapted_head_is_untied(stored, make_adapter, tmp_path: Path):
    """peft's own merge would change the shared embedding, too, and with it the input of the model."""
    adapter = make_adapter()
    weights = load_file(adapter / "adapter_model.safetensors")
    torch.manual_seed(5)
    weights["base_model.model.lm_head.lora_A.weight"] = torch.randn(4, 32) * 0.1
    weights["base_model.model.lm_head.lora_B.weight"] = torch.randn(512, 4) * 0.1
    save_file(weights, adapter / "adapter_model.safetensors", {"format": "pt"})
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["target_modules"].append("lm_head")
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    merge_adapter(stored, adapter, tmp_path / "merged", torch.float32)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is False
    with torch.no_grad():
        expected = load_adapter(load(stored.folder), adapter)(input_ids=IDS).logits
        actual = load(tmp_path / "merged")(input_ids=IDS).logits
    assert torch.allclose(actual, expected, atol=1e-4)
    assert not torch.allclose(actual, load(stored.folder)(input_ids=IDS).logits, atol=0.1)


def test_gpt2_stores_its_weights_transposed(make_adapter, stored, template, tmp_path: Path):
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    shutil.copytree(stored.folder, folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=512, bos_token_id=1, eos_token_id=2)
    ).save_pretrained(folder)
    base = replace(stored, folder=folder)
    adapter = make_adapter("gpt2", base=base)
    merge_adapter(base, adapter, tmp_path / "merged", torch.float32)
    with torch.no_grad():
        expected = load_adapter(load(folder), adapter)(input_ids=IDS).logits
        actual = load(tmp_path / "merged")(input_ids=IDS).logits
    assert torch.allclose(actual, expected, atol=1e-4)


def test_existing_folder_is_refused(stored, make_adapter, tmp_path: Path):
    (tmp_path / "merged").mkdir()
    with pytest.raises(MixError) as caught:
        merge_adapter(stored, make_adapter(), tmp_path / "merged", torch.bfloat16)
    assert f"rm -r {tmp_path / 'merged'}" in caught.value.cure


def test_other_base_is_refused(stored, make_adapter, tmp_path: Path):
    other = replace(stored, folder=make_model(tmp_path / "other", seed=4))
    with pytest.raises(MixError):
        merge_adapter(other, make_adapter(), tmp_path / "merged", torch.bfloat16)
    assert not (tmp_path / "merged").exists()


def test_missing_adapter(stored, tmp_path: Path):
    with pytest.raises(ModelError, match="does not exist"):
        merge_adapter(stored, tmp_path / "none", tmp_path / "merged", torch.bfloat16)


@pytest.mark.parametrize(
    "changes", [{"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["lm_head"]}, {"bias": "all"},
                {"peft_type": "IA3"}, {"alpha_pattern": {"k": 1}}],
)  # fmt: skip
def test_more_than_lora_is_refused(stored, make_adapter, tmp_path: Path, changes):
    adapter = make_adapter()
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(ModelError, match=f"uses .*{next(iter(changes))}"):
        merge_adapter(stored, adapter, tmp_path / "merged", torch.bfloat16)


def test_a_pair_that_no_tensor_takes_is_an_error(stored, make_adapter, tmp_path: Path):
    adapter = make_adapter()
    file = adapter / "adapter_model.safetensors"
    weights = {name.replace("layers.1.mlp", "layers.7.mlp"): weight for name, weight in load_file(file).items()}
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"3 adapted layers are not in the base.*layers\.7\.mlp"):
        merge_adapter(stored, adapter, tmp_path / "merged", torch.bfloat16)
    assert not (tmp_path / "merged").exists()


def test_float16_overflow_is_refused(stored, make_adapter, tmp_path: Path):
    adapter = make_adapter(strength=1e6)
    with pytest.raises(ModelError, match="float16"):
        merge_adapter(stored, adapter, tmp_path / "merged", torch.float16)
    assert not (tmp_path / "merged").exists()


def test_a_4_bit_training_is_said(stored, make_adapter, tmp_path: Path, capsys):
    adapter = make_adapter()
    base = json.loads((adapter / "base.json").read_text())
    (adapter / "base.json").write_text(json.dumps(base | {"quantization": "nf4"}))
    merge_adapter(stored, adapter, tmp_path / "merged", torch.bfloat16)
    assert "4 bits (nf4)" in " ".join(capsys.readouterr().err.split())


def test_where_it_came_from(stored, make_adapter, tmp_path: Path):
    merge_adapter(stored, make_adapter(), tmp_path / "merged", torch.bfloat16)
    source = json.loads((tmp_path / "merged" / merge.SOURCE_FILE).read_text())
    assert source["origin"] == "pip:tiny==1 + run/adapter"
    assert not (tmp_path / "merged" / "base.json").exists()
