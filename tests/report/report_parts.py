"""An analysis with numbers by hand, as `build_analyze.analyze` makes it."""

from __future__ import annotations

from typing import Any


def spread(rows: int, median: int, p95: int, longest: int, total: int) -> dict[str, Any]:
    return {
        "rows": rows, "min": 3, "median": median, "p90": p95 - 1, "p95": p95, "p99": p95 + 1, "max": longest,
        "mean": round(total / rows, 1), "sum": total,
    }  # fmt: skip


def finding(**other: Any) -> dict[str, Any]:
    return {
        "kind": "html", "group": "characters", "title": "Remains of HTML", "advice": "Export the data as plain text.",
        "is_serious": False, "rows": 1234, "share": 0.1234, "by_set": {"faq": 1200, "sums": 34},
        "by_split": {"train": 1000, "val": 234}, "sources": [f"faq.csv:{n}" for n in range(9)],
        "example": {"source": "faq.csv:0", "text": "a <br> b", "other_source": "", "other_text": ""}, **other,
    }  # fmt: skip


def analysis(**other: Any) -> dict[str, Any]:
    lengths = {
        "rows": spread(10000, 120, 333, 777, 1_234_567), "answers": spread(10000, 60, 111, 444, 617_283),
        "rest": spread(10000, 50, 99, 222, 617_284),
    }  # fmt: skip
    choice = {
        "limit": 336, "names": ["95 % of rows"], "rows_longer": 451, "rows_longer_share": 0.0451, "dropped": 20_002,
        "dropped_share": 0.0789, "cut": 7_003, "cut_share": 0.0219, "tokens_if_dropped": 1, "tokens_if_cut": 2,
        "trained_share": 0.913, "attention": 0.187, "memory": 2.46,
    }  # fmt: skip
    return {
        "made": "2026-11-22 01:30", "project": "mine", "rows": 10000, "unit": "tokens", "why_words": "",
        "splits": [
            {"name": "train", "path": "data/processed/train.jsonl", "rows": 9000},
            {"name": "val", "path": "data/processed/val.jsonl", "rows": 1000},
        ],
        "sets": [
            {"name": "faq", "rows": 8000, "share": 0.8, "by_split": {"train": 7500, "val": 500}, "turns": 1.0,
             "languages": {"en": 7990}, "lengths": lengths},
            {"name": "sums", "rows": 2000, "share": 0.2, "by_split": {"train": 1500, "val": 500}, "turns": 1.25,
             "languages": {"sv": 1999}, "lengths": lengths},
        ],
        "findings": [finding()], "styles": [],
        "not_found": [{"kind": "ip", "group": "private", "title": "Public IP addresses"}],
        "near_duplicates": 0.8, "lengths": lengths,
        "languages": [{"code": "en", "rows": 8001, "share": 0.8001}, {"code": "", "rows": 1999, "share": 0.1999}],
        "turns": [{"turns": 1, "rows": 9500, "share": 0.95}, {"turns": 2, "rows": 500, "share": 0.05}],
        "histogram": [{"low": 1, "high": 200, "rows": 9001}, {"low": 201, "high": 777, "rows": 999}],
        "supervised": {"of": 1_234_567, "supervised": 617_283, "share": 0.5, "by_row": [0] * 10 + [10000] + [0] * 9},
        "limits": {
            "configured": 1024, "policy": "drop", "p95": 331, "knee": 290, "longest": 777, "advice": "336 holds most.",
            "choices": [choice], "memory_of": "a card of 8 GiB, 4 rows a micro-batch", "memory_why": "",
            "curve": [{"limit": limit, "dropped": limit / 777, "cut": 1.0} for limit in (3, 290, 777)],
        },
        "seconds": {"rows, one by one": 60.5, "tokens": 5.0}, **other,
    }  # fmt: skip
