"""A LLaMA-Factory config as settings of ours: the stage, the model, the adapter, the batch, the schedule.

Comes in: a `Draft` with the keys of the file. Goes out: the draft, filled. Keys and defaults are those of its
arguments (the commits are named in llamafactory_keys.py) and, below them, of transformers.TrainingArguments; where a
default is not ours it is written out. Data sets are in llamafactory_data.py.

    finetuning_type: lora, quantization_bit: 4, lora_target: all
    ->  tuning.mode: qlora, tuning.lora.target_modules: all-linear

Worst bug: a default of theirs that is not ours, and not written (tests/config/converting/test_from_llamafactory.py).
"""

from __future__ import annotations

from . import llamafactory_data, schedule
from .draft import Draft, Same
from .foreign import Entry
from .llamafactory_keys import LEFT_OUT, REFUSED
from .templates import OF_LLAMA_FACTORY, settle_template

ATTENTION = {"sdpa": "sdpa", "fa2": "flash_attention_2", "fa3": "flash_attention_3", "disabled": "eager"}
STAGES = {
    "pt": "pre-training is no supervised fine-tuning.", "rm": "a reward model is no supervised fine-tuning.",
    "ppo": "this is reinforcement learning.", "dpo": "this trains on preferences.",
    "kto": "this trains on preferences.",
}  # fmt: skip
SAME = {
    "model_name_or_path": Same("model.name", Entry.text),
    "trust_remote_code": Same("model.trust_remote_code", Entry.boolean),
    "cutoff_len": Same("model.max_seq_len", Entry.whole, 2048),
    "num_train_epochs": Same("train.epochs", Entry.number, 3.0),
    "learning_rate": Same("train.learning_rate", Entry.number, 5e-5),
    "weight_decay": Same("train.weight_decay", Entry.number, 0.0),
    "max_grad_norm": Same("train.max_grad_norm", Entry.number, 1.0),
    "logging_steps": Same("train.logging_steps", Entry.whole, 500),
    "save_total_limit": Same("train.save_total_limit", Entry.whole),
    "output_dir": Same("train.output_dir", Entry.text),
    "seed": Same("seed", Entry.whole, 42),
}


def convert(draft: Draft) -> None:
    """Fill the draft with what a LLaMA-Factory config says."""
    stage = draft.keys.take("stage")
    if stage is not None and stage.text() != "sft":
        draft.refuse(stage, STAGES.get(stage.text() or "", "there is no such stage."), "stage: sft")
    elif stage is not None:
        draft.leave_out(stage, "there is no other here")
    draft.refuse_given(REFUSED)
    draft.put_same(SAME)
    _steps(draft)
    _model(draft)
    _adapter(draft)
    _packing(draft)
    _template(draft)
    llamafactory_data.convert(draft)
    _training(draft)
    _names(draft)
    draft.leave_out_rest(LEFT_OUT)


def _template(draft: Draft) -> None:
    name, thinking = draft.keys.take("template"), draft.keys.take("enable_thinking")
    if name is not None and name.text() == "qwen3" and thinking is not None and not thinking.is_on:
        draft.put("data.template_path", "chat_templates/qwen3.jinja", name, thinking)
    elif name is not None:
        settle_template(draft, name, OF_LLAMA_FACTORY)
    if thinking is not None:
        draft.leave_out(thinking, "of a template with thinking")


def _steps(draft: Draft) -> None:
    most, kept = draft.keys.take("max_steps"), draft.value("train.save_total_limit")
    if most is not None and (count := most.whole()) is not None and count > 0:
        draft.put("train.max_steps", count, most)
    if kept is None:
        draft.put("train.save_total_limit", None, draft.default("save_total_limit"))


def _model(draft: Draft) -> None:
    keys = draft.keys
    revision, attention, unsloth = keys.take("model_revision"), keys.take("flash_attn"), keys.take("use_unsloth")
    if revision is not None and revision.text() != "main":
        draft.put("model.revision", revision.text(), revision)
    kernel = (attention.text() or "").lower() if attention else "auto"
    if kernel in ATTENTION:
        draft.put("model.attn_implementation", ATTENTION[kernel], attention)
    elif kernel != "auto":
        draft.refuse(attention, "there is no such kernel here.", "auto, disabled, sdpa, fa2 or fa3")
    if unsloth is not None and unsloth.is_on:
        draft.put("tuning.backend", "unsloth", unsloth)
    checkpointing = keys.take("disable_gradient_checkpointing")
    is_off = checkpointing is not None and checkpointing.is_on
    draft.put(
        "train.gradient_checkpointing", not is_off, checkpointing or draft.default("disable_gradient_checkpointing")
    )


def _adapter(draft: Draft) -> None:
    keys = draft.keys
    kind, bits = keys.take("finetuning_type"), keys.take("quantization_bit")
    method = keys.take("quantization_method")
    rank, alpha, dropout = keys.take("lora_rank"), keys.take("lora_alpha"), keys.take("lora_dropout")
    targets, rslora = keys.take("lora_target"), keys.take("use_rslora")
    word = kind.text() if kind else "lora"
    if word == "full":
        draft.put("tuning.mode", "full", kind)
        return
    if word != "lora":
        draft.refuse(kind, "it trains other weights than an adapter, or another kind of adapter.", "lora or full")
        return
    size = bits.whole() if bits else None
    draft.put("tuning.mode", "qlora" if size == 4 else "lora", kind or draft.default("finetuning_type"),
              *([bits] if size == 4 else []))  # fmt: skip
    if size == 8:
        text = "there is no 8-bit base here: the base is kept in 16 bits; with tuning.mode: qlora it is kept in 4"
        draft.differ(bits, text)
    elif size not in (None, 4):
        draft.refuse(bits, "a base has 4 or 16 bits here.", "4, or nothing")
    if method is not None and method.text() not in ("bnb", "bitsandbytes"):
        draft.refuse(method, "bitsandbytes holds 4-bit bases here.", "bnb")
    r = rank.whole() if rank else 8
    if r is not None:
        draft.put("tuning.lora.r", r, rank or draft.default("lora_rank"))
        scale = alpha.number() if alpha else 2 * r
        if scale is not None:
            draft.put("tuning.lora.alpha", scale, alpha or f"{draft.tool}'s default: twice the rank")
    for entry, ours, read in ((dropout, "dropout", Entry.number), (rslora, "use_rslora", Entry.boolean)):
        value = read(entry) if entry else None
        if value is not None:
            draft.put(f"tuning.lora.{ours}", value, entry)
    names = targets.texts() if targets else ["all"]
    every = names == ["all"]
    draft.put("tuning.lora.target_modules", "all-linear" if every else names, targets or draft.default("lora_target"))


def _packing(draft: Draft) -> None:
    packing, neat = draft.keys.take("packing"), draft.keys.take("neat_packing")
    if neat is not None and neat.is_on:
        draft.put("train.packing", True, neat)
        length = draft.value("model.max_seq_len")
        text = (
            f"there a micro-batch is packs of {length} tokens, here it is examples: to see as many a step, multiply "
            f"train.effective_batch_size by {length} / mean tokens of an example (make check tells it)"
        )
        draft.differ(neat, text)
    elif packing is not None and packing.is_on:
        draft.refuse(
            packing, "the rows of a pack would see each other.", cure="Say neat_packing: true, or packing: false."
        )
    elif packing is not None:
        draft.put("train.packing", False, packing)
    draft.put("data.truncation", "truncate", f"{draft.tool} cuts rows at cutoff_len")
    draft.differ(
        draft.keys.take("cutoff_len") or "cutoff_len",
        "a row that is too long loses its end here; there question and answer were shortened in proportion",
    )


def _training(draft: Draft) -> None:
    keys = draft.keys
    micro, times = keys.take("per_device_train_batch_size"), keys.take("gradient_accumulation_steps")
    schedule.settle_batch(draft, micro, times, default=8)
    schedule.settle_rate(draft, keys.take("lr_scheduler_type"), keys.take("optim"), schedule="linear")
    schedule.settle_warmup(draft, keys.take("warmup_ratio"), keys.take("warmup_steps"), default=0.0)
    for key in ("lr_scheduler_kwargs", "optim_args", "optim_target_modules"):
        entry = keys.take(key)
        if entry is not None and entry.is_on:
            draft.differ(entry, "there is no such setting here: the rate follows the schedule alone, down to its end")
    strategy, steps = keys.take("eval_strategy", "evaluation_strategy"), keys.take("eval_steps")
    if draft.value("data.split.val") == 0:
        draft.put("train.eval_strategy", schedule.NO, "no rows are kept for it")
        for entry in filter(None, (strategy, steps)):
            draft.leave_out(entry, "no rows are kept for an evaluation (val_size)")
    else:
        schedule.settle_evaluations(draft, strategy, steps if strategy else None, None, otherwise=schedule.NO)
        if strategy is None and steps is not None:
            draft.leave_out(steps, "without eval_strategy nothing is evaluated")
    schedule.settle_checkpoints(
        draft, keys.take("save_strategy"), keys.take("save_steps"), None, otherwise=schedule.STEPS
    )
    schedule.settle_best(draft)
    pure = keys.take("pure_bf16")
    schedule.settle_precision(draft, default="false")
    if pure is not None and pure.is_on:
        draft.put("train.bf16", True, pure)
        draft.put("train.fp16", False, pure)
        draft.differ(pure, "the weights that are trained stay in 32 bits here (mixed precision)")


def _names(draft: Draft) -> None:
    report, run = draft.keys.written("report_to"), draft.keys.take("run_name")
    if run is not None and run.text():
        draft.leave_out(run, "a name of the run at a tracker; here RUN=name, or run_name, names its folder")
    if report is None:
        return
    asked = [name.lower() for name in report.texts()]
    known = [name for name in asked if name in ("tensorboard", "wandb")]
    if known:
        draft.put("logging.backend", known, report)
    elif asked == ["all"]:
        draft.put("logging.backend", ["tensorboard", "wandb"], report)
    elif asked == ["none"]:
        draft.put("logging.backend", "none", report)
    for name in sorted(set(asked) - {"tensorboard", "wandb", "all", "none"}):
        draft.differ(report, f"there is no {name} here")
