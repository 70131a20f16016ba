"""The peers `map-rows` and `map-batched`: `datasets.map` with a chat template and masks. Started by scripts/bench.py.

    python scripts/peers/with_datasets.py JOB.json        "options": {"is_batched": true} tokenizes 1000 rows a call

Row by row it is what TRL's SFTTrainer does with assistant_only_loss: tokenize with the assistant's mask, then labels of
it. `datasets` keeps what it made and finds it again at the second start.

Reads   the job, its rows of messages, the template, and the tokenizer of the model.
Writes  the report: {"rows": 96, "tokens": 20000, "supervised": 9000, "seconds": 31.2}.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import AutoTokenizer

IGNORED = -100


def tokenize(example: dict[str, Any], tokenizer: Any, template: str) -> dict[str, Any]:
    """Ids and the assistant's mask, of a row or of a batch of rows."""
    encoded = tokenizer.apply_chat_template(
        example["messages"], chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return {"input_ids": encoded["input_ids"], "mask": encoded["assistant_masks"]}


def build_labels(example: dict[str, Any]) -> dict[str, Any]:
    """Ids where the mask is, of a row."""
    return {"labels": _labels(example["input_ids"], example["mask"])}


def build_many_labels(example: dict[str, Any]) -> dict[str, Any]:
    """The same of a batch of rows."""
    return {"labels": [_labels(*row) for row in zip(example["input_ids"], example["mask"], strict=True)]}


def main() -> None:
    """Prepare."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    is_batched = job["options"].get("is_batched", False)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    template = Path(job["template"]).read_text(encoding="utf-8")
    began = time.perf_counter()
    rows = load_dataset("json", data_files=job["rows"], split="train")
    told = {"tokenizer": tokenizer, "template": template}
    rows = rows.map(tokenize, batched=is_batched, fn_kwargs=told, remove_columns=rows.column_names)
    rows = rows.map(build_many_labels if is_batched else build_labels, batched=is_batched, remove_columns=["mask"])
    seconds = time.perf_counter() - began
    tokens = supervised = 0
    for batch in rows.iter(1000):
        tokens += sum(map(len, batch["input_ids"]))
        # A causal model does not predict the first token of a row.
        supervised += sum(label != IGNORED for labels in batch["labels"] for label in labels[1:])
    report = {
        "rows": len(rows), "asked": job["options"]["rows"], "tokens": tokens, "supervised": supervised,
        "seconds": seconds, "versions": {name: version(name) for name in ("datasets", "transformers", "tokenizers")},
    }  # fmt: skip
    Path(job["report"]).write_text(json.dumps(report), encoding="utf-8")


def _labels(ids: list[int], mask: list[int]) -> list[int]:
    return [token if bit else IGNORED for token, bit in zip(ids, mask, strict=True)]


if __name__ == "__main__":
    main()
