"""Whether anything would be learned: ten steps of the real trainer on one micro-batch of real rows, then thrown away.

In come the model as it would be trained, the rows and the section of the training; out goes what was seen, with every
fault. Loss, optimizer, rate and precision are the training's own; the schedule is constant, as ten steps of a warm-up
would say nothing. The guards of a training (`guards`) watch as they do there: each trainable tensor must get a gradient
once an update has been made (LoRA starts with B = 0, so the first gradient of A is zero), and all must be finite.

    try_to_learn(model, rows, train=config.train, mode="lora", ...)
    -> Learned(before=2.84, after=0.01, trainable=420, frozen=272, faults=[])

Worst bug: a model that cannot learn and passes (tests/learn/test_gate.py).
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ..config.schema import LoggingSection, TrainSection
from ..errors import MachineError, SftError, TrainingError, first_line
from ..files import numbered_lines
from ..memory.out_of_memory import is_out_of_memory
from ..model.quiet import quiet
from ..model.streaming import weights_at_home
from ..run.folder import RunFolder
from ..tokens.dataset import ExampleDataset
from ..tokens.examples import Example
from ..units import some
from .fitting import build_trainer
from .progress import Progress
from .trainer import SftTrainer

STEPS = 10
LEAST_FALL = 0.005  # of the loss. SmolLM2-135M, bf16: 99.6 % at its own rate, 2.5 % at 1e-5; rounding alone: 0.2 %
TOKENS = {"cuda": 2048, "mps": 1024, "cpu": 256}  # of the micro-batch at most: 10 steps of a small model in 10-30 s
NAMED = 5  # tensors named in a message


@dataclass(frozen=True, slots=True)
class Learned:
    """What ten steps did. `after` is None when they did not come to their end."""

    before: float
    after: float | None
    trainable: int
    frozen: int
    faults: list[SftError]


def choose_rows(rows: ExampleDataset, most_rows: int, device: Literal["cuda", "cpu", "mps"]) -> list[Example]:
    """One small micro-batch: the shortest rows, as many as the device takes in a moment, one at least."""
    first, *others = heapq.nsmallest(most_rows, range(len(rows)), key=rows.lengths.__getitem__)
    chosen, tokens = [rows[first]], rows.lengths[first]
    for row in others:
        tokens += rows.lengths[row]
        if tokens > TOKENS[device]:
            break
        chosen.append(rows[row])
    return chosen


def try_to_learn(
    model: nn.Module,
    rows: Sequence[Example],
    *,
    train: TrainSection,
    mode: Literal["qlora", "lora", "full"],
    precision: str,
    device: Literal["cuda", "cpu", "mps"],
    seed: int,
    pad_id: int,
    scratch: Path,
) -> Learned:
    """Train the model on these rows, in place; nothing but `scratch` is written to. train: settled."""
    trainable = [name for name, weight in model.named_parameters() if weight.requires_grad]
    if fault := _wrongly_trained(model, mode):
        return Learned(float("nan"), None, len(trainable), 0, [fault])
    before = _frozen_digests(model)
    faults: list[SftError] = []
    batch = ExampleDataset(rows)
    run = RunFolder(scratch, "check")
    run.path.mkdir(parents=True)
    trainer = build_trainer(
        model, train=_ten_steps(train, len(rows)), logging=LoggingSection(backend="none"), run=run,
        precision=precision, device=device, seed=seed, train_set=batch, eval_set=None, pad_id=pad_id,
    )  # fmt: skip
    loss, after = float("nan"), None
    trainer.remove_callback(Progress)
    # Not by `fit`, which answers Ctrl-C with a checkpoint: there is nothing here to go on with.
    try:
        loss = _loss(trainer, batch)
        with quiet():
            trainer.train()
        after = _loss(trainer, batch)
    except SftError as error:
        faults.append(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        faults.append(_too_small(error))
    if run.non_finite.is_file() and not faults:
        faults.append(_not_finite(run.non_finite))
    faults += _changed(before, _frozen_digests(model))
    if not faults and not loss - after >= LEAST_FALL * loss:
        faults.append(_not_learning(loss, after, train))
    return Learned(loss, after, len(trainable), len(before), faults)


def _ten_steps(train: TrainSection, rows: int) -> TrainSection:
    """The training's own settings, for ten steps on one micro-batch."""
    return train.without_interruptions().model_copy(
        update={
            "max_steps": STEPS, "max_minutes": None, "lr_scheduler_type": "constant", "warmup_ratio": 0.0,
            "batch_size": rows, "grad_accum": 1, "effective_batch_size": rows, "logging_steps": 1,
            "resume": "never",
        }
    )  # fmt: skip


def _loss(trainer: SftTrainer, batch: ExampleDataset) -> float:
    """In evaluation mode, so that dropout does not speak."""
    return trainer.evaluation_loop(trainer.get_eval_dataloader(batch), "check").metrics["eval_loss"]


def _wrongly_trained(model: nn.Module, mode: str) -> TrainingError | None:
    """Every weight in mode full; else the whole adapter and nothing but it."""
    is_right = {
        name: weight.requires_grad == (mode == "full" or ".lora_" in name) for name, weight in model.named_parameters()
    }
    wrong = [name for name, right in is_right.items() if not right]
    if not wrong and any(weight.requires_grad for weight in model.parameters()):
        return None
    expected = "every weight" if mode == "full" else "the adapter, and nothing of the base"
    seen = f"{len(wrong)} tensors are frozen or trained against tuning.mode {mode}: {some(wrong, NAMED)}."
    return TrainingError(
        seen if wrong else "No tensor is trainable.", where="the model", expected=f"{expected} to be trained",
        cure="Report it with the model's name and these tensors: this is a fault of the project, of peft or of the "
        "model's own code.", code="E701",
    )  # fmt: skip


def _frozen_digests(model: nn.Module) -> dict[str, bytes]:
    """A digest of the bytes of each frozen tensor."""
    with weights_at_home(model):
        return {
            name: hashlib.sha256(weight.detach().reshape(-1).view(torch.uint8).cpu().numpy().data).digest()
            for name, weight in model.named_parameters()
            if not weight.requires_grad
        }


def _changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[SftError]:
    names = [name for name, digest in before.items() if after.get(name) != digest]
    if not names:
        return []
    return [
        TrainingError(
            f"{len(names)} of {len(before)} frozen tensors changed while the others were trained: "
            f"{some(names, NAMED)}.",
            where="the model", expected="every frozen tensor as it was, bit for bit",
            cure="Report it with the model's name and these tensors: an adapter trained like this fits no base.",
            code="E704",
        )
    ]  # fmt: skip


def _not_finite(dump: Path) -> TrainingError:
    """Steps that were left out, but not three in a row."""
    rows = [json.loads(line) for _, line in numbered_lines(dump)]
    steps = sorted({row["step"] for row in rows})
    return TrainingError(
        f"{len(steps)} of {STEPS} steps were left out, as a loss or a gradient was not finite. Rows: "
        f"{some(sorted({row['source'] for row in rows}), NAMED)}.", expected="finite losses and gradients",
        cure="Look at these rows; lower train.learning_rate, or train in bf16, not fp16.", code="E703",
    )  # fmt: skip


def _not_learning(before: float, after: float, train: TrainSection) -> TrainingError:
    return TrainingError(
        f"{STEPS} steps on one batch changed its loss from {before:.4f} to {after:.4f}.",
        where=f"train.learning_rate {train.learning_rate:g}", expected=f"a loss that falls by {LEAST_FALL:.1%} or more",
        cure="Set train.learning_rate to auto.", code="E705",
    )  # fmt: skip


def _too_small(error: BaseException) -> MachineError:
    """In the optimizer; what runs out in forward and backward is the trainer's own error."""
    return MachineError(
        f"Memory ran out in the first steps: {first_line(error)}",
        cure="Close other programs on this device; make estimate names the cheapest settings.", code="E409",
    )  # fmt: skip
