"""Assembly of the advice on model.max_seq_len: the tables of the training split to the limits that are worth a look.

    limits(config, tables)  ->  {"configured": 1024, "p95": 240, "knee": 216, "suggested": 240, "choices": [...], ...}

What a limit loses is counted by the length policy of the config, run once for each; what it takes of memory by the
estimate of `make estimate`, at the micro-batch that is foreseen for the limit of now.
Worst bug: a cost that training does not have (tests/test_analyze.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from . import console
from .build import within_lengths
from .build_estimate import estimate_config
from .config.schema import Config
from .errors import ModelError
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
    drops = config.data.truncation == "drop"
    bend = rooms.knee(at, dropped if drops else cut)
    p95, longest = int(rooms.spread(lengths)["p95"]), int(lengths.max())
    now = config.model.max_seq_len
    memory = _Memory(config, longest)
    choices = [
        _choice(config, tables, limit, names, min(now, longest), memory)
        for limit, names in rooms.candidates(now, p95, bend, longest).items()
    ]
    return {
        "configured": now, "policy": config.data.truncation, "p95": p95, "knee": bend, "longest": longest,
        "advice": _advice(choices, now, p95, bend, longest), "choices": choices, "memory_of": memory.of, "memory_why": memory.why,
        "curve": [
            {"limit": int(limit), "dropped": round(float(one), 5), "cut": round(float(other), 5)}
            for limit, one, other in zip(at, dropped, cut, strict=True)
        ],
    }  # fmt: skip


def _advice(choices: list[dict[str, Any]], now: int, p95: int, bend: int, longest: int) -> str:
    """What the numbers come to, in words."""
    by_limit = {choice["limit"]: choice for choice in choices}
    suggested = by_limit[rooms.rounded_up(p95)]
    today = (
        f"Every row fits the {now} of now: the longest has {longest} tokens."
        if longest <= now
        else f"Of now {percent(by_limit[now]['rows_lost_share'], 1)} of the rows are lost at {now}."
        if by_limit[now]["rows_lost"]
        else f"At the {now} of now {by_limit[now]['rows_too_long']} rows are cut, and none is lost."
    )
    costs = (
        f"costs {percent(suggested['supervised_lost_share'], 1)} of the supervised tokens"
        if suggested["supervised_lost"]
        else "costs nothing"
    )
    return (
        f"{today} model.max_seq_len: {suggested['limit']} holds 95 % of the rows and {costs}; the knee, behind which "
        f"length buys less than on average, is at {bend}. {rooms.rounded_up(longest)} holds all."
    )


def _choice(
    config: Config, tables: Sequence[ExampleTable], limit: int, names: list[str], now: int, memory: _Memory
) -> dict[str, Any]:
    model = config.model.model_copy(update={"max_seq_len": limit})
    reports = [within_lengths(config.model_copy(update={"model": model}), table)[1] for table in tables]
    rows, supervised = sum(report.rows for report in reports), sum(report.supervised_tokens for report in reports)
    tokens = sum(report.tokens for report in reports)
    too_long = sum(int((table.lengths > limit).sum()) for table in tables)
    lost = rows - sum(report.rows_kept for report in reports)
    supervised_lost = sum(report.supervised_tokens_lost for report in reports)
    kept = tokens - sum(report.tokens_lost for report in reports)
    longest = min(limit, memory.longest)
    return {
        "limit": limit, "names": names, "rows_too_long": too_long, "rows_lost": lost, "rows_lost_share": lost / rows,
        "supervised_lost": supervised_lost, "supervised_lost_share": supervised_lost / max(1, supervised),
        "tokens_trained": kept, "tokens_trained_share": kept / max(1, tokens), "longest_row": longest,
        "attention": (longest / now) ** 2, "memory": memory.at(longest),
    }  # fmt: skip


class _Memory:
    """GiB that a training would take with rows of a length; None where the architecture is not known."""

    def __init__(self, config: Config, longest: int) -> None:
        self.longest, self.of, self.why = longest, "", ""
        try:
            self._asked = estimate_config(config, None)
        except ModelError as error:
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
