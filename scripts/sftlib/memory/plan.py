"""What to change when a training does not fit: the cheapest changes first, each with what it saves.

In come a `ModelShape`, a `Setup` and the memory there is; out go `Change`s, each a setting that can be typed after
`--set`. Cheap means: what it does to the result. The order is fixed, from what costs nothing but time to what trains
something else:

    train.packing=false                    the same numbers; a packed row is one large square to sdpa and eager
    train.gradient_checkpointing=true      the same numbers, a third slower
    train.batch_size=2                     the same step, in more and smaller parts (the effective batch stays)
    train.activation_offload=true          what checkpointing stores, in main memory
    tuning.mode=qlora                      the base in 4 bits
    train.optim=paged_adamw_8bit           optimizer state in 8 bits
    train.stream_layers=true               the base itself, in main memory
    tuning.lora.r=8                        a smaller adapter
    model.max_seq_len=512                  long rows are left out or cut

Worst bug: a change that is said to save and does not (tests/memory/test_estimate.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .estimate import Estimate, Setup, estimate
from .shape import ModelShape

MOST = 3
LEAST_SAVING = 10 * 2**20  # bytes; less would be shown as 0.00 GiB or nearly so
SHORTEST = 256  # tokens; below it hardly any conversation is whole


@dataclass(frozen=True, slots=True)
class Change:
    """One change on top of the config.

    Args:
        setting: as after `--set`.
        costs: what it does besides, for people.
        saved: bytes off the total, by itself.
        fits: whether it is enough by itself.
        setup: with this change.
    """

    setting: str
    costs: str
    saved: int
    fits: bool
    setup: Setup


def cheapest_changes(shape: ModelShape, setup: Setup, available: int) -> list[Change]:
    """The three cheapest changes that save something worth the while; `available` is what Estimate.total may be."""
    before = estimate(shape, setup).total
    changes = []
    for setting, costs, changed in _candidates(shape, setup, available):
        after = estimate(shape, changed).total
        if before - after >= LEAST_SAVING:
            changes.append(Change(setting, costs, before - after, after <= available, changed))
    return changes[:MOST]


def with_all(shape: ModelShape, setup: Setup, changes: list[Change]) -> Estimate:
    """The estimate with all of these changes together."""
    together = setup
    for change in changes:
        names = [name for name in Setup.__dataclass_fields__ if getattr(change.setup, name) != getattr(setup, name)]
        together = replace(together, **{name: getattr(change.setup, name) for name in names})
    return estimate(shape, together)


def _candidates(shape: ModelShape, setup: Setup, available: int) -> Iterator[tuple[str, str, Setup]]:
    if setup.packing:
        yield "train.packing=false", "nothing but the time that padding takes", replace(setup, packing=False)
    if not setup.checkpointing:
        yield (
            "train.gradient_checkpointing=true", "nothing but time, about a third",
            replace(setup, checkpointing=True),
        )  # fmt: skip
    smaller = [replace(setup, rows=rows, accumulates=True) for rows in _divisors(setup.rows)]
    if smaller:  # the largest that fits, else a single row
        chosen = next((one for one in smaller if estimate(shape, one).total <= available), smaller[-1])
        yield f"train.batch_size={chosen.rows}", "nothing but time: the effective batch stays", chosen
    if setup.checkpointing and not setup.offload and setup.device == "cuda":
        yield (
            "train.activation_offload=true", "nothing but time: what is stored goes to main memory and back",
            replace(setup, offload=True),
        )  # fmt: skip
    if setup.mode == "lora":
        yield "tuning.mode=qlora", "the base is rounded to 4 bits", replace(setup, mode="qlora")
    if setup.mode == "full":
        yield "tuning.mode=lora", "an adapter is trained, not every weight", replace(setup, mode="lora")
    if "8bit" not in setup.optim:
        yield (
            "train.optim=paged_adamw_8bit", "optimizer state is rounded to 8 bits",
            replace(setup, optim="paged_adamw_8bit"),
        )  # fmt: skip
    if not setup.stream and setup.mode != "full" and setup.device == "cuda":
        yield (
            "train.stream_layers=true", "nothing but time: every weight comes from main memory, twice a micro-batch",
            replace(setup, stream=True),
        )  # fmt: skip
    if setup.mode != "full" and setup.rank > 8:
        yield f"tuning.lora.r={setup.rank // 2}", "a smaller adapter", replace(setup, rank=setup.rank // 2)
    if setup.length > SHORTEST:
        length = max(SHORTEST, setup.length // 2)
        yield f"model.max_seq_len={length}", "longer rows are left out or cut", replace(setup, length=length)


def _divisors(rows: int) -> list[int]:
    """Smaller micro-batches that make up the same effective batch, the largest first."""
    return [smaller for smaller in range(rows - 1, 0, -1) if rows % smaller == 0]
