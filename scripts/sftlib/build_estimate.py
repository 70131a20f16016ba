"""Assembly of the memory estimate: a whole config to a `ModelShape` and a `Setup`, and the table people read.

    asked = estimate_config(config, card_gib=8)
    show(asked)                          by term and moment, the total, the card, what to change
    verify(...)  is in build_peak.py     the same on a real GPU

No weight is read and no GPU is needed: without one the config is settled for a card that is assumed.
Worst bug: a setting that changes memory and does not arrive here (tests/memory/test_estimate_script.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import console
from .build import settle
from .config.schema import Config, TrainSection
from .errors import ModelError
from .learn.logprobs import LOGITS_BYTES, SOFTMAX_BYTES
from .memory.estimate import CONTEXT_BYTES, HEADROOM, TERMS, Estimate, Setup, estimate, usable, weight_bytes
from .memory.plan import Change, cheapest_changes, with_all
from .memory.probe import Device, find_device
from .memory.search import PAGED, UNPAGED, Choice, Found, Means, candidate_sizes, rungs, search
from .memory.shape import ModelShape
from .model.blueprint import read_blueprint
from .model.kind import check_kind
from .model.precision import choose_precision
from .model.store import find_config
from .units import GIB, gib

ASSUMED_GIB = 8  # the card this project is made for


@dataclass(frozen=True)
class Asked:
    """An estimate with what it is of.

    Args:
        available: bytes that Estimate.total may be on this card.
        is_real: whether the card is this machine's.
    """

    config: Config
    device: Device
    shape: ModelShape
    setup: Setup
    estimate: Estimate
    available: int
    is_real: bool

    @property
    def fits(self) -> bool:
        """On the card that was asked about."""
        return self.estimate.total <= self.available


def estimate_config(config: Config, card_gib: float | None) -> Asked:
    """Estimate a config on this machine's GPU, on a card of so many GiB, or without either on one of 8 GiB."""
    device = find_device()
    is_real = card_gib is None and device.kind == "cuda"
    if not is_real:
        size = int((card_gib or ASSUMED_GIB) * GIB)
        device = Device("cuda", f"a card of {card_gib or ASSUMED_GIB:g} GiB", size, size, (8, 6), has_bf16=True)
    return estimate_settled(settle(config, device), device, is_real=is_real)


def estimate_settled(settled: Config, device: Device, *, is_real: bool, length: int | None = None) -> Asked:
    """Estimate a settled config on a device, its batch foreseen where it is open.

    is_real: the device is this machine's own. length: of the longest row, where the rows are known.
    """
    config_file = find_config(settled.model)
    check_kind(settled.model.type, config_file.parent)
    shape = read_blueprint(config_file, settled.tuning.lora, settled.model.attn_implementation)
    available = usable(device.total_bytes) if device.kind == "cuda" else device.free_bytes
    if is_real and device.kind == "cuda":
        # other programs may hold some of it; the context of this process is not free any more
        available = min(available, device.free_bytes + CONTEXT_BYTES)
    if settled.train.batch_size == "auto":
        settled = _foreseen(settled, shape, device, available, length)
    setup = setup_of(settled, device, length)
    return Asked(settled, device, shape, setup, estimate(shape, setup), available, is_real)


def fit_by_estimate(
    config: Config, shape: ModelShape, device: Device, *, sizes: Sequence[int], room: int, length: int
) -> Found:
    """The search for the micro-batch, with numbers in the place of trials: the largest size that fits.

    length: of the longest row. The estimate knows no time; a larger micro-batch is taken to be as fast at least.
    """
    effective = config.train.effective_batch_size

    def total(*choice: Any) -> tuple[float, int]:
        asked = with_choice(config, Choice(*choice), effective)
        return 1.0, estimate(shape, setup_of(asked, device, length)).total

    return search(total, sizes=sizes, rungs=open_rungs(config.train), room=room, tokens=lambda size: size)


def weights_of(config: Config, config_file: Path, device: Device) -> int:
    """Bytes that base and adapter take when they are resident; 0 for an architecture that is not known."""
    try:
        shape = read_blueprint(config_file, config.tuning.lora, config.model.attn_implementation)
    except ModelError:
        return 0
    setup = replace(setup_of(with_choice(config, Choice(1), 1), device), stream=False)
    return sum(weight_bytes(shape, setup, config.tuning.mode).values())


def open_rungs(train: TrainSection) -> list[Means]:
    """The means that a settled section leaves to the probe."""
    paged = "auto" if train.optim == "auto" else False
    return rungs(train.gradient_checkpointing, train.activation_offload, paged, train.stream_layers)


def with_choice(config: Config, choice: Choice, effective: int) -> Config:
    """The config with its batch cut by this choice; effective: the rows of a step, of this process."""
    optim = config.train.optim
    if optim == "auto":
        optim = PAGED if choice.paged else UNPAGED
    update = {
        "batch_size": choice.size, "grad_accum": effective // choice.size,
        "gradient_checkpointing": choice.checkpointing, "activation_offload": choice.offload,
        "optim": optim, "stream_layers": choice.stream,
    }  # fmt: skip
    return config.model_copy(update={"train": config.train.model_copy(update=update)})


def setup_of(config: Config, device: Device, length: int | None = None) -> Setup:
    """What of a config with a settled batch memory depends on; length: of the longest row, else model.max_seq_len."""
    train, tuning = config.train, config.tuning
    is_pair = config.model.type == "seq2seq"
    # A row of an encoder-decoder is its input and its answer, each with a limit of its own.
    longest = config.model.max_seq_len if is_pair or length is None else length
    answers = config.eval.training_rows if train.eval_strategy != "no" else 0
    return Setup(
        mode=tuning.mode, rank=tuning.lora.r, dropout=tuning.lora.dropout > 0, optim=train.optim,
        checkpointing=train.gradient_checkpointing, offload=train.activation_offload,
        stream=train.stream_layers and device.kind == "cuda",  # a CPU has what waits in the same memory
        width=choose_precision(train.bf16, train.fp16, device).dtype.itemsize,
        rows=train.batch_size, length=longest, accumulates=train.grad_accum > 1,
        answer_rows=min(answers, config.eval.batch_size), eval_rows=config.eval.batch_size,
        eval_tokens=config.eval.max_new_tokens, logits_bytes=LOGITS_BYTES, softmax_bytes=SOFTMAX_BYTES,
        device="cuda" if device.kind == "cuda" else "cpu",
        packing=train.packing,
        target_length=(config.model.max_target_len or config.model.max_seq_len) + 1 if is_pair else 0,
    )  # fmt: skip


def _foreseen(config: Config, shape: ModelShape, device: Device, available: int, length: int | None) -> Config:
    """The batch that a probe will probably find; when nothing fits, the smallest there is."""
    effective = config.train.effective_batch_size
    sizes = candidate_sizes(effective, effective)
    longest = length or config.model.max_seq_len
    found = fit_by_estimate(config, shape, device, sizes=sizes, room=available, length=longest)
    console.note("train.batch_size is auto: below is the largest that fits; on a GPU a probe takes the fastest.")
    return with_choice(config, (found.chosen or found.tried[-1]).choice, effective)


def show(asked: Asked) -> None:
    """Print the table, the verdict and, when it does not fit, the cheapest changes."""
    found, setup = asked.estimate, asked.setup
    length = f"{setup.length} + {setup.target_length}" if setup.target_length else f"{setup.length}"
    checkpointing = "gradient checkpointing" if setup.checkpointing else "no gradient checkpointing"
    checkpointing += " with offload" if setup.offload else ""
    checkpointing += ", streamed layers" if setup.stream else ""
    console.note(
        f"{asked.config.model.name}: {asked.shape.parameters:,} parameters, {setup.mode}, "
        f"{setup.rows} x {length} tokens a micro-batch, {checkpointing}, {asked.shape.attention} attention, "
        f"{setup.optim}."
    )
    rows = [[term, *(_cell(terms.get(term, 0)) for terms in found.moments.values())] for term in TERMS]
    rows.append(["in use", *(_cell(found.allocated(moment)) for moment in found.moments)])
    console.table("GPU memory by moment, in GiB", ["", *found.moments], [row for row in rows if set(row[1:]) != {"-"}])
    console.result(
        f"Peak: {gib(found.peak)} in use ({found.peak_moment}) + {gib(found.fragmentation)} fragmentation + "
        f"{gib(CONTEXT_BYTES)} CUDA context (both assumed) = {gib(found.total)}"
    )
    card = f"a card of {found.card_gib} GiB" if found.card_gib else "none of the common cards"
    console.result(f"Smallest common card, {HEADROOM:.0%} of it left free: {card}")
    if found.paged:
        console.result(f"Paged optimizer state: {gib(found.paged)} more, in main memory when the card is full")
    if not asked.fits:
        _show_changes(asked)
        return
    console.result(f"It fits {asked.device.name}: {gib(asked.available)} may be used.")
    if found.evaluation_total > asked.available:
        console.result(
            f"Evaluation at these batch sizes would take {gib(found.evaluation_total)}: it will halve its batches by "
            "itself. Lower eval.batch_size to spare it the attempt."
        )


def _show_changes(asked: Asked) -> None:
    console.result(f"It does not fit {asked.device.name}: {gib(asked.available)} may be used.")
    changes = cheapest_changes(asked.shape, asked.setup, asked.available)
    if not changes:
        console.result("No setting makes it smaller: take a smaller model, or a larger card.")
        return
    console.table(
        "The cheapest changes, each by itself",
        ["setting", "saves", "then", "costs"],
        [_row(change, asked.estimate.total) for change in changes],
    )
    together = with_all(asked.shape, asked.setup, changes)
    verdict = "fits" if together.total <= asked.available else "still does not fit; take a smaller model as well"
    settings = " ".join(change.setting for change in changes)
    console.result(f'All of them: {gib(together.total)}, which {verdict}. SET="{settings}"')


def _row(change: Change, before: int) -> list[str]:
    then = f"{gib(before - change.saved)}{', fits' if change.fits else ''}"
    return [change.setting, gib(change.saved), then, change.costs]


def _cell(count: int) -> str:
    return f"{count / GIB:.3f}" if count else "-"
