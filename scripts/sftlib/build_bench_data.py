"""The rows of a bench: raw files to rows that everyone can train on, as we store them, as peers read them, as tokens.

    ready = make_ready(config, plan, folder)
    ready.train.stored, ready.train.pairs, ready.train.examples      the same rows three times

The rows of peers are our rendered text, cut in two where the answer begins; ours are the conversations that it was
rendered from. Rows with several answers and rows that are too long are left out for everyone, so that no mask and no
truncation is compared.

Worst bug: peers on other text than ours (tests/bench/test_build_bench.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import build, build_data, console
from .bench.plan import Plan
from .bench.training import TRAIN
from .build import Text
from .chat.rendering import Rendered, render_rows
from .chat.stored import read_split
from .config.schema import Config
from .errors import ConfigError, DataError
from .memory.probe import find_device
from .tokens.encoding import encode
from .tokens.examples import Example

UNSEEN_SHARE = 0.2  # of the raw rows, by whole questions


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows of a split: as stored, as peers read them, as we train on them."""

    stored: list[dict[str, Any]]
    pairs: list[dict[str, str]]
    examples: list[Example]

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def supervised(self) -> int:
        """Of all rows."""
        return sum(example.supervised for example in self.examples)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a workload starts from: `config` is what our own commands are told, `settled` what it becomes here."""

    config: Config
    settled: Config
    text: Text
    train: Chosen
    unseen: Chosen

    @property
    def model(self) -> str:
        """The model's folder."""
        return self.config.model.name


def make_ready(config: Config, plan: Plan, folder: Path) -> Ready:
    """Process the raw rows, fetch the model, choose rows."""
    config = _for_bench(config, plan, folder)
    build_data.process(config, plan.raw_paths)
    settled = build.settle(config)
    text = build.load_text(settled)
    settled = build.settle_rate(settled, text)
    train, unseen = (
        choose(settled, text, folder / "processed" / f"{split}.jsonl", most)
        for split, most in (("train", plan.size), ("test", plan.unseen))
    )
    # A rate that is stated is the same for all; what else is auto our training settles by itself, as for any user. It
    # runs in a folder of its own, so every path is absolute.
    template = config.data.template_path
    template = template if template in ("auto", "plain") else str(Path(template).absolute())
    stated = config.model_copy(
        update={
            "model": config.model.model_copy(update={"name": str(text.stored.folder.absolute()), "revision": None}),
            "data": config.data.model_copy(update={"template_path": template}),
            "train": config.train.model_copy(update={"learning_rate": settled.train.learning_rate}),
        }
    )  # fmt: skip
    return Ready(stated, settled, text, train, unseen)


def choose(config: Config, text: Text, path: Path, most: int) -> Chosen:
    """The first rows that everyone can train on."""
    split = read_split(path)
    by_source = {row.source: row for row in split.rows}
    rendered = list(render_rows(split.rows, text.template, config.data.max_rejected, path.stem))
    rendered = [one for one in rendered if len(one.spans) == 1]
    fitting = [
        (one, example)
        for one, example in zip(rendered, encode(rendered, text.tokenizer), strict=True)
        if len(example.input_ids) <= config.model.max_seq_len and example.supervised
    ][:most]
    if not fitting:
        raise DataError("No row can be trained on by everyone.", where=str(path), expected="one answer, not too long")
    if len(fitting) < most:
        console.note(f"{path.stem}: {len(fitting)} rows, {most} were asked for.")
    kept, examples = [one for one, _ in fitting], [example for _, example in fitting]
    return Chosen([by_source[one.source].to_row() for one in kept], [_pair(one) for one in kept], examples)


def pack_length(examples: Sequence[Example], batch: int) -> int:
    """Tokens of a mean step, so that a pack is one; no shorter than the longest row."""
    lengths = [len(example.input_ids) for example in examples]
    return max(math.ceil(sum(lengths) / len(lengths) * batch), max(lengths))


def with_train_file(config: Config, path: Path) -> Config:
    """The config of a training on these rows."""
    return config.model_copy(update={"data": config.data.model_copy(update={"train_path": str(path)})})


def in_mode(config: Config, mode: str) -> Config:
    """The config of lora or qlora. ConfigError when it asks for another one."""
    if config.tuning.mode not in ("auto", mode):
        raise ConfigError(
            f"The bench compares {mode}, and the config asks for {config.tuning.mode}.", where="tuning.mode",
            expected=f"{mode} or auto", cure="Leave tuning.mode at auto, and say MODE=lora or MODE=qlora.",
        )  # fmt: skip
    backend = "bnb" if mode == "qlora" else "plain"
    return config.model_copy(update={"tuning": config.tuning.model_copy(update={"mode": mode, "backend": backend})})


def device_said() -> str:
    """The device in words."""
    device = find_device()
    return f"{device.name} ({device.kind}, {torch.get_num_threads()} threads)"


def _pair(one: Rendered) -> dict[str, str]:
    ((start, end),) = one.spans
    return {"prompt": one.text[:start], "completion": one.text[start:end]}


def _for_bench(config: Config, plan: Plan, folder: Path) -> Config:
    """The config with nothing in it that would take time and is not measured."""
    data = config.data.model_copy(
        update={
            "processed_dir": str(folder / "processed"), "train_path": str(folder / TRAIN),
            "val_path": None, "test_path": None,
            "split": config.data.split.model_copy(
                update={"train": 1 - UNSEEN_SHARE, "val": 0.0, "test": UNSEEN_SHARE}
            ),
        }
    )  # fmt: skip
    train = config.train.model_copy(
        update={
            "epochs": plan.epochs, "max_steps": None, "max_minutes": None, "effective_batch_size": plan.batch,
            "eval_strategy": "no", "eval_steps": None, "evals_per_epoch": None, "save_strategy": "no",
            "save_steps": None, "saves_per_epoch": None, "load_best_model_at_end": False,
            "early_stopping_patience": None,
        }
    )  # fmt: skip
    logging = config.logging.model_copy(update={"backend": "none"})
    return in_mode(config.model_copy(update={"data": data, "train": train, "logging": logging}), plan.mode)
