"""What one key means for another: what follows, and what contradicts.

Comes in: the merged settings. Goes out: values that follow from others, and faults. Of two settings that cannot both
hold the later one wins (command line over file, including over included, anything over a default) and the earlier one
follows it, which its origin says; in one file they are a fault. Whether the machine can do it is not asked here.

    config_base.yaml: eval_strategy: epoch      mine.yaml: eval_steps: 50    ->  eval_strategy follows: steps
    mine.yaml: eval_strategy: epoch, eval_steps: 50                          ->  a fault

Worst bug: a value that the user wrote last and that quietly loses (tests/config/test_rules.py).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .faults import Fault, shown
from .keys import group_of, key_of, keys, owner, pattern
from .pair_rules import check_pairs
from .reading import Setting

MICRO, ACCUM, EFFECTIVE = "train.batch_size", "train.grad_accum", "train.effective_batch_size"
CHECKPOINTING, OFFLOAD = "train.gradient_checkpointing", "train.activation_offload"
STREAM = "train.stream_layers"
EVALUATE, BEST, PATIENCE = "train.eval_strategy", "train.load_best_model_at_end", "train.early_stopping_patience"
METRIC, GREATER = "train.metric_for_best_model", "train.greater_is_better"
MODE, PACKING = "tuning.mode", "train.packing"
RAW, LENGTH, TEMPERATURE = "data.raw_path", "model.max_seq_len", "data.mixing.temperature"
SCHEDULES = (  # when, every so many steps, so many times an epoch
    (EVALUATE, "train.eval_steps", "train.evals_per_epoch"),
    ("train.save_strategy", "train.save_steps", "train.saves_per_epoch"),
)
COLUMNS = ("system", "user", "assistant", "messages")
MAY_BE_EMPTY = (  # texts and lists where nothing is something, and one that has a fault of its own
    "infer.system", "infer.stop", "logging.backend", "data.datasets.*.path",
)  # fmt: skip


class Draft:
    """The values of all keys, defaults included, and the place and the layer that set each; a default's layer is -1."""

    def __init__(self, settings: Mapping[str, Setting], layers: Mapping[str, int]) -> None:
        self.values: dict[str, Any] = {name: key.default for name, key in keys().items() if "*" not in name}
        for section in dict.fromkeys(filter(None, map(_named_section, settings))):
            kind = f"{pattern(section)}."
            self.values |= {
                name.replace(kind, f"{section}.", 1): key.default
                for name, key in keys().items()
                if name.startswith(kind)
            }
        self.values |= {name: setting.value for name, setting in settings.items()}
        self._places = {name: setting.place for name, setting in settings.items()}
        self._layers = {name: layers[name] for name in settings}
        self._leaders: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def is_newer(self, name: str, than: str) -> bool:
        """Whether a later layer set it."""
        return self._layers.get(name, -1) > self._layers.get(than, -1)

    def follow(self, name: str, value: Any, leader: str) -> None:
        """Give an earlier setting the value that a later one implies."""
        self.values[name] = value
        self._places[name], self._layers[name] = self._places[leader], self._layers[leader]
        self._leaders[name] = leader

    def sets(self) -> list[str]:
        """The names of data sets, in order."""
        named = (_named_section(name) for name in self.values)
        return list(dict.fromkeys(name.removeprefix("data.datasets.") for name in named if name))

    def given(self, section: str) -> list[str]:
        """What is set below a section."""
        return [name for name in self._places if name.startswith(f"{section}.")]

    def drop(self, section: str) -> None:
        """Take away all that stands below a section."""
        for name in [name for name in self.values if name.startswith(f"{section}.")]:
            del self.values[name]
            self._places.pop(name, None)

    def fault(self, seen: str, *about: str, expected: str = "", cure: str = "") -> Fault:
        """A fault at the newest of the settings it is about; the sentence gets the places of the others."""
        newest = max(about, key=lambda name: self._layers.get(name, -1))
        place = self._places.get(newest, "")
        others = [f"`{name}` at {self._places[name]}" for name in about if self._places.get(name, place) != place]
        return Fault(place, seen + (f" ({', '.join(others)})" if others else ""), expected, cure, about)

    def origins(self) -> dict[str, str]:
        """Where the value of each key came from, in the order of the schema."""
        order = {name: number for number, name in enumerate(keys())}
        named = {f"data.datasets.{name}": number for number, name in enumerate(self.sets())}

        def place(name: str) -> tuple[int, int, int]:
            section = _named_section(name)
            number = order[pattern(owner(name))]
            return (order[group_of(section)], named[section], number) if section else (number, -1, -1)

        return {name: self._origin(name) for name in sorted(self.values, key=place)}

    def _origin(self, name: str) -> str:
        place = self._places.get(name, "default")
        origin = "--set" if place.startswith("--set ") else place
        return f"{origin} (follows {self._leaders[name]})" if name in self._leaders else origin


def _named_section(name: str) -> str | None:
    """The section of a name of the user's that a key stands in: `data.datasets.faq`."""
    while name and not group_of(name):
        name = name.rpartition(".")[0]
    return name or None


def follow(draft: Draft) -> None:
    """Let earlier settings follow the later ones that they contradict."""
    _follow_datasets(draft)
    _follow_batch(draft)
    for schedule in SCHEDULES:
        _follow_schedule(draft, *schedule)
    if draft[BEST] and draft[EVALUATE] == "no" and draft.is_newer(EVALUATE, BEST):
        draft.follow(BEST, False, EVALUATE)
    if _is_contrary(draft) and draft.is_newer(METRIC, GREATER):
        draft.follow(GREATER, None, METRIC)
    for name in _idle_adapter(draft):
        if draft.is_newer(MODE, name):
            draft.follow(name, keys()[name].default, MODE)


def check(draft: Draft) -> Iterator[Fault]:
    """Every contradiction that is left."""
    for rule in (
        _texts, _columns, _encoding, _datasets, _mixing, _split, _batch, _offload, _stream, _packing, _schedules, _best,
        _metric, _precision, _mode, _kind, check_pairs, _regex,
    ):  # fmt: skip
        yield from rule(draft)


def _follow_datasets(draft: Draft) -> None:
    given = draft.given("data.datasets")
    if not given or draft[RAW] == keys()[RAW].default:
        return
    newer = [name for name in given if draft.is_newer(name, RAW)]
    if newer:
        draft.follow(RAW, keys()[RAW].default, newer[0])
    elif all(draft.is_newer(RAW, name) for name in given):
        draft.drop("data.datasets")


def _follow_batch(draft: Draft) -> None:
    micro, accum, effective = draft[MICRO], draft[ACCUM], draft[EFFECTIVE]
    if accum == "auto" or effective is None or (micro != "auto" and micro * accum == effective):
        return
    if micro == "auto":  # what is left to divide is divided when it is settled
        if effective % accum and draft.is_newer(EFFECTIVE, ACCUM):
            draft.follow(ACCUM, "auto", EFFECTIVE)
    elif draft.is_newer(ACCUM, EFFECTIVE):
        draft.follow(EFFECTIVE, micro * accum, ACCUM)
    elif draft.is_newer(EFFECTIVE, ACCUM):
        draft.follow(ACCUM, "auto", EFFECTIVE)
    elif draft.is_newer(MICRO, ACCUM):  # the batch of a step is what the user means; how it is cut is the machine's
        draft.follow(ACCUM, "auto", MICRO)


def _follow_schedule(draft: Draft, strategy: str, steps: str, times: str) -> None:
    for count, other in ((steps, times), (times, steps)):
        if draft[count] is None:
            continue
        if draft[other] is not None and draft.is_newer(count, other):
            draft.follow(other, None, count)
        if draft[strategy] != "steps" and draft.is_newer(count, strategy):
            draft.follow(strategy, "steps", count)
        elif draft[strategy] != "steps" and draft.is_newer(strategy, count):
            draft.follow(count, None, strategy)


def _texts(draft: Draft) -> Iterator[Fault]:
    for name, value in draft.values.items():
        key = key_of(owner(name))
        if value in ("", []) and pattern(name) not in MAY_BE_EMPTY:
            yield draft.fault(f"`{name}` is empty.", name, expected=key.allowed())
        if isinstance(value, list) and "" in value:
            yield draft.fault(f"`{name}` has an empty text in it.", name, expected=key.allowed())
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and re.search("[\0\ud800-\udfff]", text):
                seen = f"`{name}` holds a character that no UTF-8 file or path can: `{shown(text)}`."
                yield draft.fault(seen, name)


def _columns(draft: Draft) -> Iterator[Fault]:
    for name, yours in draft.values.items():
        of = owner(name)
        ours = name[len(of) + 1 :]
        if ours and of.endswith("columns") and ours not in COLUMNS:
            turn = f"Did you mean `{yours}: {shown(ours)}`?" if yours in COLUMNS else ""
            known = ", ".join(f"`{column}`" for column in COLUMNS)
            yield draft.fault(
                f"`{shown(ours)}` is none of our columns.", name, expected=f"`ours: yours`; ours are {known}", cure=turn
            )


def _datasets(draft: Draft) -> Iterator[Fault]:
    sets = draft.sets()
    for name in sets:
        section = f"data.datasets.{name}"
        path = draft[f"{section}.path"]
        if not path:
            seen = f"`{section}` does not say where its rows are."
            cure = f"Set {section}.path to a file, a folder or hf:org/name."
            yield draft.fault(seen, *draft.given(section), cure=cure)
        for key in ("subset", "split"):
            paths = [path] if isinstance(path, str) else path
            if draft[f"{section}.{key}"] is not None and not all(one.startswith("hf:") for one in paths):
                seen = f"`{section}.{key}` is set, and `{section}.path` is not of the hub."
                cure = f"Take {key} away, or write hf:org/name."
                yield draft.fault(seen, f"{section}.{key}", f"{section}.path", cure=cure)
        longest = draft[f"{section}.max_seq_len"]
        if longest is not None and longest > draft[LENGTH]:
            seen = f"`{section}.max_seq_len` {longest} is above `{LENGTH}` {draft[LENGTH]}."
            yield draft.fault(seen, f"{section}.max_seq_len", LENGTH, cure=f"Raise {LENGTH}, or lower the other.")
    if sets and draft[RAW] != keys()[RAW].default:
        seen = f"`{RAW}` and `data.datasets` both say where the rows are."
        yield draft.fault(seen, RAW, *draft.given("data.datasets"), cure=f"Make what {RAW} names one of the data sets.")


def _mixing(draft: Draft) -> Iterator[Fault]:
    weights = [name for name in (f"data.datasets.{one}.weight" for one in draft.sets()) if draft[name] is not None]
    if weights and draft[TEMPERATURE] != 1:
        seen = f"`{TEMPERATURE}` and `{weights[0]}` both say how large a share is."
        yield draft.fault(seen, TEMPERATURE, *weights, cure=f"Set {TEMPERATURE} to 1, or take the weights away.")


def _encoding(draft: Draft) -> Iterator[Fault]:
    encoding = draft["data.encoding"]
    try:
        is_known = encoding == "auto" or codecs.lookup(encoding)._is_text_encoding
    except (LookupError, ValueError):
        is_known = False
    if not is_known:
        expected = "`auto` or a name like `utf-8`, `cp1252`, `latin-1` or `shift_jis`"
        yield draft.fault(
            f"`data.encoding` is `{shown(encoding)}`: no such encoding.", "data.encoding", expected=expected
        )


def _split(draft: Draft) -> Iterator[Fault]:
    names = ("data.split.train", "data.split.val", "data.split.test")
    shares = [draft[name] for name in names]
    counted = [name for name in names[1:] if draft[name] > 1]
    for name in counted:
        if draft[name] != int(draft[name]):
            expected = "a share up to 1, or a whole number of rows"
            yield draft.fault(f"`{name}` is {draft[name]:g}.", name, expected=expected)
    if counted:
        return
    if abs(sum(shares) - 1) > 1e-6:  # 0.333 + 0.333 + 0.334 is no exact 1
        sum_shown = " + ".join(f"{share:g}" for share in shares) + f" = {sum(shares):g}"
        yield draft.fault(
            f"The shares of `data.split` do not add up: {sum_shown}.", *names, expected="train + val + test = 1"
        )
    elif shares[0] == 0:
        yield draft.fault("`data.split.train` is 0: nothing is left to train on.", *names, expected="a share above 0")


def _batch(draft: Draft) -> Iterator[Fault]:
    micro, accum, effective = draft[MICRO], draft[ACCUM], draft[EFFECTIVE]
    if effective is None:
        if micro == "auto":
            seen = f"`{MICRO}` is `auto`, and `{EFFECTIVE}` is `null`: nothing says how many examples a step sees."
            yield draft.fault(seen, MICRO, EFFECTIVE, cure=f"Set {EFFECTIVE}, or {MICRO} to a number.")
        return
    if "auto" in (micro, accum):
        name, part = (MICRO, micro) if accum == "auto" else (ACCUM, accum)
        if part != "auto" and effective % part:
            fits = [str(times * part) for times in (effective // part, effective // part + 1) if times]
            other = f"null to state {ACCUM} instead" if name == MICRO else f"null and {MICRO} to a number"
            cure = f"Set {EFFECTIVE} to {' or '.join(fits)}, or to {other}."
            yield draft.fault(
                f"`{EFFECTIVE}` {effective} is no multiple of `{name}` {part}.",
                *dict.fromkeys((EFFECTIVE, name, MICRO)),
                cure=cure,
            )
    elif micro * accum != effective:
        seen = f"`{MICRO}` {micro} x `{ACCUM}` {accum} is {micro * accum}, and `{EFFECTIVE}` is {effective}."
        yield draft.fault(
            seen, EFFECTIVE, ACCUM, MICRO, cure=f"Set {ACCUM} to auto, or {EFFECTIVE} to {micro * accum}."
        )


def _offload(draft: Draft) -> Iterator[Fault]:
    if draft[OFFLOAD] is True and draft[CHECKPOINTING] is False:
        seen = f"`{OFFLOAD}` is true, and `{CHECKPOINTING}` is false: it moves what checkpointing stores."
        yield draft.fault(seen, OFFLOAD, CHECKPOINTING, cure=f"Set {CHECKPOINTING} to true or auto.")


def _packing(draft: Draft) -> Iterator[Fault]:
    if draft[PACKING] is not True:
        return
    cure = f"Set {PACKING} to auto."
    if draft["model.type"] == "seq2seq":
        seen = f"`{PACKING}` is true, and `model.type` is `seq2seq`: an encoder sees its whole row."
        yield draft.fault(seen, PACKING, "model.type", cure=cure)
    if draft["tuning.backend"] == "unsloth":
        seen = (
            f"`{PACKING}` is true, and `tuning.backend` is `unsloth`: nobody has seen its kernels keep the examples of "
            "a packed row apart."
        )
        yield draft.fault(seen, PACKING, "tuning.backend", cure=cure)


def _stream(draft: Draft) -> Iterator[Fault]:
    if draft[STREAM] is not True:
        return
    if draft[MODE] == "full":
        seen = f"`{STREAM}` is true, and `{MODE}` `full` trains every weight: only frozen ones can wait elsewhere."
        yield draft.fault(seen, STREAM, MODE, cure=f"Set {STREAM} to auto, or {MODE} to lora.")
    if draft["tuning.backend"] == "unsloth":
        seen = f"`{STREAM}` is true, and `tuning.backend` `unsloth` runs blocks of its own."
        yield draft.fault(seen, STREAM, "tuning.backend", cure="Set tuning.backend to bnb.")


def _schedules(draft: Draft) -> Iterator[Fault]:
    for strategy, steps, times in SCHEDULES:
        given = [count for count in (steps, times) if draft[count] is not None]
        if len(given) == 2:
            yield draft.fault(f"`{steps}` and `{times}` are both set.", *given, cure="Set one of them to null.")
        elif draft[strategy] == "steps" and not given:
            seen = f"`{strategy}` is `steps`, and nothing says how many steps."
            yield draft.fault(seen, strategy, steps, times, cure=f"Set {steps} or {times}.")
        if given and draft[strategy] != "steps":
            seen = f"`{given[0]}` is {draft[given[0]]}, and `{strategy}` is `{draft[strategy]}`."
            cure = f"Set {strategy} to steps, or {given[0]} to null."
            yield draft.fault(seen, strategy, *given, cure=cure)


def _best(draft: Draft) -> Iterator[Fault]:
    for name, off in ((BEST, "false"), (PATIENCE, "null")):
        if draft[name] and draft[EVALUATE] == "no":
            seen = f"`{name}` is set, and `{EVALUATE}` is `no`: no evaluation says what is best."
            yield draft.fault(seen, name, EVALUATE, cure=f"Set {EVALUATE} to epoch, or {name} to {off}.")


def _metric(draft: Draft) -> Iterator[Fault]:
    if _is_contrary(draft):
        better = "smaller" if draft[METRIC] == "eval_loss" else "greater"
        seen = (
            f"`{GREATER}` is {str(draft[GREATER]).lower()}, and of `{METRIC}` {draft[METRIC]} the {better} is better."
        )
        yield draft.fault(seen, GREATER, METRIC, cure=f"Set {GREATER} to null: it follows the metric.")
    if draft[METRIC] == "eval_rougeL" and draft["eval.training_rows"] == 0:
        seen = f"`{METRIC}` is eval_rougeL, and `eval.training_rows` is 0: no answer is measured while training."
        yield draft.fault(seen, METRIC, "eval.training_rows", cure="Set eval.training_rows to 8 or more.")


def _is_contrary(draft: Draft) -> bool:
    return draft[GREATER] is not None and draft[GREATER] != (draft[METRIC] == "eval_rougeL")


def _precision(draft: Draft) -> Iterator[Fault]:
    if draft["train.bf16"] is True and draft["train.fp16"] is True:
        cure = "Set one of them to auto or false."
        yield draft.fault("`train.bf16` and `train.fp16` are both true.", "train.bf16", "train.fp16", cure=cure)


def _mode(draft: Draft) -> Iterator[Fault]:
    if draft[MODE] == "qlora" and draft["tuning.backend"] == "plain":
        seen = "`tuning.mode` is `qlora`, and `tuning.backend` `plain` has no 4-bit weights."
        cure = "Set tuning.backend to bnb, or tuning.mode to lora."
        yield draft.fault(seen, MODE, "tuning.backend", cure=cure)
    for name in _idle_adapter(draft):
        seen = f"`{name}` is set, and `tuning.mode` `full` trains no adapter."
        yield draft.fault(seen, name, MODE, cure=f"Take {name} away, or set tuning.mode to lora.")


def _idle_adapter(draft: Draft) -> list[str]:
    """Settings of an adapter that nothing trains."""
    if draft[MODE] != "full":
        return []
    return [name for name, key in keys().items() if name.startswith("tuning.lora.") and draft[name] != key.default]


def _kind(draft: Draft) -> Iterator[Fault]:
    kind, target, fp16 = "model.type", "model.max_target_len", "train.fp16"
    if draft[kind] == "causal" and draft[target] is not None:
        seen = f"`{target}` is {draft[target]}, and a `causal` model has no input and target apart."
        yield draft.fault(seen, target, kind, cure=f"Set {target} to null: model.max_seq_len is of both together.")
    if draft[kind] == "seq2seq" and draft[fp16] is True:
        seen = f"`{fp16}` is true, and `{kind}` is `seq2seq`: T5 overflows in float16."
        yield draft.fault(seen, fp16, kind, cure=f"Set {fp16} to auto: bf16 where the hardware has it, else float32.")


def _regex(draft: Draft) -> Iterator[Fault]:
    try:
        re.compile(draft["eval.regex"] or "")
    except (re.error, RecursionError, OverflowError) as error:
        yield draft.fault(f"`eval.regex` is no regular expression: {error}.", "eval.regex")
