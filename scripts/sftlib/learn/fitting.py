"""Putting a training together and running it.

In come ready objects (a model with its adapter, data sets, a run folder) and the two sections that speak of training;
out goes the trained model, in place, and a `FitReport`. Loading, saving the final adapter and the stamp are the
assembly's business.

    trainer = build_trainer(model, train=config.train, logging=config.logging, run=run, precision="bf16", device="cpu",
                            seed=42, train_set=train_set, eval_set=val_set, pad_id=tokenizer.pad_token_id)
    report = fit(trainer, choose_checkpoint(config.train.resume, run.path))

Worst bug: a run that resumes and does not end with the weights of an uninterrupted one (tests/learn/test_resume.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import EarlyStoppingCallback

from .. import console, files
from ..config.schema import LoggingSection, TrainSection
from ..errors import ConfigError, DataError, MachineError
from ..memory.out_of_memory import is_out_of_memory
from ..model.quiet import quiet
from ..run.folder import RunFolder
from ..run.launch import find_launch
from ..tokens.collate import collate
from ..tokens.dataset import ExampleDataset
from . import sharding
from .arguments import training_arguments
from .budget import Budget
from .checkpoints import checkpoint_words, step_of
from .curves import Curves, make_sinks
from .guards import BrokenSteps, SilentTensors, refuse_non_finite_weights
from .logprobs import verify_causal, verify_head
from .packing import verify_packing
from .progress import Progress
from .records import Records, time_metrics
from .row_losses import RowLosses
from .samples import SampleAnswers
from .stopping import Stopper
from .tally import Tally
from .trainer import SftTrainer


@dataclass(frozen=True, slots=True)
class FitReport:
    """How a training went.

    Args:
        steps: optimizer steps at the end, of `planned_steps`; fewer when it stopped early.
        resumed_from: the step it went on from, 0 for a fresh start.
        last_loss: training loss of the last record; None if there is none.
        best: content of best.json; None when nothing was evaluated.
        is_best_loaded: whether the model now holds the best checkpoint rather than the last step.
        times: content of time_metrics.json.
        stopped: what asked it to stop before its end (`Ctrl-C`, `make stop`); empty when it came to its end.
    """

    steps: int
    planned_steps: int
    resumed_from: int
    last_loss: float | None
    best: dict[str, Any] | None
    is_best_loaded: bool
    times: dict[str, Any]
    stopped: str = ""


def build_trainer(
    model: nn.Module,
    *,
    train: TrainSection,
    logging: LoggingSection,
    run: RunFolder,
    precision: str,
    device: str,
    seed: int,
    train_set: ExampleDataset,
    eval_set: ExampleDataset | None,
    pad_id: int,
    samples: SampleAnswers | None = None,
    settings: Mapping[str, Any] | None = None,
    remember: Callable[[int, int], None] | None = None,
    decode: Callable[[Sequence[int]], str] = str,
) -> SftTrainer:
    """A trainer with every callback.

    train: settled, no `auto` left.
    precision: bf16, fp16 or fp32. device: cuda, cpu or mps.
    train_set, eval_set: data sets of `Example`s with `.lengths`.
    settings: flat, for the HPARAMS page and W&B.
    remember: told, when a micro-batch did not fit, the rows and their length that are tried from now on.
    decode: ids to text, for the rows of a step that stands out; without it they are written as they are.
    Of several processes each calls it with the same, after `processes.join`.
    Raises ConfigError, DataError, MachineError or ModelError before anything is trained.
    """
    if len(train_set) == 0:
        raise DataError("There are no rows to train on.", expected="at least one", cure="Look at the data: make check")
    if train.metric_for_best_model == "eval_rougeL" and samples is None and train.eval_strategy != "no":
        raise ConfigError(
            "eval_rougeL cannot be computed: no validation rows are answered.", where="train.metric_for_best_model",
            expected="eval.training_rows above 0, and a model that is not cut up",
            cure="Set eval.training_rows to 8, or the metric to eval_loss.",
        )  # fmt: skip
    launch = find_launch()
    arguments = training_arguments(
        train, run_folder=run.path, precision=precision, device=device, seed=seed, rows=len(train_set),
        has_validation=eval_set is not None and len(eval_set) > 0, processes=launch.processes,
        sharded=launch.is_sharded,
    )  # fmt: skip
    if arguments.n_gpu > 1:
        raise MachineError(
            f"One process sees {arguments.n_gpu} GPUs.", expected="one process a GPU",
            cure=f"CUDA_VISIBLE_DEVICES=0 make train, or make train ACCELERATE=ddp PROCESSES={arguments.n_gpu}",
        )  # fmt: skip
    tally = Tally(with_memory=logging.gpu_stats)
    sinks = make_sinks(
        logging.backend, name=run.name, run_folder=run.path, tensorboard=run.tensorboard, settings=settings or {}
    )
    broken = BrokenSteps(run, is_scaled=precision == "fp16", can_leave_out=not launch.is_deepspeed)
    callbacks = [
        *([] if launch.is_deepspeed else [SilentTensors(broken)]),  # it keeps the gradients to itself
        Records(run),
        Curves(sinks, samples),
        Progress(log_interval=logging.log_interval, is_timed=train.max_minutes is not None),
    ]
    if train.max_minutes:
        evaluated = len(eval_set) if eval_set is not None and train.eval_strategy != "no" else 0
        step_rows = arguments.train_batch_size * arguments.gradient_accumulation_steps * launch.processes
        callbacks.append(Budget(train.max_minutes * 60, evaluated / step_rows))
    if train.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(train.early_stopping_patience))
    callbacks.append(Stopper(run))  # after those that end a training by themselves
    trainer = SftTrainer(
        model, arguments, run=run, tally=tally, broken=broken, row_losses=RowLosses(run, decode),
        train_set=train_set, eval_set=eval_set,
        collate=_collator(pad_id), save_total_limit=train.save_total_limit, samples=samples, callbacks=callbacks,
        remember=remember, packs=train.packing,
    )  # fmt: skip
    with trainer.accelerator.autocast():
        verify_head(trainer.model)
        verify_causal(trainer.model)
        if train.packing:
            verify_packing(trainer.model)
    sharding.settle(trainer, launch)
    return trainer


def fit(trainer: SftTrainer, checkpoint: Path | None = None) -> FitReport:
    """Train to the end, from the start or from a checkpoint; the model is left with the best or the last weights.

    A signal or `make stop` ends it earlier, with a checkpoint (`FitReport.stopped`).
    """
    started = time.perf_counter()
    resumed_from = step_of(checkpoint) if checkpoint else 0
    if checkpoint:
        console.note(f"Going on from {checkpoint}.")
    stopper = next(found for found in trainer.callback_handler.callbacks if isinstance(found, Stopper))
    error: BaseException | None = None
    try:
        with quiet(), stopper.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except BaseException as raised:
        error = raised
        if is_out_of_memory(raised):
            raise _no_smaller(trainer) from raised
        raise
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, Progress):
                callback.close(error)
            elif isinstance(callback, Curves):
                callback.close()
    refuse_non_finite_weights(trainer.model, trainer.state.global_step)
    times = time_metrics(trainer.tally, time.perf_counter() - started, resumed_from)
    if trainer.args.should_save:
        files.write_json(trainer.run.time_metrics, times)
        trainer.tidy()  # a kill may have come between the last checkpoint and this
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    return FitReport(
        steps=trainer.state.global_step,
        planned_steps=trainer.state.max_steps,
        resumed_from=resumed_from,
        last_loss=losses[-1] if losses else None,
        best=files.read_json(trainer.run.best) if trainer.run.best.is_file() else None,
        is_best_loaded=trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None,
        times=times,
        stopped=stopper.asked if stopper.has_stopped and not trainer.had_ended() else "",
    )


def _no_smaller(trainer: SftTrainer) -> MachineError:
    """Memory that ran out where no micro-batch is under way: clipping, the optimizer, a checkpoint.

    Nothing is tried again there. Smaller micro-batches would not help, as their activations are gone by then, and an
    optimizer that fails half way has changed some weights and not others: these are not saved.
    """
    return MachineError(
        f"Memory ran out after {trainer.state.global_step} whole steps, outside of forward and backward: most "
        "likely in the optimizer, which takes the room for its state in the first step.", where=str(trainer.run.path),
        expected=f"memory for the state of {trainer.args.optim}",
        cure="Close what else uses the device, set train.optim to paged_adamw_8bit (NVIDIA GPUs), or train fewer "
        f"weights: a lower tuning.lora.r, tuning.mode lora or qlora. {checkpoint_words(trainer.run.path)}", code="E409",
    )  # fmt: skip


def _collator(pad_id: int) -> Callable[[Sequence[Any]], dict[str, Any]]:
    def join(examples: Sequence[Any]) -> dict[str, Any]:
        by_row = {"sources": [example.source for example in examples]}
        by_row["lengths"] = [len(example.input_ids) for example in examples]
        return {**collate(examples, pad_id), **by_row}

    return join
