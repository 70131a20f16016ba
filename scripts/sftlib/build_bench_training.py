"""Assembly of the workloads that train: rows and settings for everyone, and saved adapters to their loss.

    prepare(config, Plan("train", ["faq.jsonl"], rows=512), folder)   -> [Training(...)]
    prepare_starting(config, plan, folder)                            -> [Starting(...)]     the same rows, one step
    prepare_sizes(config, plan, folder)                               -> Scaling(...)        1x, 2x rows, 2x length
    judge(config, folder)                                             reads adapters.json, writes outcomes.json

Worst bug: peers with other settings than ours (tests/bench/test_build_bench.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from . import build, build_backend
from .bench.plan import Plan
from .bench.scaling import Scaling
from .bench.starting import RUNS, Starting
from .bench.training import FIRST, ROWS, TRAIN, Training, adapter_said
from .bench.work import CONFIG, Work
from .bench.workloads import read_work
from .build import Text
from .build_bench_data import (
    choose,
    device_said,
    in_mode,
    make_ready,
    pack_length,
    with_train_file,
)
from .config.schema import Config
from .config.writing import to_yaml
from .errors import DataError
from .files import read_json, write_json, write_jsonl, write_text
from .learn.arguments import plan_steps
from .learn.logprobs import hidden_states, output_head, supervised, token_logprobs
from .learn.losses import nll_sum
from .memory.probe import find_device
from .model.adapters import load_adapter
from .model.precision import choose_precision
from .tokens.collate import collate
from .tokens.examples import Example

JUDGED_AT_ONCE = 8  # rows of a forward pass
# What our bnb backend loads (model/backend/bnb.py), in the words of transformers.BitsAndBytesConfig.
QUANTIZATION = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


def prepare(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """Write the rows that everyone trains on, and find out what everyone is checked against."""
    ready = make_ready(config, plan, folder)
    text, train, unseen = ready.text, ready.train, ready.unseen
    write_jsonl(folder / TRAIN, train.stored)
    for name, pairs in ((ROWS, train.pairs), (FIRST, train.pairs[: plan.batch]), ("unseen.jsonl", unseen.pairs)):
        write_jsonl(folder / name, pairs)
    write_text(folder / CONFIG, to_yaml(ready.config))
    model = _load_exact(ready.settled, text)
    lora = lora_said(model)
    first = train.examples[: plan.batch]
    work = Training(
        folder=str(folder), device=device_said(), model=ready.model,
        settings=settings_said(ready.settled, plan.batch, len(train.examples)), lora=lora,
        quantization=QUANTIZATION if plan.mode == "qlora" else {}, batch=plan.batch, epochs=plan.epochs,
        max_length=ready.settled.model.max_seq_len, pack_length=pack_length(train.examples, plan.batch),
        rows=len(train.examples), tokens=train.tokens, supervised=train.supervised,
        first_supervised=sum(example.supervised for example in first),
        trainable=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        first_loss=_mean_loss(model, first, text), unseen=len(unseen.examples),
        unseen_loss=_mean_loss(model, unseen.examples, text),
    )  # fmt: skip
    return [work]


def prepare_starting(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """Write the same rows, and a config of one step for `check` and `train`."""
    ready = make_ready(config, plan, folder)
    write_jsonl(folder / TRAIN, ready.train.stored)
    config = ready.config
    train = config.train.model_copy(
        update={"epochs": 1.0, "max_steps": 1, "logging_steps": 1, "output_dir": str(folder / RUNS)}
    )
    write_text(folder / CONFIG, to_yaml(config.model_copy(update={"train": train})))
    rows = len(ready.train.stored)
    return [Starting(folder=str(folder), device=device_said(), model=ready.model, rows=rows)]


def prepare_sizes(config: Config, plan: Plan, folder: Path) -> Scaling:
    """Write half of the rows, all of them, and half of them with every question and answer said twice."""
    ready = make_ready(config, plan, folder)
    half = len(ready.train.stored) // 2
    if not half:
        raise DataError("There is nothing to halve.", where="--rows", expected="two rows or more")
    few = ready.train.stored[:half]
    sizes = {}
    for name, stored in (
        ("1x", few),
        ("2x-rows", ready.train.stored[: 2 * half]),
        ("2x-length", [_twice(row) for row in few]),
    ):
        path = folder / f"{name}.jsonl"
        write_jsonl(path, stored)
        chosen = choose(ready.settled, ready.text, path, len(stored))
        sizes[name] = {"rows": len(chosen.stored), "tokens": chosen.tokens, "supervised": chosen.supervised}
        write_text(folder / f"{name}.yaml", to_yaml(with_train_file(ready.config, path)))
    lora = lora_said(_load_exact(ready.settled, ready.text))
    return Scaling(
        folder=str(folder), device=device_said(), model=ready.model,
        adapter=adapter_said(lora, QUANTIZATION if plan.mode == "qlora" else {}), batch=plan.batch,
        epochs=plan.epochs, sizes=sizes,
    )  # fmt: skip


def judge(config: Config, folder: Path) -> None:
    """Measure the adapters of adapters.json, {name: folder}, on the unseen rows; write what was found of each."""
    work = read_work(folder)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": work.model})})
    config = build.settle(in_mode(config, "qlora" if work.quantization else "lora"))
    text = build.load_text(config)
    unseen = choose(config, text, folder / "processed" / "test.jsonl", work.unseen)
    outcomes = {}
    for name, adapter in read_json(folder / "adapters.json").items():
        backend, device = build_backend.choose(config, text.stored.folder, find_device()), find_device()
        exact = choose_precision(False, False, device)
        base = build.load_base(backend, text.stored.folder, config.model, exact, device, training=False)
        model = load_adapter(base, adapter)
        trained = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" in name)
        outcomes[name] = {"trainable": trained, "unseen_loss": _mean_loss(model, unseen.examples, text)}
    write_json(folder / "outcomes.json", outcomes)


def settings_said(settled: Config, batch: int, rows: int) -> dict[str, Any]:
    """What everyone trains with, in the words of transformers.TrainingArguments."""
    train = settled.train
    steps = plan_steps(train.model_copy(update={"batch_size": batch, "grad_accum": 1}), rows)
    return {
        "learning_rate": train.learning_rate, "lr_scheduler_type": train.lr_scheduler_type,
        "warmup_steps": steps.warmup, "weight_decay": train.weight_decay, "optim": train.optim,
        "max_grad_norm": train.max_grad_norm, "logging_steps": train.logging_steps, "seed": settled.seed,
        "bf16": train.bf16,
    }  # fmt: skip


def lora_said(model: Any) -> dict[str, Any]:
    """The adapter of a model, in the words of peft.LoraConfig."""
    lora = model.peft_config["default"]
    return {
        "r": lora.r, "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout,
        "target_modules": sorted(lora.target_modules),
    }  # fmt: skip


def _twice(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of one turn with its question and its answer said twice."""
    return dict(row) | {name: f"{row[name]}\n{row[name]}" for name in ("user", "assistant")}


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
