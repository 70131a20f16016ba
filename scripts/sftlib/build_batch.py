"""Assembly of the batch: what train.batch_size `auto`, and with it all means of fitting, come to.

In come a settled config, the model's text side and the training rows; out goes a config without `auto` and the reason.

| the run | taken |
|---|---|
| states train.batch_size or train.grad_accum | that |
| goes on from a checkpoint | what it was begun with |
| on a GPU | what was found for the same kind of run before, else what a probe finds now (learn/probing.py) |
| elsewhere, or by several processes | the largest that fits free memory by the estimate, MOST at most; no step is run |

The batch of a step stays what train.effective_batch_size says, to the row.
Worst bug: a run that goes on with another micro-batch than it was begun with (tests/memory/test_auto_batch.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console
from .build import Text
from .build_estimate import fit_by_estimate, open_rungs, setup_of, weights_of, with_choice
from .config.schema import Config
from .errors import MachineError, ModelError
from .memory.estimate import CONTEXT_BYTES, usable
from .memory.plan import cheapest_changes
from .memory.probe import Device, drives_display
from .memory.remembered import BUCKET_BYTES, Remembered
from .memory.search import PAGED, UNPAGED, Choice, Found, Means, candidate_sizes, search
from .memory.shape import ModelShape
from .model.blueprint import read_blueprint
from .run.folder import RunFolder
from .run.launch import Launch
from .run.stamp import settings_to_go_on_with, versions
from .tokens.dataset import ExampleDataset
from .units import gib

if TYPE_CHECKING:
    from torch import nn

PROBED = ("cuda",)  # kinds of device on which trials are run
KEPT_FREE = 0.03  # of a GPU, by a probe: what it measures is this run's need, but not that of other programs
KEPT_FREE_FOR_DISPLAY = 0.07  # of it more where a screen hangs on it: windows come and go
MOST = 4  # rows without a probe: what docs/BENCHMARKS.md was measured with; nobody measured more on a CPU
MEANS = {
    "checkpointing": "gradient checkpointing", "offload": "activation offload", "paged": "a paged 8-bit optimizer",
    "stream": "layer streaming",
}  # fmt: skip
ALONE = Launch()
OPEN = ("batch_size", "grad_accum", "gradient_checkpointing", "activation_offload", "optim", "stream_layers")
BEGUN = {"optim": UNPAGED}  # of a run that was begun before there was such an `auto`; the others were off


@dataclass(frozen=True)
class Batch:
    """A config whose batch is settled.

    Args:
        why: where it comes from, for backend.json.
        found: what a probe measured, when one was run.
        costs: of each of the means that a probe turned on, the share of speed that is left and the length of the rows.
        remember: told the rows and their length that fit after all, when memory ran out while training.
    """

    config: Config
    why: str
    found: Found | None = None
    remember: Callable[[int, int], None] | None = None
    costs: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """For backend.json."""
        train = self.config.train
        report = {name: getattr(train, name) for name in (*OPEN, "effective_batch_size", "packing")}
        report["why"] = self.why
        if self.found is not None:
            report["tried"] = [
                one.choice._asdict() | {"tokens_per_second": one.speed, "peak_bytes": one.peak, "fits": one.fits}
                for one in self.found.tried
            ]
            report["costs"] = {
                name: {"speed_left": share, "length": length} for name, (share, length) in self.costs.items()
            }
        return report


@dataclass(frozen=True)
class Probe:
    """What a probe needs besides.

    Args:
        load: the model as it will be trained, loaded once; told whether its layers are streamed from the start.
        enable: switches gradient checkpointing on (Backend.enable_checkpointing).
        kind: what a remembered choice depends on and the config does not say: fingerprint of the base, the backend that
            runs, the digest of our code.
    """

    run: RunFolder
    load: Callable[[bool], nn.Module]
    enable: Callable[..., None]
    precision: str
    kind: Mapping[str, Any] = field(default_factory=dict)


def settle_batch(
    config: Config, text: Text, rows: ExampleDataset, device: Device, probe: Probe | None = None,
    launch: Launch = ALONE,
) -> Batch:  # fmt: skip
    """Settle the batch of a config that `settle` has seen; without a `probe` it stays open on a GPU.

    Raises MachineError, with the cheapest changes, when not even one row fits.
    """
    train = config.train
    if train.batch_size != "auto":
        return Batch(config, "as the config says")
    if probe is not None and (begun := settings_to_go_on_with(probe.run, train.resume)):
        return Batch(_with_begun(config, begun), "as the run was begun")
    effective = train.effective_batch_size // launch.processes
    ladder = open_rungs(train)
    is_probed = device.kind in PROBED and launch.processes == 1
    sizes = candidate_sizes(effective, len(rows), None if is_probed else MOST)
    if launch.is_sharded:
        settled = with_choice(config, Choice(1, *(Means(True) if Means(True) in ladder else ladder[0])), effective)
        console.note(
            f"{_words(settled)}: what fits beside a cut up model is not known. State train.batch_size for more."
        )
        return Batch(settled, "one row, as the model is cut up")
    if not is_probed:
        return _estimated(config, text, max(rows.lengths), device, sizes, effective)
    if probe is None:
        console.note("The micro-batch is found by trial when the training starts.")
        return Batch(config, "")
    kept = Remembered(Path(train.output_dir) / ".cache", _key(config, rows, device, probe, effective))

    def remember(count: int, length: int) -> None:
        """Rows of the longest kind that fit, when so many of this length did."""
        fitting = max(1, count * length // max(rows.lengths))
        smaller = max(size for size in sizes if size <= fitting)
        kept.remember(choice._replace(size=smaller))

    choice, found, costs, why = kept.recall(), None, {}, "remembered from an earlier run"
    if choice is None or choice.size not in sizes or choice.means not in ladder:
        found, costs = _probe(config, text, rows, device, probe, sizes, ladder, effective)
        choice, why = found.chosen.choice, "found by trial"
        kept.remember(choice)
    settled = with_choice(config, choice, effective)
    if found is None:
        console.note(
            f"{_words(settled)}, as found before for this model, length, card and free memory. "
            f"To find it anew: rm {kept.path}"
        )
    return Batch(settled, why, found, remember, costs)


def one_row_at_a_time(config: Config) -> Config:
    """The config with the smallest micro-batch, where its size is open: for a look, not for a training."""
    train = config.train
    if train.batch_size != "auto":
        return config
    return with_choice(config, Choice(1, *open_rungs(train)[0]), train.effective_batch_size)


def _with_begun(config: Config, begun: Mapping[str, Any]) -> Config:
    train = config.train
    update = {
        name: begun.get(f"train.{name}", BEGUN.get(name, False)) for name in OPEN if getattr(train, name) == "auto"
    }
    console.note(f"Micro-batches of {update['batch_size']}, as the run was begun with.")
    return config.model_copy(update={"train": train.model_copy(update=update)})


def _estimated(config: Config, text: Text, longest: int, device: Device, sizes: Sequence[int], effective: int) -> Batch:
    """By numbers alone, so that the same machine gives the same batch."""
    shape = _shape(config, text)
    ladder = open_rungs(config.train)
    if shape is None:
        settled = with_choice(config, Choice(sizes[-1], *ladder[0]), effective)
        why = "the model is not one whose memory can be estimated"
        console.note(f"{_words(settled)}: {why}.")
        return Batch(settled, why)
    room = usable(device.free_bytes)
    found = fit_by_estimate(config, shape, device, sizes=sizes, room=room, length=longest)
    if found.chosen is None:
        smallest = with_choice(config, Choice(sizes[0], *ladder[-1]), effective)
        raise _nothing_fits(smallest, shape, device, room, longest, found, "is free")
    settled = with_choice(config, found.chosen.choice, effective)
    console.note(
        f"{_words(settled)}: weights and activations of about {gib(found.chosen.peak)}; {gib(room)} may be used."
    )
    return Batch(settled, "estimated")


def _probe(
    config: Config, text: Text, rows: ExampleDataset, device: Device, probe: Probe, sizes: Sequence[int],
    ladder: Sequence[Means], effective: int,
) -> tuple[Found, Mapping[str, tuple[float, int]]]:  # fmt: skip
    from .learn.probing import probing  # the Trainer takes seconds to import

    has_display = device.kind == "cuda" and drives_display()
    share = KEPT_FREE + (KEPT_FREE_FOR_DISPLAY if has_display else 0)
    model, ladder = _loaded(config, text, device, probe, ladder, share)
    costs = {}
    with probing(
        model, train=config.train, run=probe.run, precision=probe.precision, device=device.kind, seed=config.seed,
        train_set=rows, pad_id=text.tokenizer.pad_token_id, effective=effective,
        place=device, enable=probe.enable,
    ) as trial:  # fmt: skip
        room = trial.room(device.total_bytes, share)
        found = search(trial, sizes=sizes, rungs=ladder, room=room, tokens=trial.tokens)
        if found.chosen is not None and config.model.type == "causal":
            costs = trial.costs(found.chosen.choice, room)
    if found.chosen is None:
        smallest = with_choice(config, found.tried[-1].choice, sizes[0])
        shape = _shape(config, text)
        raise _nothing_fits(smallest, shape, device, room + CONTEXT_BYTES, max(rows.lengths), found, "may be used")
    _say(with_choice(config, found.chosen.choice, effective), found, room, share, has_display)
    for name, (left, length) in costs.items():
        console.note(f"Cost of {MEANS[name]}, measured on rows of {length} tokens: {left:.0%} of the speed is left.")
    return found, costs


def _loaded(
    config: Config, text: Text, device: Device, probe: Probe, ladder: Sequence[Means], share: float
) -> tuple[nn.Module, Sequence[Means]]:
    """The model, and the means that are left: where its weights alone do not fit the card, its layers are streamed."""
    streaming = [rung for rung in ladder if rung.stream]
    if streaming == list(ladder):
        return probe.load(True), ladder
    room = int(device.total_bytes * (1 - share))
    weights = weights_of(config, text.stored.folder / "config.json", device)
    if weights <= room or not streaming:
        try:
            return probe.load(False), ladder
        except MachineError as error:
            if error.code != "E409" or not streaming:
                raise
    console.note(f"The weights alone ({gib(weights)}) do not fit {device.name}: layers are streamed from main memory.")
    return probe.load(True), streaming


def _say(config: Config, found: Found, room: int, share: float, has_display: bool) -> None:
    """What was chosen and what had to be turned on for it."""
    chosen = found.chosen
    failed = list(dict.fromkeys(one.choice.means for one in found.tried if one.choice.means != chosen.choice.means))
    for before, after in itertools.pairwise([*failed, chosen.choice.means]):
        what = " and ".join(MEANS[name] for name in Means._fields if getattr(after, name) and not getattr(before, name))
        console.note(f"Not even one row fits without {what}: it is turned on.")
    display = ", as a screen hangs on it" if has_display else ""
    console.note(
        f"{_words(config)}: the fastest of "
        f"{len(found.tried)} trials in {found.seconds:.0f} s, {chosen.speed:.0f} tokens/s, peak {gib(chosen.peak)} of "
        f"{gib(room)} that may be used; {share:.0%} of the card stays free{display}."
        + (" Larger ones were left out for the time they would take." if found.is_cut_short else "")
    )


def _nothing_fits(
    config: Config, shape: ModelShape | None, device: Device, room: int, longest: int, found: Found, which: str
) -> MachineError:
    """Not even the smallest micro-batch with all that saves memory: what to change, and what that saves."""
    last = found.tried[-1]
    need = "memory ran out" if last.peak is None else f"it takes {gib(last.peak)}"
    cure = "Take a smaller model, or a larger card."
    if shape is not None:
        changes = cheapest_changes(shape, setup_of(config, device, longest), room)
        listed = [f"{change.setting} (saves about {gib(change.saved)}; {change.costs})" for change in changes]
        cure = "The cheapest changes: " + "; ".join(listed) + ". Close what else uses the memory." if listed else cure
    return MachineError(
        f"Not even one row of {longest} tokens fits {device.name}"
        f"{_with_means(last.choice.means)}: {need}, and {gib(room)} {which}.",
        where="train.batch_size", expected="memory for one row at a time", cure=cure, code="E409",
    )  # fmt: skip


def _shape(config: Config, text: Text) -> ModelShape | None:
    """None for an architecture that the estimate does not know."""
    try:
        return read_blueprint(text.stored.folder / "config.json", config.tuning.lora, config.model.attn_implementation)
    except ModelError:
        return None


def _key(config: Config, rows: ExampleDataset, device: Device, probe: Probe, effective: int) -> dict[str, Any]:
    """All that the choice depends on; free memory in steps that are smaller than what is kept free."""
    train, lora = config.train, config.tuning.lora
    return {
        **probe.kind, "mode": config.tuning.mode, "rank": lora.r, "targets": lora.target_modules,
        "dropout": lora.dropout > 0, "max_seq_len": config.model.max_seq_len, "longest": max(rows.lengths),
        "rows": min(len(rows), effective), "effective": effective, "optim": train.optim, "precision": probe.precision,
        "attention": config.model.attn_implementation, "packing": train.packing,
        "checkpointing": train.gradient_checkpointing, "offload": train.activation_offload,
        "stream": train.stream_layers, "card": device.name, "total": device.total_bytes,
        "free": device.free_bytes // BUCKET_BYTES, "versions": versions(),
    }  # fmt: skip


def _words(config: Config) -> str:
    train = config.train
    means = Means(train.gradient_checkpointing, train.activation_offload, train.optim == PAGED, train.stream_layers)
    return f"Micro-batch {train.batch_size} x {train.grad_accum}{_with_means(means)}"


def _with_means(means: Means) -> str:
    """` with gradient checkpointing and activation offload`, or nothing."""
    *most, last = [MEANS[name] for name, is_on in means._asdict().items() if is_on] or [""]
    return f" with {', '.join(most)}{' and ' if most else ''}{last}" if last else ""
