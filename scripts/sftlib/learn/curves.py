"""Curves of a training for people: TensorBoard, Weights & Biases, or both, under the same names.

In come the trainer's logs; out go train/loss, train/learning_rate, train/grad_norm, train/tokens_per_second,
train/supervised_tokens, train/memory_gib, eval/loss, eval/rougeL, the settings (hparams) and, at each evaluation, a
text panel of sample answers. One folder a run; a resumed run replaces what lies beyond its checkpoint. Both packages
are imported where they are used.

    Curves([TensorBoard(Path("outputs/tb/my-run"), settings)], samples)

Worst bug: a curve that runs back in time after a resume (tests/learn/test_curves.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from .. import console
from ..errors import MachineError
from .records import EVALUATION, TRAINING
from .samples import SampleAnswers

TAGS = {key: f"train/{key}" for key in TRAINING} | {key: key.replace("eval_", "eval/") for key in EVALUATION}
PLAIN = (str, int, float, bool)  # what the HPARAMS page takes
Settings = Mapping[str, Any]


class Sink(Protocol):
    """Where curves go."""

    def open(self, step: int) -> None:
        """Begin, or go on after `step`."""

    def write(self, values: dict[str, float], step: int) -> None:
        """Write numbers by tag."""

    def write_text(self, tag: str, markdown: str, step: int) -> None:
        """Write a panel of text."""

    def close(self) -> None:
        """Flush and end."""


class Curves(TrainerCallback):
    """Sends the logs of the first process to every sink. `close` must be called whatever happens; `fit` does."""

    def __init__(self, sinks: Sequence[Sink], samples: SampleAnswers | None) -> None:
        self.sinks, self.samples = list(sinks), samples
        self._is_open = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Open the sinks."""
        if state.is_world_process_zero:
            self._is_open = True
            for sink in self.sinks:
                sink.open(state.global_step)

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        """Write the numbers we have a curve for; those transformers logs once at the end have none."""
        values = {TAGS[key]: float(value) for key, value in logs.items() if key in TAGS}
        if self._is_open and values:
            for sink in self.sinks:
                sink.write(values, state.global_step)

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """Write the sample answers."""
        if self._is_open and self.samples is not None and self.samples.latest:
            for sink in self.sinks:
                sink.write_text("samples/answers", self.samples.as_markdown(), state.global_step)

    def close(self) -> None:
        """End every sink."""
        if self._is_open:
            self._is_open = False
            for sink in self.sinks:
                sink.close()


class TensorBoard:
    """Event files in `folder`, with the settings on the HPARAMS page."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MachineError(
                "The package tensorboard is not installed.", where="logging.backend", expected="tensorboard",
                cure="pip install tensorboard, or set logging.backend to none.",
            ) from error  # fmt: skip
        self._make_writer = SummaryWriter
        self.folder, self.settings = folder, settings

    def open(self, step: int) -> None:
        """Begin, or hide what an interrupted run wrote beyond `step`."""
        from torch.utils.tensorboard.summary import hparams

        self._writer = self._make_writer(str(self.folder), purge_step=step + 1)
        if not step:
            # SummaryWriter.add_hparams would open a second run and write made-up metric values into it.
            values = {key: value if isinstance(value, PLAIN) else str(value) for key, value in self.settings.items()}
            for summary in hparams(values, dict.fromkeys((TAGS["loss"], TAGS["eval_loss"]), 0.0)):
                self._writer.file_writer.add_summary(summary)

    def write(self, values: dict[str, float], step: int) -> None:
        """Write scalars, visible at once."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def write_text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text panel."""
        self._writer.add_text(tag, markdown, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, offline when the hub is (HF_HUB_OFFLINE=1); heeds WANDB_MODE and WANDB_PROJECT."""

    def __init__(self, name: str, folder: Path, settings: Settings) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MachineError(
                "The package wandb is not installed.", where="logging.backend", expected="wandb",
                cure="pip install wandb, or set logging.backend to tensorboard.",
            ) from error  # fmt: skip
        self._wandb = wandb
        self.name, self.folder, self.settings = name, folder, settings

    def open(self, step: int) -> None:
        """Begin, or continue the run of this name."""
        is_offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        mode = "offline" if is_offline and "WANDB_MODE" not in os.environ else None
        if mode:
            console.note(
                f"W&B runs offline, as HF_HUB_OFFLINE is set; send it later with: wandb sync {self.folder}/wandb/*"
            )
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "sft-play"), name=self.name, id=self.name, resume="allow",
                dir=str(self.folder), mode=mode, config=dict(self.settings), settings=self._wandb.Settings(silent=True),
            )  # fmt: skip
        except self._wandb.Error as error:
            raise MachineError(
                f"Weights & Biases does not start: {error}", where="logging.backend", expected="a login",
                cure="Run `wandb login`, or set WANDB_MODE=offline, or logging.backend to tensorboard.",
            ) from error  # fmt: skip

    def write(self, values: dict[str, float], step: int) -> None:
        """Write numbers."""
        self._run.log(values, step=step)

    def write_text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text panel."""
        self._run.log({tag: self._wandb.Html(f"<pre>{markdown}</pre>")}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def make_sinks(
    backend: str | Sequence[str], *, name: str, run_folder: Path, tensorboard: Path, settings: Settings
) -> list[Any]:
    """The sinks of logging.backend: one name, a list, or none."""
    names = [backend] if isinstance(backend, str) else list(backend)
    makers = {
        "tensorboard": lambda: TensorBoard(tensorboard, settings),
        "wandb": lambda: Wandb(name, run_folder, settings),
    }
    return [makers[wanted]() for wanted in dict.fromkeys(names) if wanted != "none"]
