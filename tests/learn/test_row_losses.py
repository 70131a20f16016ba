"""Every row's loss under its own name, at every step, without changing the training."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from test_guards import BreakLoss
from test_replay import Shortage, card_of
from test_resume import StopAt
from tiny_training import llama, make_rows, with_lora
from torch import nn
from transformers import TrainerControl, TrainerState

from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.losses import nll_of_rows
from sftlib.learn.row_losses import RowLosses
from sftlib.learn.spikes import Above, Spike
from sftlib.run.folder import RunFolder
from sftlib.run.seen import SeenRow
from sftlib.tokens.examples import Example


def lines(path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def own_loss(model: nn.Module, example: Example) -> float:
    """The mean loss of one example, by the model's own forward."""
    ids = torch.tensor([example.input_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, :-1]
    targets = torch.tensor(example.labels[1:])
    return float(nn.functional.cross_entropy(logits, targets, ignore_index=-100))


def test_the_sums_of_rows_by_hand() -> None:
    sums = nll_of_rows(torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([0, 2, 2]), 3)
    assert sums.tolist() == [[1.0, 1.0], [0.0, 0.0], [5.0, 2.0]]


@pytest.mark.parametrize(
    "train", [{"batch_size": 8}, {"batch_size": 2, "grad_accum": 4}, {"batch_size": 8, "packing": True}]
)
def test_each_row_has_the_loss_that_it_has_alone(make_trainer, train) -> None:
    rows = make_rows(13)
    model = llama()
    expected = {example.source: own_loss(model, example) for example in rows.examples}
    trainer = make_trainer(model, rows, train={"learning_rate": 1e-12, "epochs": 2.0} | train)
    fit(trainer)
    steps = lines(trainer.run.seen)
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert [len(step["rows"]) for step in steps] == [8, 5, 8, 5]
    for epoch in (steps[:2], steps[2:]):
        seen = {source: loss for step in epoch for source, loss, _ in step["rows"]}
        assert seen == pytest.approx(expected, rel=1e-4)
    tokens = {source: count for step in steps for source, _, count in step["rows"]}
    assert tokens == {example.source: example.supervised for example in rows.examples}


def test_the_loss_and_the_norm_of_a_step_are_those_that_are_logged(make_trainer) -> None:
    trainer = make_trainer(llama(), make_rows(13), train={"batch_size": 2, "grad_accum": 4})
    fit(trainer)
    logged = [record for record in trainer.state.log_history if "loss" in record]
    steps = lines(trainer.run.seen)
    assert [step["loss"] for step in steps] == pytest.approx([record["loss"] for record in logged], rel=1e-4)
    assert [step["grad_norm"] for step in steps] == pytest.approx([r["grad_norm"] for r in logged], rel=1e-4)


def test_a_step_that_is_run_again_is_written_once(make_trainer) -> None:
    def run(name: str, shortage: bool) -> list[dict[str, Any]]:
        model = with_lora(llama())
        trainer = make_trainer(model, make_rows(12), train={"batch_size": 4, "grad_accum": 3}, name=name)
        found = Shortage(model, card_of(40)) if shortage else None
        fit(trainer)
        assert found is None or found.fired
        return lines(trainer.run.seen)

    whole, again = run("whole", False), run("again", True)
    assert [step["step"] for step in again] == [step["step"] for step in whole] == [1, 2]
    for one, other in zip(whole, again, strict=True):
        assert [(source, tokens) for source, _, tokens in other["rows"]] == [(row[0], row[2]) for row in one["rows"]]
        assert [row[1] for row in other["rows"]] == pytest.approx([row[1] for row in one["rows"]])


def test_a_resumed_run_has_each_step_once_and_the_same_ones(make_trainer) -> None:
    def run(name: str, *, stop: int | None = None, resume: bool = False):
        train = {"save_strategy": "steps", "save_steps": 2, "epochs": 3.0}
        trainer = make_trainer(with_lora(llama(), dropout=0.3), make_rows(13), train=train, name=name)
        if stop:
            trainer.add_callback(StopAt(stop))
        fit(trainer, newest_checkpoint(trainer.run.path) if resume else None)
        return trainer.run

    whole = run("whole")
    cut = run("cut", stop=5)
    assert len(lines(cut.seen)) == 5
    with open(cut.seen, "ab") as stream:
        stream.write('{"step": 6, "loss": 1.0, "rows": [["é'.encode()[:-1])  # torn by a kill, in the middle of a letter
    again = run("cut", resume=True)
    assert again.seen.read_text() == whole.seen.read_text()


def test_a_loss_that_is_not_finite_is_null_and_only_of_its_row(make_trainer) -> None:
    rows = make_rows(8)
    token = rows[0].input_ids[-1]
    model = llama()
    trainer = make_trainer(model, rows, train={"batch_size": 8, "epochs": 1.0})
    trainer.add_callback(BreakLoss(model, {1}, token))
    trainer.callback_handler.callbacks.insert(0, trainer.callback_handler.callbacks.pop())
    fit(trainer)
    [step] = lines(trainer.run.seen)
    # a NaN in the head reaches every row's softmax
    assert (step["loss"], step["grad_norm"]) == (None, None)
    assert {loss for _, loss, _ in step["rows"]} == {None}
    assert not trainer.run.spikes.exists()


def test_the_text_of_a_pair_is_what_is_given_and_the_answer(tmp_path) -> None:
    run = RunFolder(tmp_path, "run")
    run.path.mkdir()
    told = RowLosses(run, decode=lambda ids: " ".join(map(str, ids)))
    inputs = {
        "sources": ["a:1", "a:2"],
        "input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "decoder_input_ids": torch.tensor([[0, 3], [0, 4]]), "labels": torch.tensor([[3, 1], [1, -100]]),
    }  # fmt: skip
    told.count(inputs, torch.tensor([-1.0, -3.0, -9.0]), torch.tensor([0, 0, 1]))
    told._tell(Spike(3, {"loss": Above(5.0, 1.0, 2.0)}, [SeenRow("a:2", 9.0, 1), SeenRow("a:1", 2.0, 2)], 1))
    [spike] = lines(run.spikes)
    assert [(row["source"], row["text"]) for row in spike["rows"]] == [("a:2", "8 9\n1"), ("a:1", "5 6 7\n3 1")]
    assert spike["above"] == {"loss": {"value": 5.0, "usual": 1.0, "limit": 2.0}}


def test_rows_of_one_source_keep_their_own_texts(tmp_path) -> None:
    """As those that are rendered from the turns of one conversation."""
    run = RunFolder(tmp_path, "run")
    run.path.mkdir()
    told = RowLosses(run, decode=lambda ids: " ".join(map(str, ids)))
    inputs = {"sources": ["a:1", "a:1"], "input_ids": torch.tensor([[5], [6]]), "attention_mask": torch.ones(2, 1)}
    told.count(inputs, torch.tensor([-1.0, -9.0]), torch.tensor([0, 1]))
    told._tell(Spike(3, {"loss": Above(5.0, 1.0, 2.0)}, [SeenRow("a:1", 9.0, 1), SeenRow("a:1", 1.0, 1)], 1))
    [spike] = lines(run.spikes)
    assert [(row["loss"], row["text"]) for row in spike["rows"]] == [(9.0, "6"), (1.0, "5")]


def test_without_a_token_to_train_a_row_is_not_seen(tmp_path) -> None:
    run = RunFolder(tmp_path, "run")
    run.path.mkdir()
    told = RowLosses(run, decode=str)
    told.count({"sources": ["a:1", "a:2", ""]}, torch.tensor([-2.0]), torch.tensor([1]))
    told.on_pre_optimizer_step(None, TrainerState(), TrainerControl())
    assert lines(run.seen) == [{"step": 1, "loss": 2.0, "grad_norm": None, "rows": [["a:2", 2.0, 1]]}]
