"""Assembly of the training: a settled config, its text and its splits to a run's folder.

    run, report = train(config, text, splits)    -> outputs/<run>/

Worst bug: a key of the config that does not arrive anywhere (tests/test_chain.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import build_backend, console
from .build import Text
from .build_batch import Probe, settle_batch
from .build_examples import Prepared
from .config.schema import Config
from .config.writing import to_yaml
from .files import sha256_text, write_text
from .learn import processes
from .learn.checkpoints import choose_checkpoint
from .learn.samples import SampleAnswers, SampleRow
from .measure.evaluation import Speaker, ask, make_questions
from .measure.text import mean_rouge_l
from .memory.probe import Device, find_device
from .model.backend import Backend
from .model.base import describe_base
from .model.precision import choose_precision
from .model.tuned import save_tuned
from .run.folder import RunFolder, default_name, open_run
from .run.launch import Launch, find_launch
from .run.occupied import occupied
from .run.stamp import Stamp, code_revision, matching_settings, refuse_to_mix, write_backend
from .tokens.identity import tokenizer_digest

if TYPE_CHECKING:
    from .learn.fitting import FitReport


def train(
    config: Config, text: Text, splits: Mapping[str, Prepared], *, fresh: bool = False, backend: Backend | None = None
) -> tuple[RunFolder, FitReport]:
    """Train a settled config on prepared splits (`train`, and `val` when there is one); write the run's folder.

    backend: of build_backend.choose_first, where that was called.
    """
    device = find_device()
    backend = backend or build_backend.choose(config, text.stored.folder, device)
    name = config.run_name or default_name(config.model.name, backend.mode)
    root, launch = Path(config.train.output_dir), find_launch()
    if launch.is_first:
        name = open_run(root, name, config.train.resume, fresh=fresh).name
    with occupied(RunFolder(root, processes.first_says(name))) as run:
        return run, _train(run, config, text, splits, backend, device, launch)


def foresee(config: Config, text: Text, splits: Mapping[str, Prepared]) -> Config:
    """The config as far as it is settled before a training starts: on a GPU the batch may stay open."""
    return settle_batch(config, text, splits["train"].examples, find_device(), launch=find_launch()).config


def _train(
    run: RunFolder,
    config: Config,
    text: Text,
    splits: Mapping[str, Prepared],
    backend: Backend,
    device: Device,
    launch: Launch,
) -> FitReport:
    from transformers import set_seed

    from .learn import sharding  # the Trainer takes seconds to import
    from .learn.fitting import build_trainer, fit

    precision = choose_precision(config.train.bf16, config.train.fp16, device)
    base = describe_base(text.stored, backend.quantization)
    code = code_revision()

    loaded: list[Any] = []

    def load_model(stream: bool) -> Any:
        if not loaded:
            set_seed(config.seed)
            loaded.append(
                build_backend.load_trainable(
                    backend, config, text.stored.folder, device, sharded=launch.is_sharded, stream=stream
                )
            )
        return loaded[0]

    kind = {"base": base.fingerprint, "backend": backend.name, "code": code["scripts"]}
    probe = Probe(run, load_model, backend.enable_checkpointing, precision.name, kind)
    batch = settle_batch(config, text, splits["train"].examples, device, probe, launch)
    # Each looked at its own free memory.
    config = batch.config.model_copy(update={"train": processes.first_says(batch.config.train)})
    settings = matching_settings(config.model_dump()) | launch.settings()
    stamp = Stamp(
        data={name: prepared.digest for name, prepared in splits.items()},
        template=sha256_text(text.template.identity), tokenizer=tokenizer_digest(text.stored.folder), settings=settings,
        base={"name": base.name, "revision": base.revision, "fingerprint": base.fingerprint}, backend=backend.name,
        code=code,
    )  # fmt: skip
    if launch.is_first:
        refuse_to_mix(run, stamp, config.train.resume)
        stamp.write(run)
        write_text(run.config, to_yaml(_repeatable(config, run.name, launch)))

    model = load_model(config.train.stream_layers)
    build_backend.save_memory(backend, model, config.train, device)
    if launch.is_first:
        write_backend(
            run, asked=backend.asked, used=backend.name, reason=backend.reason, mode=backend.mode,
            dtype=precision.name, attention=model.config._attn_implementation, device=asdict(device),
            batch=batch.report(), launch=asdict(launch),
        )  # fmt: skip
    validation = splits.get("val")
    trainer = build_trainer(
        model, train=config.train, logging=config.logging, run=run,
        precision=precision.name, device=device.kind, seed=config.seed, train_set=splits["train"].examples,
        eval_set=validation.examples if validation else None, pad_id=text.tokenizer.pad_token_id,
        samples=_samples(config, text, model, validation, launch), settings=settings, remember=batch.remember,
        decode=text.tokenizer.decode,
    )  # fmt: skip
    checkpoint = choose_checkpoint(config.train.resume, run.path) if launch.is_first else None
    report = fit(trainer, processes.first_says(checkpoint))
    weights = None if report.stopped else sharding.whole_weights(trainer, launch)
    if launch.is_first:
        if not report.stopped:
            save_tuned(
                run.adapter, model, text.tokenizer, text.template, base=base, stop_ids=text.stop_ids,
                dtype=precision.dtype, replace=True, weights=weights,
            )  # fmt: skip
        stamp.write(run)
        if not report.stopped:
            run.finish(asdict(report))
    processes.wait()  # the launcher takes the end of one for the end of all
    return report


def _repeatable(config: Config, name: str, launch: Launch) -> Config:
    """The config that, typed again with the same launch, settles to this one: a launch counts its own micro-batches."""
    if launch.processes > 1:
        config = config.model_copy(update={"train": config.train.model_copy(update={"grad_accum": "auto"})})
    return config.model_copy(update={"run_name": name})


def _samples(
    config: Config, text: Text, model: Any, validation: Prepared | None, launch: Launch
) -> SampleAnswers | None:
    """The validation rows answered at each evaluation."""
    if validation is None or not config.eval.training_rows or config.train.eval_strategy == "no":
        return None
    if launch.is_sharded:
        console.note(
            f"No answers are sampled while training: {launch.kind} would gather the whole model for every token. "
            "make eval scores them afterwards."
        )
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
