"""Memory that runs out in the middle of a training changes its speed, and neither weights nor counts nor losses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DistributedType
from safetensors.torch import load_file
from tiny_training import PAD, VOCABULARY, llama, make_rows, with_lora
from torch import nn
from transformers import TrainerCallback

from sftlib import console
from sftlib.errors import MachineError
from sftlib.learn.checkpoints import newest_checkpoint
from sftlib.learn.fitting import fit
from sftlib.learn.logprobs import causal_model
from sftlib.learn.replay import Replay, Sizes, pieces
from sftlib.run.folder import RunFolder
from sftlib.tokens.collate import collate
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example

ROWS = 33  # 3 steps an epoch: 12, 12 and 9 rows
STEPS = {"batch_size": 4, "grad_accum": 3, "epochs": 3.0, "learning_rate": 1e-3}
Asked = Callable[[int, int, bool], "str | None"]


class Shortage:
    """Memory that runs out where `asked` says so: `forward` in the first layer, `backward` with the second layer done.

    asked: (rows, width, whether it trains) -> forward, backward or nothing.
    """

    def __init__(self, model: nn.Module, asked: Asked) -> None:
        self.asked, self.tried, self.fired = asked, [], []
        self._due: str | None = None
        inner = causal_model(model)
        inner.register_forward_pre_hook(self._decide, with_kwargs=True)
        inner.model.layers[0].register_forward_hook(lambda *_: self._fire("forward"))
        first, self.last = ([w for w in layer.parameters() if w.requires_grad] for layer in inner.model.layers)
        first[0].register_hook(lambda _: self._fire("backward"))

    def _decide(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.shape = tuple(kwargs["input_ids"].shape)
        self.tried.append(self.shape)
        self._due = self.asked(*self.shape, module.training)

    def _fire(self, phase: str) -> None:
        if self._due == phase:
            if phase == "backward":
                assert all(weight.grad is not None for weight in self.last), "some gradients are added by now"
            self._due = None
            self.fired.append((phase, *self.shape))
            raise torch.OutOfMemoryError("CUDA out of memory.")


def at_random(seed: int) -> Asked:
    """One training pass in three runs out, wherever there is something to split, replays included."""
    draw = random.Random(seed)
    return lambda rows, width, trains: (
        draw.choice(["forward", "backward"]) if trains and rows > 1 and draw.random() < 1 / 3 else None
    )


def card_of(tokens: int, phase: str = "backward") -> Asked:
    """A card with room for so many tokens."""
    return lambda rows, width, trains: phase if rows * width > tokens else None


def nothing(*_: Any) -> None:
    """A card with room for everything."""


def rows_of(*lengths: int) -> ExampleDataset:
    """Rows of these lengths, all tokens but the first supervised."""
    draw = random.Random(5)
    texts = [[draw.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]
    return ExampleDataset(
        [Example(ids, [-100, *ids[1:]], f"raw.jsonl:{row}", True) for row, ids in enumerate(texts, start=1)]
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def trained(make_trainer, model: nn.Module, asked: Asked, *, name: str, rows: ExampleDataset | None = None, **options):
    options["train"] = STEPS | options.get("train", {})
    trainer = make_trainer(model, rows or make_rows(ROWS, seed=3), name=name, **options)
    shortage = Shortage(trainer.model, asked)
    return trainer, shortage, fit(trainer)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "warn", lines.append)
    return lines


@pytest.fixture(scope="module")
def phases() -> Iterator[set[str]]:
    """Where memory ran out, over all seeds."""
    seen: set[str] = set()
    yield seen
    assert seen == {"forward", "backward"}


@pytest.mark.parametrize("make_model", [llama, lambda: with_lora(llama())], ids=["full", "lora"])
@pytest.mark.parametrize(("seed", "batch_size", "grad_accum"), [(0, 4, 3), (1, 4, 3), (2, 8, 2), (3, 8, 2), (4, 12, 1)])
def test_the_end_is_that_of_an_undisturbed_run(make_trainer, make_model, seed, batch_size, grad_accum, phases) -> None:
    train = {"batch_size": batch_size, "grad_accum": grad_accum}
    whole, _, report = trained(make_trainer, make_model(), nothing, name="whole", train=train)
    short, shortage, short_report = trained(make_trainer, make_model(), at_random(seed), name="short", train=train)
    assert len(shortage.fired) >= 2
    phases.update(phase for phase, *_ in shortage.fired)
    assert short_report.steps == report.steps
    for key in ("steps", "tokens", "supervised_tokens"):
        assert short_report.times[key] == report.times[key], key
    expected, given = records(whole.run.metrics), records(short.run.metrics)
    assert [record["supervised_tokens"] for record in given] == [record["supervised_tokens"] for record in expected]
    assert [record["loss"] for record in given] == pytest.approx([record["loss"] for record in expected], rel=1e-5)
    before, after = weights(make_model()), weights(whole.model)
    assert max(float((after[name] - before[name]).abs().max()) for name in after) > 4e-3
    for name, weight in weights(short.model).items():
        torch.testing.assert_close(weight, after[name], rtol=0, atol=1e-6)


def test_a_size_that_fits_is_found_once_and_short_rows_still_run_together(make_trainer, said) -> None:
    rows = rows_of(*[16] * 8, *[4] * 8)
    remembered: list[tuple[int, int]] = []
    trainer, shortage, _ = trained(
        make_trainer, llama(), card_of(40), name="r", rows=rows, train={"batch_size": 4, "grad_accum": 4},
        remember=lambda *shape: remembered.append(shape),
    )  # fmt: skip
    once = [(2, 16)] * 4 + [(4, 4)] * 2
    assert shortage.tried == [(4, 16), *once, *once, *once]
    assert shortage.fired == [("backward", 4, 16)]
    assert remembered == [(2, 16)]
    [line] = said
    assert "in step 1 with 4 rows of 16 tokens" in line
    assert "at most 32 tokens" in line
    [record] = records(trainer.run.out_of_memory)
    assert len(record.pop("sources")) == 4
    assert record == {"step": 1, "phase": "training", "rows": 4, "width": 16, "tokens_from_now": 32}


def test_what_had_fitted_is_run_again_with_its_random_numbers(tmp_path: Path, said) -> None:
    run = RunFolder(tmp_path, "r")
    run.path.mkdir()
    forgotten: list[int] = []
    drawn: list[tuple[int, float]] = []
    replay = Replay(
        run, forget=lambda: forgotten.append(len(drawn)), is_alone=True, is_checkpointed=True, remember=None
    )
    batches = [collate(rows_of(length, length), PAD) | {"sources": ["a", "b"]} for length in (8, 7, 6)]

    def work(inputs: dict[str, Any]) -> torch.Tensor:
        rows, width = inputs["input_ids"].shape
        drawn.append((rows * width, random.random() + float(torch.rand(()))))
        if (rows, width) == (2, 6):
            raise torch.OutOfMemoryError
        return torch.tensor(float(width))

    replay.begin_step()
    sizes = Sizes()
    losses = [float(replay.train(inputs, work, sizes, 1)) for inputs in batches]
    assert losses == [8.0, 7.0, 8.0 + 7.0 + 2 * 6.0]  # the last is of the whole step: what was logged is forgotten
    assert forgotten == [3]
    first, second, third, *again = drawn
    assert [size for size, _ in again] == [16, 14, 6, 6]
    assert [value for _, value in again[:3]] == [first[1], second[1], third[1]]
    replay.begin_step()
    assert float(replay.train(batches[0], work, sizes, 2)) == 2 * 8.0  # the size is of all that come


@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_that_is_taken_up_again_splits_as_if_it_had_not_stopped(make_trainer, stop: int) -> None:
    """Stopped before memory runs out in step 3, and after it. Dropout makes a micro-batch split otherwise show."""

    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            control.should_training_stop |= state.global_step == stop

    def session(name: str, *, is_cut: bool = False, checkpoint: bool = False, steps_before: int = 0):
        train = STEPS | {"save_strategy": "steps", "save_steps": 1}
        trainer = make_trainer(with_lora(llama(), dropout=0.3), make_rows(ROWS, seed=3), name=name, train=train)
        passes = iter(range(3 * steps_before, 10**6))
        # Memory runs out once, with the second micro-batch of step 3, as far as it is tried whole.
        asked = lambda rows, width, trains: "backward" if next(passes) == 7 and rows == 4 else None  # noqa: E731
        shortage = Shortage(trainer.model, asked)
        if is_cut:
            trainer.add_callback(StopAt())
        fit(trainer, newest_checkpoint(trainer.run.path) if checkpoint else None)
        return trainer, shortage

    whole, shortage = session("whole")
    assert len(shortage.fired) == 1
    _, before = session("cut", is_cut=True)
    again, after = session("cut", checkpoint=True, steps_before=stop)
    assert len(before.fired) + len(after.fired) == 1
    assert again._sizes.training == whole._sizes.training is not None
    expected = weights(whole.model)
    for name, weight in weights(again.model).items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_row_that_does_not_fit_is_named(make_trainer, said, phase: str) -> None:
    with pytest.raises(MachineError) as caught:
        trained(
            make_trainer, llama(), card_of(18, phase), name="r", rows=rows_of(9, 20, 9, 9, 9, 9), train={"epochs": 1.0}
        )
    assert caught.value.where == "raw.jsonl:2"
    assert "a single row of 20 tokens" in caught.value.seen
    for cure in ("train.gradient_checkpointing to true", "model.max_seq_len", "There is no checkpoint yet."):
        assert cure in caught.value.cure
    assert len(said) == 2  # 4 rows, 2 rows


def test_checkpointing_is_not_advised_where_it_is_on(make_trainer, said) -> None:
    with pytest.raises(MachineError) as caught:
        trained(make_trainer, llama(), card_of(1, "forward"), name="r", train={"gradient_checkpointing": True})
    assert "gradient_checkpointing" not in caught.value.cure


def test_one_of_several_processes_does_not_begin_again_alone(make_trainer, said, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "distributed_type", property(lambda self: DistributedType.MULTI_CPU))
        trainer = make_trainer(llama(), make_rows(ROWS, seed=3), train=STEPS)
    shortage = Shortage(trainer.model, card_of(20, "forward"))
    with pytest.raises(MachineError, match="among several processes none can run its part again alone") as caught:
        fit(trainer)
    assert len(shortage.tried) == 1
    assert "train.batch_size" in caught.value.cure
    assert not trainer.run.out_of_memory.exists()


def test_an_optimizer_that_runs_out_ends_the_run_and_its_weights_are_not_saved(make_trainer) -> None:
    """It fails with some of the weights changed; the checkpoint before it is named and whole."""
    trainer = make_trainer(llama(), make_rows(ROWS, seed=3), train=STEPS | {"save_strategy": "steps", "save_steps": 1})
    at_step_2: dict[str, torch.Tensor] = {}

    class HalfAStep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, optimizer, **kwargs) -> None:
            if state.global_step == 2:
                at_step_2.update(weights(model))
                next(model.parameters()).data.add_(1.0)
                raise torch.OutOfMemoryError("CUDA out of memory.")

    trainer.add_callback(HalfAStep())
    with pytest.raises(MachineError, match="after 2 whole steps, outside of forward and backward") as caught:
        fit(trainer)
    newest = newest_checkpoint(trainer.run.path)
    assert newest is not None
    assert newest.name == "checkpoint-2"
    assert f"What was learned before is in {newest}." in caught.value.cure
    for name, weight in load_file(newest / "model.safetensors").items():
        assert torch.equal(weight, at_step_2[name]), name


def test_a_step_that_is_broken_too_is_left_out_once_and_each_of_its_rows_named_once(make_trainer, said) -> None:
    rows = make_rows(ROWS, seed=3)
    model = llama()
    trainer = make_trainer(model, rows, train=STEPS | {"epochs": 1.0})
    looked_at: list[int] = []

    class BreakLoss(TrainerCallback):
        """A word that costs NaN in step 2; shows what the guard has looked at."""

        def on_step_begin(self, args, state, control, **kwargs) -> None:
            self.kept = model.lm_head.weight.data.clone()
            if state.global_step == 1:
                model.lm_head.weight.data[7] = float("nan")

        def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
            model.lm_head.weight.data.copy_(self.kept)
            looked_at.append(sum(len(inputs["sources"]) for inputs in trainer.broken._inputs))

    trainer.add_callback(BreakLoss())
    passes = iter(range(10**6))
    shortage = Shortage(model, lambda rows, width, trains: "backward" if next(passes) == 4 else None)
    assert fit(trainer).steps == 3
    assert len(shortage.fired) == 1
    assert looked_at == [12, 12, 9]
    dumped = [row["source"] for row in records(trainer.run.non_finite)]
    assert len(dumped) == len(set(dumped)) == 12
    assert sum("is not applied" in line for line in said) == 1
    assert [record["step"] for record in trainer.state.log_history if "loss" in record] == [1, 3]
    assert trainer.tally.supervised == sum(example.supervised for example in rows.examples)


def test_another_error_is_none_of_this(make_trainer) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        trained(make_trainer, llama(), broken, name="r")


def test_an_evaluation_that_runs_out_gives_the_same_loss_and_leaves_training_alone(make_trainer, said) -> None:
    options = {
        "eval_set": make_rows(11, seed=9), "train": {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 3},
    }  # fmt: skip

    def small(rows: int, width: int, trains: bool) -> str | None:
        return "forward" if not trains and rows * width > 45 else None

    whole, _, _ = trained(make_trainer, llama(), nothing, name="whole", **options)
    short, shortage, _ = trained(make_trainer, llama(), small, name="short", **options)
    assert len(shortage.fired) == 1  # and not again in the evaluations after it
    assert (short._sizes.training, short._sizes.evaluation) == (None, 2 * shortage.fired[0][2])
    assert "in the evaluation after step 1" in said[0]
    losses = [[r["eval_loss"] for r in records(run.run.metrics) if "eval_loss" in r] for run in (whole, short)]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    expected = weights(whole.model)
    for name, weight in weights(short.model).items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize(
    ("tokens", "shapes"),
    [
        (None, [(5, 9)]),
        (45, [(5, 9)]),
        (44, [(3, 9), (2, 6)]),  # four would fit, but three and two are as many passes
        (18, [(2, 9), (2, 8), (1, 4)]),
        (17, [(1, 9), (1, 9), (1, 8), (1, 6), (1, 4)]),
        (1, [(1, 9), (1, 9), (1, 8), (1, 6), (1, 4)]),
    ],
)
def test_pieces_hold_every_row_once_without_the_padding_of_the_others(tokens, shapes) -> None:
    rows = rows_of(9, 9, 8, 6, 4)
    batch = collate(rows.examples, PAD) | {"sources": [example.source for example in rows.examples]}
    found = pieces(batch, tokens)
    assert [tuple(piece["input_ids"].shape) for piece in found] == shapes
    assert [source for piece in found for source in piece["sources"]] == batch["sources"]
    for piece in found:
        alone = collate([rows[batch["sources"].index(source)] for source in piece["sources"]], PAD)
        for name, tensor in alone.items():
            assert torch.equal(piece[name], tensor), name


def test_answers_longer_than_their_questions_are_not_cut() -> None:
    """Of an encoder-decoder, whose labels have a length of their own, which may be that of the questions by chance."""
    questions = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0], [5, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]), "sources": ["a", "b", "c"],
    }  # fmt: skip
    chance = torch.tensor([[7, 2, -100, -100], [7, 7, 2, -100], [7, 2, -100, -100]])
    found = pieces(questions | {"labels": chance}, 4)
    assert [piece["labels"].tolist() for piece in found] == [[[7, 2, -100, -100]], [[7, 7, 2]], [[7, 2]]]
    assert [piece["input_ids"].tolist() for piece in found] == [[[5, 6, 7, 8]], [[5, 6, 0]], [[5, 0]]]
    longer = torch.tensor([[7, 7, 7, 7, 7, 2], [7, 2, -100, -100, -100, -100], [7, 7, 7, 7, 7, 2]])
    found = pieces(questions | {"labels": longer}, 12)
    assert [piece["labels"].shape for piece in found] == [(2, 6), (1, 6)]
