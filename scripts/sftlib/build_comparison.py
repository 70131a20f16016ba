"""Assembly of the comparison of two backends: the same steps on the same rows, each in a process of its own.

    trained = compare(config, ["--config", "mine.yaml"], steps=20)   two processes of verify_unsloth.py
    train_steps(config, "unsloth", 20, report)                       what each of them does
    outside(*trained)                                                what is beyond the tolerance, in words

Loaded and trained as by `make train`, without evaluations and checkpoints. A process of its own for each, because
unsloth changes transformers for the whole process in which it is imported.

Worst bug: a comparison of a backend with itself (tests/test_unsloth_chain.py).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import build, build_backend, build_examples, console, files
from .config.schema import Config
from .errors import MachineError
from .memory.probe import find_device
from .model.precision import choose_precision
from .run.folder import open_run
from .run.inputs import find_split

BACKENDS = ("bnb", "unsloth")
SCRIPT = files.ROOT / "scripts" / "verify_unsloth.py"
# Tolerances, as shares of the loss of bnb. At the first step weights and adapter are the same and the kernels round
# differently: 2^-8 a value in bfloat16, less in a mean over tokens. Then the roundings of all steps add up.
FIRST, EACH, MEAN = 0.01, 0.05, 0.02
SMALLEST = 0.1  # a loss below it is no measure for a share: what was learned by heart


@dataclass(frozen=True, slots=True)
class Trained:
    """What one backend did: the loss of every step, tokens a second in the median step, peak memory in GiB."""

    backend: str
    losses: list[float]
    tokens_per_second: float
    peak_gib: float


def compare(config: Config, options: Sequence[str], steps: int) -> list[Trained]:
    """Train with both. options: the config's, as given to the script. MachineError without a GPU."""
    device = find_device()
    if device.kind != "cuda":
        raise MachineError(
            f"There is no GPU here ({device.kind}: {device.name}), so nothing was compared.",
            expected="an NVIDIA or AMD GPU, on which Unsloth runs",
            cure="Run `make verify-unsloth` on a machine with a GPU.",
        )  # fmt: skip
    find_split(config.data, "train")
    trained = []
    with tempfile.TemporaryDirectory() as scratch:
        for backend in BACKENDS:
            console.stage(f"{steps} steps with {backend}")
            report = Path(scratch) / f"{backend}.json"
            command = [sys.executable, str(SCRIPT), *options, "--steps", str(steps)]
            done = subprocess.run([*command, "--only", backend, "--report", str(report)], check=False)
            if done.returncode or not report.is_file():
                raise MachineError(
                    f"The training with {backend} ended with code {done.returncode}; why stands above.",
                    expected=f"{steps} steps with each of {' and '.join(BACKENDS)}",
                )  # fmt: skip
            trained.append(Trained(**files.read_json(report)))
    return trained


def train_steps(config: Config, backend: str, steps: int, report: Path) -> None:
    """Train some steps with one backend, which nothing may take the place of, and write a `Trained`."""
    settled = build.settle(_with(config, backend, steps))
    device = find_device()
    chosen = build_backend.choose_first(settled)

    from transformers import set_seed

    from .learn.fitting import build_trainer, fit

    text = build.load_text(settled)
    settled = build.settle_rate(settled, text)
    rows = build_examples.prepare(settled, text, {"train": find_split(settled.data, "train")})["train"].examples
    chosen = chosen or build_backend.choose(settled, text.stored.folder, device)
    set_seed(settled.seed)
    with tempfile.TemporaryDirectory() as scratch:
        run = open_run(Path(scratch), backend, "never")
        model = build_backend.load_settled(chosen, settled, text.stored.folder, device)
        trainer = build_trainer(
            model, train=settled.train, logging=settled.logging, run=run,
            precision=choose_precision(settled.train.bf16, settled.train.fp16, device).name, device=device.kind,
            seed=settled.seed, train_set=rows, eval_set=None, pad_id=text.tokenizer.pad_token_id,
        )  # fmt: skip
        times = fit(trainer).times
        records = [json.loads(line) for _, line in files.numbered_lines(run.metrics)]
    speed = statistics.median(record["tokens_per_second"] for record in records)
    losses = [record["loss"] for record in records]
    files.write_json(report, asdict(Trained(chosen.name, losses, speed, times["peak_memory_gib"])))


def outside(bnb: Trained, unsloth: Trained) -> list[str]:
    """What is beyond the tolerance; empty when the two agree."""
    names = (bnb.backend, unsloth.backend)
    if names[1] != "unsloth" or names[0] == "unsloth" or len(bnb.losses) != len(unsloth.losses) or not bnb.losses:
        return [f"{names[0]} and {names[1]} with {len(bnb.losses)} and {len(unsloth.losses)} steps are no comparison"]
    found = []
    apart = _apart(bnb, unsloth)
    if not abs(apart[0]) <= FIRST:
        found.append(f"the first loss is {apart[0]:+.2%} apart, {FIRST:.0%} is allowed")
    found += [
        f"the loss of step {step} is {share:+.2%} apart, {EACH:.0%} is allowed"
        for step, share in enumerate(apart, 1)
        if not abs(share) <= EACH
    ]
    if not abs(statistics.mean(apart)) <= MEAN:
        found.append(f"the losses are {statistics.mean(apart):+.2%} apart on average, {MEAN:.0%} is allowed")
    return found


def show(bnb: Trained, unsloth: Trained) -> None:
    """Print the losses, the speed and the memory of both in one table, and what is beyond the tolerance."""
    rows: list[list[str]] = []
    pairs = zip(bnb.losses, unsloth.losses, _apart(bnb, unsloth), strict=True)
    for step, (ours, theirs, share) in enumerate(pairs, 1):
        rows.append([f"loss, step {step}", f"{ours:.4f}", f"{theirs:.4f}", f"{share:+.2%}"])
    for what, ours, theirs in (
        ("tokens/s, median step", bnb.tokens_per_second, unsloth.tokens_per_second),
        ("peak memory, GiB", bnb.peak_gib, unsloth.peak_gib),
    ):
        rows.append([what, f"{ours:.2f}", f"{theirs:.2f}", f"x {theirs / ours:.2f}"])
    console.table("The same rows, seed and steps", ["", bnb.backend, unsloth.backend, "apart, or ratio"], rows)
    for line in outside(bnb, unsloth):
        console.result(f"Outside the tolerance: {line}.")


def _apart(bnb: Trained, unsloth: Trained) -> list[float]:
    pairs = zip(bnb.losses, unsloth.losses, strict=True)
    return [(theirs - ours) / max(ours, SMALLEST) for ours, theirs in pairs]


def _with(config: Config, backend: str, steps: int) -> Config:
    tuning = config.tuning.model_copy(update={"backend": backend, "backend_fallback": False})
    # Both are cut alike: trials could end in one way for this backend and in another for that.
    batch = {"batch_size": 1} if config.train.batch_size == config.train.grad_accum == "auto" else {}
    steps_alone = {"max_steps": steps, "max_minutes": None, "logging_steps": 1}
    steps_alone |= {"packing": False}  # unsloth does not
    train = config.train.without_interruptions().model_copy(update=batch | steps_alone)
    logging = config.logging.model_copy(update={"backend": "none"})
    return config.model_copy(update={"tuning": tuning, "train": train, "logging": logging})
