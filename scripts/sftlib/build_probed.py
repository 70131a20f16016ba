"""What fits a small card, found on this machine's GPU: random weights under a limit of memory.

    verify(config)    the micro-batch that the probe chooses          [Probed("Qwen2.5-3B", 512, found=..., ...), ...]
    in_turn(config)   long rows, all means of fitting tried           [InTurn("Llama-3.1-8B", 8192, tried=..., ...)]

The trials are those of `make train` (learn/probing.py); PyTorch is refused more memory than the limit. Needs a CUDA
device, 30 GB of disk for the largest model, as much main memory where its 16-bit weights do not fit the card, and no
network.

Worst bug: a choice found with more memory than the limit (tests/memory/test_peak.py).
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import console
from .build import settle
from .build_backend import choose, load_trainable
from .build_batch import KEPT_FREE, MEANS
from .build_estimate import setup_of, with_choice
from .build_peak import MODELS, Case, case_config, noise
from .config.schema import Config
from .learn.probing import Trial, probing
from .memory.estimate import estimate, weight_bytes
from .memory.out_of_memory import unless_out_of_memory
from .memory.probe import Device, find_device
from .memory.search import LADDER, Choice, Found, Means, Tried, candidate_sizes, search
from .memory.shape import ModelShape
from .model.blueprint import read_blueprint
from .model.miniature import write_random_model
from .model.precision import choose_precision
from .run.folder import open_run
from .units import GIB, gib

LIMIT_BYTES = 8 * GIB
EFFECTIVE = 16
CASES = (("Qwen2.5-3B", 512), ("Qwen2.5-3B", 2048), ("Qwen2.5-7B", 512))  # all qlora
LONG = (("Qwen2.5-3B", 16384), ("Llama-3.1-8B", 8192), ("Qwen2.5-14B", 2048))  # qlora too, a row at a time


@dataclass(frozen=True, slots=True)
class Probed:
    """One search; `estimated` is the peak that memory/estimate.py gives for the choice, None without one."""

    model: str
    length: int
    found: Found
    room: int
    estimated: int | None


@dataclass(frozen=True, slots=True)
class InTurn:
    """One row of a length with each of the means on top of those before it.

    Args:
        tried: and the peak that the estimate gives for it.
        weights: bytes of the resident base; above `room` what does not stream was not tried.
        costs: of each of the means of the last one that fits, the share of speed that is left, and on rows how long.
    """

    model: str
    length: int
    room: int
    weights: int
    tried: Sequence[tuple[Tried, int]]
    costs: dict[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Limited:
    """A model on a small card, ready to be tried out."""

    trial: Trial
    room: int
    config: Config
    shape: ModelShape
    device: Device
    weights: int
    rungs: tuple[Means, ...]

    def estimated(self, choice: Choice) -> int:
        """The peak by numbers alone."""
        return estimate(self.shape, setup_of(with_choice(self.config, choice, EFFECTIVE), self.device)).peak


def verify(config: Config) -> list[Probed]:
    """Search the micro-batch of every case under the limit; of the config, the adapter and the optimizer are used."""
    found = []
    for name, length in CASES:
        with _limited(config, name, length) as small:
            sizes, trial = candidate_sizes(EFFECTIVE, EFFECTIVE), small.trial
            one = search(trial, sizes=sizes, rungs=small.rungs, room=small.room, tokens=trial.tokens)
            estimated = None if one.chosen is None else small.estimated(one.chosen.choice)
        found.append(Probed(name, length, one, small.room, estimated))
    return found


def in_turn(config: Config) -> list[InTurn]:
    """Try a single long row of each model with more and more means, whether fewer are enough or not."""
    found = []
    for name, length in LONG:
        with _limited(config, name, length) as small:
            tried: list[tuple[Tried, int]] = []
            for rung in small.rungs:
                one = search(small.trial, sizes=[1], rungs=[rung], room=small.room, tokens=small.trial.tokens).tried[0]
                tried.append((one, small.estimated(one.choice)))
            fitting = [one for one, _ in tried if one.fits]
            costs = small.trial.costs(fitting[-1].choice, small.room) if fitting else {}
        found.append(InTurn(name, length, small.room, small.weights, tried, costs))
    return found


def show(probed: list[Probed]) -> None:
    """Print every choice, its speed, and its peak beside the estimate."""
    rows = []
    for one in probed:
        if one.found.chosen is None:
            rows.append([one.model, str(one.length), "nothing fits", "-", "-", "-", f"{one.found.seconds:.0f} s"])
            continue
        choice, chosen = one.found.chosen.choice, one.found.chosen
        rows.append([
            one.model, str(one.length), f"{choice.size} x {EFFECTIVE // choice.size}, {_means(choice.means)}",
            f"{chosen.speed:.0f}", gib(chosen.peak), gib(one.estimated), f"{one.found.seconds:.0f} s",
        ])  # fmt: skip
    headers = ["model", "tokens", "chosen", "tokens/s", "peak", "estimated", "search"]
    console.table(f"The probe's choice in {gib(LIMIT_BYTES)}, qlora", headers, rows)


def show_in_turn(measured: list[InTurn]) -> None:
    """Print speed and peak of each, whether it fits, and what the means cost."""
    rows = []
    for one in measured:
        for tried, estimated in one.tried:
            speed = "-" if tried.speed is None else f"{tried.speed:.0f}"
            peak = "memory ran out" if tried.peak is None else gib(tried.peak)
            fits = "yes" if tried.fits else "no"
            rows.append([one.model, str(one.length), _means(tried.choice.means), speed, peak, gib(estimated), fits])
    headers = ["model", "tokens", "means", "tokens/s", "peak", "estimated", "fits"]
    console.table(f"A row at a time in {gib(LIMIT_BYTES)}, qlora, each of the means on top", headers, rows)
    for one in measured:
        if one.weights > one.room:
            console.result(
                f"{one.model}: the weights alone take {gib(one.weights)}, so its layers are always streamed."
            )
        for name, (left, length) in one.costs.items():
            console.result(
                f"{one.model}: with {MEANS[name]} {left:.0%} of the speed is left (rows of {length} tokens)."
            )


def _means(means: Means) -> str:
    """The short names of what is on."""
    return " + ".join(name for name, is_on in means._asdict().items() if is_on) or "-"


@contextlib.contextmanager
def _limited(config: Config, name: str, length: int) -> Iterator[_Limited]:
    """A model of random weights under the limit; streamed from the start where its weights alone are beyond it."""
    device = find_device()
    console.note(f"{name}, {length} tokens, qlora: trials under {gib(LIMIT_BYTES)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        if unless_out_of_memory(lambda: write_random_model(folder, MODELS[name], device.kind)) is None:
            write_random_model(folder, MODELS[name])
        settled = settle(case_config(config, Case(name, length, "qlora", True), folder), device)
        train = settled.train.model_copy(update={"effective_batch_size": EFFECTIVE})
        settled = settled.model_copy(update={"train": train})
        shape = read_blueprint(folder / "config.json", settled.tuning.lora, settled.model.attn_implementation)
        weights = sum(weight_bytes(shape, setup_of(settled, device), "qlora").values())
        stream = weights > int(LIMIT_BYTES * (1 - KEPT_FREE))
        gc.collect()
        if device.kind == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(min(1.0, LIMIT_BYTES / device.total_bytes))
        try:
            with probing(
                load_trainable(choose(settled, folder, device), settled, folder, device, stream=stream), train=train,
                run=open_run(Path(scratch) / "runs", "noise", "never"),
                precision=choose_precision(train.bf16, train.fp16, device).name, device=device.kind, seed=settled.seed,
                train_set=noise(EFFECTIVE, length, shape.vocabulary), pad_id=0, effective=EFFECTIVE, place=device,
            ) as trial:  # fmt: skip
                rungs = tuple(rung for rung in LADDER if rung.stream or not stream)
                room = trial.room(LIMIT_BYTES, KEPT_FREE)
                yield _Limited(trial, room, settled, shape, device, weights, rungs)
        finally:
            if device.kind == "cuda":
                torch.cuda.set_per_process_memory_fraction(1.0)
