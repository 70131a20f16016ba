"""What the probe chooses on a small card, found on this machine's GPU: random weights under a limit of memory.

    verify(config)  ->  [Probed("Qwen2.5-3B", 512, found=Found(...), room=..., estimated=...), ...]

The trials are those of `make train` (learn/probing.py); PyTorch is refused more memory than the limit. Needs a CUDA
device, 16 GB of disk for the largest model, and no network.

Worst bug: a choice found with more memory than the limit (tests/memory/test_peak.py).
"""

from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from . import console
from .build import settle
from .build_backend import choose, load_trainable
from .build_batch import KEPT_FREE
from .build_estimate import setup_of, with_choice
from .build_peak import MODELS, Case, case_config, noise
from .config.schema import Config
from .learn.probing import probing
from .memory.estimate import estimate
from .memory.probe import Device, find_device
from .memory.search import LADDER, Found, candidate_sizes, search
from .model.blueprint import read_blueprint
from .model.miniature import write_random_model
from .model.precision import choose_precision
from .run.folder import open_run
from .units import GIB, gib

LIMIT_BYTES = 8 * GIB
EFFECTIVE = 16
CASES = (("Qwen2.5-3B", 512), ("Qwen2.5-3B", 2048), ("Qwen2.5-7B", 512))  # all qlora


@dataclass(frozen=True, slots=True)
class Probed:
    """One search; `estimated` is the peak that memory/estimate.py gives for the choice, None without one."""

    model: str
    length: int
    found: Found
    room: int
    estimated: int | None


def verify(config: Config) -> list[Probed]:
    """Search the micro-batch of every case under the limit; of the config, the adapter and the optimizer are used."""
    device = find_device()
    found = []
    for name, length in CASES:
        console.note(f"{name}, {length} tokens, qlora: trials under {gib(LIMIT_BYTES)}")
        with tempfile.TemporaryDirectory() as scratch:
            folder = write_random_model(Path(scratch) / "model", MODELS[name], device.kind)
            found.append(_probe(config, name, length, folder, Path(scratch), device))
    return found


def show(probed: list[Probed]) -> None:
    """Print every choice, its speed, and its peak beside the estimate."""
    rows = []
    for one in probed:
        if one.found.chosen is None:
            rows.append([one.model, str(one.length), "nothing fits", "-", "-", "-", f"{one.found.seconds:.0f} s"])
            continue
        choice, chosen = one.found.chosen.choice, one.found.chosen
        means = "offload" if choice.offload else "checkpointing" if choice.checkpointing else "-"
        rows.append([
            one.model, str(one.length), f"{choice.size} x {EFFECTIVE // choice.size}, {means}", f"{chosen.speed:.0f}",
            gib(chosen.peak), gib(one.estimated), f"{one.found.seconds:.0f} s",
        ])  # fmt: skip
    headers = ["model", "tokens", "chosen", "tokens/s", "peak", "estimated", "search"]
    console.table(f"The probe's choice in {gib(LIMIT_BYTES)}, qlora", headers, rows)


def _probe(config: Config, name: str, length: int, folder: Path, scratch: Path, device: Device) -> Probed:
    settled = settle(case_config(config, Case(name, length, "qlora", True), folder), device)
    train = settled.train.model_copy(update={"effective_batch_size": EFFECTIVE})
    settled = settled.model_copy(update={"train": train})
    shape = read_blueprint(folder / "config.json", settled.tuning.lora, settled.model.attn_implementation)
    rows = noise(EFFECTIVE, length, shape.vocabulary)
    gc.collect()
    if device.kind == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(LIMIT_BYTES / device.total_bytes)
    try:
        with probing(
            load_trainable(choose(settled, folder, device), settled, folder, device), train=train,
            run=open_run(scratch / "runs", "noise", "never"),
            precision=choose_precision(train.bf16, train.fp16, device).name, device=device.kind, seed=settled.seed,
            train_set=rows, pad_id=0, effective=EFFECTIVE, place=device,
        ) as trial:  # fmt: skip
            room = trial.room(LIMIT_BYTES, KEPT_FREE)
            found = search(
                trial, sizes=candidate_sizes(EFFECTIVE, len(rows)), rungs=LADDER, room=room, tokens=trial.tokens
            )
    finally:
        if device.kind == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
    estimated = None
    if found.chosen is not None:
        chosen = with_choice(settled, found.chosen.choice, EFFECTIVE)
        estimated = estimate(shape, setup_of(chosen, device)).peak
    return Probed(name, length, found, room, estimated)
