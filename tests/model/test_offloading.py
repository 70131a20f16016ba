"""Inputs of blocks on their way to main memory and back: each is complete when it is read, and few are here at once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from memory.memory_parts import autocast, batch, load, make
from torch import Tensor, nn

from sftlib.learn.logprobs import hidden_states
from sftlib.model.adapters import enable_gradient_checkpointing
from sftlib.model.copying import Copier
from sftlib.model.offloading import _Away, _Travel

LAYERS = 5


class Late(Copier):
    """A device that runs behind the process: a copy is made when somebody waits for it."""

    under_way: dict[int, tuple[Tensor, Tensor]] = {}  # noqa: RUF012  one device

    def copy(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        target.fill_(float("nan"))
        done = (target, source)
        self.under_way[id(done)] = done
        return done

    def wait(self, done: tuple[Tensor, Tensor] | None) -> None:
        if self.under_way.pop(id(done), None) is not None:
            done[0].copy_(done[1])


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every moment at which one is sent or fetched, how many of those that left are on the device."""
    known, counts = weakref.WeakSet(), []

    def counted(method):
        def run(self: _Travel, given):
            result = method(self, given)
            if isinstance(result, _Away):
                known.add(result)
            counts.append(sum(one.here is not None for one in known))
            return result

        return run

    monkeypatch.setattr(_Travel, "send", counted(_Travel.send))
    monkeypatch.setattr(_Travel, "fetch", counted(_Travel.fetch))
    return counts


def gradients(model: nn.Module, micro_batches: int = 2) -> list[Tensor]:
    for _ in range(micro_batches):
        with autocast("bf16"):
            loss = hidden_states(model, batch(2, 40)).float().square().mean()
        loss.backward()
    return [weight.grad for weight in model.parameters() if weight.requires_grad]


@pytest.mark.parametrize("copier", [Copier, Late])
def test_gradients_are_the_same_however_late_the_copies_are(
    copier: type[Copier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftlib.model.offloading.Copier", copier)
    folder, found = make("gemma2", tmp_path, num_hidden_layers=LAYERS), []
    for offload in (False, True):
        model, _ = load(folder, "lora", "bf16")
        enable_gradient_checkpointing(model, offload=offload)
        found.append(gradients(model))
    assert all(map(torch.equal, *found))


def test_one_is_leaving_and_two_are_back_and_none_is_kept(alive: list[int], tmp_path: Path) -> None:
    model, _ = load(make("llama", tmp_path, num_hidden_layers=LAYERS), "lora", "bf16")
    enable_gradient_checkpointing(model, offload=True)
    gradients(model, 1)
    # the last one had not left yet; while it is computed with, the one before it comes back
    assert alive == [1] * LAYERS + [1] * (LAYERS - 1) + [0]
    gc.collect()
    travels = [one for one in gc.get_objects() if isinstance(one, _Away)]
    assert travels == []


def test_a_backward_pass_that_is_broken_off_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when memory runs out: the step is run again, to the same gradient."""
    monkeypatch.setattr("sftlib.model.offloading.Copier", Late)
    folder, found = make("llama", tmp_path, num_hidden_layers=LAYERS), []
    for is_broken in (False, True):
        model, _ = load(folder, "lora", "bf16")
        enable_gradient_checkpointing(model, offload=True)
        if is_broken:
            fetch, calls = _Travel.fetch, []

            def dies(self: _Travel, one: _Away, fetch=fetch, calls=calls) -> Tensor:
                calls.append(1)
                if len(calls) == 3:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return fetch(self, one)

            with monkeypatch.context() as patch:
                patch.setattr(_Travel, "fetch", dies)
                with pytest.raises(torch.OutOfMemoryError):
                    gradients(model, 1)
            model.zero_grad()
            assert len(Late.under_way) == 1  # its room is not to be given away yet
        found.append(gradients(model, 1))
        assert Late.under_way == {}
    assert all(map(torch.equal, *found))


def test_enabling_anew_takes_it_back(tmp_path: Path, alive: list[int]) -> None:
    model, _ = load(make("llama", tmp_path), "lora", "bf16")
    enable_gradient_checkpointing(model, offload=True)
    enable_gradient_checkpointing(model)
    gradients(model, 1)
    assert alive == []
