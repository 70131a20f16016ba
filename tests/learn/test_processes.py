"""Two real processes (gloo): what each is told by the other, and the decisions that none may take alone."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_training import llama, make_rows, with_lora
from transformers import TrainerControl, TrainerState
from transformers.training_args import OptimizerNames

from sftlib.errors import ConfigError, MachineError, TrainingError
from sftlib.learn import processes, sharding
from sftlib.learn.budget import Budget
from sftlib.learn.guards import BrokenSteps, SilentTensors, refuse_non_finite_weights
from sftlib.learn.order import StepSampler, WithBlank
from sftlib.learn.row_losses import RowLosses
from sftlib.learn.stopping import Stopper
from sftlib.learn.tally import Tally
from sftlib.run.folder import RunFolder
from sftlib.run.journal import entries
from sftlib.run.launch import Launch, find_launch

ARGS = SimpleNamespace(eval_strategy="no", save_strategy="no")


def in_both(function: Callable[[int], Any]) -> list[Any]:
    """What a function of the rank returns in each of two processes; an error is returned as its text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ways = [fork.Pipe(duplex=False) for _ in range(2)]

    def work(rank: int) -> None:
        os.environ.update(
            WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )
        torch.set_num_threads(1)
        try:
            processes.join(find_launch())
            ways[rank][1].send(function(rank))
            processes.wait()
        except Exception:
            ways[rank][1].send(traceback.format_exc())
        os._exit(0)

    workers = [fork.Process(target=work, args=(rank,)) for rank in range(2)]
    for worker in workers:
        worker.start()
    answers = [receiver.recv() if receiver.poll(60) else "nothing came back" for receiver, _ in ways]
    for worker in workers:
        worker.kill()
    return answers


def test_what_they_tell_each_other():
    def tell(rank: int) -> tuple:
        return (
            processes.is_first(), processes.any_of(rank == 1), processes.any_of(False), processes.largest(rank + 5),
            processes.totals([rank, 10]), processes.first_says(f"from {rank}"), processes.gathered([rank]),
        )  # fmt: skip

    same = (True, False, 6, [1, 20], "from 0", [[0], [1]])
    assert in_both(tell) == [(True, *same), (False, *same)]


def test_alone_everything_is_as_it_was():
    assert (processes.largest(3), processes.totals([1, 2]), processes.first_says("x")) == (3, [1, 2], "x")
    assert (processes.any_of(True), processes.any_of(False), processes.gathered(7)) == (True, False, [7])


def test_the_first_fills_what_the_second_reads(tmp_path: Path):
    def fill(rank: int) -> str:
        with processes.first_goes_first():
            if not rank:
                (tmp_path / "cache").write_text("filled")
            return (tmp_path / "cache").read_text()

    assert in_both(fill) == ["filled", "filled"]


def run_in(folder: Path) -> RunFolder:
    run = RunFolder(folder, "run")
    run.path.mkdir(exist_ok=True)
    return run


def test_a_loss_that_one_process_sees_broken_is_left_out_by_both(tmp_path: Path):
    def step(rank: int) -> tuple:
        broken = BrokenSteps(run_in(tmp_path), is_scaled=False)
        model = with_lora(llama())
        inputs = {
            "sources": [f"raw.jsonl:{rank}", ""], "input_ids": torch.tensor([[rank], [9]]),
            "attention_mask": torch.ones(2, 1),
        }  # fmt: skip
        logprobs = torch.tensor([float("nan") if rank else -1.0])
        state, told = TrainerState(), []
        for _ in range(3):
            broken.on_step_begin(ARGS, state, TrainerControl())
            told.append(broken.look(inputs, logprobs, torch.tensor([0])))
            for weight in model.parameters():
                weight.grad = torch.ones_like(weight) if weight.requires_grad else None
            try:
                broken.on_pre_optimizer_step(ARGS, state, TrainerControl(), model)
            except TrainingError as error:
                return told, broken.is_left_out, any(w.grad is not None for w in model.parameters()), error.seen
        return told, "no error"

    first, second = in_both(step)
    assert first[0] == [False] * 3
    assert second[0] == [True] * 3
    assert first[1:] == second[1:]
    assert first[1] is True
    assert (
        first[3] == "3 steps in a row, up to step 1, could not be applied: the loss is not finite. Rows: raw.jsonl:1."
    )
    lines = (tmp_path / "run" / "non_finite.jsonl").read_text().splitlines()
    assert len(lines) == 3  # one writes, the row of the other
    assert '"source": "raw.jsonl:1"' in lines[0]


def test_the_rows_of_both_are_one_step_and_a_spike_of_both(tmp_path: Path):
    def train(rank: int) -> tuple:
        told = RowLosses(run_in(tmp_path), decode=lambda ids: f"text of {ids[0]}")
        state = TrainerState(is_world_process_zero=not rank)
        told.on_train_begin(ARGS, state, TrainerControl())
        for step in range(1, 19):
            state.global_step = step - 1
            told.on_step_begin(ARGS, state, TrainerControl())
            inputs = {
                "sources": [f"raw.jsonl:{rank}", ""], "input_ids": torch.tensor([[rank], [9]]),
                "attention_mask": torch.ones(2, 1),
            }  # fmt: skip
            corrupt = -8.0 * rank if step == 18 else 0.0  # of the second process
            told.count(inputs, torch.tensor([-1.0 + corrupt, -1.0 + corrupt]), torch.tensor([0, 0]))
            told.grad_norm = 0.5
            told.on_pre_optimizer_step(ARGS, state, TrainerControl())
        return len(told._watch._before["loss"]), told._watch._before["loss"][-1]

    assert in_both(train) == [(18, 5.0), (18, 5.0)]
    lines = list(entries(tmp_path / "run" / "seen.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, 19))
    assert lines[-1]["rows"] == [["raw.jsonl:0", 1.0, 2], ["raw.jsonl:1", 9.0, 2]]
    [spike] = entries(tmp_path / "run" / "spikes.jsonl")
    assert [(row["source"], row["blamed"], row["text"]) for row in spike["rows"]] == [
        ("raw.jsonl:1", True, "text of 1"), ("raw.jsonl:0", False, "text of 0"),
    ]  # fmt: skip


def test_weights_that_are_broken_in_one_shard_are_refused_by_both():
    def refuse(rank: int) -> str:
        model = with_lora(llama())
        if rank:
            next(w for w in model.parameters() if w.requires_grad).data.fill_(float("nan"))
        with pytest.raises(TrainingError) as caught:
            refuse_non_finite_weights(model, 5)
        return caught.value.seen

    first, second = in_both(refuse)
    assert first == second
    assert first.startswith("1 trainable tensors are not finite at step 5")


def test_a_tensor_is_silent_where_no_process_has_a_gradient(tmp_path: Path):
    def look(rank: int) -> str:
        model = with_lora(llama(), targets=["q_proj"])  # 4 trainable tensors
        tensors = [weight for weight in model.parameters() if weight.requires_grad]
        for number, weight in enumerate(tensors):  # each process has every second one, as shards are; the last has none
            weight.grad = torch.full_like(weight, float(number % 2 == rank and number != 3))
        silent = SilentTensors(BrokenSteps(run_in(tmp_path), is_scaled=False))
        silent._has_moved = True
        with pytest.raises(TrainingError) as caught:
            silent.on_pre_optimizer_step(ARGS, TrainerState(), TrainerControl(), model)
        return caught.value.seen

    first, second = in_both(look)
    assert first == second
    assert first.startswith("1 of 4 trainable tensors got no gradient")


def test_one_is_asked_to_stop_and_both_do(tmp_path: Path):
    def stop(rank: int) -> tuple:
        stopper, state = Stopper(run_in(tmp_path)), TrainerState(epoch=0.5)
        if rank:
            stopper.asked = "SIGTERM"
        control = stopper.on_step_end(ARGS, state, control := TrainerControl()) or control
        return stopper.asked, stopper.has_stopped, control.should_training_stop, control.should_save

    assert in_both(stop) == [("SIGTERM", True, True, True)] * 2


def test_the_budget_goes_by_the_watch_of_the_first():
    def share(rank: int) -> tuple:
        budget = Budget(100.0)
        budget.spent = 40.0 if rank else 70.0
        control = TrainerControl()
        first = budget.share()
        budget.spent += 60.0 if not rank else 0.0  # the first is over time, the second is not
        budget.on_step_begin(ARGS, TrainerState(), control)
        budget.on_step_end(ARGS, TrainerState(), control)
        return round(first, 6), budget.is_over, control.should_training_stop

    assert in_both(share) == [(0.7, True, True)] * 2


def test_tokens_are_those_of_all():
    def count(rank: int) -> tuple:
        tally = Tally(with_memory=False)
        tally.on_step_begin(None, None, None)
        tally.count({"attention_mask": torch.ones(2, 3 + rank)}, supervised=2 + rank, blanks=rank)  # 6 and 8 - 1
        tally.on_step_end(None, None, None)
        totals = tally.totals()
        return totals["tokens"], totals["supervised_tokens"], tally.rates()["supervised_tokens"]

    assert in_both(count) == [(13, 5, 5.0)] * 2


def test_the_last_step_is_filled_with_rows_that_teach_nothing():
    rows = make_rows(13)
    sampler = StepSampler(rows.lengths, step_rows=8, seed=1, turn=4)
    order = list(sampler)
    assert len(order) == len(sampler) == 16
    assert order[:13] == list(StepSampler(rows.lengths, step_rows=8, seed=1))
    assert order[13:] == [13, 13, 13]
    blank = WithBlank(rows)[13]
    assert (blank.labels, blank.source, len(blank.input_ids)) == ([-100], "", 1)
    assert len(WithBlank(rows)) == 13


def test_what_is_not_cut_up_is_not_said_to_be():
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(is_fsdp2=False),
        args=SimpleNamespace(fp16=False, optim=OptimizerNames.ADAMW_8BIT, device=torch.device("cpu")),
    )
    with pytest.raises(MachineError, match="cuts a model up on GPUs only") as caught:
        sharding.settle(trainer, Launch(2, 0, 0, "fsdp2"))
    assert "ACCELERATE=ddp" in caught.value.cure
    sharding.settle(trainer, Launch(2, 0, 0, "ddp"))
    trainer.accelerator.is_fsdp2 = True
    with pytest.raises(ConfigError, match="adamw_8bit"):
        sharding.settle(trainer, Launch(2, 0, 0, "fsdp2"))
    trainer.args.fp16 = True
    with pytest.raises(ConfigError, match="fp16"):
        sharding.settle(trainer, Launch(2, 0, 0, "fsdp2"))
