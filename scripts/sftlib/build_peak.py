"""The estimate beside the truth: real trainings on random weights, their peak read from PyTorch's CUDA allocator.

Each case is loaded through our own backend and trained by our own trainer for three steps on random tokens, so that
what is measured is what `make train` does. Needs a CUDA device, some GB of disk for the random weights, and no network.

    verify(config)  ->  [Compared(case=Case("Qwen2.5-0.5B", 512, "qlora", ...), estimated=..., measured=...), ...]

Worst bug: a comparison of two different trainings (tests/memory/test_peak.py trains a tiny case on a CPU).
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import console
from .build import settle
from .build_backend import choose, load_settled
from .build_estimate import setup_of
from .config.schema import Config
from .errors import MachineError
from .memory.estimate import estimate, usable
from .memory.probe import Device, find_device
from .model.blueprint import read_blueprint
from .model.miniature import write_random_model
from .model.precision import choose_precision
from .run.folder import open_run
from .tokens.dataset import ExampleDataset
from .tokens.examples import Example
from .units import gib

STEPS = 3  # the first one makes the optimizer state, the second one is the peak, the third one shows that it is
MODELS: dict[str, dict[str, Any]] = {  # the numbers of the published config.json files
    "Qwen2.5-0.5B": {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "Llama-3.2-1B": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "Qwen2.5-3B": {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "Llama-3.1-8B": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
    "Qwen2.5-14B": {
        "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 5120, "intermediate_size": 13824,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
    "Qwen2.5-7B": {
        "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
}  # fmt: skip
COMPARED = ("Qwen2.5-0.5B", "Llama-3.2-1B", "Qwen2.5-3B")
MODES = (("qlora", True), ("qlora", False), ("lora", True), ("full", True))  # with gradient checkpointing or without
LENGTHS = (512, 2048)


@dataclass(frozen=True, slots=True)
class Case:
    """One training: two rows a micro-batch, of which one is shorter."""

    model: str
    length: int
    mode: str
    checkpointing: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """Bytes at the peak of one case; `measured` is None when it was not run, as it would not fit."""

    case: Case
    estimated: int
    measured: int | None


def verify(config: Config) -> list[Compared]:
    """Run the grid; of the config, the adapter, the optimizer and the precision are used.

    Raises MachineError without a CUDA device.
    """
    device = find_device()
    if device.kind != "cuda":
        raise MachineError(
            f"There is no CUDA device here ({device.kind}: {device.name}), so nothing was measured.",
            expected="an NVIDIA GPU to compare the estimate with",
            cure="Run `make estimate-verify` on a machine with a GPU. `make estimate` needs none.",
        )  # fmt: skip
    drawn_on = "cuda" if torch.cuda.is_available() else "cpu"
    compared = []
    for name in COMPARED:
        with tempfile.TemporaryDirectory() as scratch:
            folder = write_random_model(Path(scratch) / "model", MODELS[name], drawn_on)
            for case in _cases(name):
                console.note(f"{case.model}, {case.length} tokens, {case.mode}")
                compared.append(_compare(case, case_config(config, case, folder), folder, Path(scratch), device))
    return compared


def show(compared: list[Compared]) -> None:
    """Print both numbers side by side, and how far they are apart."""
    rows = []
    for one in compared:
        measured = "would not fit" if one.measured is None else gib(one.measured)
        apart = "-" if one.measured is None else f"{(one.estimated - one.measured) / one.measured:+.1%}"
        case = one.case
        checkpointing = "yes" if case.checkpointing else "no"
        rows.append([case.model, str(case.length), case.mode, checkpointing, gib(one.estimated), measured, apart])
    headers = ["model", "tokens", "mode", "checkpointing", "estimated", "measured", "apart"]
    console.table("Peak of torch.cuda.max_memory_allocated", headers, rows)


def case_config(config: Config, case: Case, folder: Path) -> Config:
    """The config of one case, not settled yet."""
    tuning = config.tuning.model_copy(update={"mode": case.mode, "backend": "auto"})
    train = config.train.without_interruptions().model_copy(
        update={
            "batch_size": 2, "grad_accum": 2, "effective_batch_size": 4, "max_steps": STEPS, "learning_rate": 1e-5,
            "gradient_checkpointing": case.checkpointing, "activation_offload": False, "stream_layers": False,
        }
    )  # fmt: skip
    model = config.model.model_copy(update={"name": str(folder), "max_seq_len": case.length})
    logging = config.logging.model_copy(update={"backend": "none"})
    return config.model_copy(update={"model": model, "tuning": tuning, "train": train, "logging": logging})


def train_on_noise(
    config: Config, folder: Path, scratch: Path, device: Device, vocabulary: int, before: Callable[[], None]
) -> None:
    """Train a settled config for its steps on random tokens, as build.train does it.

    before: called when the model is there and training begins.
    """
    from .learn.fitting import build_trainer, fit

    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    backend = choose(config, folder, device)
    model = load_settled(backend, config, folder, device)
    trainer = build_trainer(
        model, train=config.train, logging=config.logging, run=open_run(scratch / "runs", "noise", "never"),
        precision=precision.name, device=device.kind, seed=config.seed,
        train_set=noise(config.train.effective_batch_size, config.model.max_seq_len, vocabulary), eval_set=None,
        pad_id=0,
    )  # fmt: skip
    before()
    fit(trainer, None)


def noise(rows: int, length: int, vocabulary: int) -> ExampleDataset:
    """Random rows, no two of one length, so that an encoder needs a mask; every token but the first is supervised."""
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(vocabulary, (length - row,), generator=draw).tolist() for row in range(rows)]
    return ExampleDataset([Example(ids, [-100, *ids[1:]], f"noise:{row + 1}") for row, ids in enumerate(texts)])


def _cases(model: str) -> Iterator[Case]:
    for length in LENGTHS:
        for mode, checkpointing in MODES:
            yield Case(model, length, mode, checkpointing)


def _compare(case: Case, config: Config, folder: Path, scratch: Path, device: Device) -> Compared:
    settled = settle(config, device)
    shape = read_blueprint(folder / "config.json", settled.tuning.lora, settled.model.attn_implementation)
    found = estimate(shape, setup_of(settled, device))
    if found.total > usable(device.total_bytes):
        return Compared(case, found.peak, None)
    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        torch.cuda.empty_cache()
        # Loading asks for the room of all weights at once; what is compared begins after it.
        train_on_noise(settled, folder, Path(runs), device, shape.vocabulary, torch.cuda.reset_peak_memory_stats)
        measured = torch.cuda.max_memory_allocated()
    gc.collect()  # the trainer and its model refer to each other
    return Compared(case, found.peak, measured)
