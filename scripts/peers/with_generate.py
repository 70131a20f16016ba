"""The peers `one-by-one` and `batched`: transformers' own `generate`, greedily. Started by scripts/bench.py.

    python scripts/peers/with_generate.py JOB.json        "options": {"is_batched": true} pads on the left, `batch` rows

Reads   the job, its prompts (rendered texts) and the model.
Writes  the answers that the job names, [[text, tokens], ...], and the report: {"seconds": 31.2, "tokens": 9000, ...}.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Answer."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    prompts = json.loads(Path(job["prompts"]).read_text(encoding="utf-8"))[: job["most"]]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"])).to(device).eval()
    at_once = job["batch"] if job["options"].get("is_batched") else 1
    answers = []
    began = time.perf_counter()
    for at in range(0, len(prompts), at_once):
        asked = tokenizer(prompts[at : at + at_once], return_tensors="pt", padding=True, add_special_tokens=False)
        said = model.generate(
            **asked.to(device), max_new_tokens=job["max_new_tokens"], do_sample=False,
            eos_token_id=job["stop_ids"], pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        for row in said[:, asked["input_ids"].shape[1] :].tolist():
            end = next((place for place, token in enumerate(row) if token in job["stop_ids"]), len(row))
            answers.append([tokenizer.decode(row[:end], skip_special_tokens=True).strip(), end])
    seconds = time.perf_counter() - began
    versions = {name: version(name) for name in ("torch", "transformers")}
    report = {
        "seconds": seconds,
        "tokens": sum(tokens for _, tokens in answers),
        "answers": job["answers"],
        "versions": versions,
    }
    Path(job["answers"]).write_text(json.dumps(answers), encoding="utf-8")
    Path(job["report"]).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
