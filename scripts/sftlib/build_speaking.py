"""Assembly of what a trained model does: answer, be scored, be merged.

    evaluate(config, "test", path, tuned_folder, ["base", "tuned"])
    load_responder(config, tuned_folder, seed=None)
    merge(config, adapter_folder=..., out_folder=..., dtype="fp16", prompts=32)

Worst bug: an adapter that speaks through another base or number format than it was trained on (tests/test_chain.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from . import console
from .build import Text, load_base, load_text, settle
from .build_estimate import weights_of
from .chat import rendering
from .chat.model_files import read_model_template
from .chat.stored import read_split
from .chat.templates import choose_template
from .config.schema import Config
from .measure.batch_files import answer_questions, read_questions, write_answers
from .measure.chat_session import ChatSession, run_chat
from .measure.evaluation import EvaluationReport, Speaker, evaluate_systems
from .measure.lines import line_reader
from .measure.report import show_report, write_report
from .measure.responder import Responder, opening
from .memory.estimate import usable
from .memory.probe import Device, find_device, main_memory
from .model import merge as merging
from .model.backend import choose_backend
from .model.base import read_base
from .model.kind import kind_in
from .model.precision import choose_precision
from .model.store import fetch_model as fetch_from_store
from .model.streaming import stream_layers
from .model.tuned import load_tuned
from .model.verify import MergeReport, answer_with_plain_transformers, comparison_precision, verify_merge

__all__ = [
    "ChatSession", "answer_questions", "answer_with_plain_transformers", "evaluate", "line_reader", "load_responder",
    "merge", "opening", "read_questions", "run_chat", "show_report", "write_answers", "write_report",
]  # fmt: skip

BUILT_IN_PROMPTS = ("What is the capital of France?", "Explain why the sky is blue.", "What is 12 + 30?")


@contextmanager
def _speakers(config: Config, tuned_folder: Path | None) -> Iterator[tuple[Speaker | None, Any]]:
    """The tuned speaker (None without a folder), and a function that gives the base as a speaker."""
    device = find_device()
    tuned = None
    if tuned_folder is not None:
        config = _for_tuned(config, tuned_folder)
    config = settle(config, device)
    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    backend = choose_backend(config.tuning, device, training=False)

    def load(folder: Path) -> Any:
        is_streamed = _must_stream(config, folder, device)
        model = load_base(backend, folder, config.model, precision, device, training=False, on_host=is_streamed)
        if is_streamed:
            console.note(
                f"The weights do not fit {device.name}: layers are streamed from main memory, which takes time."
            )
            stream_layers(model.requires_grad_(False), device)
        return model

    if tuned_folder is not None:
        is_adapter = (tuned_folder / "adapter_config.json").is_file()
        stored = fetch_from_store(config.model) if is_adapter else None
        loaded = load_tuned(tuned_folder, load, stored, trust_remote_code=config.model.trust_remote_code)
        found = read_model_template(tuned_folder)
        template = choose_template("auto", loaded.template, found.special_tokens, found.markers, kind=config.model.type)
        name = f"{tuned_folder} on {config.model.name}" if is_adapter else str(tuned_folder)
        tuned = Speaker(loaded.model, loaded.tokenizer, template, loaded.stop_ids, name)

    @contextmanager
    def base() -> Iterator[Speaker]:
        text = load_text(config)
        if tuned is not None and hasattr(tuned.model, "disable_adapter"):
            with tuned.model.disable_adapter():
                yield Speaker(tuned.model, text.tokenizer, text.template, text.stop_ids, config.model.name)
        else:
            yield Speaker(load(text.stored.folder), text.tokenizer, text.template, text.stop_ids, config.model.name)

    yield tuned, base


def _must_stream(config: Config, folder: Path, device: Device) -> bool:
    """Whether the weights alone are more than a GPU has, as they were when a probe streamed them to train."""
    if device.kind != "cuda":
        return False
    answering = config.model_copy(update={"tuning": config.tuning.model_copy(update={"mode": "lora"})})
    resident = weights_of(config if config.tuning.mode == "qlora" else answering, folder / "config.json", device)
    return resident > usable(device.total_bytes)


def _for_tuned(config: Config, folder: Path) -> Config:
    """The config with the base, its kind and the number format that the tuned folder was trained with, if it says."""
    base = read_base(folder)
    is_adapter = (folder / "adapter_config.json").is_file()
    model, tuning = config.model, config.tuning
    kind = base.type if base else model.type if is_adapter else kind_in(folder).name
    model = model.model_copy(update={"type": kind})
    if base is None:
        return config.model_copy(update={"model": model})
    if model.name == "auto":
        model = model.model_copy(update={"name": base.name, "revision": base.revision})
    if tuning.mode == "auto":
        mode = "qlora" if base.quantization else "lora" if is_adapter else "full"
        tuning = tuning.model_copy(update={"mode": mode})
    return config.model_copy(update={"model": model, "tuning": tuning})


def evaluate(
    config: Config, split: str, path: Path, tuned_folder: Path | None, systems: Sequence[Literal["base", "tuned"]]
) -> EvaluationReport:
    """Ask the systems one split and score their answers; the base is the adapter switched off, in the same weights."""
    with _speakers(config, tuned_folder) as (tuned, base):

        def speakers() -> Iterator[tuple[str, Speaker]]:
            for system in systems:
                if system == "tuned":
                    yield system, tuned
                else:
                    with base() as speaker:
                        yield system, speaker

        return evaluate_systems(speakers(), read_split(path), config.eval, name=split, seed=config.seed)


def load_responder(config: Config, tuned_folder: Path | None, *, seed: int | None) -> Responder:
    """The tuned model, or without a folder the base, ready to answer under the section `infer`."""
    with _speakers(config, tuned_folder) as (tuned, base):
        if tuned is not None:
            return Responder(tuned, config.infer, seed)
        with base() as speaker:
            return Responder(speaker, config.infer, seed)


def merge(config: Config, *, adapter_folder: Path, out_folder: Path, dtype: str, prompts: int) -> MergeReport:
    """Fold an adapter into its base, then compare the two on prompts of the validation split."""
    import torch

    config = settle(_for_tuned(config, adapter_folder))
    text = load_text(config)
    target = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    merging.merge_adapter(text.stored, adapter_folder, out_folder, target)
    # On the CPU: it has the room, and no GPU memory is asked for.
    memory = Device("cpu", "main memory", *main_memory())
    plain = choose_backend(config.tuning.model_copy(update={"mode": "lora", "backend": "plain"}), memory)
    precision = comparison_precision(text.stored.folder, memory)
    return verify_merge(
        text.stored, adapter_folder, out_folder, _prompts(config, text, prompts),
        lambda folder: load_base(plain, folder, config.model, precision, memory, training=False),
    )  # fmt: skip


def _prompts(config: Config, text: Text, count: int) -> list[str]:
    path = Path(config.data.val_path or Path(config.data.processed_dir) / "val.jsonl")
    if path.is_file() and path.stat().st_size:
        split = read_split(path)
        if split.kind == "conversations":
            prompts = [rendering.last_prompt_and_answer(row)[0] for row in split.rows[:count]]
            return [rendering.render_prompt(prompt, text.template) for prompt in prompts]
    return [rendering.render_prompt(opening(question, None), text.template) for question in BUILT_IN_PROMPTS[:count]]
