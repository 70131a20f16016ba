"""A training with train.packing is the same training: weights, losses, counts, whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_replay import Shortage, nothing, weights
from test_resume import StopAt
from tiny_training import llama, make_rows, with_lora
from torch import nn

from sftlib.errors import ModelError
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit

STEPS = {"batch_size": 4, "grad_accum": 3, "epochs": 3.0, "learning_rate": 1e-3, "packing": True}
ROWS = 33  # 3 steps an epoch: 12, 12 and 9 rows


def trained(make_trainer, model: nn.Module, name: str, asked: Any = nothing, **options: Any):
    train = STEPS | options.pop("train", {})
    trainer = make_trainer(model, make_rows(ROWS, seed=3), name=name, train=train, **options)
    shortage = Shortage(trainer.model, asked)
    return trainer, shortage, fit(trainer)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("make_model", [llama, lambda: with_lora(llama())], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_weights_losses_and_counts_are_those_without_it(make_trainer, make_model, checkpointing: bool) -> None:
    train = {"gradient_checkpointing": checkpointing, "eval_strategy": "steps", "eval_steps": 3}
    options = {"train": train, "eval_set": make_rows(7, seed=9)}
    packed, seen, report = trained(make_trainer, make_model(), "packed", **options)
    options["train"] = train | {"packing": False}
    padded, seen_padded, padded_report = trained(make_trainer, make_model(), "padded", **options)
    assert {rows for rows, _ in seen.tried} == {1}
    assert {rows for rows, _ in seen_padded.tried} == {1, 3, 4}  # 9 rows are 4, 4 and 1; 7 are 4 and 3
    lengths = make_rows(ROWS, seed=3).lengths
    evaluated = 3 * sum(make_rows(7, seed=9).lengths)
    assert sum(tokens for _, tokens in seen.tried) == 3 * sum(lengths) + evaluated
    for key in ("steps", "tokens", "supervised_tokens"):
        assert report.times[key] == padded_report.times[key], key
    assert report.times["tokens"] == 3 * sum(lengths)
    for key in ("loss", "eval_loss", "supervised_tokens"):
        given, expected = ([r[key] for r in records(run.run.metrics) if key in r] for run in (packed, padded))
        assert given == pytest.approx(expected, rel=1e-5), key
    start, expected = weights(make_model()), weights(padded.model)
    assert max(float((expected[name] - start[name]).abs().max()) for name in start) > 4e-3
    for name, weight in weights(packed.model).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


def test_the_micro_batch_changes_nothing(make_trainer) -> None:
    ends = []
    for size in (1, 4, 12):
        train = {"batch_size": size, "grad_accum": 12 // size}
        ends.append(weights(trained(make_trainer, llama(), f"by-{size}", train=train)[0].model))
    for end in ends[1:]:
        for name, weight in end.items():
            torch.testing.assert_close(weight, ends[0][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_packed_micro_batch_that_does_not_fit_is_split(make_trainer, phase: str) -> None:
    most = 40  # tokens that fit; a row has 20 at most
    whole, _, _ = trained(make_trainer, llama(), "whole")
    short, shortage, report = trained(
        make_trainer, llama(), "short", lambda rows, tokens, trains: phase if tokens > most else None
    )
    assert shortage.fired
    assert {rows for _, rows, _ in shortage.fired} == {1}
    assert all(tokens <= most for _, tokens in shortage.tried[-9:])
    first = records(short.run.out_of_memory)[0]
    assert (first["step"], first["rows"], len(first["sources"])) == (1, 4, 4)
    assert report.times["tokens"] == 3 * sum(make_rows(ROWS, seed=3).lengths)
    expected = weights(whole.model)
    for name, weight in weights(short.model).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("stop", [2, 5])
def test_a_run_that_is_taken_up_again_ends_with_the_same_bits(make_trainer, stop: int) -> None:
    def session(name: str, *, is_cut: bool = False, resume: bool = False):
        train = STEPS | {"save_strategy": "steps", "save_steps": 1}
        trainer = make_trainer(with_lora(llama(), dropout=0.3), make_rows(ROWS, seed=3), name=name, train=train)
        if is_cut:
            trainer.add_callback(StopAt(stop))
        report = fit(trainer, newest_checkpoint(trainer.run.path) if resume else None)
        return weights(trainer.model), report.resumed_from

    expected, _ = session("whole")
    session("cut", is_cut=True)
    given, resumed_from = session("cut", resume=True)
    assert resumed_from == stop
    for name, weight in given.items():
        assert torch.equal(weight, expected[name]), name


def test_each_token_is_told_to_be_of_its_row(make_trainer) -> None:
    """Of the row that a broken step names, and that an evaluation sums."""
    rows = make_rows(5)
    found = []
    for packing in (True, False):
        trainer = make_trainer(llama(), rows, train=STEPS | {"packing": packing})
        found.append(trainer._logprobs(trainer.model, trainer.data_collator(list(rows))))
    (logprobs_N, rows_N), (expected_N, expected_rows_N) = found
    assert rows_N.tolist() == expected_rows_N.tolist()
    assert set(rows_N.tolist()) == set(range(5))
    torch.testing.assert_close(logprobs_N, expected_N, rtol=1e-6, atol=1e-6)


def test_a_model_that_would_not_keep_them_apart_is_not_trained(make_trainer, monkeypatch) -> None:
    model = llama()
    forward = model.model.forward

    def without_positions(*args, position_ids=None, **options):
        return forward(*args, **options)

    monkeypatch.setattr(model.model, "forward", without_positions)
    with pytest.raises(ModelError, match="see its neighbour"):
        make_trainer(model, make_rows(ROWS), train=STEPS)
    make_trainer(model, make_rows(ROWS), train=STEPS | {"packing": False})
