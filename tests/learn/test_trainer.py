"""The rule of training: one loss and one gradient, however a batch is split, padded, logged or evaluated in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from memory.memory_parts import allocated
from tiny_training import PAD, llama, make_rows, with_lora
from torch import nn
from transformers import Trainer, TrainerCallback

from sftlib.errors import DataError, TrainingError
from sftlib.learn.fitting import fit
from sftlib.learn.samples import SampleAnswers, SampleRow
from sftlib.learn.undisturbed import undisturbed
from sftlib.model.offloading import _Travel
from sftlib.tokens.collate import collate
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example

SPLITS = [(8, 1), (1, 8), (2, 4), (4, 2)]  # micro-batch x accumulation


class Watch(TrainerCallback):
    """Keeps the gradients of every step, and the rows of each."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        self.gradients.append({n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None})


def trained(
    make_trainer, model: nn.Module, rows: ExampleDataset, **options: Any
) -> tuple[Watch, list[float], dict[str, torch.Tensor]]:
    watch = Watch()
    trainer = make_trainer(model, rows, **options)
    trainer.add_callback(watch)
    fit(trainer)
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    return watch, losses, {name: weight.detach().clone() for name, weight in model.named_parameters()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("make_model", [llama, lambda: with_lora(llama())], ids=["full", "lora"])
def test_loss_and_gradients_do_not_depend_on_accumulation(make_trainer, make_model) -> None:
    rows = make_rows(21, seed=3)  # two whole steps and a smaller one an epoch
    assert len({example.supervised for example in rows.examples}) > 8  # uneven on purpose
    runs = []
    for number, (micro, accumulate) in enumerate(SPLITS):
        train = {"batch_size": micro, "grad_accum": accumulate, "max_grad_norm": 0.0, "learning_rate": 1e-3}
        runs.append(trained(make_trainer, make_model(), rows, train=train, name=f"run-{number}"))
    watch, losses, _ = runs[0]
    assert len(losses) == 6
    for other_watch, other_losses, _ in runs[1:]:
        assert other_losses == pytest.approx(losses, rel=1e-5)
        assert_close(other_watch.gradients[0], watch.gradients[0])  # later ones differ by what Adam makes of rounding


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6 * float(b[name].abs().max()))


def test_the_loss_is_the_mean_over_all_supervised_tokens_of_the_step(make_trainer) -> None:
    rows = make_rows(8, seed=3)
    model = llama()
    batch = collate(rows.examples, PAD)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    expected = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), batch["labels"][:, 1:].reshape(-1), ignore_index=-100
    )
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    train = {"batch_size": 2, "grad_accum": 4, "epochs": 1.0, "max_grad_norm": 0.0}
    watch, losses, _ = trained(make_trainer, llama(), rows, train=train)
    assert losses == pytest.approx([expected.item()], rel=1e-6)
    assert_close(watch.gradients[0], gradients)


def test_padding_changes_nothing(make_trainer) -> None:
    rows = make_rows(6, seed=1)

    def padded(examples: list[Example]) -> dict[str, Any]:
        batch = collate(examples, PAD)
        more = {"input_ids": PAD, "attention_mask": 0, "labels": -100}
        wide = {key: F.pad(tensor, (0, 9), value=more[key]) for key, tensor in batch.items()}
        return {**wide, "sources": [example.source for example in examples]}

    results = []
    for name in ("tight", "wide"):
        trainer, watch = (
            make_trainer(llama(), rows, train={"batch_size": 6, "epochs": 1.0, "max_grad_norm": 0.0}, name=name),
            Watch(),
        )
        if name == "wide":
            trainer.data_collator = padded
        trainer.add_callback(watch)
        fit(trainer)
        results.append((trainer.state.log_history[0]["loss"], watch.gradients[0]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert_close(results[1][1], results[0][1])


def test_two_runs_are_bit_equal_and_another_seed_is_not(make_trainer) -> None:
    def run(name: str, seed: int) -> dict[str, torch.Tensor]:
        train = {"batch_size": 2, "grad_accum": 2, "epochs": 3.0}
        return trained(make_trainer, with_lora(llama(), dropout=0.2), make_rows(13), train=train, name=name, seed=seed)[
            2
        ]

    first, second, other = run("a", 7), run("b", 7), run("c", 8)
    assert_same(first, second)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_gradient_checkpointing_changes_nothing(make_trainer) -> None:
    results = []
    for name, checkpointing in (("off", False), ("on", True)):
        train = {"gradient_checkpointing": checkpointing, "epochs": 2.0}
        results.append(trained(make_trainer, with_lora(llama(), dropout=0.2), make_rows(9), train=train, name=name)[2])
    assert_same(*results)


def eval_options(rows: ExampleDataset, samples: SampleAnswers | None = None, **train: Any) -> dict[str, Any]:
    train = {"eval_strategy": "steps", "eval_steps": 1, "batch_size": 4, "epochs": 2.0} | train
    return {"eval_set": rows, "samples": samples, "train": train}


def noisy_samples(answers: list[str] | None = None) -> SampleAnswers:
    """An answerer that spends random numbers, as a sampling one would."""
    rows = [SampleRow("prompt one", "one?", "1"), SampleRow("prompt two", "two?", "2")]

    def answer(prompts: list[str]) -> list[str]:
        torch.rand(3)
        return answers or [prompt.upper() for prompt in prompts]

    return SampleAnswers(
        rows, answer, lambda given, wanted: sum(a == b for a, b in zip(given, wanted, strict=True)) / len(wanted)
    )


def test_evaluating_does_not_change_training(make_trainer) -> None:
    rows = make_rows(13)
    quiet = trained(
        make_trainer, with_lora(llama(), dropout=0.2), rows, train={"batch_size": 4, "epochs": 2.0}, name="quiet"
    )
    options = eval_options(make_rows(7, seed=5), noisy_samples())
    watched = trained(make_trainer, with_lora(llama(), dropout=0.2), rows, name="watched", **options)
    assert_same(quiet[2], watched[2])


def test_eval_loss_is_token_weighted_and_independent_of_the_batch_size(make_trainer) -> None:
    rows = make_rows(11, seed=9)
    model = llama()
    batch = collate(rows.examples, PAD)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    expected = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), batch["labels"][:, 1:].reshape(-1), ignore_index=-100
    )
    for size in (1, 4, 11):
        trainer = make_trainer(model, make_rows(4), name=f"eval-{size}", **eval_options(rows, batch_size=size))
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_evaluation_holds_no_logits_and_goes_from_long_to_short(make_trainer) -> None:
    rows = make_rows(11, seed=9)
    trainer = make_trainer(llama(), make_rows(4), **eval_options(rows))
    lengths = [rows.lengths[index] for index in trainer._get_eval_sampler(rows)]
    assert lengths == sorted(rows.lengths, reverse=True)
    output = trainer.evaluation_loop(trainer.get_eval_dataloader(), "Evaluation")
    assert output.predictions is None
    assert output.num_samples == 11


def test_the_peak_of_evaluation_is_at_most_that_of_training(make_trainer) -> None:
    """The same rows in the same batches: logits of whole batches would be many times the rest."""
    rows = make_rows(8, seed=9)
    trainer = make_trainer(llama(), rows, eval_set=rows, train={"batch_size": 4, "max_steps": 2})
    _, _, training = allocated(trainer.train)
    _, _, evaluation = allocated(trainer.evaluate)
    assert 0 < evaluation <= training


def test_evaluation_without_a_supervised_token_is_an_error(make_trainer) -> None:
    rows = ExampleDataset([Example([5, 6, 7], [-100] * 3, "raw.jsonl:1", True)])
    with pytest.raises(DataError, match="no supervised token"):
        make_trainer(llama(), make_rows(4), **eval_options(rows)).evaluate()


def test_sample_answers_choose_the_best_checkpoint(make_trainer) -> None:
    scores = iter([0.1, 0.9, 0.3, 0.2])
    samples = noisy_samples()
    samples.score = lambda given, wanted: next(scores)
    options = eval_options(
        make_rows(3), samples, metric_for_best_model="eval_rougeL", load_best_model_at_end=True, save_strategy="steps",
        save_steps=1, save_total_limit=1, max_steps=4,
    )  # fmt: skip
    trainer = make_trainer(llama(), make_rows(8), **options)
    report = fit(trainer)
    assert samples.latest == ["PROMPT ONE", "PROMPT TWO"]
    assert report.best == {
        "checkpoint": "checkpoint-2", "step": 2, "metric": "eval_rougeL", "value": 0.9,
        "why": "highest eval_rougeL of 4 evaluations",
    }  # fmt: skip
    assert json.loads(trainer.run.best.read_text()) == report.best
    assert report.is_best_loaded
    assert sorted(path.name for path in trainer.run.path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_early_stopping_stops(make_trainer) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])
    samples = noisy_samples()
    samples.score = lambda given, wanted: next(scores)
    options = eval_options(
        make_rows(3), samples, metric_for_best_model="eval_rougeL", early_stopping_patience=2, max_steps=8
    )
    report = fit(make_trainer(llama(), make_rows(8), **options))
    assert (report.steps, report.planned_steps) == (3, 8)


def test_nan_weights_are_never_saved(make_trainer) -> None:
    class Poison(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs) -> None:
            if state.global_step == 3:
                next(model.parameters()).data[0, 0] = float("nan")

    trainer = make_trainer(llama(), make_rows(16), train={"save_strategy": "steps", "save_steps": 1})
    trainer.add_callback(Poison())
    with pytest.raises(TrainingError, match="not finite at step 3"):
        fit(trainer)
    assert sorted(path.name for path in trainer.run.path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]


def test_transformers_prints_nothing(make_trainer, capfd: pytest.CaptureFixture[str]) -> None:
    options = eval_options(make_rows(3), save_strategy="steps", save_steps=1, load_best_model_at_end=True)
    for name, model in (("full", llama(tie_word_embeddings=True)), ("lora", with_lora(llama()))):
        fit(make_trainer(model, make_rows(8), name=name, **options))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_what_an_evaluation_switches_off_is_on_again() -> None:
    model = llama()
    model.gradient_checkpointing_enable()
    model.train()
    before = [(module.training, getattr(module, "gradient_checkpointing", None)) for module in model.modules()]
    assert (True, True) in before
    with undisturbed(model):
        assert not model.training
        for module in model.modules():  # as Unsloth's generate does
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
    assert before == [(m.training, getattr(m, "gradient_checkpointing", None)) for m in model.modules()]


def test_the_tokens_of_a_step_are_counted_where_a_patched_trainer_does_not(make_trainer, monkeypatch) -> None:
    """Unsloth replaces this method of Trainer, and its own counts nothing for a forward without **kwargs."""
    rows, train = make_rows(8, seed=3), {"batch_size": 2, "grad_accum": 4}
    _, expected, _ = trained(make_trainer, llama(), rows, train=train, name="stock")
    stock = Trainer.get_batch_samples
    monkeypatch.setattr(Trainer, "get_batch_samples", lambda self, *given: (stock(self, *given)[0], None))
    _, losses, _ = trained(make_trainer, llama(), rows, train=train, name="patched")
    assert losses == expected


def test_activation_offload_reaches_the_blocks_and_changes_nothing(make_trainer, monkeypatch) -> None:
    """Without a GPU the same tensors go by plain copies; the Trainer leaves what was enabled as it is."""
    moved, send = [], _Travel.send

    def watched(self: _Travel, tensor: torch.Tensor) -> Any:
        moved.append(tensor.shape)
        return send(self, tensor)

    monkeypatch.setattr(_Travel, "send", watched)
    weights = []
    for offload in (False, True):
        model, train = with_lora(llama()), {"gradient_checkpointing": True, "activation_offload": offload}
        fit(make_trainer(model, make_rows(8), train=train, name=f"offload-{offload}"))
        assert bool(moved) == offload
        weights.append([weight.clone() for weight in model.parameters()])
    assert all(map(torch.equal, *weights))
    assert len(moved) == 2 * 2 * 2  # two epochs of two micro-batches, two blocks
