"""Assembly of the profile: a few steps of the training that a config describes, and where their time goes.

    found = profile(config, steps=3)       -> outputs/profile/<run>/trace.json.gz, table.txt, profile.json
    show(found)                            the tables, as in table.txt

The rows, the model, the trainer and the optimizer are those of `make train`; the run's own folder is a temporary one,
so that nothing but the profile is kept. Step times are those without the profiler. The floor is the arithmetic that the
step needs (memory/arithmetic.py) at the rate of the model's largest product, measured in the same process.

Worst bug: a profile of something else than the training (tests/learn/test_profile_step.py).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import build, build_backend, build_examples, console, files
from .build_batch import Probe, settle_batch
from .config.schema import Config
from .errors import ModelError
from .memory.arithmetic import largest_layer, step_operations
from .memory.probe import Device, find_device
from .memory.shape import ModelShape
from .model.backend import Backend
from .model.base import describe_base
from .model.blueprint import read_blueprint
from .model.precision import Precision, choose_precision
from .run.folder import RunFolder, default_name, open_run
from .run.inputs import find_split
from .run.stamp import code_revision, versions
from .units import percent

if TYPE_CHECKING:
    from .learn.breakdown import Breakdown
    from .learn.profiling import TimedStep, Watch

FOLDER = "profile"  # of all profiles, in the folder of the runs
TRACE, TABLE, REPORT = "trace.json.gz", "table.txt", "profile.json"
SHOWN = 15  # operations in the table; all are in the report
NAME_WIDTH = 60  # characters: the names of kernels are pages long


@dataclass(frozen=True, slots=True)
class Floor:
    """What the arithmetic of a step takes at the rate of its largest product.

    Args:
        operations: of the middle step, by what they are for.
        product: rows, inputs and outputs of the product that was measured; a_second: its operations a second.
        seconds: of the middle step; gap: its time over that.
    """

    operations: dict[str, int]
    product: tuple[int, int, int]
    a_second: float
    seconds: float
    gap: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found.

    Args:
        seconds: of each step that was timed, without the profiler.
        overhead: seconds a token with the profiler over those without it, less 1.
        floor: None, and `no_floor` says why, for an architecture whose arithmetic is not known.
    """

    folder: Path
    where: str
    batch: str
    seconds: list[float]
    tokens: list[int]
    positions: list[int]
    supervised: list[int]
    overhead: float
    parts: Breakdown
    floor: Floor | None
    no_floor: str


def profile(config: Config, steps: int) -> Profile:
    """Train a few steps of a config, not settled yet, and write the profile of `steps` of them."""
    path = find_split(config.data, "train")
    settled = build.settle(config)
    device = find_device()
    chosen = build_backend.choose_first(settled)

    text = build.load_text(settled)
    settled = build.settle_rate(settled, text)
    rows = build_examples.prepare(settled, text, {"train": path})["train"].examples
    backend = chosen or build_backend.choose(settled, text.stored.folder, device)
    name = settled.run_name or default_name(settled.model.name, backend.mode)
    with tempfile.TemporaryDirectory(prefix="sft-profile-") as scratch:
        run = open_run(Path(scratch), name, "never")
        settled, watch = _train(settled, text, rows, backend, device, run, steps)
        trace = Path(scratch) / TRACE
        watch.profiler.export_chrome_trace(str(trace))
        found = _found(settled, text, device, watch, Path(config.train.output_dir) / FOLDER / name)
        console.stage(f"Writing {found.folder}")
        with files.whole_file(found.folder / TRACE, "wb") as stream:
            stream.write(trace.read_bytes())
    files.write_text(found.folder / TABLE, "\n".join(console.table_text(*table) for table in _tables(found)))
    files.write_json(found.folder / REPORT, _report(found, settled, device))
    return found


def show(found: Profile) -> None:
    """Print the tables."""
    for table in _tables(found):
        console.table(*table)
        console.result()


def _train(
    config: Config, text: build.Text, rows: Any, backend: Backend, device: Device, run: RunFolder, steps: int
) -> tuple[Config, Watch]:
    """The steps, as build_training.train takes them."""
    from transformers import set_seed

    from .learn.fitting import build_trainer, fit
    from .learn.profiling import steps_needed, watching

    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    loaded: list[Any] = []

    def load_model(stream: bool) -> Any:
        if not loaded:
            set_seed(config.seed)
            loaded.append(build_backend.load_trainable(backend, config, text.stored.folder, device, stream=stream))
        return loaded[0]

    base = describe_base(text.stored, backend.quantization)
    kind = {"base": base.fingerprint, "backend": backend.name, "code": code_revision()["scripts"]}
    probe = Probe(run, load_model, backend.enable_checkpointing, precision.name, kind)
    settled = settle_batch(_few_steps(config, steps_needed(steps)), text, rows, device, probe).config
    model = load_model(settled.train.stream_layers)
    build_backend.save_memory(backend, model, settled.train, device)
    trainer = build_trainer(
        model, train=settled.train, logging=settled.logging, run=run, precision=precision.name, device=device.kind,
        seed=config.seed, train_set=rows, eval_set=None, pad_id=text.tokenizer.pad_token_id,
    )  # fmt: skip
    console.stage(f"{steps_needed(steps)} steps, of which {steps} are timed and {steps} others profiled")
    with watching(trainer, steps) as watch:
        if fit(trainer).stopped:
            raise KeyboardInterrupt
    return settled, watch


def _few_steps(config: Config, steps: int) -> Config:
    train = config.train.without_interruptions().model_copy(
        update={"max_steps": steps, "max_minutes": None, "resume": "never"}
    )
    logging = config.logging.model_copy(update={"backend": "none"})
    return config.model_copy(update={"train": train, "logging": logging})


def _found(config: Config, text: build.Text, device: Device, watch: Watch, folder: Path) -> Profile:
    from .learn.breakdown import break_down

    timed, profiled = watch.timed, watch.profiled
    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    floor, why = None, ""
    try:
        floor = _floor(config, _shape(config, text), timed, precision, device)
    except ModelError as error:
        why = error.seen
    slower = _seconds_a_token(profiled) / _seconds_a_token(timed) - 1
    train = config.train
    with_gpu = device.kind == "cuda"
    threads = "" if with_gpu else f", threads: {torch.get_num_threads()}"
    means = "".join(
        f", {words}"
        for words, is_on in (
            ("packed", train.packing), ("gradient checkpointing", train.gradient_checkpointing),
            ("activation offload", train.activation_offload), ("streamed layers", train.stream_layers),
        )
        if is_on
    )  # fmt: skip
    return Profile(
        folder, f"{config.model.name}, {config.tuning.mode}, {precision.name}, {device.name}{threads}",
        f"{train.batch_size} rows x {train.grad_accum}{means}",
        [step.seconds for step in timed], [step.tokens for step in timed],
        [sum(batch.positions for batch in step.batches) for step in timed],
        [sum(batch.supervised for batch in step.batches) for step in timed],
        slower, break_down(watch.profiler.events(), with_device=with_gpu), floor, why,
    )  # fmt: skip


def _shape(config: Config, text: build.Text) -> ModelShape:
    if config.model.type != "causal":
        raise ModelError("The arithmetic of an encoder-decoder is not counted.")
    return read_blueprint(text.stored.folder / "config.json", config.tuning.lora, config.model.attn_implementation)


def _floor(
    config: Config, shape: ModelShape, timed: Sequence[TimedStep], precision: Precision, device: Device
) -> Floor:
    from .learn.profiling import products_a_second

    layer = largest_layer(shape)
    rows = max(batch.positions for step in timed for batch in step.batches)
    rate = products_a_second(rows, layer.size_in, layer.size_out, precision.dtype, device.kind)
    needed = [step_operations(shape, config.tuning.mode, config.tuning.lora.r, step.batches) for step in timed]
    gap = statistics.median(step.seconds * rate / one.total for step, one in zip(timed, needed, strict=True))
    middle = sorted(needed, key=lambda one: one.total)[len(needed) // 2]
    return Floor(asdict(middle), (rows, layer.size_in, layer.size_out), rate, middle.total / rate, gap)


def _seconds_a_token(steps: Sequence[TimedStep]) -> float:
    return sum(step.seconds for step in steps) / sum(step.tokens for step in steps)


def _tables(found: Profile) -> list[tuple[str, Sequence[str], list[Sequence[object]]]]:
    parts = found.parts

    def shares(seconds: dict[str, float]) -> list[Sequence[object]]:
        return [[name, f"{spent:.4f}", percent(spent, parts.seconds)] for name, spent in seconds.items()]

    longest = [
        [one.name[:NAME_WIDTH], one.kind, f"{one.calls:.0f}", f"{one.seconds:.4f}", percent(one.seconds, parts.seconds)]
        for one in parts.operations[:SHOWN]
    ]
    by_time = dict(sorted(parts.kinds.items(), key=lambda item: -item[1]))
    return [
        ("The step, without the profiler", ["what", "value"], _summary(found)),
        ("By phase, with the profiler", ["phase", "s/step", "share"], shares(parts.phases)),
        ("By kind of operation", ["kind", "s/step", "share"], shares(by_time)),
        ("The longest operations, without those inside them", ["name", "kind", "calls", "s/step", "share"], longest),
    ]


def _summary(found: Profile) -> list[Sequence[object]]:
    step = statistics.median(found.seconds)
    rows: list[Sequence[object]] = [
        ["of", found.where],
        ["batch", found.batch],
        ["step, median", f"{step:.4f} s of {len(found.seconds)}"],
        ["tokens/s, padding not counted", f"{sum(found.tokens) / sum(found.seconds):.0f}"],
        ["padding", percent(sum(found.positions) - sum(found.tokens), sum(found.positions))],
        ["supervised", percent(sum(found.supervised), sum(found.tokens))],
        ["the profiler makes it slower by", percent(found.overhead, 1)],
    ]
    floor = found.floor
    if floor is None:
        return [*rows, ["arithmetic floor", f"not known: {found.no_floor}"]]
    total = sum(floor.operations.values())
    listed = ", ".join(f"{name} {percent(count, total)}" for name, count in floor.operations.items())
    size = " x ".join(map(str, floor.product))
    return [
        *rows,
        ["arithmetic", f"{total / 1e9:.1f} GFLOP: {listed}"],
        ["largest product", f"{floor.a_second / 1e9:.1f} GFLOP/s ({size})"],
        ["arithmetic floor", f"{floor.seconds:.4f} s"],
        ["gap: step / floor", f"x {floor.gap:.2f}"],
    ]


def _report(found: Profile, config: Config, device: Device) -> dict[str, Any]:
    parts = asdict(found.parts)
    others = sorted({one.name for one in found.parts.operations if one.kind == "other"})
    return {
        "of": found.where, "batch": found.batch, "model": config.model.name, "device": asdict(device),
        "versions": versions(), "code": code_revision(), "step_seconds": found.seconds, "tokens": found.tokens,
        "positions": found.positions, "supervised_tokens": found.supervised, "profiler_overhead": found.overhead,
        "floor": asdict(found.floor) if found.floor else None, "no_floor": found.no_floor, **parts, "other": others,
    }  # fmt: skip
