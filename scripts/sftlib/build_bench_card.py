"""Assembly of the GPU workload: random weights of real shapes, rows of given lengths, QLoRA on them.

    prepare(config, Plan("gpu"), folder)    -> [Card(...), ..., Longest(...), ...]; MachineError without a CUDA device
    perform(job)                            our training in a process that may hold no more of the card than it is told

A card is as fast with random weights as with real ones. Rows are words that are one token each, so that every row is as
long as it is meant to be: at 512 tokens as long as the questions and answers of GSM8K, above it between an eighth and
the whole of the length.

Worst bug: rows that are not as long as they are said to be (tests/bench/test_card.py).
"""

from __future__ import annotations

import itertools
import random
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import build
from .bench.card import Card, Longest, rows_of
from .bench.plan import SHAPES, Plan
from .bench.training import ROWS, TRAIN
from .bench.work import CONFIG, Work
from .build import Text
from .build_bench_data import choose, device_said, in_mode, pack_length, with_train_file
from .build_bench_training import QUANTIZATION, settings_said
from .build_peak import MODELS
from .chat.conversation import Conversation
from .chat.rendering import render_conversation
from .config.schema import Config
from .config.writing import to_yaml
from .errors import MachineError, ModelError
from .files import write_jsonl, write_text
from .memory.probe import find_device
from .model.adapters import find_target_modules
from .model.miniature import copy_tokenizer, write_random_model
from .tokens.encoding import encode
from .units import GIB

RATE, RANK = 1e-4, 16
LIMIT_GIB = 8.0
LADDER = (1024, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768)  # tokens; the last is the shapes' context
STEPS = 2  # of the longest rows: the second one has the optimizer's state
# Deciles of the tokens a row of the 7,473 of GSM8K's training split (SmolLM2's tokenizer, question and answer).
GSM8K = (65, 109, 126, 141, 156, 172, 190, 211, 237, 280, 538)
SEED = 0


@dataclass(frozen=True, slots=True)
class Length:
    """A training at a length: tokens of the longest row, rows a step, and whether rows are as long as GSM8K's."""

    tokens: int
    batch: int
    is_short: bool = False


LENGTHS = (Length(512, 8, is_short=True), Length(2048, 2), Length(8192, 1))


def prepare(config: Config, plan: Plan, folder: Path) -> list[Work]:
    """Every shape at every length, and the longest row of each. Raises MachineError without a CUDA device."""
    device = find_device()
    if device.kind != "cuda":
        raise MachineError(
            f"There is no CUDA device here ({device.kind}: {device.name}), so nothing was measured.",
            expected="an NVIDIA GPU",
            cure="Run `make bench WORKLOAD=gpu` on a machine with one. The other workloads need none.",
        )  # fmt: skip
    return write_contests(config, plan, folder, {name: MODELS[name] for name in plan.shapes or SHAPES}, LENGTHS, LADDER)


def write_contests(
    config: Config,
    plan: Plan,
    folder: Path,
    shapes: Mapping[str, Mapping[str, Any]],
    lengths: Sequence[Length],
    ladder: Sequence[int],
) -> list[Work]:
    """The same for given shapes, lengths and lengths to search."""
    spoken = build.fetch_model(config).folder
    drawn_on = "cuda" if torch.cuda.is_available() else "cpu"
    works: list[Work] = []
    for name, numbers in shapes.items():
        model = write_random_model(folder / name / "model", dict(numbers), drawn_on)
        copy_tokenizer(spoken, model)
        for length in lengths:
            here = folder / name / str(length.tokens)
            works.append(_at_length(_for_card(config, model, length.tokens, length.batch), plan, here, name, length))
        works.append(_longest(config, folder / name / "longest", name, model, ladder))
    return works


def perform(job: dict[str, Any]) -> None:
    """Train, with no more of the card than the job allows."""
    device = find_device()
    if device.kind == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, job["limit_gib"] * GIB / device.total_bytes))
    sys.argv = [job["script"], *job["arguments"]]
    runpy.run_path(job["script"], run_name="__main__")


def _at_length(config: Config, plan: Plan, folder: Path, name: str, length: Length) -> Card:
    settled, text = _settle(config)
    rows = max(4 * length.batch, plan.size * 512 // length.tokens // length.batch * length.batch)
    draw = random.Random(SEED)
    tokens = [_draw_length(draw, length) for _ in range(rows)]
    tokens[0] = length.tokens  # what memory is asked for
    write_jsonl(folder / TRAIN, _Speaker(text).rows(tokens))
    chosen = choose(settled, text, folder / TRAIN, rows)
    write_jsonl(folder / ROWS, chosen.pairs)
    write_text(folder / CONFIG, to_yaml(with_train_file(config, folder / TRAIN)))
    return Card(
        folder=str(folder), label=f"{name}, {length.tokens} tokens", device=device_said(),
        rows=len(chosen.pairs), tokens=chosen.tokens, supervised=chosen.supervised,
        pack_length=pack_length(chosen.examples, length.batch), **_told(settled, text, length.batch, rows),
    )  # fmt: skip


def _longest(config: Config, folder: Path, name: str, model: Path, ladder: Sequence[int]) -> Longest:
    for length in ladder:
        at_length = _for_card(config, model, length, 1)
        settled, text = _settle(at_length)
        path = folder / f"train-{length}.jsonl"
        write_jsonl(path, _Speaker(text).rows([length] * STEPS))
        chosen = choose(settled, text, path, STEPS)
        write_jsonl(folder / rows_of(length), chosen.pairs)
        write_text(folder / f"config-{length}.yaml", to_yaml(with_train_file(at_length, path)))
    return Longest(
        folder=str(folder), label=name, device=device_said(), rows=STEPS, tokens=chosen.tokens,
        supervised=chosen.supervised, pack_length=max(ladder), lengths=list(ladder), limit_gib=LIMIT_GIB,
        **_told(settled, text, 1, STEPS),
    )  # fmt: skip


def _told(settled: Config, text: Text, batch: int, rows: int) -> dict[str, Any]:
    """What every training is told, whatever its rows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    lora = settled.tuning.lora
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(text.stored.folder))
    return {
        "model": str(text.stored.folder.absolute()), "settings": settings_said(settled, batch, rows),
        "lora": {
            "r": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout,
            "target_modules": sorted(find_target_modules(model, lora.target_modules)),
        },
        "quantization": QUANTIZATION, "batch": batch, "epochs": 1.0, "max_length": settled.model.max_seq_len,
    }  # fmt: skip


def _for_card(config: Config, model: Path, length: int, batch: int) -> Config:
    """QLoRA of these weights; what is equal for everyone is stated, memory is left to each."""
    config = in_mode(config, "qlora")
    train = config.train.without_interruptions().model_copy(
        update={
            "learning_rate": RATE,
            "epochs": 1.0,
            "max_steps": None,
            "max_minutes": None,
            "batch_size": batch,
            "grad_accum": 1,
            "effective_batch_size": batch,
        }
    )
    tuning = config.tuning.model_copy(update={"lora": config.tuning.lora.model_copy(update={"r": RANK})})
    section = config.model.model_copy(update={"name": str(model.absolute()), "revision": None, "max_seq_len": length})
    data = config.data.model_copy(update={"val_path": None, "test_path": None})
    logging = config.logging.model_copy(update={"backend": "none"})
    return config.model_copy(
        update={"model": section, "tuning": tuning, "train": train, "data": data, "logging": logging}
    )


def _settle(config: Config) -> tuple[Config, Text]:
    settled = build.settle(config)
    return settled, build.load_text(settled)


def _draw_length(draw: random.Random, length: Length) -> int:
    if not length.is_short:
        return draw.randint(length.tokens // 8, length.tokens)
    at = draw.uniform(0, len(GSM8K) - 1)
    low = min(int(at), len(GSM8K) - 2)
    return min(round(GSM8K[low] + (at - low) * (GSM8K[low + 1] - GSM8K[low])), length.tokens)


class _Speaker:
    """Rows of so many tokens, of words that are one token each."""

    def __init__(self, text: Text) -> None:
        self.text = text
        pieces = (text.tokenizer.decode([number]) for number in range(len(text.tokenizer)))
        self.words = [piece.strip() for piece in pieces if piece[:1] == " " and piece[1:].isalpha() and piece.isascii()]
        if not self.words:
            raise ModelError("The tokenizer has no words that begin with a blank.", where=str(text.stored.folder))

    def rows(self, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
        """A row for each length, no shorter than what the template takes; its question is a third of it."""
        words = itertools.cycle(self.words)
        least = self._tokens(_row(0, 0, words))
        for number, length in enumerate(lengths):
            more = max(2, length - least)
            yield _row(more // 3, more - more // 3, words) | {"source": f"made:{number + 1}"}

    def _tokens(self, row: dict[str, Any]) -> int:
        rendered = render_conversation(Conversation.from_row(row | {"source": "made"}), self.text.template)
        return len(next(encode([rendered], self.text.tokenizer)).input_ids)


def _row(asked: int, answered: int, words: Iterator[str]) -> dict[str, Any]:
    """A question and an answer of so many words behind the first."""
    question, answer = (" ".join(itertools.islice(words, count)) for count in (asked, answered))
    return {"system": "", "user": f"Say {question}".strip(), "assistant": f"Yes {answer}".strip()}
