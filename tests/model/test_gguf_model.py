"""GGUF to model folder: exact values, whole or not at all, and every mistake of the unpacking noticed."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from model_parts import load, write_gguf
from safetensors.torch import load_file
from transformers import LlamaConfig

from sftlib.errors import ModelError
from sftlib.files import sha256_file
from sftlib.model import gguf_model
from sftlib.model.gguf_model import convert_gguf
from sftlib.model.tokenizer import load_tokenizer

SOURCE = {"name": "x.gguf", "origin": "file:x.gguf", "revision": None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "x.gguf")


def test_the_folder(file: Path, tmp_path: Path, no_network: None, capfd):
    convert_gguf(file, tmp_path / "model", SOURCE)
    folder = tmp_path / "model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "source.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    source = json.loads((folder / "source.json").read_text())
    assert source["gguf"] == {"file": "x.gguf", "bytes": file.stat().st_size, "sha256": sha256_file(file)}
    assert (source["origin"], source["licence"]) == ("file:x.gguf", "mit")
    assert set(source["versions"]) == {"transformers", "gguf", "torch"}
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        assert (settings["bos_token_id"], settings["eos_token_id"], settings["pad_token_id"]) == (1, 2, 3)
        assert str(tmp_path) not in json.dumps(settings)
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokens["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokens["clean_up_tokenization_spaces"] is False
    assert load_tokenizer(folder).eos_token == "<|im_end|>"
    assert load(folder, training=False)(input_ids=torch.arange(8)[None]).logits.isfinite().all()
    out, err = capfd.readouterr()
    assert not out
    assert "it/s" not in err  # no bar of another library
    assert "Verified" in err


def test_values_by_hand(file: Path, tmp_path: Path):
    """Q8_0: blocks of 32 values, a float16 scale and 32 int8. Query rows: pairs in the file, halves in transformers."""
    convert_gguf(file, tmp_path / "model", SOURCE)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}

    def unpacked(name: str) -> np.ndarray:
        blocks = stored[name].data.reshape(-1, 34)
        scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
        return (scale * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)).reshape(stored[name].shape[::-1])

    def bf16(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(values)).bfloat16()

    assert torch.equal(weights["model.layers.1.mlp.down_proj.weight"], bf16(unpacked("blk.1.ffn_down.weight")))
    query, key = unpacked("blk.0.attn_q.weight"), unpacked("blk.0.attn_k.weight")
    ours = weights["model.layers.0.self_attn.q_proj.weight"]
    # head 1 (rows 16..31): row 2i of the file is row i, row 2i + 1 is row 8 + i
    for i in range(8):
        assert torch.equal(ours[16 + i], bf16(query[16 + 2 * i]))
        assert torch.equal(ours[16 + 8 + i], bf16(query[16 + 2 * i + 1]))
    assert torch.equal(weights["model.layers.0.self_attn.k_proj.weight"][9], bf16(key[3]))  # 8 + 1 <- 2 * 1 + 1
    assert "lm_head.weight" not in weights


def spoil(monkeypatch: pytest.MonkeyPatch, change) -> None:
    right = gguf_model._dequantise

    def wrong(file: Path):
        model = right(file)
        with torch.no_grad():
            change(dict(model.named_parameters()))
        return model

    monkeypatch.setattr(gguf_model, "_dequantise", wrong)


def swap_rows(weights) -> None:
    query = weights["model.layers.0.self_attn.q_proj.weight"]
    query[:2] = query[:2].flip(0)


def one_bit(weights) -> None:
    value = weights["model.layers.1.mlp.up_proj.weight"]
    value[3, 3] = torch.nextafter(value[3, 3], torch.tensor(9.0, dtype=torch.bfloat16))


def swap_layers(weights) -> None:
    first, second = (weights[f"model.layers.{k}.mlp.gate_proj.weight"] for k in (0, 1))
    kept = first.clone()
    first.copy_(second)
    second.copy_(kept)


@pytest.mark.parametrize("change", [swap_rows, one_bit, swap_layers])
def test_any_wrong_value_is_refused_and_leaves_nothing(file: Path, tmp_path: Path, monkeypatch, change):
    spoil(monkeypatch, change)
    with pytest.raises(ModelError, match="is not what the GGUF file holds"):
        convert_gguf(file, tmp_path / "model", SOURCE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_a_wrong_tokenizer_is_refused(file: Path, tmp_path: Path, monkeypatch):
    right = gguf_model.build_tokenizer
    monkeypatch.setattr(gguf_model, "build_tokenizer", lambda data: right(data | {"tokenizer.ggml.pre": "gpt-2"}))
    with pytest.raises(ModelError, match="way of cutting text"):
        convert_gguf(file, tmp_path / "model", SOURCE)
    assert not (tmp_path / "model").exists()


def test_a_tensor_without_a_place_is_refused(tmp_path: Path):
    """Llama 3.1 keeps its rotary scaling in such a tensor; transformers would leave it out without a word."""
    file = write_gguf(tmp_path / "x.gguf", more_tensors={"rope_freqs.weight": (8,)})
    with pytest.raises(ModelError, match=r"rope_freqs\.weight"):
        convert_gguf(file, tmp_path / "model", SOURCE)


def test_end_of_turn_of_the_file_is_a_stop(tmp_path: Path):
    file = write_gguf(tmp_path / "x.gguf", ids={"eos": 0, "eot": 2})
    convert_gguf(file, tmp_path / "model", SOURCE)
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"] == [0, 2]


def test_a_file_cut_short(file: Path, tmp_path: Path):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ModelError, match="GGUF"):
        convert_gguf(file, tmp_path / "model", SOURCE)


def test_no_gguf_at_all(tmp_path: Path):
    (tmp_path / "x.gguf").write_bytes(b"something else entirely")
    with pytest.raises(ModelError, match="no readable GGUF"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "model", SOURCE)


def test_norms_of_gemma_are_stored_one_higher():
    config = type("M", (), {"config": LlamaConfig(num_attention_heads=2, num_key_value_heads=2, hidden_size=4)})
    values = np.array([1.5, 2.0], np.float32)
    assert gguf_model._as_transformers(values, "blk.0.attn_norm.weight", "gemma3", config).tolist() == [0.5, 1.0]
    assert gguf_model._as_transformers(values, "blk.0.attn_norm.weight", "llama", config).tolist() == [1.5, 2.0]
