"""What is written reads back the same, here and by any YAML reader."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sftlib.config import Config, InferSection, load_config, load_with_origins, print_config, to_yaml
from sftlib.config.writing import scalar

TRICKY = [
    "", "no", "null", "~", "None", "1e5", "0x10", "1:30", "2024-01-01", "a: b", "a:", "# x", "'", '"', "a\nb", " a ",
    "@", "-", "*a", "é", "a \u2028 b", "a \x85 b",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKY)
def test_a_tricky_text_comes_back(desk, text):
    config = Config(infer=InferSection(system=text, stop=[text] if text else []))
    written = to_yaml(config)
    assert desk.load(written) == config
    assert yaml.safe_load(written)["infer"]["system"] == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_comes_back(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    config = Config(infer=InferSection(system=text, stop=[text]))
    path.write_text(to_yaml(config), encoding="utf-8", newline="")
    assert load_config(path) == config


@given(st.floats(min_value=0, max_value=1, exclude_min=True))
def test_any_number_comes_back(number):
    assert yaml.safe_load(scalar(number)) == number
    assert isinstance(yaml.safe_load(scalar(number)), float)


@pytest.mark.parametrize("name", ["config_base", "run_bnb", "run_unsloth", "run_smoke", "run_seq2seq"])
def test_a_config_that_ships_comes_back(root, desk, name):
    config = load_config(
        root / "configs" / f"{name}.yaml", ["data.columns={user: q, assistant: 'no'}", "train.weight_decay=1e-7"]
    )
    assert desk.load(to_yaml(config)) == config
    assert desk.load(to_yaml(config, comments=True)) == config


def test_values_in_flow_style():
    values = (None, True, 2e-4, 1e-05, 3, "auto", "1e5", ["a", "b c"], {"user": "q"}, {})
    assert [scalar(value) for value in values] == [
        "null", "true", "0.0002", "1.0e-05", "3", "auto", '"1e5"', '[a, "b c"]', "{user: q}", "{}",
    ]  # fmt: skip


def test_each_key_is_printed_with_its_value_and_its_origin(desk, capsys):
    desk.write("data: {columns: {user: my.q}}\nrun_name: first\n")
    print_config(*load_with_origins("mine.yaml", ["train.learning_rate=1e-5"]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["run_name", "first", "mine.yaml:2"] in lines
    assert ["train.learning_rate", "1.0e-05", "--set"] in lines
    assert ["data.columns.user", "my.q", "mine.yaml:1"] in lines
    assert ["train.optim", "auto", "default"] in lines
    assert not [line for line in lines if line[0] == "data.columns"]


def test_the_printed_columns_are_aligned(desk, capsys):
    print_config(*load_with_origins(desk.write("")))
    lines = capsys.readouterr().out.splitlines()
    assert len({line.rindex("  default") for line in lines}) == 1
    assert "data.columns " in "\n".join(lines)
