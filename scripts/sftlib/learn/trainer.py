"""The trainer: `transformers.Trainer` with our loss, our batch order, our evaluation and our checkpoints.

In come a model, settled arguments and data sets of `Example`s; training goes through `Trainer.train`, so its arguments,
Accelerate, FSDP, DeepSpeed and callbacks work as its users know them. Overridden, and nothing copied:

    compute_loss          sum over the supervised tokens / their count in the whole step (DESIGN section 4)
    _get_train_sampler    length-grouped, the same whatever the micro-batch and the processes
    _get_eval_sampler     longest first
    save_model            of a model that is cut up only what was trained
    evaluation_loop       exact token-weighted loss, the sample answers, no logits; leaves training undisturbed
    _save_checkpoint      finite weights only, sealed when complete, then rotated
    _run_epoch            a resumed run that had ended takes no further step
    create_scheduler      by the time where there is a budget of it
    get_batch_samples     the tokens of a step are always counted
    training_step         again in smaller pieces, from the start of the step, when memory runs out (replay)
    _get_grad_norm        is told to the record of row losses, too
    _maybe_log_save_evaluate   a step that is not applied is no part of the logged loss
    log                   speed and memory beside the loss

How the pieces are put together is in `fitting`.

Worst bug: a gradient that depends on how a batch is split into micro-batches (tests/learn/test_trainer.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import DistributedType
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from ..errors import DataError
from ..run.folder import RunFolder
from . import checkpoints, processes
from .budget import Budget, follow_time
from .guards import BrokenSteps, broken_evaluation, refuse_non_finite_weights
from .logprobs import hidden_states, output_head, supervised, token_logprobs
from .losses import nll_of_rows, nll_sum
from .order import StepSampler, WithBlank
from .packing import pack
from .records import write_best
from .replay import Replay, Sizes
from .row_losses import RowLosses
from .samples import SampleAnswers
from .sharding import gather
from .tally import Tally
from .undisturbed import undisturbed

T = TypeVar("T")


class SftTrainer(Trainer):
    """Supervised fine-tuning on the supervised tokens only.

    Args:
        collate: examples -> input_ids, attention_mask and labels, and `sources` and `lengths`, one a row.
        train_set, eval_set: data sets of examples with `.lengths`.
        broken: leaves out steps that are not finite.
        row_losses: writes down what each row's loss was.
        save_total_limit: checkpoints kept; the newest and the best always are.
        samples: answered at each evaluation and logged as eval_rougeL; None for none.
        remember: told, when a micro-batch did not fit, the rows and their length that are tried from now on.
        packs: the examples of a micro-batch go through the model as one row.
    """

    def __init__(
        self, model: nn.Module, args: TrainingArguments, *, run: RunFolder, tally: Tally, broken: BrokenSteps,
        row_losses: RowLosses, train_set: Dataset, eval_set: Dataset | None,
        collate: Callable[[Sequence[Any]], dict[str, Any]], save_total_limit: int | None,
        samples: SampleAnswers | None, callbacks: Sequence[Any], remember: Callable[[int, int], None] | None,
        packs: bool,
    ) -> None:  # fmt: skip
        super().__init__(
            model=model, args=args, data_collator=collate, eval_dataset=eval_set,
            train_dataset=train_set if args.world_size == 1 else WithBlank(train_set),
            callbacks=[tally, row_losses, broken, Sizes(), *callbacks],
        )  # fmt: skip
        self.remove_callback(PrinterCallback)  # only `console` prints
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of the whole step for compute_loss
        self.run, self.tally, self.broken, self.row_losses = run, tally, broken, row_losses
        self.replay = Replay(
            run, forget=self._forget_step, is_alone=self.accelerator.distributed_type == DistributedType.NO,
            is_checkpointed=getattr(model, "is_gradient_checkpointing", False), remember=remember,
        )  # fmt: skip
        self.samples, self.save_total_limit, self.packs = samples, save_total_limit, packs

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the arguments, by steps or by time."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        for budget in self._callbacks_of(Budget):
            follow_time(scheduler, budget, num_training_steps)
        return scheduler

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and their supervised tokens: Unsloth's version leaves these out now and then."""
        batches, count = super().get_batch_samples(*args, **kwargs)
        return batches, count if count is not None else self._get_num_items_in_batch(batches, self.args.device)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one micro-batch; when memory runs out, in pieces and of all in the step before it."""
        if self.broken.is_at_start:
            self._loss_before = self._tr_loss.clone()
            self.replay.begin_step()
        work = partial(super().training_step, model, num_items_in_batch=num_items_in_batch)
        return self.replay.train(inputs, work, self._sizes, self.state.global_step + 1)

    def _forget_step(self) -> None:
        self.model_wrapped.zero_grad()
        self._tr_loss.copy_(self._loss_before)
        self.broken.forget_step()
        self.row_losses.forget_step()
        self.tally.forget_step()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The micro-batch's share of the step's loss."""
        logprobs_N, rows_N = self._logprobs(model, inputs)
        is_broken = self.broken.look(inputs, logprobs_N, rows_N)
        self.row_losses.count(inputs, logprobs_N, rows_N)
        self.tally.count(inputs, len(logprobs_N), blanks=inputs["sources"].count(""))
        loss = nll_sum(logprobs_N) / (len(logprobs_N) if num_items_in_batch is None else num_items_in_batch)
        loss = (
            loss * self.accelerator.num_processes
        )  # DDP and FSDP average gradients over processes; the count is of all
        if is_broken:  # so that every gradient is, also of the processes that do not see this row
            loss = loss * float("nan")
        return (loss, {}) if return_outputs else loss

    def evaluation_loop(
        self, dataloader: Any, description: str, prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:  # fmt: skip
        """The loss a supervised token over the whole data set, and the score of the sample answers."""
        model = self.model_wrapped
        nll, count, rows, lost = 0.0, 0, 0, []
        with undisturbed(model):
            for inputs in dataloader:
                sums = self.replay.evaluate(
                    self._prepare_inputs(inputs), partial(self._row_sums, model), self._sizes, self.state.global_step
                )
                own_B2 = torch.cat(sums)
                sums_B2 = self.accelerator.gather_for_metrics(own_B2).cpu().double()
                if not sums_B2.isfinite().all():
                    lost += [inputs["sources"][row] for row in (~own_B2.isfinite().all(dim=1)).nonzero()[:, 0].tolist()]
                nll, count, rows = (
                    nll + sums_B2[:, 0].sum().item(),
                    count + int(sums_B2[:, 1].sum()),
                    rows + len(sums_B2),
                )
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            if not math.isfinite(nll):
                if self.is_in_train:
                    self._save_checkpoint(self.model, None)
                raise broken_evaluation(lost, self.run, self.state.global_step)
            if not count:
                raise DataError(
                    "The evaluated split has no supervised token.",
                    expected="at least one",
                    cure="Look at it: make check",
                )
            metrics = {f"{metric_key_prefix}_loss": nll / count}
            if self.samples is not None:
                metrics[f"{metric_key_prefix}_rougeL"] = processes.first_says(self.samples.ask())
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=rows)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log speed and memory beside the loss."""
        if "loss" in logs:
            logs.update(self.tally.rates())
        super().log(logs, start_time)

    @torch.no_grad()
    def _row_sums(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Of each row the loss, summed, and the count of its supervised tokens, [B, 2]."""
        logprobs_N, rows_N = self._logprobs(model, inputs)
        return nll_of_rows(logprobs_N, rows_N, len(inputs["labels"]))

    def _logprobs(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        # Accelerate wraps model.forward in autocast; the head is applied outside of it and must compute the same way.
        with self.accelerator.autocast():
            seen = pack(model, inputs) if self.packs else inputs
            hidden_NH, targets_N, rows_N = supervised(hidden_states(model, seen), seen["labels"], seen.get("rows"))
            return token_logprobs(output_head(model), hidden_NH, targets_N), rows_N

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        turn = self.args.per_device_train_batch_size * self.args.world_size if self.args.world_size > 1 else 1
        return StepSampler(dataset.lengths, self.get_total_train_batch_size(self.args), self.args.seed, turn)

    def _get_eval_sampler(self, eval_dataset: Any) -> list[int]:
        lengths = eval_dataset.lengths
        return sorted(range(len(lengths)), key=lambda row: -lengths[row])

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float | None:
        self.row_losses.grad_norm = super()._get_grad_norm(model, grad_norm)
        return self.row_losses.grad_norm

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        refuse_non_finite_weights(self.model, self.state.global_step)
        folder = Path(self._get_output_dir(trial)) / f"{checkpoints.PREFIX}{self.state.global_step}"
        if self.args.should_save:
            checkpoints.make_room(folder)
            if self.is_fsdp_enabled:  # each process looks whether it is there, before anything is written into it
                folder.mkdir(parents=True, exist_ok=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
        if self.args.should_save:
            checkpoints.seal(folder)
            self.tidy()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The weights of a checkpoint; those that FSDP2 goes on from are saved beside the optimizer."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
        elif hasattr(self.model, "peft_config"):
            weights = gather(self.model)
            if self.args.should_save:
                self._save(output_dir, state_dict=weights)

    def tidy(self) -> None:
        """Say which checkpoint is the best, and keep save_total_limit of them."""
        write_best(self.run, self.args, self.state)
        best = self.state.best_model_checkpoint
        checkpoints.rotate(self.run.path, self.save_total_limit, Path(best) if best else None)

    def _maybe_log_save_evaluate(self, tr_loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.broken.is_left_out:
            self.broken.is_left_out = False
            tr_loss.copy_(self._loss_before)
            self._globalstep_last_logged += 1  # what is logged is the mean over the steps since
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.had_ended():
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def had_ended(self) -> bool:
        """Whether it came to its end: by its steps, its time or its patience, not by a request to stop."""
        ran_out = any(
            stopper.early_stopping_patience_counter >= stopper.early_stopping_patience
            for stopper in self._callbacks_of(EarlyStoppingCallback)
        )
        is_late = any(budget.is_over for budget in self._callbacks_of(Budget))
        return ran_out or is_late or self.state.global_step >= self.state.max_steps

    @property
    def _sizes(self) -> Sizes:
        return self._callbacks_of(Sizes)[0]

    def _callbacks_of(self, kind: type[T]) -> list[T]:
        # Looked up each time: a resume puts others in the place of those that have a state.
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, kind)]
