"""YAML is read the way people mean it, and what cannot be read is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("written", "meant"),
    [("2e-4", 2e-4), ("2E-4", 2e-4), ("1.e-3", 1e-3), (".5", 0.5), ("+0.1", 0.1), ("1", 1.0), ("0.000_1", 1e-4)],
)
def test_a_number_is_a_number(desk, written, meant):
    assert desk.load(f"train: {{learning_rate: {written}}}").train.learning_rate == meant


@pytest.mark.parametrize(
    ("written", "meant"), [("1e3", 1000), ("010", 10), ("08", 8), ("1_000", 1000), ("16.0", 16), ("+7", 7)]
)
def test_a_whole_number_is_read_in_decimal(desk, written, meant):
    steps = desk.load(f"train: {{max_steps: {written}}}").train.max_steps
    assert steps == meant
    assert type(steps) is int


@pytest.mark.parametrize(
    "written", ["1:30", "0x10", "0o17", "1.5", "2024-01-01", "yes", "1__0", ".inf", "1e400", "9" * 5000, '"4"', "[4]"]
)
def test_what_is_no_whole_number_is_refused(desk, written):
    assert "a whole number (1 or more)" in desk.refuse(f"train:\n  max_steps: {written}")


@pytest.mark.parametrize("written", [".nan", "nan", ".inf", "inf", "-.inf", "1e999", "0,5", "5%"])
def test_what_is_no_finite_number_is_refused(desk, written):
    assert "a number (0 or more)" in desk.refuse(f"train: {{weight_decay: {written!s}}}".replace("0,5", "'0,5'"))


@pytest.mark.parametrize("word", ["no", "No", "NO", '"no"', "'no'"])
def test_no_is_a_word_where_it_is_a_choice(desk, word):
    assert desk.load(f"train: {{eval_strategy: {word}}}").train.eval_strategy == "no"


@pytest.mark.parametrize(
    ("word", "meant"), [("yes", True), ("On", True), ("TRUE", True), ("no", False), ("off", False)]
)
def test_no_is_a_boolean_where_one_is_wanted(desk, word, meant):
    assert desk.load(f"model: {{trust_remote_code: {word}}}").model.trust_remote_code is meant


@pytest.mark.parametrize("word", ["tRUE", "1", "y", '"true"', "null"])
def test_what_is_no_boolean_is_refused(desk, word):
    assert "true or false" in desk.refuse(f"model: {{trust_remote_code: {word}}}")


@pytest.mark.parametrize("word", ["off", "false", "null", "~", "none"])
def test_a_wrong_word_for_no_is_refused_with_the_right_one(desk, word):
    said = desk.refuse(f"train: {{eval_strategy: {word}}}")
    assert "`no`, `steps` or `epoch`" in said
    assert "Did you mean `no`?" in said


def test_null_for_a_mode_names_auto(desk):
    assert "Did you mean `auto`?" in desk.refuse("tuning: {mode: null}")


@pytest.mark.parametrize("text", ["007", "1e5", "2024-01-01", "yes", "1.0", "0x10"])
def test_a_text_stays_as_it_is_written(desk, text):
    assert desk.load(f"run_name: {text}").run_name == text


@pytest.mark.parametrize("word", ["null", "~", "", "None", "NULL"])
def test_null_takes_a_value_away(desk, word):
    assert desk.load(f"run_name: {word}\neval: {{limit: {word}}}").run_name is None


def test_a_quoted_null_is_a_text(desk):
    assert desk.load('run_name: "null"').run_name == "null"


def test_lists_hold_texts(desk):
    assert desk.load("data: {raw_path: [a.json, 1e5, no]}").data.raw_path == ["a.json", "1e5", "no"]
    assert desk.load("infer: {stop: }").infer.stop == []
    assert "`[a, ...]`" in desk.refuse("data: {raw_path: [a, [b]]}")


def test_an_empty_section_changes_nothing(desk):
    assert desk.load("train:\nlogging: null\n") == desk.load("")


def test_a_section_that_is_a_value_is_refused(desk):
    said = desk.refuse("seed: 1\ntrain: fast\nseed_: 2")
    assert "mine.yaml:2: `train` is `fast`" in said
    assert "lines like `epochs: ...`" in said


def test_both_spellings_of_eval_strategy(desk):
    assert desk.load("train: {evaluation_strategy: epoch}").train.eval_strategy == "epoch"
    assert desk.load("train: {evaluation_strategy: epoch, eval_strategy: epoch}").train.eval_strategy == "epoch"
    said = desk.refuse("train:\n  evaluation_strategy: epoch\n  eval_strategy: no\n")
    assert "mine.yaml:3: `train.evaluation_strategy` is `epoch` and `train.eval_strategy` is `no`" in said
    assert "same key" in desk.refuse("", "train.evaluation_strategy=no", "train.eval_strategy=epoch")


@pytest.mark.parametrize(
    ("written", "minutes"),
    [("45m", 45), ("1h30m", 90), ("1.5h", 90), ("90s", 1.5), ("2h", 120), ("45min", 45), ("45", 45), ("1H", 60)],
)
def test_minutes_are_read_as_a_number_or_a_duration(desk, written, minutes):
    assert desk.load(f"budget: {written}").train.max_minutes == minutes
    assert desk.load("", f"train.max_minutes={written}").train.max_minutes == minutes


@pytest.mark.parametrize("written", ["0m", "m", "1m1h", "-5m", "45 days", "1e400h", "h", "9" * 400 + "h", "0"])
def test_what_is_no_duration_is_refused(desk, written):
    said = desk.refuse(f"budget: {written}")
    assert f"mine.yaml:1: `budget` is `{written[:20]}" in said
    assert "a duration like `45m` or `1h30m`" in said


def test_a_wrong_value_is_named_by_the_spelling_that_was_used(desk):
    assert "mine.yaml:1: `train.evaluation_strategy` is `maybe`" in desk.refuse("train: {evaluation_strategy: maybe}")


def test_a_doubled_key_is_a_fault_with_both_lines(desk):
    said = desk.refuse("train:\n  epochs: 1\n  optim: adafactor\n  epochs: 2\n")
    assert said.startswith("mine.yaml:4: `epochs` is there twice; first at mine.yaml:2.")


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("train:\n\tepochs: 1\n", 2, "A tab stands where"),
        ("seed: 1\ntrain:\n  epochs: 1\n optim: x\n", 4, "The indentation does not fit"),
        ("seed: 1\nrun_name: a: b\n", 2, "second `: `"),
        ("seed: 1\nrun_name\n", 2, "A key without its `:`"),
        ("seed: 1\nrun_name: 'open\n\n", 2, "A quote is opened"),
        ("data:\n  raw_path: [a, b\ntrain: {}\n", 2, "A list is opened"),
        ("train: {epochs: 1\nseed: 1\n", 1, "A section is opened"),
        ("run_name: @home\n", 1, "may not begin with this character"),
        ("seed: 1\n---\nseed: 2\n", 2, "A second document"),
        ("seed: 1\nrun_name: a\x07b\n", 2, "control character"),
        ("run_name: *nowhere\n", 1, "This is not YAML: found undefined alias 'nowhere'"),
        ('infer: {system: "\\U00110000"}\n', 1, "not YAML"),
        ("- a\n- b\n", 1, "The file is not a section of keys"),
        ("seed: !!int 1\n", 1, "YAML tag"),
        ("train:\n  <<: {epochs: 1}\n", 2, "merge key"),
        ("[a]: 1\n", 1, "A key is a list"),
        ("infer: " + "[" * 1500, 1, "not YAML: it is nested too deeply"),
    ],
)
def test_broken_yaml_is_said_with_its_line(desk, text, line, sentence):
    said = desk.refuse(text)
    assert said.startswith(f"mine.yaml:{line}: "), said
    assert sentence in said


def test_a_byte_order_mark_and_line_ends_are_nothing_special(desk):
    Path("bom.yaml").write_bytes("\ufeffseed: 7\r\nrun_name: é\r\n".replace("é", "e").encode())
    said = desk.refuse_file("bom.yaml", ["seed=x"])
    assert said.startswith("--set seed=x: ")
    from sftlib.config import load_config

    assert load_config("bom.yaml").seed == 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_unicode_encoding_is_named(desk, encoding):
    Path("wide.yaml").write_bytes("seed: 7\n".encode(encoding))
    assert desk.refuse_file("wide.yaml").startswith("wide.yaml:1: The file is saved as UTF-16 or UTF-32.")


def test_a_byte_that_is_not_utf8_is_named_with_its_line(desk):
    Path("old.yaml").write_bytes(b"seed: 7\nrun_name: caf\xe9\n")
    assert desk.refuse_file("old.yaml").startswith("old.yaml:2: The byte 0xe9 is not UTF-8.")


def test_a_dotted_key_in_a_file_says_how_to_nest_it(desk):
    said = desk.refuse("tuning.lora.r: 4")
    assert "Write `r` under `lora`, under `tuning`, or --set tuning.lora.r=VALUE." in said


def test_an_anchor_that_contains_itself_ends(desk):
    assert "no key of the config" in desk.refuse("train: &a\n  train: *a\n")
    assert "`[...]`" in desk.refuse("data: {raw_path: &a [*a]}")
