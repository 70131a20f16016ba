"""The schema in words says what is in force: every bound and every choice is tried."""

from __future__ import annotations

import pytest

from sftlib.config import Config, DatasetSection
from sftlib.config.keys import keys, owner, sections

STEP = {int: 1, float: 1e-6}


def test_every_leaf_and_every_section_is_there_in_the_order_of_the_schema():
    def leaves(prefix: str, values: dict) -> list[str]:
        names = []
        for name, value in values.items():
            inside = isinstance(value, dict) and name not in ("columns", "datasets")
            names += leaves(f"{prefix}{name}.", value) if inside else [prefix + name]
            if name == "datasets":
                names += leaves("data.datasets.*.", DatasetSection().model_dump())
        return names

    assert list(keys()) == leaves("", Config().model_dump())
    assert list(sections()) == [
        "", "model", "tuning", "tuning.lora", "data", "data.datasets.*", "data.mixing", "data.split", "data.style",
        "train", "logging", "eval", "infer",
    ]  # fmt: skip


def test_every_key_is_documented():
    assert [key.name for key in keys().values() if not key.description.endswith((".", "`"))] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train.grad_accum", "a whole number (1 or more) or `auto`"),
        ("train.learning_rate", "a number (above 0, at most 1) or `auto`"),
        ("tuning.lora.dropout", "a number (0 or more, below 1)"),
        ("train.warmup_ratio", "a number (0 to 1)"),
        ("train.max_minutes", "a number of minutes (above 0), a duration like `45m` or `1h30m` or null"),
        ("train.bf16", "true, false or `auto`"),
        ("train.greater_is_better", "true, false or null"),
        ("train.eval_strategy", "`no`, `steps` or `epoch`"),
        ("train.max_steps", "a whole number (1 or more) or null"),
        ("data.raw_path", "a text or a list of texts"),
        ("data.datasets", "a section of named sections"),
        ("data.datasets.*.weight", "a number (above 0) or null"),
        ("data.columns", "a section of `name: text` lines"),
        ("logging.backend", "`tensorboard`, `wandb`, `none` or a list of `tensorboard` and `wandb`"),
        ("seed", "a whole number (0 or more, below 4294967296)"),
    ],
)
def test_what_a_key_takes_in_words(name, words):
    assert keys()[name].allowed() == words


@pytest.mark.parametrize("name", [key.name for key in keys().values() if key.number])
def test_the_bounds_in_words_are_the_bounds_in_force(desk, name):
    key = keys()[name]
    assert key.bounds, "a number without a bound"
    step = STEP[key.number]
    for sign, bound in key.bounds:
        inside = {"ge": bound, "le": bound, "gt": bound + step, "lt": bound - step}[sign]
        outside = {"ge": bound - step, "le": bound + step, "gt": bound, "lt": bound}[sign]
        assert f"`{name}` is " in desk.refuse("", f"{name}={outside:.7g}" if step < 1 else f"{name}={outside}")
        section, _, leaf = name.rpartition(".")
        assert getattr(sections()[section].model_validate({leaf: inside}), leaf) == inside


@pytest.mark.parametrize("name", [key.name for key in keys().values() if key.choices])
def test_every_choice_in_words_is_taken_by_the_schema(name):
    section, _, leaf = name.rpartition(".")
    for choice in keys()[name].choices:
        kind = sections()[section]
        assert getattr(kind.model_validate({leaf: choice}), leaf) == choice


def test_the_key_that_a_name_belongs_to():
    assert owner("data.columns.user") == "data.columns"
    assert owner("train.optim") == "train.optim"
    assert owner("train") is None
    assert owner("data.datasets.faq.columns.user") == "data.datasets.faq.columns"


def test_the_brief_words_say_nothing_twice():
    assert keys()["tuning.mode"].brief() == ""
    assert keys()["model.trust_remote_code"].brief() == ""
    assert keys()["eval.batch_size"].brief() == "Whole number (1 or more)."
    assert keys()["train.save_strategy"].brief() == "`no`, `steps` or `epoch`."
