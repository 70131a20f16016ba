"""What to change when a training does not fit: the cheapest changes first, each with what it saves.

In come a `ModelShape`, a `Setup` and the memory there is; out go `Change`s, each a setting that can be typed after
`--set`. Cheap means: what it does to the result. The order is fixed, from what costs nothing but time to what trains
something else:

    train.gradient_checkpointing=true      the same numbers, a third slower
    train.batch_size=2                     the same step, in more and smaller parts (the effective batch stays)
    tuning.mode=qlora                      the base in 4 bits
    train.optim=paged_adamw_8bit           optimizer state in 8 bits
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
    """

    setting: str
    costs: str
    saved: int
    fits: bool


def cheapest_changes(shape: ModelShape, setup: Setup, available: int) -> list[Change]:
    """The three cheapest changes that save something worth the while; `available` is what Estimate.total may be."""
    before = estimate(shape, setup).total
    changes = []
    for setting, costs, changed in _candidates(setup):
        after = estimate(shape, changed).total
        if before - after >= LEAST_SAVING:
            changes.append(Change(setting, costs, before - after, after <= available))
    return changes[:MOST]


def with_all(shape: ModelShape, setup: Setup, changes: list[Change]) -> Estimate:
    """The estimate with all of these changes together."""
    by_setting = {setting: changed for setting, _, changed in _candidates(setup)}
    together = setup
    for change in changes:
        changed = by_setting[change.setting]
        together = replace(
            together,
            **{
                name: getattr(changed, name)
                for name in Setup.__dataclass_fields__
                if getattr(changed, name) != getattr(setup, name)
            },
        )
    return estimate(shape, together)


def _candidates(setup: Setup) -> Iterator[tuple[str, str, Setup]]:
    if not setup.checkpointing:
        yield (
            "train.gradient_checkpointing=true", "nothing but time, about a third",
            replace(setup, checkpointing=True),
        )  # fmt: skip
    if setup.rows > 1:
        rows = setup.rows // 2
        yield (
            f"train.batch_size={rows}", "nothing but time: the effective batch stays",
            replace(setup, rows=rows, accumulates=True),
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
    if setup.mode != "full" and setup.rank > 8:
        yield f"tuning.lora.r={setup.rank // 2}", "a smaller adapter", replace(setup, rank=setup.rank // 2)
    if setup.length > SHORTEST:
        length = max(SHORTEST, setup.length // 2)
        yield f"model.max_seq_len={length}", "longer rows are left out or cut", replace(setup, length=length)
