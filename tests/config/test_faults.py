"""Faults are all told, in order, and a suggestion is always a key that exists."""

from __future__ import annotations

import pytest

from sftlib.config.faults import MEANT, Fault, as_error, nearest_choice, nearest_keys, shown
from sftlib.config.keys import keys, sections


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("lr", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("lora_r", "tuning.lora.r"),
        ("batch_size", "train.batch_size"),
        ("model.batch_size", "train.batch_size"),
        ("train.num_train_epochs", "train.epochs"),
        ("train.per_device_train_batch_size", "train.batch_size"),
        ("gradient_accumulation_steps", "train.grad_accum"),
        ("model_name_or_path", "model.name"),
        ("tuning.lora_alpha", "tuning.lora.alpha"),
        ("tuning.lora.lora_alpha", "tuning.lora.alpha"),
        ("max_seq_length", "model.max_seq_len"),
        ("learning_rate", "train.learning_rate"),
        ("train.learning-rate", "train.learning_rate"),
        ("train.Learning_Rate", "train.learning_rate"),
        ("train.learnin_rate", "train.learning_rate"),
        ("learnng_rate", "train.learning_rate"),
        ("trian", "train"),
        ("lora", "tuning.lora"),
        ("train.lora.r", "tuning.lora.r"),
        ("trian.epochs", "train.epochs"),
        ("gradient_checkpointng", "train.gradient_checkpointing"),
        ("split", "data.split"),
        ("includes", "include"),
        ("train.optim", "train.optim"),
    ],
)
def test_the_nearest_key(unknown, meant):
    assert nearest_keys(unknown)[0] == meant


def test_a_key_of_several_sections_names_them_all():
    assert nearest_keys("train.max_new_tokens") == ["eval.max_new_tokens", "infer.max_new_tokens"]


@pytest.mark.parametrize("unknown", ["xyzzy", "train.xyzzy", "", "."])
def test_nothing_near_is_nothing_said(unknown):
    assert nearest_keys(unknown) == []


def test_other_tools_names_lead_to_keys_and_hide_none_of_ours():
    known = {*keys(), *sections()}
    assert set(MEANT.values()) <= known
    assert list(MEANT) == sorted(MEANT)
    assert not {name for name in MEANT if name in known}


@pytest.mark.parametrize(
    ("seen", "choices", "meant"),
    [
        ("off", ("no", "steps"), "no"),
        ("", ("auto", "x"), "auto"),
        ("COSINE", ("linear", "cosine"), "cosine"),
        ("adamw", ("adamw_torch", "adamw_8bit"), "adamw_torch"),
        ("stesp", ("no", "steps"), "steps"),
        ("zzz", ("no", "steps"), ""),
    ],
)
def test_the_nearest_choice(seen, choices, meant):
    assert nearest_choice(seen, choices) == meant


def test_faults_are_ordered_by_number_and_told_once():
    faults = [
        Fault("a.yaml:10", "Ten."),
        Fault("--set x=1", "Set."),
        Fault("a.yaml:9", "Nine."),
        Fault("a.yaml:10", "Ten."),
    ]
    assert as_error(faults).seen.splitlines() == [
        "There are 3 faults in the config.", "a.yaml:9: Nine.", "a.yaml:10: Ten.", "--set x=1: Set.",
    ]  # fmt: skip


def test_one_fault_is_the_error_itself():
    error = as_error([Fault("a.yaml:1", "Seen.", "more", "Do.")])
    assert (error.where, error.seen, error.expected, error.cure) == ("a.yaml:1", "Seen.", "more", "Do.")


def test_a_text_is_shown_on_one_line():
    assert shown("a\nb\x00é") == "a\\nb\\x00é"
    assert len(shown("x" * 100)) == 60


def test_an_unknown_key_without_a_near_one_lists_the_section(desk):
    said = desk.refuse("data: {split: {xyzzy: 1}}")
    assert "one of the keys of `data.split`: `train`, `val`, `test`" in said


def test_no_more_faults_are_told_than_a_person_reads():
    said = str(as_error(Fault(f"data.yaml:{line}", "Seen.") for line in range(1, 5001))).splitlines()
    assert said[0] == "There are 5000 faults in the config."
    assert said[100] == "data.yaml:100: Seen."
    assert said[101] == "... and 4900 more."
    assert len(said) == 103  # and the code
