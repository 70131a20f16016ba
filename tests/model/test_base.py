"""The identity of a base."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_parts import load
from safetensors.torch import load_file, save_file
from tiny import make_model

from sftlib.errors import MixError, ModelError
from sftlib.model.base import check_base, describe_base, fingerprint, read_base, tensor_files, write_base


def test_same_shape_other_weights(tiny_model: Path, tmp_path: Path):
    assert fingerprint(tiny_model) != fingerprint(make_model(tmp_path / "other", seed=1))


def test_a_copy_is_the_same(stored, tiny_model: Path):
    assert fingerprint(stored.folder) == fingerprint(tiny_model)


def test_shards_do_not_matter(tiny_model: Path, tmp_path: Path):
    shutil.copytree(tiny_model, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    load(tiny_model).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(set(tensor_files(tmp_path / "sharded").values())) > 2
    assert fingerprint(tmp_path / "sharded") == fingerprint(tiny_model)


def test_one_changed_tensor_is_seen(stored):
    before = fingerprint(stored.folder)
    weights = load_file(stored.folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(weights, stored.folder / "model.safetensors", {"format": "pt"})
    assert fingerprint(stored.folder) != before


def test_scalars_and_empty_tensors(tmp_path: Path):
    save_file({"a": torch.tensor(1.0), "b": torch.zeros(0, 3)}, tmp_path / "model.safetensors")
    assert len(fingerprint(tmp_path)) == 64


def test_written_and_read(stored, tmp_path: Path):
    info = describe_base(stored, "nf4")
    write_base(tmp_path, info)
    assert read_base(tmp_path) == info
    assert (info.name, info.origin, info.quantization) == ("pip:tiny", "pip:tiny==1", "nf4")
    assert read_base(tmp_path / "none") is None


def test_check(stored, tmp_path: Path, capsys):
    write_base(tmp_path, describe_base(stored))
    check_base(tmp_path, stored)
    assert not capsys.readouterr().err
    other = replace(stored, folder=make_model(tmp_path / "other", seed=1), origin="hub:x/y", revision="abc")
    with pytest.raises(MixError) as caught:
        check_base(tmp_path, other)
    assert "pip:tiny==1" in caught.value.seen
    assert "hub:x/y at abc" in caught.value.seen
    assert caught.value.cure == "Set model.name to pip:tiny."
    (tmp_path / "base.json").unlink()
    check_base(tmp_path, other)
    assert "does not say" in capsys.readouterr().err


def test_no_safetensors(tmp_path: Path):
    with pytest.raises(ModelError, match="safetensors"):
        fingerprint(tmp_path)
