"""Real trials on a tiny model: what they measure, that they are the training's own, and that they leave nothing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from memory.memory_parts import CPU
from tiny_training import PAD, llama, make_rows, train_section, with_lora

from sftlib.learn.fitting import fit
from sftlib.learn.probing import longest_rows, probing
from sftlib.learn.trainer import SftTrainer
from sftlib.memory.search import LADDER, search
from sftlib.run.folder import RunFolder

SETTINGS = {"effective_batch_size": 8, "batch_size": "auto", "grad_accum": "auto", "optim": "adamw_torch"}


@pytest.fixture
def probe(tmp_path):
    """`probing` on rows of random tokens."""
    run = RunFolder(tmp_path / "outputs", "run")
    run.path.mkdir(parents=True)

    def make(model, rows, **train: Any):
        return probing(
            model, train=train_section(**SETTINGS | train), run=run, precision="fp32", device="cpu", seed=7,
            train_set=rows, pad_id=PAD, effective=8, place=CPU,
        )  # fmt: skip

    return make


def everything(model: torch.nn.Module) -> list[Any]:
    """All that a trial could have changed, comparable."""
    values = [tensor.clone() for tensor in (*model.parameters(), *model.buffers())]
    states = [
        (
            module.training,
            module._forward_hooks.copy(),
            sorted(vars(module)),
            getattr(module, "gradient_checkpointing", 0),
        )
        for module in model.modules()
    ]
    grads = [weight.grad is None for weight in model.parameters()]
    dice = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]
    return [values, states, grads, dice]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_nothing_is_left(kind, probe, tmp_path):
    model = with_lora(llama(), dropout=0.2) if kind == "lora" else llama()
    model.eval()
    before = everything(model)
    with probe(model, make_rows(20)) as trial:
        trial(2, True, False)
        trial(4, False, False)
        assert not same(everything(model), before)
    assert same(everything(model), before)
    assert not list((tmp_path / "outputs").rglob("*.*"))


def test_nothing_is_left_after_memory_ran_out(probe, monkeypatch):
    model = with_lora(llama())
    before = everything(model)
    backward = torch.Tensor.backward

    def dies(self, *args, **options):
        backward(self, *args, **options)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with probe(model, make_rows(20)) as trial:
        monkeypatch.setattr(torch.Tensor, "backward", dies)
        found = search(trial, sizes=[1, 2], rungs=LADDER[:2], room=2**60, tokens=lambda size: size)
    assert found.chosen is None
    assert [one.peak for one in found.tried] == [None, None]
    assert same(everything(model), before)


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor"])
def test_a_training_ends_with_the_same_weights_with_and_without_it(optim, probe, make_trainer):
    weights = []
    for is_probed in (False, True):
        torch.manual_seed(3)
        model = with_lora(llama(), dropout=0.3)
        if is_probed:
            with probe(model, make_rows(20), optim=optim) as trial:
                search(trial, sizes=[1, 2, 4, 8], rungs=LADDER[:2], room=2**60, tokens=lambda size: size)
        train = {"batch_size": 2, "grad_accum": 4, "optim": optim}
        fit(make_trainer(model, make_rows(20), train=train, name=f"probed-{is_probed}"))
        weights.append({name: weight.clone() for name, weight in model.named_parameters()})
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_trial_is_what_the_training_does(probe, monkeypatch):
    """Loss, collation and optimizer are the trainer's; the second step finds the optimizer's state."""
    rows, seen, states = make_rows(20), [], []
    compute, adam_step = SftTrainer.compute_loss, torch.optim.AdamW.step

    def watched(self, model, inputs, *args, **options):
        seen.append((tuple(inputs["input_ids"].shape), model.is_gradient_checkpointing, options["num_items_in_batch"]))
        return compute(self, model, inputs, *args, **options)

    def watched_step(self, *args, **options):
        states.append(len(self.state))
        return adam_step(self, *args, **options)

    monkeypatch.setattr(SftTrainer, "compute_loss", watched)
    monkeypatch.setattr(torch.optim.AdamW, "step", watched_step)
    model = with_lora(llama())
    order = sorted(range(20), key=lambda row: -rows.lengths[row])
    with probe(model, rows) as trial:
        seconds, peak = trial(4, True, False)
        assert seconds > 0
        assert peak > 2**20
        longest = rows.lengths[order[0]]
        labels = sum(label != -100 for row in order[:4] for label in rows[row].labels[1:])
        assert seen == [((4, longest), True, labels)] * 3  # to make the state, timed, on top of gradients
        assert states[0] == 0
        assert states[1] == sum(1 for weight in model.parameters() if weight.requires_grad)
        seen.clear()
        trial(8, False, False)
        assert [(shape, checkpointing) for shape, checkpointing, _ in seen] == [((8, longest), False)] * 2


@pytest.mark.parametrize(
    ("lengths", "size", "rows"),
    [
        ([5, 9, 7, 9], 1, [1]), ([5, 9, 7, 8], 2, [1, 3]), ([5, 9, 7, 9], 2, [1, 2]), ([9, 9, 9], 2, [0, 1]),
        ([9, 9, 9, 4], 3, [0, 1, 3]), ([3, 4], 4, [1, 0]),
    ],
)  # fmt: skip
def test_the_longest_rows_and_one_that_makes_a_mask_necessary(lengths, size, rows):
    assert longest_rows(lengths, size) == rows
