"""Assembly of the generation workload: prompts for everyone, our answers in float32, and our own part in the rounds.

    prepare(config, Plan("generate", ["faq.jsonl"], rows=200), folder)   -> [Generation(...)]
    perform(job)                                                         measure/generate.py, as `make eval` calls it

Worst bug: prompts that others read in another way than we (tests/bench/test_generation.py).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from . import build, build_backend
from .bench.generation import EXPECTED, PROMPTS, Generation
from .bench.plan import Plan
from .bench.running import SECONDS
from .bench.work import CONFIG, Work
from .build import Text
from .build_bench_data import device_said, make_ready
from .config.loader import load_config
from .config.schema import Config
from .config.writing import to_yaml
from .files import read_json, write_json, write_text
from .measure.generate import Answer, generate_answers
from .memory.probe import find_device
from .model.precision import choose_precision
from .run.versions import installed_version

CHECKED = 12  # prompts that everyone answers in float32 before the rounds: with 8 at once, 4 that take a place


def prepare(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """Write the prompts, and our answers to the first of them in float32."""
    ready = make_ready(config, plan, folder)
    settled = ready.settled
    prompts = [pair["prompt"] for pair in ready.train.pairs]
    write_json(folder / PROMPTS, prompts)
    write_text(folder / CONFIG, to_yaml(ready.config))
    checked = prompts[:CHECKED]
    model = _load(settled, ready.text, is_exact=True)
    answers = _answer(model, ready.text, checked, plan.max_new_tokens, plan.batch)
    write_json(folder / EXPECTED, _said(answers))
    precision = choose_precision(settled.train.bf16, settled.train.fp16, find_device())
    work = Generation(
        folder=str(folder), device=device_said(), model=ready.model, prompts=len(prompts), checked=len(checked),
        dtype=str(precision.dtype).removeprefix("torch."), max_new_tokens=plan.max_new_tokens, batch=plan.batch,
        stop_ids=ready.text.stop_ids,
    )  # fmt: skip
    return [work]


def perform(job: dict[str, Any]) -> None:
    """Answer the prompts of a job, with the model loaded before the clock starts."""
    settled = build.settle(load_config(job["config"]))
    text = build.load_text(settled)
    prompts = read_json(job["prompts"])[: job["most"]]
    model = _load(settled, text, is_exact=job["dtype"] == "float32")
    began = time.perf_counter()
    answers = _answer(model, text, prompts, job["max_new_tokens"], job["batch"])
    seconds = time.perf_counter() - began
    write_json(job["answers"], _said(answers))
    write_json(job["report"], {
        SECONDS: seconds, "answers": job["answers"], "tokens": sum(answer.tokens for answer in answers),
        "versions": {name: installed_version(name) for name in ("torch", "transformers")},
    })  # fmt: skip


def _load(settled: Config, text: Text, *, is_exact: bool) -> Any:
    device = find_device()
    bf16, fp16 = (False, False) if is_exact else (settled.train.bf16, settled.train.fp16)
    backend = build_backend.choose(settled, text.stored.folder, device)
    precision = choose_precision(bf16, fp16, device)
    return build.load_base(backend, text.stored.folder, settled.model, precision, device, training=False)


@torch.inference_mode()
def _answer(model: Any, text: Text, prompts: list[str], max_new_tokens: int, batch: int) -> list[Answer]:
    return generate_answers(
        model, text.tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch, stop_ids=text.stop_ids
    )


def _said(answers: list[Answer]) -> list[list[Any]]:
    """Text, without the blanks at its ends, and tokens."""
    return [[answer.text.strip(), answer.tokens] for answer in answers]
