"""Assembly of the bench: a config and raw rows to what everyone trains on, and saved adapters to their loss.

    prepare(config, Plan(raw_paths=["faq.jsonl"], rows=512), folder)   -> rows.jsonl, train.jsonl, config.yaml, ...
    judge(config, folder)                                              reads adapters.json, writes outcomes.json

Both load the model and run in processes of their own (bench/running.py says why). The rows of peers are our rendered
text, cut in two where the answer begins; ours are the conversations that it was rendered from. Rows with several
answers and rows that are too long are left out for everyone, so that no mask and no truncation is compared.

Worst bug: peers on other text than ours (tests/bench/test_build_bench.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from . import build, build_backend, build_data, console
from .bench.honesty import Outcome
from .bench.work import FIRST, ROWS, Work, read_work
from .build import Text
from .chat.rendering import Rendered, render_rows
from .chat.stored import read_split
from .config.schema import Config
from .config.writing import to_yaml
from .errors import ConfigError, DataError
from .files import read_json, write_json, write_jsonl, write_text
from .learn.arguments import plan_steps
from .learn.logprobs import hidden_states, output_head, supervised, token_logprobs
from .learn.losses import nll_sum
from .memory.probe import find_device
from .model.adapters import load_adapter
from .model.precision import choose_precision
from .tokens.collate import collate
from .tokens.encoding import encode
from .tokens.examples import Example

UNSEEN_SHARE = 0.2  # of the raw rows, by whole questions
JUDGED_AT_ONCE = 8  # rows of a forward pass


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a bench: raw rows, how many to train on and how many to judge by, rows a step, epochs."""

    raw_paths: Sequence[str]
    rows: int
    unseen: int
    batch: int
    epochs: float


def prepare(config: Config, plan: Plan, folder: Path) -> None:
    """Write what everyone trains on into a folder, and `Work` as work.json."""
    config = _for_bench(config, plan, folder)
    build_data.process(config, plan.raw_paths)
    settled = build.settle(config)
    text = build.load_text(settled)
    settled = build.settle_rate(settled, text)
    train, unseen = (
        _choose(settled, text, folder / "processed" / f"{split}.jsonl", most)
        for split, most in (("train", plan.rows), ("test", plan.unseen))
    )
    model_folder = text.stored.folder.absolute()
    write_jsonl(folder / "train.jsonl", train.stored)
    for name, pairs in ((ROWS, train.pairs), (FIRST, train.pairs[: plan.batch]), ("unseen.jsonl", unseen.pairs)):
        write_jsonl(folder / name, pairs)
    # A rate that is stated is the same for all; what else is auto our training settles by itself, as for any user. It
    # runs in a folder of its own, so every path is absolute.
    template = config.data.template_path
    template = template if template in ("auto", "plain") else str(Path(template).absolute())
    stated = config.model_copy(
        update={
            "model": config.model.model_copy(update={"name": str(model_folder), "revision": None}),
            "data": config.data.model_copy(update={"template_path": template}),
            "train": config.train.model_copy(update={"learning_rate": settled.train.learning_rate}),
        }
    )  # fmt: skip
    write_text(folder / "config.yaml", to_yaml(stated))

    model = _load_exact(settled, text)
    lora, schedule = model.peft_config["default"], settled.train.model_copy(update={"batch_size": plan.batch})
    steps = plan_steps(schedule.model_copy(update={"grad_accum": 1}), len(train.examples))
    counts = [example.supervised for example in train.examples]
    Work(
        folder=str(folder), model=str(model_folder),
        settings={
            "learning_rate": settled.train.learning_rate, "lr_scheduler_type": settled.train.lr_scheduler_type,
            "warmup_steps": steps.warmup, "weight_decay": settled.train.weight_decay, "optim": settled.train.optim,
            "max_grad_norm": settled.train.max_grad_norm, "logging_steps": settled.train.logging_steps,
            "seed": settled.seed, "bf16": settled.train.bf16,
        },
        lora={
            "r": lora.r, "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout,
            "target_modules": sorted(lora.target_modules),
        },
        batch=plan.batch, epochs=plan.epochs, max_length=settled.model.max_seq_len,
        pack_length=_pack_length(train.examples, plan.batch), rows=len(counts), supervised=sum(counts),
        first_supervised=sum(counts[: plan.batch]),
        trainable=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        first_loss=_mean_loss(model, train.examples[: plan.batch], text), unseen=len(unseen.examples),
        unseen_loss=_mean_loss(model, unseen.examples, text), device=_device(),
    ).write()  # fmt: skip


def judge(config: Config, folder: Path) -> None:
    """Measure the adapters of adapters.json, {name: folder}, on the unseen rows; write an `Outcome` each."""
    work = read_work(folder)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": work.model})})
    config = build.settle(_in_lora(config))
    text = build.load_text(config)
    unseen = _choose(config, text, folder / "processed" / "test.jsonl", work.unseen)
    outcomes = {}
    for name, adapter in read_json(folder / "adapters.json").items():
        backend, device = build_backend.choose(config, text.stored.folder, find_device()), find_device()
        exact = choose_precision(False, False, device)
        base = build.load_base(backend, text.stored.folder, config.model, exact, device, training=False)
        model = load_adapter(base, adapter)
        trained = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" in name)
        outcomes[name] = asdict(Outcome(trained, _mean_loss(model, unseen.examples, text)))
    write_json(folder / "outcomes.json", outcomes)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Rows of a split: as stored, as peers read them, as we train on them."""

    stored: list[dict[str, Any]]
    pairs: list[dict[str, str]]
    examples: list[Example]


def _choose(config: Config, text: Text, path: Path, most: int) -> _Chosen:
    """The first rows that everyone can train on."""
    split = read_split(path)
    by_source = {row.source: row for row in split.rows}
    rendered = render_rows(split.rows, text.template, config.data.max_rejected, path.stem)
    rendered = [one for one in rendered if len(one.spans) == 1]
    examples = encode(rendered, text.tokenizer)
    fitting = [
        (one, example)
        for one, example in zip(rendered, examples, strict=True)
        if len(example.input_ids) <= config.model.max_seq_len and example.supervised
    ][:most]
    if not fitting:
        raise DataError("No row can be trained on by everyone.", where=str(path), expected="one answer, not too long")
    if len(fitting) < most:
        console.note(f"{path.stem}: {len(fitting)} rows, {most} were asked for.")
    kept, examples = [one for one, _ in fitting], [example for _, example in fitting]
    return _Chosen([by_source[one.source].to_row() for one in kept], [_pair(one) for one in kept], examples)


def _pair(one: Rendered) -> dict[str, str]:
    ((start, end),) = one.spans
    return {"prompt": one.text[:start], "completion": one.text[start:end]}


def _pack_length(examples: Sequence[Example], batch: int) -> int:
    """Tokens of a mean step, so that a pack is one; no shorter than the longest row."""
    lengths = [len(example.input_ids) for example in examples]
    return max(math.ceil(sum(lengths) / len(lengths) * batch), max(lengths))


def _for_bench(config: Config, plan: Plan, folder: Path) -> Config:
    """The config with nothing in it that would take time and is not training."""
    data = config.data.model_copy(
        update={
            "processed_dir": str(folder / "processed"), "train_path": str(folder / "train.jsonl"),
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
    return _in_lora(config.model_copy(update={"data": data, "train": train, "logging": logging}))


def _in_lora(config: Config) -> Config:
    if config.tuning.mode not in ("auto", "lora"):
        raise ConfigError(
            f"The bench does not compare {config.tuning.mode}.", where="tuning.mode", expected="lora or auto",
            cure="Leave tuning.mode at auto.",
        )  # fmt: skip
    return config.model_copy(update={"tuning": config.tuning.model_copy(update={"mode": "lora", "backend": "plain"})})


def _load_exact(config: Config, text: Text) -> Any:
    """The base with a fresh adapter, in float32, as training would load it."""
    train = config.train.model_copy(update={"bf16": False, "fp16": False, "gradient_checkpointing": False})
    exact, device = config.model_copy(update={"train": train}), find_device()
    backend = build_backend.choose(exact, text.stored.folder, device)
    return build_backend.load_trainable(backend, exact, text.stored.folder, device)


@torch.no_grad()
def _mean_loss(model: Any, examples: Sequence[Example], text: Text) -> float:
    """Mean negative log-likelihood of the supervised tokens, by the functions that training uses."""
    model.eval()
    device, total, count = next(model.parameters()).device, 0.0, 0
    by_length = sorted(examples, key=lambda example: len(example.input_ids))
    for at in range(0, len(by_length), JUDGED_AT_ONCE):
        batch = collate(by_length[at : at + JUDGED_AT_ONCE], text.tokenizer.pad_token_id)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        hidden_NH, targets_N, _ = supervised(hidden_states(model, batch), batch["labels"])
        total += float(nll_sum(token_logprobs(output_head(model), hidden_NH, targets_N)))
        count += len(targets_N)
    return total / count


def _device() -> str:
    device = find_device()
    return f"{device.name} ({device.kind}, {torch.get_num_threads()} threads)"
