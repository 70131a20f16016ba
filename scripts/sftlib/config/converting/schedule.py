"""What both tools hand to the Trainer of transformers, in its words: batch, optimizer, rate, evaluations, precision.

Comes in: a `Draft` and the entries under each tool's own name for them. Goes out: the settings of ours. Names and
meanings are those of `transformers.TrainingArguments` and `OptimizerNames` (transformers 5.17).

    settle_batch(draft, micro=2, accumulation=4)            with 2 GPUs there  ->  batch_size 2, grad_accum 8, 16 a step
    eval_steps: 0.05 in a training of one epoch             ->  evals_per_epoch: 20

Worst bug: a step that sees another number of examples (tests/config/converting/test_converted_schedule.py).
"""

from __future__ import annotations

from typing import Literal

from ..reading import BOOLEANS
from .draft import Draft
from .foreign import Entry

OPTIMIZERS = {  # OptimizerNames -> ours; adamw_hf is the same update in Python, apex's and torch's fused ones are one
    "adamw_torch": "adamw_torch", "adamw_hf": "adamw_torch", "adamw": "adamw_torch",
    "adamw_torch_fused": "adamw_torch_fused", "adamw_apex_fused": "adamw_torch_fused",
    "adamw_bnb_8bit": "adamw_8bit", "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit", "paged_adamw_32bit": "paged_adamw_32bit",
    "paged_adamw": "paged_adamw_32bit", "adafactor": "adafactor",
}  # fmt: skip
SCHEDULERS = {
    "linear": "linear", "cosine": "cosine", "constant": "constant", "polynomial": "polynomial",
    "constant_with_warmup": "constant_with_warmup", "inverse_sqrt": "inverse_sqrt",
    "cosine_with_restarts": "cosine",  # of one cycle, which is what it has without lr_scheduler_kwargs
}  # fmt: skip
ADAM = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8}  # of torch, which are ours
STEPS, EPOCH, NO = "steps", "epoch", "no"


def settle_batch(draft: Draft, micro: Entry | None, accumulation: Entry | None, *, default: int) -> None:
    """The examples of a micro-batch, the micro-batches of a step, and both multiplied; default: theirs of `micro`."""
    size = micro.whole() if micro else default
    times = accumulation.whole() if accumulation else 1
    if size is None or times is None:
        return
    said = [micro or draft.default("the micro-batch")]
    times *= draft.devices
    draft.put("train.batch_size", size, *said)
    said = [accumulation or "one micro-batch a step", *([f"{draft.devices} GPUs"] if draft.devices > 1 else [])]
    draft.put("train.grad_accum", times, *said)
    draft.put("train.effective_batch_size", size * times, "the two multiplied")


def settle_rate(draft: Draft, scheduler: Entry | None, optimizer: Entry | None, *, schedule: str) -> None:
    """The optimizer and the course of the rate; schedule: theirs where none is written. What we have not is refused."""
    name = optimizer.text() if optimizer else "adamw_torch"
    if name in OPTIMIZERS:
        draft.put("train.optim", OPTIMIZERS[name], optimizer or draft.default("the optimizer"))
    elif name is not None:
        cure = "Name one of these, and tune its learning rate anew."
        draft.refuse(optimizer, "there is no such optimizer here.", expected=_listed(OPTIMIZERS), cure=cure)
    course = scheduler.text() if scheduler else schedule
    if course in SCHEDULERS:
        draft.put("train.lr_scheduler_type", SCHEDULERS[course], scheduler or draft.default("the schedule"))
    elif course is not None:
        cure = "Name one of these; cosine is the most common."
        draft.refuse(scheduler, "there is no such schedule here.", expected=_listed(SCHEDULERS), cure=cure)
    for key, ours in ADAM.items():
        entry = draft.keys.take(key)
        value = entry.number() if entry else None
        if value is not None and value == ours:
            draft.leave_out(entry, "the same value holds here")
        elif value is not None:
            draft.differ(entry, f"it is always {ours:g} here")


def settle_warmup(draft: Draft, share: Entry | None, steps: Entry | None, *, default: float) -> None:
    """The warm-up, which is a share of all steps here; default: theirs."""
    if share is None and steps is None:
        draft.put("train.warmup_ratio", default, draft.default("the warm-up"))
        return
    value = share.number() if share else steps.number()
    if value is None:
        return
    total = draft.value("train.max_steps")
    if value < 1:  # Trainer takes a fraction in either
        draft.put("train.warmup_ratio", value, share or steps)
    elif total:
        draft.put("train.warmup_ratio", min(1.0, round(value / total, 6)), steps or share, "a share of max_steps")
    else:
        text = (
            f"the warm-up is a share of all steps here, and these are not known before the data is read: "
            f"train.warmup_ratio stays 0.03; set it to {value:g} / steps"
        )
        draft.differ(steps or share, text)


def settle_evaluations(
    draft: Draft, strategy: Entry | None, steps: Entry | None, times: Entry | None, *, otherwise: str
) -> None:
    """When the model is evaluated; otherwise: theirs where nothing is written."""
    _settle_rhythm(draft, "eval", strategy, steps, times, otherwise)


def settle_checkpoints(
    draft: Draft, strategy: Entry | None, steps: Entry | None, times: Entry | None, *, otherwise: str
) -> None:
    """When a checkpoint is saved; otherwise: theirs where nothing is written."""
    _settle_rhythm(draft, "save", strategy, steps, times, otherwise)


def settle_best(draft: Draft) -> None:
    """Which checkpoint is kept and loaded at the end. Call it when the evaluations are settled."""
    keys = draft.keys
    load, metric = keys.take("load_best_model_at_end"), keys.take("metric_for_best_model")
    greater, patience = keys.take("greater_is_better"), keys.take("early_stopping_patience", "early_stopping_steps")
    evaluates = draft.value("train.eval_strategy") != NO
    wanted = load.boolean() if load else False
    if wanted is not None:
        draft.put("train.load_best_model_at_end", wanted and evaluates, load or draft.default("load_best_model_at_end"))
    name = metric.text() if metric else None
    if name in ("eval_loss", "loss"):
        draft.leave_out(metric, "eval_loss says which is best here too")
    elif name is not None:
        draft.differ(metric, "eval_loss says which checkpoint is best; eval_rougeL is the other one there is")
    if greater is not None:
        draft.leave_out(greater, "it follows train.metric_for_best_model")
    if patience is not None and evaluates and (most := patience.whole()):
        draft.put("train.early_stopping_patience", most, patience)
    elif patience is not None and patience.is_on and not evaluates:
        draft.differ(patience, "nothing is evaluated, so nothing stops the training early")


def settle_precision(draft: Draft, *, default: Literal["auto", "false"]) -> None:
    """16 bits or 32; default: theirs of bf16. Only where bf16 is `auto` may the machine choose fp16."""
    bf16, fp16 = draft.keys.written("bf16"), draft.keys.written("fp16")
    words = [("false" if not one.is_given else (one.text() or "").lower()) if one else None for one in (bf16, fp16)]
    asked, other = words[0] or default, words[1]
    for entry, word in ((bf16, asked), (fp16, other or "false")):
        if word not in (*BOOLEANS, "auto", "full"):
            draft.refuse(entry, "it is neither on nor off.", "auto, true or false")
            return
    on = BOOLEANS.get(asked, asked == "full")
    says_no = fp16 is not None and fp16.is_given and not fp16.is_on
    draft.put("train.bf16", "auto" if asked == "auto" else on, bf16 or draft.default("bf16"))
    if asked == "auto":
        draft.put("train.fp16", False if says_no else "auto", fp16 or "where the hardware has no bfloat16")
    else:
        draft.put("train.fp16", BOOLEANS.get(other or "false", False) and not on, fp16 or draft.default("fp16"))
    if asked == "full":
        draft.differ(bf16, "the weights that are trained stay in 32 bits here (mixed precision)")


def _settle_rhythm(
    draft: Draft, what: str, strategy: Entry | None, steps: Entry | None, times: Entry | None, otherwise: str
) -> None:
    key, every, each = f"train.{what}_strategy", f"train.{what}_steps", f"train.{what}s_per_epoch"
    name = strategy.text() if strategy else None
    name = {"best": EPOCH, "true": STEPS, "false": NO}.get((name or "").lower(), name)  # YAML 1.1 reads `no` as false
    if name == NO:
        draft.put(key, NO, strategy)
    elif name not in (None, STEPS, EPOCH):
        draft.refuse(strategy, "there is no such word here.", expected="no, steps or epoch")
    elif times is not None and name != EPOCH:
        if (count := times.whole()) is not None and count > 0:
            draft.put(key, STEPS, *filter(None, (strategy, times)))
            draft.put(each, count, times)
        elif count == 0:
            draft.put(key, NO, times)
    elif steps is not None and name != EPOCH:
        if (count := steps.number()) is not None:
            _settle_steps(draft, key, every, each, count, steps)
            if strategy is not None and draft.value(key) == STEPS:
                draft.put(key, STEPS, strategy, steps)
    elif name == STEPS or (name is None and otherwise == STEPS):
        draft.put(key, STEPS, strategy or draft.default(f"{what}_strategy"))
        draft.put(every, 500, draft.default(f"{what}_steps"))
    else:
        draft.put(key, name or otherwise, strategy or draft.default(f"{what}_strategy"))


def _settle_steps(draft: Draft, key: str, every: str, each: str, count: float, entry: Entry) -> None:
    """Every so many steps, or every so large a share of all of them."""
    if count >= 1:
        draft.put(key, STEPS, entry)
        draft.put(every, int(count), entry)
        return
    if count <= 0:
        draft.put(key, NO, entry)
        return
    if total := draft.value("train.max_steps"):
        draft.put(key, STEPS, entry)
        draft.put(every, max(1, round(count * total)), entry, "a share of max_steps")
        return
    an_epoch = 1 / (count * draft.value("train.epochs"))
    if an_epoch < 0.75:
        draft.put(key, EPOCH, entry)
        draft.differ(entry, f"it was {an_epoch:.2g} times an epoch and is once an epoch")
        return
    draft.put(key, STEPS, entry)
    draft.put(each, round(an_epoch), entry, f"a share of {draft.value('train.epochs'):g} epochs")
    if abs(an_epoch - round(an_epoch)) > 1e-6:
        draft.differ(entry, f"it was {an_epoch:.3g} times an epoch and is {round(an_epoch)} times")


def _listed(names: dict[str, str]) -> str:
    return "one of " + ", ".join(names)
