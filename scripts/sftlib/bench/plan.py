"""What is asked of a bench, as the command line says it.

    Plan("train", raw_paths=["faq.jsonl"], rows=512, mode="qlora")

Worst bug: none of its own; what a plan becomes is tested with each workload.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

ROWS = {
    "train": 512,
    "prepare": 100_000,
    "generate": 200,
    "startup": 512,
    "scaling": 128,
    "gpu": 64,
    "large": 1_000_000,
}
SHAPES = ("Qwen2.5-0.5B", "Qwen2.5-3B", "Qwen2.5-7B")
MODES = ("lora", "qlora")
# The rows of a bench that is not told of others: questions and answers about building permits, from PyPI.
FAQ, FAQ_FILE = "zaragoza-construction-faq==1.2.1", "zaragoza_construction_faq/data/faq-en.jsonl"
FAQ_SHA256 = "e4a891ff78e0a785a180cdde2d9fa82bc0339d6e1f5297037e44eedb07f9b40b"


@dataclass(frozen=True, slots=True)
class Plan:
    """A workload and its size.

    Args:
        raw_paths: raw rows; none for those of the FAQ package.
        rows: to train on, to prepare or to answer; None for what the workload has by default.
        unseen: rows to judge adapters by. batch: rows a step, or answers at once. epochs: passes over the rows.
        mode: lora or qlora. max_new_tokens: of an answer.
        shapes: of models on a GPU; all without any.
        prepared: rows of the smaller preparation when scaling; the larger one has ten times as many.
    """

    workload: str
    raw_paths: Sequence[str] = ()
    rows: int | None = None
    unseen: int = 64
    batch: int = 8
    epochs: float = 1.0
    mode: str = "lora"
    max_new_tokens: int = 64
    prepared: int = 100_000
    shapes: Sequence[str] = ()

    @property
    def size(self) -> int:
        """The rows, stated or not."""
        return self.rows or ROWS[self.workload]

    def with_raw(self, paths: Sequence[str]) -> Plan:
        """The same with other raw rows."""
        return dataclasses.replace(self, raw_paths=paths)
