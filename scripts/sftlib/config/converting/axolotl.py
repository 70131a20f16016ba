"""An Axolotl config as settings of ours: the model, the adapter, the length, the batch, the schedule.

Comes in: a `Draft` with the keys of the file. Goes out: the draft, filled. Keys and defaults are those of Axolotl's
reference (src/axolotl/utils/schemas/, the commits are named in axolotl_keys.py); where its default is not ours it is
written out. Data sets are in axolotl_data.py.

    load_in_4bit: true, adapter: qlora, lora_target_linear: true
    ->  tuning.mode: qlora, tuning.lora.target_modules: all-linear

Worst bug: a default of theirs that is not ours, and that is not written (tests/config/converting/test_from_axolotl.py).
"""

from __future__ import annotations

from . import axolotl_data, schedule
from .axolotl_keys import LEFT_OUT, REFUSED
from .draft import Draft, Same
from .foreign import Entry
from .templates import settle_own_template

ATTENTION = {  # -> model.attn_implementation; all but the last compute the same
    "sdp_attention": "sdpa", "eager_attention": "eager", "flex_attention": "flex_attention",
}  # fmt: skip
KERNELS = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
HARMLESS_PLUGINS = ("liger", "cutcrossentropy", "cut_cross_entropy", "lm_eval", "kernels")
SAME = {
    "base_model": Same("model.name", Entry.text),
    "revision_of_model": Same("model.revision", Entry.text),
    "trust_remote_code": Same("model.trust_remote_code", Entry.boolean),
    "sequence_len": Same("model.max_seq_len", Entry.whole, 512),
    "max_steps": Same("train.max_steps", Entry.whole),
    "num_epochs": Same("train.epochs", Entry.number, 1.0),
    "learning_rate": Same("train.learning_rate", Entry.number),
    "weight_decay": Same("train.weight_decay", Entry.number, 0.0),
    "max_grad_norm": Same("train.max_grad_norm", Entry.number, 1.0),
    "save_total_limit": Same("train.save_total_limit", Entry.whole, 4),
    "logging_steps": Same("train.logging_steps", Entry.whole),
    "output_dir": Same("train.output_dir", Entry.text),
    "seed": Same("seed", Entry.whole, 42),
}


def convert(draft: Draft) -> None:
    """Fill the draft with what an Axolotl config says."""
    draft.refuse_given(REFUSED)
    draft.put_same(SAME)
    _model(draft)
    _adapter(draft)
    _length(draft)
    _attention(draft)
    _template(draft)
    axolotl_data.convert(draft)
    _batch(draft)
    _training(draft)
    _tracking(draft)
    _plugins(draft)
    draft.leave_out_rest(LEFT_OUT)


def _model(draft: Draft) -> None:
    keys, name = draft.keys, draft.value("model.name")
    for key in ("base_model_config", "tokenizer_config"):
        entry = keys.take(key)
        if entry is None:
            continue
        if entry.text() == name:
            draft.leave_out(entry, "it is the model itself")
        else:
            draft.refuse(
                entry, "config and tokenizer are those of the model.", cure="Put them into the model's folder."
            )
    tokens = keys.take("special_tokens")
    for one in (tokens.section() if tokens is not None else None) or ():
        if one.is_given and one.name.endswith(".pad_token"):
            draft.leave_out(one, "padding is masked by position, whatever its token is")
        elif one.is_given:
            draft.differ(one, "the tokenizer stays as it is, and the chat template ends a turn")


def _adapter(draft: Draft) -> None:
    keys = draft.keys
    adapter, four, eight = keys.take("adapter"), keys.take("load_in_4bit"), keys.take("load_in_8bit")
    rank, alpha = keys.take("lora_r"), keys.take("lora_alpha")
    dropout, rslora = keys.take("lora_dropout"), keys.take("peft_use_rslora")
    linear, modules = keys.take("lora_target_linear"), keys.take("lora_target_modules")
    start = keys.take("peft_init_lora_weights")
    if start is not None and (start.text() or "").lower() != "true":
        draft.refuse(start, "an adapter begins at zero here.", cure="Take the line away.")
    kind = adapter.text() if adapter else None
    if kind is None:
        draft.put("tuning.mode", "full", adapter or "no adapter is named")
        return
    if kind not in ("lora", "qlora"):
        draft.refuse(adapter, "there is no such adapter here.", "lora or qlora")
        return
    is_4_bit = kind == "qlora" or bool(four and four.is_on)
    draft.put("tuning.mode", "qlora" if is_4_bit else "lora", adapter, *([four] if four and four.is_on else []))
    if eight is not None and eight.is_on and not is_4_bit:
        text = "there is no 8-bit base here: the base is kept in 16 bits; with tuning.mode: qlora it is kept in 4"
        draft.differ(eight, text)
    for entry, ours, read in (
        (rank, "r", Entry.whole), (alpha, "alpha", Entry.number), (dropout, "dropout", Entry.number),
        (rslora, "use_rslora", Entry.boolean),
    ):  # fmt: skip
        value = read(entry) if entry else None
        if value is not None:
            draft.put(f"tuning.lora.{ours}", value, entry)
    if linear is not None and linear.is_on:
        draft.put("tuning.lora.target_modules", "all-linear", linear)
        if modules is not None:
            draft.leave_out(modules, "every linear layer gets an adapter (lora_target_linear)")
    elif modules is not None:
        _modules(draft, modules)
    else:
        text = "no modules are named: every linear layer gets an adapter; there peft chose, mostly q_proj and v_proj"
        draft.differ(adapter, text)


def _modules(draft: Draft, modules: Entry) -> None:
    names = modules.texts()
    if names in (["all-linear"], ["all_linear"]):
        draft.put("tuning.lora.target_modules", "all-linear", modules)
    elif any(set(name) & set("|*()[]^$\\") for name in names):
        expected = "names of modules, or endings of names"
        draft.refuse(modules, "a pattern for names of modules.", expected, "List the modules: [q_proj, v_proj].")
    else:
        draft.put("tuning.lora.target_modules", names, modules)


def _length(draft: Draft) -> None:
    entry = draft.keys.take("excess_length_strategy")
    policy = (entry.text() or "").lower() if entry else "drop"
    if policy in ("drop", "truncate"):
        draft.put("data.truncation", policy, entry or draft.default("excess_length_strategy"))
    elif policy == "raise":
        draft.put("data.truncation", "drop", entry)
        draft.differ(entry, "longer rows are left out and counted; the table that says so comes before training")
    elif policy:
        draft.refuse(entry, "there is no such policy.", "drop, truncate or raise")


def _attention(draft: Draft) -> None:
    keys = draft.keys
    flash, named, packing = keys.take("flash_attention"), keys.take("attn_implementation"), keys.take("sample_packing")
    others = {key: entry for key in ATTENTION if (entry := keys.take(key)) is not None and entry.is_on}
    is_packed = packing is not None and packing.is_on
    keeps_apart = (flash is not None and flash.is_on) or "flex_attention" in others or "sdp_attention" in others
    if named is not None and (kernel := named.text()):
        keeps_apart = True
        if kernel in KERNELS:
            draft.put("model.attn_implementation", kernel, named)
        else:
            draft.refuse(named, "there is no such kernel here.", "one of " + ", ".join(KERNELS))
    elif flash is not None and flash.is_on:
        kernel = "varlen" if is_packed else "sdpa"  # PyTorch's own flash kernel; the package's is flash_attention_2
        draft.put("model.attn_implementation", kernel, flash)
    elif others:
        key, entry = next(iter(others.items()))
        draft.put("model.attn_implementation", ATTENTION[key], entry)
    if is_packed and not keeps_apart:
        cure = "Say sdp_attention: true, or sample_packing: false."
        draft.refuse(packing, "without flash, sdp or flex attention the rows of a pack see each other.", cure=cure)
    elif is_packed:
        draft.put("train.packing", True, packing)
        length = draft.value("model.max_seq_len")
        text = (
            f"there a micro-batch is packs of {length} tokens, here it is examples: to see as many a step, multiply "
            f"train.effective_batch_size by {length} / mean tokens of an example (make check tells it)"
        )
        draft.differ(packing, text)
    elif packing is not None and (wanted := packing.boolean()) is not None:
        draft.put("train.packing", wanted, packing)


def _template(draft: Draft) -> None:
    settle_own_template(draft, draft.keys.take("chat_template"), draft.keys.take("chat_template_jinja"))


def _batch(draft: Draft) -> None:
    keys = draft.keys
    micro, times, whole = (
        keys.take("micro_batch_size"),
        keys.take("gradient_accumulation_steps"),
        keys.take("batch_size"),
    )
    if whole is None or times is not None:
        schedule.settle_batch(draft, micro, times, default=1)
        if whole is not None:
            draft.refuse(whole, "gradient_accumulation_steps says the same.", cure="Keep one of the two.")
        return
    size, total = micro.whole() if micro else 1, whole.whole()  # of one GPU, as Axolotl reads it
    if not size or not total:
        return
    if total % size:
        draft.refuse(whole, f"it is no multiple of micro_batch_size {size}.")
        return
    draft.put("train.batch_size", size, micro or draft.default("micro_batch_size"))
    said = [f"{draft.devices} GPUs"] if draft.devices > 1 else []
    draft.put("train.grad_accum", total // size * draft.devices, whole, *said)
    draft.put("train.effective_batch_size", total * draft.devices, whole, *said)


def _training(draft: Draft) -> None:
    keys = draft.keys
    schedule.settle_rate(draft, keys.take("lr_scheduler"), keys.take("optimizer"), schedule="cosine")
    schedule.settle_warmup(draft, keys.take("warmup_ratio"), keys.take("warmup_steps"), default=0.03)
    for key in ("lr_scheduler_kwargs", "cosine_min_lr_ratio", "cosine_constant_lr_ratio", "lr_quadratic_warmup",
                "optim_args", "adam_epsilon2", "adam_beta3", "lr_div_factor"):  # fmt: skip
        entry = keys.take(key)
        if entry is not None and entry.is_on:
            draft.differ(entry, "there is no such setting here: the rate follows the schedule alone, down to its end")
    strategy, steps = keys.take("eval_strategy", "evaluation_strategy"), keys.take("eval_steps")
    times = keys.take("evals_per_epoch")
    if draft.value("data.split.val") == 0:
        draft.put("train.eval_strategy", schedule.NO, "no rows are kept for it")
        for entry in filter(None, (strategy, steps, times)):
            draft.leave_out(entry, "no rows are kept for an evaluation (val_set_size)")
    else:
        schedule.settle_evaluations(draft, strategy, steps, times, otherwise=schedule.EPOCH)
    strategy, steps = keys.take("save_strategy"), keys.take("save_steps")
    schedule.settle_checkpoints(draft, strategy, steps, keys.take("saves_per_epoch"), otherwise=schedule.EPOCH)
    schedule.settle_best(draft)
    schedule.settle_precision(draft, default="auto")
    for key, ours in (("bfloat16", "bf16"), ("float16", "fp16")):
        entry = keys.take(key)
        if entry is not None and entry.is_on:
            draft.put("train.bf16", ours == "bf16", entry)
            draft.put("train.fp16", ours == "fp16", entry)
            draft.differ(entry, "the weights that are trained stay in 32 bits here (mixed precision)")
    full = keys.take("float32")
    if full is not None and full.is_on:
        draft.put("train.bf16", False, full)
        draft.put("train.fp16", False, full)
    _checkpointing(draft)


def _checkpointing(draft: Draft) -> None:
    entry, offload = draft.keys.take("gradient_checkpointing"), draft.keys.take("activation_offloading")
    word = (entry.text() or "").lower() if entry else ""
    if word in ("offload", "offload_disk", "unsloth"):
        draft.put("train.gradient_checkpointing", True, entry)
        draft.put("train.activation_offload", True, entry)
    elif entry is not None and (value := entry.boolean()) is not None:
        draft.put("train.gradient_checkpointing", value, entry)
    if offload is not None and offload.is_on:
        draft.put("train.gradient_checkpointing", True, offload)
        draft.put("train.activation_offload", True, offload)


def _tracking(draft: Draft) -> None:
    board, project = draft.keys.take("use_tensorboard"), draft.keys.take("wandb_project")
    mode = draft.keys.take("wandb_mode")
    backends = ["tensorboard"] if board is not None and board.is_on else []
    if project is not None and not (mode is not None and mode.text() in ("disabled", "offline")):
        backends.append("wandb")
        draft.leave_out(project, LEFT_OUT["wandb_project"])
    if backends:
        draft.put("logging.backend", backends, *filter(None, (board, project)))


def _plugins(draft: Draft) -> None:
    entry = draft.keys.take("plugins")
    for item in entry.items() if entry else []:
        name = (item.text() or "").lower()
        if any(word in name for word in HARMLESS_PLUGINS):
            draft.leave_out(item, "a faster kernel; the numbers stay")
        else:
            draft.refuse(item, "what this plugin changes is not known here.", cure="Take it away to train without it.")
