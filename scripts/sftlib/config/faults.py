"""Everything that is wrong with a config, said at once and in the user's words.

Comes in: `Fault`s from the reading of YAML, from the schema and from the rules. Goes out: one `ConfigError` that lists
them by file and line, each with what was seen, what is allowed and the nearest known key. It finds no fault itself.

    configs/mine.yaml:7: `lr` is no key of the config.
        Do this:  Did you mean `train.learning_rate`?

Worst bug: a fault that is found and not told, or a suggestion that is no key (tests/config/test_faults.py).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigError
from .keys import join, key_of, keys, pattern, section_of, sections

MEANT = {  # what other tools call it (transformers, peft, TRL, axolotl, LLaMA-Factory, litgpt) -> what we call it
    "adapter": "tuning.mode",
    "attn_impl": "model.attn_implementation",
    "base_model": "model.name",
    "batch": "train.batch_size",
    "batch_size": "train.batch_size",
    "chat_template": "data.template_path",
    "clip_grad": "train.max_grad_norm",
    "cutoff_len": "model.max_seq_len",
    "dataset": "data.raw_path",
    "dataset_path": "data.raw_path",
    "do_sample": "infer.temperature",
    "early_stopping": "train.early_stopping_patience",
    "eval_batch_size": "eval.batch_size",
    "eval_file": "data.val_path",
    "finetuning_type": "tuning.mode",
    "global_batch_size": "train.effective_batch_size",
    "gradient_accumulation": "train.grad_accum",
    "gradient_accumulation_steps": "train.grad_accum",
    "gradient_clip_val": "train.max_grad_norm",
    "gradient_clipping": "train.max_grad_norm",
    "learning_rate_scheduler": "train.lr_scheduler_type",
    "load_in_4bit": "tuning.mode",
    "lora_alpha": "tuning.lora.alpha",
    "lora_dropout": "tuning.lora.dropout",
    "lora_r": "tuning.lora.r",
    "lora_rank": "tuning.lora.r",
    "lora_target": "tuning.lora.target_modules",
    "lora_target_modules": "tuning.lora.target_modules",
    "lr": "train.learning_rate",
    "lr_scheduler": "train.lr_scheduler_type",
    "max_length": "model.max_seq_len",
    "max_norm": "train.max_grad_norm",
    "max_seq_length": "model.max_seq_len",
    "micro_batch_size": "train.batch_size",
    "mode": "tuning.mode",
    "model_id": "model.name",
    "model_name": "model.name",
    "model_name_or_path": "model.name",
    "n_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "optimizer": "train.optim",
    "per_device_eval_batch_size": "eval.batch_size",
    "per_device_train_batch_size": "train.batch_size",
    "rank": "tuning.lora.r",
    "report_to": "logging.backend",
    "resume_from_checkpoint": "train.resume",
    "rslora": "tuning.lora.use_rslora",
    "save_dir": "train.output_dir",
    "scheduler": "train.lr_scheduler_type",
    "seq_len": "model.max_seq_len",
    "sequence_len": "model.max_seq_len",
    "system_prompt": "infer.system",
    "template": "data.template_path",
    "test_file": "data.test_path",
    "test_size": "data.split.test",
    "train_batch_size": "train.batch_size",
    "train_file": "data.train_path",
    "val_set_size": "data.split.val",
    "val_size": "data.split.val",
    "validation_file": "data.val_path",
    "warmup": "train.warmup_ratio",
    "warmup_steps": "train.warmup_ratio",
}
MOST_TOLD = 100  # faults; a file with more of them is something else than a config
INCLUDES = ("includes", "extends", "inherit", "inherits", "defaults", "base", "import", "imports")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `place` is file:line or `--set KEY=VALUE`; `about` names the keys it speaks of."""

    place: str
    seen: str
    expected: str = ""
    cure: str = ""
    about: tuple[str, ...] = ()


def as_error(faults: Iterable[Fault], what: str = "faults in the config") -> ConfigError:
    """The faults, each once, by file and line, as one error; `what` they are, where there are several."""
    faults = sorted(dict.fromkeys(faults), key=_by_line)
    if len(faults) == 1:
        fault = faults[0]
        return ConfigError(fault.seen, where=fault.place, expected=fault.expected, cure=fault.cure, code="E201")
    lines = [f"There are {len(faults)} {what}."]
    for fault in faults[:MOST_TOLD]:
        first, *more = str(
            ConfigError(fault.seen, where=fault.place, expected=fault.expected, cure=fault.cure)
        ).splitlines()
        lines += [first, *(f"    {line}" for line in more)]
    if len(faults) > MOST_TOLD:
        lines.append(f"... and {len(faults) - MOST_TOLD} more.")
    return ConfigError("\n".join(lines), code="E201")


def did_you_mean(name: str) -> str:
    """The question for an unknown dotted key, or '' when nothing is near."""
    near = nearest_keys(name)
    return f"Did you mean {' or '.join(f'`{key}`' for key in near)}?" if near else ""


def nearest_keys(name: str) -> list[str]:
    """The known keys or sections (at most three) that an unknown dotted key probably means, the likeliest first.

    Another spelling in the same section comes first, then another tool's name, a key of another section, a slip.
    """
    section, _, leaf = name.rpartition(".")
    plain = leaf.lower().replace("-", "_")
    own = pattern(section)
    known = [
        known.replace(own, section, 1) if "*" in own else known
        for known in (*keys(), *(section for section in sections() if section))
        if "*" not in known or (known.startswith(own + ".") and "*" in own)
    ]
    if name in known:  # written with dots in one key, where YAML wants sections
        return [name]
    if not section and plain in INCLUDES:
        return ["include"]
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == section}
    if plain in siblings:
        return [siblings[plain]]
    if plain in MEANT:
        return [MEANT[plain]]
    elsewhere = [key for key in known if key == plain or key.endswith(f".{plain}")]
    if elsewhere:
        return elsewhere[:3]
    if slips := difflib.get_close_matches(plain, siblings, n=1, cutoff=0.7):
        return [siblings[slips[0]]]
    names = {key.rpartition(".")[2]: key for key in reversed(known)} | MEANT
    return [names[slip] for slip in difflib.get_close_matches(plain, names, n=1, cutoff=0.75)]


def nearest_choice(seen: str, choices: Iterable[str]) -> str:
    """The choice that a wrong word probably means, or ''."""
    choices = list(choices)
    if seen.lower() in ("false", "off", "no", "null", "none", "never", "~", ""):
        for word in ("no", "none", "never", "auto"):
            if word in choices:
                return word
    begun = [choice for choice in choices if len(seen) > 1 and choice.startswith(seen.lower())]
    return next(iter(begun or difflib.get_close_matches(seen.lower(), choices, n=1, cutoff=0.6)), "")


def shown(text: str) -> str:
    """A text as messages show it: on one line, what cannot be printed escaped, cut after 60 characters."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unknown_key(place: str, section: str, name: str) -> Fault:
    """The fault of a key that no section knows."""
    full = join(section, name)
    siblings = ", ".join(f"`{key}`" for key in section_of(section).model_fields)
    question = did_you_mean(full)
    if key_of(full) or section_of(full):  # `train.optim: ...` at the top
        *parents, leaf = full.split(".")
        question = f"Write `{leaf}` under `{'`, under `'.join(reversed(parents))}`, or --set {full}=VALUE."
    inside = f"one of the keys of `{section}`: {siblings}" if section else f"one of {siblings} or `include`"
    return Fault(place, f"`{shown(full)}` is no key of the config.", "" if question else inside, question)


def _by_line(fault: Fault) -> tuple[int, str, int]:
    spot = re.fullmatch(r"(.*):(\d+)", fault.place)
    if fault.place.startswith("--set"):
        return 1, "", 0
    return (0, spot[1], int(spot[2])) if spot else (0, fault.place, 0)
