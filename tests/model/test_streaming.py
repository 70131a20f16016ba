"""Streamed layers: bit-equal to resident ones, two blocks on the device, and none is read that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from memory.memory_parts import CPU, PRECISIONS, autocast, batch, load, make
from tiny_t5 import make_t5
from torch import Tensor, nn

from sftlib.config.schema import LoraSection, ModelSection, TuningSection
from sftlib.errors import ModelError
from sftlib.learn.logprobs import hidden_states
from sftlib.memory.shape import streamed_bytes
from sftlib.model import streaming
from sftlib.model.adapters import attach_adapter, enable_gradient_checkpointing
from sftlib.model.backend import choose_backend
from sftlib.model.copying import Copier
from sftlib.model.streaming import LayerStream, blocks_of, stop_streaming, stream_layers, stream_of, weights_at_home

LAYERS = 5
CASES = [
    *((family, "qlora", True, False) for family in ("mistral", "qwen3", "smollm3", "phi")),
    *((family, mode, checkpointing, False) for family in ("llama", "qwen2", "phi3", "gemma3_text")
      for mode, checkpointing in (("lora", False), ("lora", True), ("qlora", False))),
    ("llama", "lora", True, True), ("gemma2", "qlora", True, True),
]  # fmt: skip


def trained(model: nn.Module, inputs: dict[str, Tensor], steps: int = 3) -> list[Tensor]:
    """Losses, gradients of the first step, weights after the last; in between it is evaluated and answers."""
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    kept = []
    for step in range(steps):
        with autocast("bf16"):
            loss = hidden_states(model, inputs).float().square().mean()
        loss.backward()
        kept += [loss.detach(), *(weight.grad.clone() for weight in trainable if step == 0)]
        optimizer.step()
        optimizer.zero_grad()
        if step == 1:
            model.eval()
            with torch.no_grad(), autocast("bf16"):
                kept.append(model.generate(**inputs, max_new_tokens=3, do_sample=False, use_cache=True))
                kept.append(hidden_states(model, inputs))
            model.train()
    return [*kept, *(weight.detach().clone() for weight in trainable)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def both(folder: Path, mode: str, checkpointing: bool, offload: bool = False) -> list[list[Tensor]]:
    """The training of a resident model, and of one that is streamed."""
    found = []
    for is_streamed in (False, True):
        model, _ = load(folder, mode, "bf16")
        if checkpointing:
            enable_gradient_checkpointing(model, offload=offload)
        if is_streamed:
            stream_layers(model, CPU)
        found.append(trained(model, batch(2, 40)))
    return found


@pytest.mark.parametrize(("family", "mode", "checkpointing", "offload"), CASES)
def test_losses_gradients_answers_and_weights_are_those_of_the_resident_model(
    family: str, mode: str, checkpointing: bool, offload: bool, tmp_path: Path
) -> None:
    resident, streamed = both(make(family, tmp_path, num_hidden_layers=LAYERS), mode, checkpointing, offload)
    assert same(resident, streamed)
    assert not torch.equal(resident[0], resident[-1])


def test_an_encoder_decoder_is_streamed_too(tmp_path: Path) -> None:
    folder = make_t5(tmp_path, num_layers=3, num_decoder_layers=3)
    inputs = batch(2, 20) | {"decoder_input_ids": batch(2, 10)["input_ids"]}
    found = []
    for is_streamed in (False, True):
        model, _ = load(folder, "lora", "fp32")
        if is_streamed:
            stream_layers(model, CPU)
            assert len(blocks_of(model)) == 6
        for _ in range(2):
            loss = hidden_states(model, inputs).square().mean()
            loss.backward()
        found.append([loss.detach(), *(weight.grad for weight in model.parameters() if weight.requires_grad)])
    assert same(*found)


def test_a_stream_that_does_not_move_is_seen(tmp_path: Path) -> None:
    """So that what is compared above can differ."""
    folder = make("llama", tmp_path, num_hidden_layers=LAYERS)
    (resident, _), (model, _) = load(folder, "lora", "bf16"), load(folder, "lora", "bf16")
    stream = stream_layers(model, CPU)
    hidden_states(model, batch(1, 8))
    with stream.standing_still():
        assert not torch.equal(hidden_states(model, batch(1, 8)), hidden_states(resident, batch(1, 8)))
    assert torch.equal(hidden_states(model, batch(1, 8)), hidden_states(resident, batch(1, 8)))


class Late(Copier):
    """A device that runs behind the process: a copy is made when somebody waits for it, or for a later one."""

    waiting: list[tuple[Tensor, Tensor]] = []  # noqa: RUF012  one device

    def copy(self, target: Tensor, source: Tensor) -> int:
        Late.waiting.append((target, source))
        return len(Late.waiting)

    def wait(self, done: int | None) -> None:
        for at in range(done or 0):
            if Late.waiting[at] is not None:
                target, source = Late.waiting[at]
                target.copy_(source)
                Late.waiting[at] = None


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_block_computes_before_its_copy_is_waited_for(
    checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftlib.model.streaming.Copier", Late)
    monkeypatch.setattr(Late, "waiting", [])
    assert same(*both(make("llama", tmp_path, num_hidden_layers=LAYERS), "qlora", checkpointing))
    assert len(Late.waiting) > 3 * 2 * (LAYERS - 2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_block_is_there_when_its_turn_comes_and_the_last_two_are_not_sent_twice(
    checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = load(make("llama", tmp_path, num_hidden_layers=LAYERS), "lora", "bf16")
    if checkpointing:
        enable_gradient_checkpointing(model)
    stream = stream_layers(model, CPU)
    turns, sent, turn, copy = [], [], LayerStream._turn, Copier.copy

    def watched(self: LayerStream, index: int, following: int) -> None:
        turns.append((index, self._holds[index % 2] == index))
        turn(self, index, following)

    monkeypatch.setattr(LayerStream, "_turn", watched)
    monkeypatch.setattr(Copier, "copy", lambda self, target, source: sent.append(1) or copy(self, target, source))
    for _ in range(2):
        turns.clear()
        sent.clear()
        hidden_states(model, batch(1, 8)).sum().backward()
    # the second micro-batch begins with the block that the first one ended with
    assert [index for index, _ in turns] == [*range(1, LAYERS), *reversed(range(LAYERS))]
    assert all(is_there for _, is_there in turns)
    assert len(sent) == 2 * (LAYERS - 2)
    assert stream_of(model) is stream


@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_two_blocks_are_on_the_device_and_the_rest_waits(mode: str, tmp_path: Path) -> None:
    model, shape = load(make("qwen2", tmp_path, num_hidden_layers=LAYERS), mode, "bf16")
    frozen = {name: weight for name, weight in model.named_parameters() if ".layers." in name and "lora" not in name}
    others = {name: weight.data_ptr() for name, weight in model.named_parameters() if name not in frozen}
    whole = sum(weight.untyped_storage().nbytes() for weight in frozen.values())
    stream = stream_layers(model, CPU)
    on_device = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in frozen.values()}
    assert len(on_device) == 2
    assert sum(on_device.values()) == stream.device_bytes == streamed_bytes(shape, mode, 2)[2]
    assert stream.device_bytes == 2 * (stream.host_bytes // LAYERS)
    assert whole <= stream.host_bytes
    for module in model.modules():  # scales and tables as well
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            tensors = (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
            assert {tensor.untyped_storage().data_ptr() for tensor in tensors} <= set(on_device)
    assert others == {name: weight.data_ptr() for name, weight in model.named_parameters() if name not in frozen}


@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_weights_can_be_read_at_home_and_are_put_back(mode: str, tmp_path: Path) -> None:
    model, _ = load(make("llama", tmp_path, num_hidden_layers=LAYERS), mode, "bf16")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]

    def unequal() -> list[str]:
        now = model.state_dict()
        return [name for name, value in before.items() if not torch.equal(now[name], value)]

    stream_layers(model, CPU)
    hidden_states(model, batch(1, 8))
    away = unequal()
    assert len(away) > LAYERS // 2
    with weights_at_home(model):
        assert unequal() == []
    assert unequal() == away
    stop_streaming(model)
    assert unequal() == []
    assert stream_of(model) is None
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    stop_streaming(model)  # once more changes nothing


@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_a_model_that_is_streamed_from_the_start_is_the_one_that_is_loaded_whole(mode: str, tmp_path: Path) -> None:
    folder = make("llama", tmp_path, num_hidden_layers=LAYERS)
    backend = choose_backend(TuningSection(mode=mode, backend="bnb" if mode == "qlora" else "plain"), CPU)
    found = []
    for stream in (False, True):
        model = backend.load_trainable(
            folder, model=ModelSection(), lora=LoraSection(r=4), checkpointing=False, seed=3,
            precision=PRECISIONS["bf16"], device=CPU, stream=stream,
        )  # fmt: skip
        assert (stream_of(model) is not None) == stream
        found.append(trained(model.train(), batch(2, 20)))
    assert same(*found)


def test_what_two_blocks_share_stays_where_it_is(tmp_path: Path) -> None:
    model, _ = load(make("llama", tmp_path, num_hidden_layers=LAYERS), "lora", "bf16")
    blocks = [block for _, block in blocks_of(model)]
    shared = blocks[0].input_layernorm.weight
    blocks[3].input_layernorm.weight = shared
    at = shared.data_ptr()
    stream_layers(model, CPU)
    assert shared.data_ptr() == at
    assert blocks[1].input_layernorm.weight.untyped_storage().nbytes() > 64 * 2


def whole(folder: Path) -> nn.Module:
    return load(folder, "full", "fp32")[0]


def without_blocks(folder: Path) -> nn.Module:
    model = whole(folder)
    model.model.layers = nn.ModuleList()
    return model


@pytest.mark.parametrize("make_model", [whole, without_blocks])
def test_nothing_to_stream_is_an_error(make_model: Callable[[Path], nn.Module], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM has no blocks of frozen weights"):
        stream_layers(make_model(make("llama", tmp_path)), CPU)


def test_a_single_block_needs_one_buffer(tmp_path: Path) -> None:
    folder = make("llama", tmp_path, num_hidden_layers=1)
    resident, streamed = both(folder, "qlora", checkpointing=True)
    assert same(resident, streamed)
    model, shape = load(folder, "qlora", "bf16")
    assert stream_layers(model, CPU).device_bytes == streamed_bytes(shape, "qlora", 2)[2]


def test_main_memory_is_taken_in_pieces_that_hold_several_blocks(tmp_path: Path, monkeypatch: Any) -> None:
    model, _ = load(make("llama", tmp_path, num_hidden_layers=LAYERS), "lora", "bf16")
    stream = stream_layers(model, CPU)
    size = stream.host_bytes // LAYERS
    stop_streaming(model)
    monkeypatch.setattr("sftlib.model.streaming.AREA_BYTES", 2 * size + 1)
    stream = stream_layers(model, CPU)
    areas = {layer.home.untyped_storage().data_ptr(): layer.home.untyped_storage().nbytes() for layer in stream._layers}
    assert sorted(areas.values()) == [size, 2 * size + 1, 2 * size + 1]


def test_when_main_memory_runs_out_nothing_has_been_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = load(make("llama", tmp_path, num_hidden_layers=LAYERS), "lora", "bf16")
    before = hidden_states(model, batch(1, 8))
    areas = streaming._areas

    def small(*given: Any, **options: Any) -> Any:
        yield next(areas(*given, **options))
        raise RuntimeError("CUDA error: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(streaming, "_areas", small)
        with pytest.raises(RuntimeError, match="out of memory"):
            stream_layers(model, CPU)
    assert stream_of(model) is None
    assert torch.equal(hidden_states(model, batch(1, 8)), before)


def test_an_adapter_that_is_attached_later_is_not_streamed(tmp_path: Path) -> None:
    """What is trained stays on the device: the base is frozen first, by attaching the adapter."""
    backend = choose_backend(TuningSection(mode="lora", backend="plain"), CPU)
    base = backend.load_base(make("llama", tmp_path), precision=PRECISIONS["bf16"], device=CPU, on_host=True)
    model = attach_adapter(base, LoraSection(r=2), seed=0)
    stream_layers(model, CPU)
    buffers = {buffer.data_ptr() for buffer in stream_of(model)._buffers}
    trained_ones = [weight for weight in model.parameters() if weight.requires_grad]
    assert trained_ones
    assert all(weight.untyped_storage().data_ptr() not in buffers for weight in trained_ones)
