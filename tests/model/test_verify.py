"""Verifying a merge: a right one passes, a planted fault never does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_parts import BF16, load
from safetensors.torch import load_file, save_file

from sftlib.errors import MixError, ModelError
from sftlib.memory.probe import Device
from sftlib.model import adapters, verify
from sftlib.model.merge import merge_adapter
from sftlib.model.verify import answer_with_plain_transformers, verify_merge

PROMPTS = [
    f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in ("What is two plus two?", "the sun", "a")
]


@pytest.fixture
def merged(stored, make_adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Merge with a planted factor on the scaling: `merged(factor) -> (adapter, folder)`."""

    def make(factor: float = 1.0, dtype: torch.dtype = torch.bfloat16, **settings):
        adapter, out = make_adapter(**settings), tmp_path / "merged"
        right = adapters.AdapterInfo.scaling.fget
        with monkeypatch.context() as patch:
            patch.setattr(adapters.AdapterInfo, "scaling", property(lambda info: right(info) * factor))
            merge_adapter(stored, adapter, out, dtype)
        return adapter, out

    return make


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}], ids=str)
def test_a_right_merge_passes(stored, merged, dtype, settings):
    adapter, out = merged(dtype=dtype, **settings)
    report = verify_merge(stored, adapter, out, PROMPTS, load)
    assert report.passed
    assert report.prompts == 3
    assert 3 <= report.positions <= 3 * verify.ANSWER_TOKENS
    assert 0 < report.mean_kl <= report.max_kl
    assert report.mean_kl < 0.01 * report.mean_kl_to_base
    assert report.compute_dtype == "float32"
    assert json.loads((out / "merge_report.json").read_text())["mean_kl"] == report.mean_kl


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0, -1.0])
def test_a_planted_wrong_scaling_is_caught(stored, merged, factor):
    adapter, out = merged(factor)
    with pytest.raises(ModelError, match="does not behave as base") as caught:
        verify_merge(stored, adapter, out, PROMPTS, load)
    assert not out.exists()
    failed = out.with_name("merged.failed")
    assert json.loads((failed / "merge_report.json").read_text())["passed"] is False
    assert str(failed) in caught.value.where


def test_rank_stabilised_scaling_forgotten(stored, merged):
    """alpha / r instead of alpha / sqrt(r): half, at rank 4."""
    adapter, out = merged(0.5, use_rslora=True)
    with pytest.raises(ModelError):
        verify_merge(stored, adapter, out, PROMPTS, load)


def test_a_layer_left_out_of_a_weak_adapter_is_caught(stored, merged):
    adapter, out = merged(target_modules=["0.self_attn.v_proj", "0.mlp.down_proj"], strength=0.1)
    weights, base = (load_file(f / "model.safetensors") for f in (out, stored.folder))
    name = "model.layers.0.mlp.down_proj.weight"
    save_file(weights | {name: base[name].bfloat16()}, out / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError):
        verify_merge(stored, adapter, out, PROMPTS, load)


def test_nan_is_caught(stored, merged):
    adapter, out = merged()
    weights = load_file(out / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        verify_merge(stored, adapter, out, PROMPTS, load)


def test_two_failures_do_not_overwrite(stored, merged, tmp_path: Path):
    (tmp_path / "merged.failed").mkdir()
    adapter, out = merged(0.0)
    with pytest.raises(MixError, match="earlier one"):
        verify_merge(stored, adapter, out, PROMPTS, load)
    assert out.exists()


def test_an_adapter_that_changes_nothing_passes(stored, merged):
    adapter, out = merged(strength=0.0)
    assert verify_merge(stored, adapter, out, PROMPTS, load).mean_kl_to_base == 0


def test_16_bit_compute_passes_too(stored, merged):
    """Where float32 does not fit: the noise of 16-bit arithmetic alone is no failure."""
    adapter, out = merged()
    report = verify_merge(stored, adapter, out, PROMPTS, lambda folder: load(folder, BF16))
    assert report.compute_dtype == "bfloat16"


def test_no_prompts(stored, merged):
    with pytest.raises(ModelError, match="no prompt"):
        verify_merge(stored, *merged(), [], load)


def test_kl_by_hand():
    p, q = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    # 0.5 ln 2 + 0.5 ln (2/3), and ln 2
    assert verify._kl(p.log(), q.log()).tolist() == pytest.approx([0.143841, 0.693147], abs=1e-6)


def test_answers_with_plain_transformers(merged):
    _, out = merged()
    assert isinstance(answer_with_plain_transformers(out, "What is two plus two?", 4), str)


@pytest.mark.parametrize(("free", "name"), [(10**9, "fp32"), (1000, "bf16")])
def test_the_comparison_is_in_float32_where_that_fits(stored, free, name):
    assert verify.comparison_precision(stored.folder, Device("cpu", "main memory", free, free)).name == name
