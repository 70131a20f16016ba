"""Assembly of the backend: which one trains, decided before transformers is imported, and the model that it trains.

    backend = choose_first(config)                        imports unsloth, when that is what trains
    backend = choose(config, folder, device)              the same without it, wherever the folder is known
    model = load_trainable(backend, config, folder, device)
    save_memory(backend, model, config.train, device)     once it is known with what means

Worst bug: unsloth imported after transformers by `make train` (tests/test_unsloth_chain.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .build import fetch_model, find_device
from .config.schema import Config, TrainSection
from .memory.probe import Device
from .model.backend import Backend, choose_backend, load_request
from .model.precision import choose_precision
from .model.streaming import stream_layers, stream_of


def choose_first(config: Config) -> Backend | None:
    """The backend of a settled config, where it must be known before anything else is imported; else None."""
    if config.tuning.backend != "unsloth":
        return None
    device = find_device()
    # Only a GPU makes the question one of the model, which is fetched for it.
    backend = choose(config, fetch_model(config).folder if device.kind == "cuda" else None, device)
    backend.import_first()
    return backend


def choose(config: Config, folder: Path | None, device: Device) -> Backend:
    """The backend that trains a settled config on the base in this folder."""
    request = load_request(folder, mode=config.tuning.mode, **_about(config, device)) if folder else None
    return choose_backend(config.tuning, device, request)


def load_trainable(
    backend: Backend, config: Config, folder: Path, device: Device, *, sharded: bool = False, stream: bool = False
) -> Any:
    """The base with a fresh adapter, or the whole model in mode full, ready for the trainer.

    sharded: it will be cut up over several processes, and no device is to hold all of it.
    stream: its layers are streamed from the start, for the same reason.
    """
    return backend.load_trainable(folder, device=device, sharded=sharded, stream=stream, **_about(config, device))


def save_memory(backend: Backend, model: Any, train: TrainSection, device: Device) -> None:
    """Switch on what the settled section asks for: checkpointing, and streaming where it is not at work yet."""
    if train.gradient_checkpointing:
        backend.enable_checkpointing(model, offload=train.activation_offload)
    if train.stream_layers and stream_of(model) is None:
        stream_layers(model, device)


def load_settled(backend: Backend, config: Config, folder: Path, device: Device) -> Any:
    """As `load_trainable`, for a config whose batch is settled: nothing is tried out on the model first."""
    model = load_trainable(backend, config, folder, device, stream=config.train.stream_layers)
    save_memory(backend, model, config.train, device)
    return model


def _about(config: Config, device: Device) -> dict[str, Any]:
    train = config.train
    return {
        "model": config.model, "lora": config.tuning.lora, "checkpointing": train.gradient_checkpointing,
        "seed": config.seed, "precision": choose_precision(train.bf16, train.fp16, device),
    }  # fmt: skip
