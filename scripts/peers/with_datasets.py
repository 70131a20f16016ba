"""The peers `map-rows` and `map-batched`: `datasets.map` with a chat template and masks. Started by scripts/bench.py.

    python scripts/peers/with_datasets.py JOB.json        "options": {"is_batched": true} takes 1000 rows a call

Row by row it is what TRL's SFTTrainer does with assistant_only_loss (1.16, _prepare_dataset, less the look at each row
for other formats): tokenize with the assistant's mask, labels of it, cut to the length, drop what has no label left; a
pass each. `datasets` keeps what it made and finds it again at the second start.

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


def truncate(example: dict[str, Any], longest: int) -> dict[str, Any]:
    """No more than so many tokens, of a row."""
    return {name: example[name][:longest] for name in ("input_ids", "labels")}


def is_trained(example: dict[str, Any]) -> bool:
    """Whether a row has a label."""
    return any(label != IGNORED for label in example["labels"])


def prepare_batch(example: dict[str, Any], tokenizer: Any, template: str, longest: int) -> dict[str, Any]:
    """All of it in one pass, of a batch of rows."""
    encoded = tokenize(example, tokenizer, template)
    pairs = zip(encoded["input_ids"], encoded["mask"], strict=True)
    rows = [{"input_ids": ids[:longest], "labels": _labels(ids, mask)[:longest]} for ids, mask in pairs]
    rows = [row for row in rows if is_trained(row)]
    return {name: [row[name] for row in rows] for name in ("input_ids", "labels")}


def main() -> None:
    """Prepare."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    is_batched = job["options"].get("is_batched", False)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    template = Path(job["template"]).read_text(encoding="utf-8")
    began = time.perf_counter()
    rows = load_dataset("json", data_files=job["rows"], split="train")
    told = {"tokenizer": tokenizer, "template": template}
    longest = {"longest": job["max_length"]}
    if is_batched:
        rows = rows.map(prepare_batch, batched=True, fn_kwargs=told | longest, remove_columns=rows.column_names)
    else:
        rows = rows.map(tokenize, fn_kwargs=told, remove_columns=rows.column_names)
        rows = rows.map(build_labels, remove_columns=["mask"])
        rows = rows.map(truncate, fn_kwargs=longest).filter(is_trained)
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
