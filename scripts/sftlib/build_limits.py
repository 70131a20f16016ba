"""Assembly of the advice on model.max_seq_len: the tables of the training split to the limits that are worth a look.

    limits(config, tables)  ->  {"configured": 1024, "p95": 240, "knee": 216, "choices": [...], "advice": "...", ...}

The tables are uncut. What a limit loses is counted for rows that are dropped and for rows that are cut; `split` and
`truncate_turns` lose less than cutting does. What it takes of memory comes from the estimate of `make estimate`, at the
micro-batch that is foreseen for the limit of now.
Worst bug: a cost that training does not have (tests/test_analyze.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from . import console
from .build_estimate import estimate_config
from .config.schema import Config
from .errors import SftError
from .memory.estimate import estimate
from .tokens import limits as rooms
from .tokens.table import ExampleTable
from .units import GIB, percent


def limits(config: Config, tables: Sequence[ExampleTable]) -> dict[str, Any]:
    """The 95th percentile and the knee, what they and the limit of now cost, and the curves they come from."""
    lengths = rooms.lengths_of(tables, lambda table: table.lengths)
    supervised = rooms.lengths_of(tables, lambda table: table.supervised)
    at = rooms.points_of(lengths)
    dropped, cut = rooms.kept_if_dropped(lengths, supervised, at), rooms.kept_if_cut(tables, at)
    policy, now = config.data.truncation, config.model.max_seq_len
    bend = rooms.knee(at, dropped if policy == "drop" else cut)
    p95, longest = int(rooms.spread(lengths)["p95"]), int(lengths.max())
    memory = _Memory(config)
    choices = []
    for limit, names in rooms.candidates(now, p95, bend, longest).items():
        found = rooms.costs(tables, limit)
        tokens = found["tokens_if_dropped" if policy == "drop" else "tokens_if_cut"]
        choices.append(
            {
                "limit": limit, "names": names, **found, "trained_share": tokens / max(1, int(lengths.sum())),
                "attention": (min(limit, longest) / min(now, longest)) ** 2, "memory": memory.at(min(limit, longest)),
            }
        )  # fmt: skip
    return {
        "configured": now, "policy": policy, "p95": p95, "knee": bend, "longest": longest,
        "advice": _advice(choices, policy, now, p95, bend, longest), "choices": choices,
        "memory_of": memory.of, "memory_why": memory.why,
        "curve": [
            {"limit": int(limit), "dropped": round(float(one), 5), "cut": round(float(other), 5)}
            for limit, one, other in zip(at, dropped, cut, strict=True)
        ],
    }  # fmt: skip


def _advice(choices: list[dict[str, Any]], policy: str, now: int, p95: int, bend: int, longest: int) -> str:
    """What the numbers come to, in words."""
    by_limit = {choice["limit"]: choice for choice in choices}
    loss = "dropped_share" if policy == "drop" else "cut_share"

    def costs(limit: int) -> str:
        lost = by_limit[limit][loss]
        most = "at most " if policy in ("split", "truncate_turns") and lost else ""
        return f"costs {most}{percent(lost, 1)} of the supervised tokens" if lost else "costs nothing"

    holding, whole = rooms.rounded_up(p95), rooms.rounded_up(longest)
    today = (
        f"Every row fits the {now} of now; the longest has {longest} tokens."
        if longest <= now
        else f"{by_limit[now]['rows_longer']} rows are longer than the {now} of now, which {costs(now)}."
    )
    at_knee = rooms.rounded_up(bend)
    same = "; the knee, behind which length buys less than on average, lies there too" if at_knee == holding else (
        f". The knee, behind which length buys less than on average, is at {bend}; {at_knee} {costs(at_knee)}"
    )  # fmt: skip
    fits = f"95 % of the rows have {p95} or fewer: {holding} holds them and {costs(holding)}"
    return f"{today} {fits}{same}. {whole} holds all."


class _Memory:
    """GiB that a training would take with rows of a length; None where the architecture is not known."""

    def __init__(self, config: Config) -> None:
        self.of, self.why = "", ""
        try:
            self._asked = estimate_config(config, None)
        except SftError as error:
            self._asked, self.why = None, error.seen
            console.note(f"Memory is not estimated: {error.seen}")
        else:
            rows = self._asked.setup.rows
            self.of = f"{self._asked.device.name}, {rows} {'row' if rows == 1 else 'rows'} a micro-batch"

    def at(self, length: int) -> float | None:
        """GiB, to two decimals."""
        if self._asked is None:
            return None
        return round(estimate(self._asked.shape, replace(self._asked.setup, length=length)).total / GIB, 2)
