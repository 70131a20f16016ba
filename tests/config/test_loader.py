"""What is written arrives, the later value wins, and every fault is told."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from sftlib.config import Config, add_config_options, load_config, load_with_origins
from sftlib.config.keys import keys, sections


def test_an_empty_file_is_the_defaults(desk):
    assert desk.load("") == Config()
    assert set(desk.origins("").values()) == {"default"}
    assert list(desk.origins("")) == [name for name in keys() if "*" not in name]


def test_value_and_origin_of_file_and_command_line(desk):
    config, origins = load_with_origins(desk.write("seed: 1\n\ntrain:\n  epochs: 2\n"), ["train.optim=adafactor"])
    assert (config.seed, config.train.epochs, config.train.optim) == (1, 2.0, "adafactor")
    assert origins["seed"] == "mine.yaml:1"
    assert origins["train.epochs"] == "mine.yaml:4"
    assert origins["train.optim"] == "--set"
    assert origins["train.learning_rate"] == "default"


def test_the_including_file_wins_and_a_later_include_wins(desk):
    desk.write("seed: 1\nrun_name: low\ntrain: {epochs: 1, max_steps: 1}\ndata: {raw_path: [a, b]}\n", "parts/low.yaml")
    desk.write("run_name: high\ntrain: {max_steps: 2}\ndata: {raw_path: [c]}\n", "parts/high.yaml")
    desk.write("include: [low.yaml, high.yaml]\ntrain: {logging_steps: 9}\n", "parts/both.yaml")
    config, origins = load_with_origins(desk.write("include: parts/both.yaml\ntrain:\n  logging_steps: 3\n"))
    assert (config.seed, config.run_name, config.train.epochs, config.train.max_steps) == (1, "high", 1.0, 2)
    assert config.train.logging_steps == 3
    assert config.data.raw_path == ["c"]
    assert origins["seed"] == "parts/low.yaml:1"
    assert origins["train.logging_steps"] == "mine.yaml:3"


def test_a_file_included_twice_is_no_circle(desk):
    desk.write("seed: 3\n", "a.yaml")
    desk.write("include: a.yaml\n", "b.yaml")
    assert desk.load("include: [a.yaml, b.yaml]").seed == 3


def test_a_circle_is_named(desk):
    desk.write("include: two.yaml\n", "one.yaml")
    desk.write("seed: 1\ninclude: three.yaml\n", "two.yaml")
    desk.write("include: one.yaml\n", "three.yaml")
    said = desk.refuse_file("one.yaml")
    assert said.startswith("three.yaml:1: ")
    assert "one.yaml -> two.yaml -> three.yaml -> one.yaml" in said


def test_faults_of_an_included_file_are_named_there(desk):
    desk.write("\nsed: 1\n", "base.yaml")
    said = desk.refuse("include: base.yaml\ntrain: {lr: 1}\n")
    assert "base.yaml:2: `sed` is no key of the config.\n    Do this:  Did you mean `seed`?" in said
    assert "mine.yaml:2: `train.lr`" in said
    assert said.startswith("There are 2 faults in the config.")


@pytest.mark.parametrize("written", ["nope.yaml", "[base.yaml, nope.yaml]"])
def test_an_include_that_is_missing(desk, written):
    desk.write("seed: 1\n", "base.yaml")
    assert desk.refuse(f"seed: 2\ninclude: {written}\n").startswith("mine.yaml:2: There is no config `nope.yaml`")


@pytest.mark.parametrize("written", ["[[a]]", "{a: b}", "[null]", '""'])
def test_an_include_that_is_no_path(desk, written):
    assert "`include` names" in desk.refuse(f"include: {written}")


def test_a_missing_file_names_the_nearest(desk):
    desk.write("", "configs/run_bnb.yaml")
    assert "Did you mean `configs/run_bnb.yaml`?" in desk.refuse_file("configs/run_bmb.yaml")
    assert "Did you mean `configs/run_bnb.yaml`?" in desk.refuse_file("configs/run_bnb")
    assert "`configs` is a folder" in desk.refuse_file("configs")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.learning_rate=1e-4", "learning_rate", 1e-4),
        ("train.eval_strategy=no", "eval_strategy", "no"),
        ("train.evaluation_strategy=no", "eval_strategy", "no"),
        ("train.max_steps=", "max_steps", None),
        ("train.max_steps=null", "max_steps", None),
        ("train.bf16=off", "bf16", False),
        ("train={max_steps: 4}", "max_steps", 4),
        (" train.max_steps = 5", "max_steps", 5),
    ],
)
def test_an_override(desk, override, key, value):
    assert getattr(desk.load("train: {max_steps: 9}", override).train, key) == value


@pytest.mark.parametrize(
    "text", ["Answer: short # yes", "[INST] hi", "{x} a: b", "- a", "a=b", "*", "@x", "'tis", "%", "1\n2", "é"]
)
def test_a_text_on_the_command_line_needs_no_yaml_quotes(desk, text):
    if text == "'tis":
        assert "--set infer.system='tis" in desk.refuse("", f"infer.system={text}")
    else:
        assert desk.load("", f"infer.system={text}").infer.system == text


def test_quotes_and_flow_on_the_command_line(desk):
    config = desk.load(
        "", 'infer.system=""', "infer.stop=['a b', \"c\\n\"]", "data.columns={user: q}", "data.columns.assistant=a: b"
    )
    assert config.infer.system == ""
    assert config.infer.stop == ["a b", "c\n"]
    assert config.data.columns == {"user": "q", "assistant": "a: b"}


def test_the_last_override_wins(desk):
    assert desk.load("seed: 1", "seed=2", "seed=3").seed == 3


@pytest.mark.parametrize("override", ["seed", "=1", "", "seed:1"])
def test_an_override_of_the_wrong_form(desk, override):
    said = desk.refuse("", override)
    assert said.startswith(f"--set {override}: ")
    assert "KEY=VALUE" in said


@pytest.mark.parametrize("override", ["train.epochs.x=1", "lr=1", "trian.epochs=1", "train.=1", ".seed=1", "a.b.c.d=1"])
def test_an_override_of_no_key(desk, override):
    assert f"--set {override}: `{override.partition('=')[0]}` is no key of the config." in desk.refuse("", override)


def test_an_override_cannot_include(desk):
    assert "read in files only" in desk.refuse("", "include=base.yaml")


def test_columns_are_merged_and_can_be_emptied(desk):
    desk.write("data:\n  columns: {user: q, assistant: a}\n", "base.yaml")
    merged, origins = load_with_origins(desk.write("include: base.yaml\ndata:\n  columns:\n    user: question\n"))
    assert merged.data.columns == {"user": "question", "assistant": "a"}
    assert (origins["data.columns.user"], origins["data.columns.assistant"]) == ("mine.yaml:4", "base.yaml:2")
    emptied = desk.load("include: base.yaml\ndata:\n  columns:\n")
    assert emptied.data.columns == {}
    assert desk.load("include: base.yaml\ndata:\n  columns:\n", "data.columns.user=u").data.columns == {"user": "u"}


@pytest.mark.parametrize("written", ["5", "[a]", "text"])
def test_columns_that_are_no_section(desk, written):
    assert "a section of `name: text` lines" in desk.refuse(f"data: {{columns: {written}}}", "data.columns.user=q")


def test_all_faults_are_told_by_line_with_the_command_line_last(desk):
    said = desk.refuse(
        "lr: 1e-4\ntrain:\n  optim: adamw\n  batch_size: 0\n  batch_size: 2\ndata: {split: {train: 0.5}}\n",
        "seed=x",
    )
    places = [line.split(": ")[0] for line in said.splitlines()[1:] if not line.startswith("    ")]
    assert places == ["mine.yaml:1", "mine.yaml:3", "mine.yaml:4", "mine.yaml:5", "mine.yaml:6", "--set seed=x"]


def test_the_words_of_a_fault(desk):
    said = desk.refuse("train:\n  grad_accum: 0\n")
    assert said == "mine.yaml:2: `train.grad_accum` is `0`.\nExpected: a whole number (1 or more) or `auto`"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ('train: {epochs: "3"}', "Take the quotes away."),
        ("train:\n  epochs: 0,5", "Write a decimal point, not a comma."),
        ("train: {max_steps: no}", "Did you mean `null`?"),
        ("train: {optim: adamw}", "Did you mean `adamw_torch`?"),
        ("logging: {backend: [tensorbord]}", "Did you mean `tensorboard`?"),
        ("infer: {stop: END}", "Write it as a list: [...]."),
    ],
)
def test_the_advice_for_a_refused_value(desk, text, advice):
    assert f"Do this:  {advice}" in desk.refuse(text)


def test_no_fault_speaks_pydantic(desk):
    text = "seed: -1\nrun_name: a b\n" + "".join(
        f"{section}:\n" + "".join(f"  {leaf}: [{{}}]\n" for leaf in sections()[section].model_fields)
        for section in ("model", "tuning", "data", "train", "logging", "eval", "infer")
    )
    said = desk.refuse(text).lower()
    assert said.count("mine.yaml") > 50
    for jargon in ("pydantic", "validation", "literal", "input_", "type=", "should be", "extra_forbidden", "none type"):
        assert jargon not in said


def test_the_options(desk):
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    args = parser.parse_args(["--set", "seed=1", "--set", "run_name=x"])
    assert args.config == "configs/config_base.yaml"
    assert args.set == ["seed=1", "run_name=x"]
    assert parser.parse_args([]).set == []


def test_every_config_that_ships_is_loaded(root: Path):
    shipped = {path.relative_to(root / "configs").as_posix() for path in (root / "configs").rglob("*.yaml")}
    assert shipped >= {"config_base.yaml", "run_bnb.yaml", "run_unsloth.yaml", "run_smoke.yaml", "run_seq2seq.yaml"}
    for name in sorted(shipped):
        if not name.startswith("accelerate/"):  # these are Accelerate's own
            load_config(root / "configs" / name)


def test_the_smoke_run_is_small_and_the_others_are_what_they_say(root: Path):
    smoke = load_config(root / "configs" / "run_smoke.yaml")
    assert (smoke.train.max_steps, smoke.eval.limit) == (6, 8)
    for backend in ("bnb", "unsloth"):
        tuning = load_config(root / "configs" / f"run_{backend}.yaml").tuning
        assert (tuning.mode, tuning.backend) == ("qlora", backend)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_what_never_ends_is_not_opened(desk, name):
    os.mkfifo("pipe")
    said = desk.refuse(f"seed: 1\ninclude: {name}\n")
    assert said.startswith(f"mine.yaml:2: The config `{name}` cannot be read (it is a device, a pipe or a socket).")


def test_what_is_too_large_for_a_config_is_not_read(desk):
    desk.write("#" * 100_001, "weights.yaml")
    assert "`weights.yaml` cannot be read (it has 97.7 KiB, more than any config)" in desk.refuse(
        "include: weights.yaml"
    )
    assert desk.load("#" * 100_000) == Config()


def test_files_that_double_with_every_include_end_in_a_word(desk):
    """2^40 readings, were they made."""
    for number in range(40):
        desk.write(f"include: [d{number + 1}.yaml, d{number + 1}.yaml]\n", f"d{number}.yaml")
    desk.write("seed: 1\n", "d40.yaml")
    said = desk.refuse_file("d0.yaml")
    assert "More than 100 files are included." in said
    assert said.count("are included") == 1


@pytest.mark.parametrize("written", ['"a\\0b"', '"\\ud800.yaml"'])
def test_a_name_that_no_file_can_have(desk, written):
    said = desk.refuse(f"include: {written}\n")
    assert said.startswith("mine.yaml:1: No file can have the name ")
    said.encode("utf-8")
