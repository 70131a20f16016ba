"""Several data sets in a config: sections with names of the user's, merged, documented and refused as any other."""

from __future__ import annotations

import re

import pytest

from sftlib.config import DatasetSection, load_config, load_with_origins, to_yaml

TWO = """\
data:
  datasets:
    faq: {path: faq.jsonl, weight: 2, columns: {user: q}}
    sums:
      path: [a.csv, b.csv]
      system: [Be brief., Be kind.]
"""


def test_two_data_sets_in_the_order_of_the_file(desk):
    sets = desk.load(TWO).data.datasets
    assert sets == {
        "faq": DatasetSection(path="faq.jsonl", weight=2.0, columns={"user": "q"}),
        "sums": DatasetSection(path=["a.csv", "b.csv"], system=["Be brief.", "Be kind."]),
    }
    assert list(sets) == ["faq", "sums"]


def test_they_are_merged_key_by_key(desk):
    desk.write(TWO, "base.yaml")
    mine = desk.write("base_config: base.yaml\ndata: {datasets: {faq: {weight: 3}, more: {path: c.csv}}}\n")
    config, origins = load_with_origins(mine, ["data.datasets.sums.repeat=0.5", "data.datasets.faq.columns.user=frage"])
    sets = config.data.datasets
    assert (sets["faq"].path, sets["faq"].weight, sets["faq"].columns) == ("faq.jsonl", 3.0, {"user": "frage"})
    assert (list(sets), sets["sums"].repeat) == (["faq", "sums", "more"], 0.5)
    told = {name: origins[f"data.datasets.{name}"] for name in ("faq.path", "faq.weight", "faq.repeat", "sums.repeat")}
    assert told == {
        "faq.path": "base.yaml:3",
        "faq.weight": "mine.yaml:2",
        "faq.repeat": "default",
        "sums.repeat": "--set",
    }


@pytest.mark.parametrize("nothing", ["", "{}", "null"])
def test_they_can_be_taken_away(desk, nothing):
    desk.write(TWO, "base.yaml")
    assert desk.load(f"include: base.yaml\ndata:\n  datasets: {nothing}\n").data.datasets == {}


def test_origins_are_told_one_data_set_after_another(desk):
    told = [name for name in desk.origins(TWO) if name.startswith("data.datasets.")]
    assert [name.split(".")[2] for name in told] == ["faq"] * 13 + ["sums"] * 12  # and a column
    assert told[:2] == ["data.datasets.faq.path", "data.datasets.faq.subset"]


def test_one_is_added_on_the_command_line(desk):
    sets = desk.load(TWO, "data.datasets.more={path: c.csv, repeat: 2}").data.datasets
    assert (list(sets), sets["more"].repeat) == (["faq", "sums", "more"], 2.0)


def test_what_is_written_reads_back(desk, capsys):
    config = desk.load(TWO)
    assert load_config(desk.write(to_yaml(config), "again.yaml")) == config
    assert load_config(desk.write(to_yaml(config, comments=True), "again.yaml")) == config


@pytest.mark.parametrize(
    ("below", "said"),
    [
        ("    faq: {paht: x}\n", "faq.paht` is no key of the config.*Did you mean `data.datasets.faq.path`"),
        ("    faq: {weight: 2}\n", "mine.yaml:3: `data.datasets.faq` does not say where its rows are"),
        ("    faq:\n", "mine.yaml:3: `data.datasets.faq` is empty.*a section, with lines like `path: ...` below it"),
        ("    faq: a.jsonl\n", "mine.yaml:3: `data.datasets.faq` is `a.jsonl`.*a section, with lines like `path"),
        ("    a b: {path: x}\n", "mine.yaml:3: `a b` cannot name a section of `data.datasets`.*letters, digits"),
        ("    faq: {path: x, weight: 0}\n", "`data.datasets.faq.weight` is `0`.*above 0"),
        ("    faq: {path: x, loss_on: al}\n", "`data.datasets.faq.loss_on` is `al`.*Did you mean `all`"),
        ("    faq: {path: x, max_seq_len: 2048}\n", "faq.max_seq_len` 2048 is above `model.max_seq_len` 1024"),
        ("    faq: {path: x, split: test}\n", "faq.split` is set, and `data.datasets.faq.path` is not of the hub"),
        ("    faq: {path: x, columns: {frage: user}}\n", "`frage` is none of our columns.*Did you mean `user: frage`"),
        ("    faq: {path: x}\n  raw_path: y\n", "`data.raw_path` and `data.datasets` both say where the rows are"),
        ("    faq: {path: x, weight: 2}\n  mixing: {temperature: 2}\n", "both say how large a share is"),
        ("    - faq\n", "`data.datasets` is `.faq.`.*a section of named sections"),
    ],
)  # fmt: skip
def test_what_is_refused(desk, below, said):
    assert re.search(said, " ".join(desk.refuse(f"data:\n  datasets:\n{below}").split()))


@pytest.mark.parametrize("name", ["*", "a b", "ä", "-a"])
def test_no_override_gets_round_the_rule_for_names(desk, name):
    assert "is no key of the config" in desk.refuse(TWO, f"data.datasets.{name}.path=x")
    assert "cannot name a section" in desk.refuse(TWO, f"data.datasets.{name}={{path: x}}")


def test_of_raw_path_and_data_sets_the_later_wins(desk):
    desk.write(TWO, "sets.yaml")
    desk.write("data: {raw_path: here}\n", "raw.yaml")
    assert desk.load("include: [raw.yaml, sets.yaml]\n").data.raw_path == "data/raw"
    config = desk.load("include: [sets.yaml, raw.yaml]\n")
    assert (config.data.raw_path, config.data.datasets) == ("here", {})


def test_a_base_has_two_spellings(desk):
    desk.write("seed: 1\n", "a.yaml")
    desk.write("base_config: a.yaml\nrun_name: b\n", "b.yaml")
    config = desk.load("base_config: [b.yaml]\ntrain: {max_steps: 3}\n")
    assert (config.seed, config.run_name, config.train.max_steps) == (1, "b", 3)
    desk.write("base_config: mine.yaml\n", "b.yaml")
    assert "in a circle: mine.yaml -> b.yaml -> mine.yaml" in desk.refuse("base_config: b.yaml\n")


def test_a_split_is_a_share_or_a_number_of_rows(desk):
    split = desk.load("data: {split: {val: 200, test: 0}}\n").data.split
    assert (split.train, split.val, split.test) == (0.8, 200.0, 0.0)
    assert "`data.split.val` is 1.5." in desk.refuse("data: {split: {val: 1.5}}\n")
    assert "do not add up" in desk.refuse("data: {split: {val: 0.5}}\n")
