"""An update added in one product is peft's own, in value and in gradient; what it does not know goes peft's way."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from sftlib.model import fused
from sftlib.model.fused import fuse

IDS = torch.arange(1, 33).reshape(2, 16)
NO_DROPOUT = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, attention_bias=True))


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=4, **NO_DROPOUT))


def adapted(base: nn.Module, **changes) -> nn.Module:
    """A model whose adapter does something."""
    targets = ["c_attn", "c_proj"] if isinstance(base, GPT2LMHeadModel) else "all-linear"
    settings = {"r": 4, "lora_alpha": 12, "target_modules": targets, "fan_in_fan_out": targets != "all-linear"}
    model = get_peft_model(base, LoraConfig(**settings | changes))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtype of each update that was added in one product."""
    seen: list[torch.dtype] = []
    apply = fused._AddUpdate.apply

    def spy(x, y, *rest):
        seen.append(y.dtype)
        return apply(x, y, *rest)

    monkeypatch.setattr(fused._AddUpdate, "apply", spy)
    return seen


def step(model: nn.Module, has_autocast: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradient of every trainable tensor."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_autocast):
        out = model(input_ids=IDS, labels=IDS)
    out.loss.backward()
    return out.logits.detach(), {n: w.grad.clone() for n, w in model.named_parameters() if w.requires_grad}


def close(found: torch.Tensor, wanted: torch.Tensor, most: float) -> bool:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm()) <= most


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_values_and_gradients_are_those_of_peft(make, use_rslora: bool, updates: list[torch.dtype]) -> None:
    model = adapted(make(), use_rslora=use_rslora)
    wanted, gradients = step(model)
    assert updates == []
    fuse(model)
    found, own = step(model)
    assert len(updates) == 14 if make is llama else 6
    assert close(found, wanted, 1e-6)
    assert own.keys() == gradients.keys()
    assert all(close(own[name], gradients[name], 1e-5) for name in own)


def test_in_16_bits_it_is_no_further_from_the_truth_than_peft(updates: list[torch.dtype]) -> None:
    truth, true_gradients = step(adapted(llama().bfloat16()).double())
    errors = []
    for is_fused in (False, True):
        model = adapted(llama().bfloat16())
        if is_fused:
            fuse(model)
        found, gradients = step(model, has_autocast=True)
        errors.append(
            [(found.double() - truth).norm()]
            + [(gradients[n].double() - true_gradients[n]).norm() for n in true_gradients]
        )
        assert all(g.dtype == torch.float32 for g in gradients.values())
    assert set(updates) == {torch.bfloat16}
    peft, ours = (torch.stack(list(map(torch.as_tensor, each))) for each in errors)
    assert ours.sum() < 1.1 * peft.sum()


def test_the_input_is_kept_once_and_nothing_of_the_output() -> None:
    model = adapted(llama().bfloat16(), target_modules=["gate_proj", "up_proj"])
    fuse(model)
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    x = torch.randn(2, 16, 32, dtype=torch.bfloat16, requires_grad=True)
    kept: list[torch.Tensor] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        torch.autocast("cpu", torch.bfloat16),
    ):
        layer(x)
    own = [tuple(t.shape) for t in kept if not isinstance(t, nn.Parameter) and t.data_ptr() != x.data_ptr()]
    base = layer.get_base_layer().weight
    assert own.count((32, 4)) == 1  # x A^T
    assert [shape for shape in own if shape not in ((32, 4), tuple(base.T.shape))] == []
    assert sum(t.data_ptr() == x.data_ptr() for t in kept) == 1


OTHERS = {
    "dropout": {"lora_dropout": 0.5},
    "dora": {"use_dora": True},
    "a bias of B": {"lora_bias": True},
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_it_does_not_know_goes_the_way_of_peft(case: str, updates: list[torch.dtype]) -> None:
    model = adapted(llama(), **OTHERS[case])
    twin = copy.deepcopy(model)
    fuse(model)
    results = []
    for each in (twin, model):
        torch.manual_seed(1)
        results.append(step(each)[0])
    assert updates == []
    assert torch.equal(*results)


def test_an_adapter_with_dropout_answers_in_one_product(updates: list[torch.dtype]) -> None:
    model = adapted(llama(), lora_dropout=0.5).eval()
    twin = copy.deepcopy(model)
    fuse(model)
    assert close(model(IDS).logits, twin(IDS).logits, 1e-6)
    assert len(updates) == 14


def test_disabled_merged_and_several_adapters_go_the_way_of_peft(updates: list[torch.dtype]) -> None:
    model = adapted(llama()).eval()
    fuse(model)
    with torch.no_grad():
        tuned = model(IDS).logits
        used = len(updates)
        with model.disable_adapter():
            base = model(IDS).logits
        model.merge_adapter()
        merged = model(IDS).logits
        model.unmerge_adapter()
        model.add_adapter("other", LoraConfig(r=2, target_modules="all-linear"))
        model.base_model.set_adapter(["default", "other"])
        both = model(IDS).logits
    assert len(updates) == used == 14
    assert not torch.allclose(base, tuned)
    torch.testing.assert_close(merged, tuned)
    torch.testing.assert_close(both, tuned)  # the other one is fresh


def test_without_autocast_it_computes_as_with_it(updates: list[torch.dtype]) -> None:
    model = adapted(llama().bfloat16()).eval()
    fuse(model)
    with torch.no_grad():
        plain = model(IDS).logits
        with torch.autocast("cpu", torch.bfloat16):
            assert close(model(IDS).logits, plain, 0.01)
    assert plain.dtype == torch.bfloat16
    assert set(updates) == {torch.bfloat16}


def test_a_fused_layer_is_still_one_of_peft() -> None:
    from peft.tuners.lora import Linear

    model = adapted(llama())
    before = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    fuse(model)
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    assert len(layers) == 14
    assert all(type(layer).__name__ == "Linear" for layer in layers)
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == before
    assert torch.isfinite(copy.deepcopy(model)(IDS).logits).all()
