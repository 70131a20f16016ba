"""dataset_info.json and the mix: the same rows and columns, in the same shares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

INFO = {
    "faq": {"file_name": "faq.json", "columns": {"prompt": "q", "response": "a", "system": "s"}},
    "plain": {"file_name": "plain.json"},
    "named": {"file_name": "n.json", "columns": {"prompt": "instruction", "query": "input", "response": "output"}},
    "talks": {
        "hf_hub_url": "org/talks", "subset": "en", "split": "test", "num_samples": 50, "formatting": "sharegpt",
        "columns": {"messages": "talk"}, "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user",
                                                  "assistant_tag": "assistant"},
    },
    "pairs": {"file_name": "p.json", "ranking": True, "columns": {"chosen": "c", "rejected": "r"}},
    "pictures": {"file_name": "p.json", "formatting": "sharegpt", "columns": {"images": "i"}},
    "script": {"script_url": "s"},
    "odd": {"file_name": "o.json", "formatting": "sharegpt", "tags": {"role_tag": "who", "content_tag": "what"}},
    "roles": {"file_name": "o.json", "formatting": "sharegpt", "tags": {"assistant_tag": "oracle"}},
    "joined": {"file_name": "o.json", "columns": {"prompt": "a", "query": "b", "response": "c"}},
    "tools": {"file_name": "o.json", "formatting": "sharegpt", "columns": {"messages": "messages", "tools": "tools"}},
    "both": {"hf_hub_url": "org/both", "ms_hub_url": "ORG/both"},
}  # fmt: skip
LEAST = "model_name_or_path: org/model\ndataset: "


@pytest.fixture(autouse=True)
def info(factory):
    Path("data").mkdir()
    Path("data/dataset_info.json").write_text(json.dumps(INFO, indent=2), encoding="utf-8")


def datasets(values):
    return {key.removeprefix("data.datasets."): v for key, v in values.items() if key.startswith("data.datasets.")}


def of(factory, names: str, more: str = ""):
    return datasets(factory.values(least=f"{LEAST}{names}\n{more}"))


def test_columns_of_alpaca(factory):
    assert of(factory, "faq") == {
        "faq.path": "data/faq.json", "faq.columns.user": "q", "faq.columns.assistant": "a", "faq.columns.system": "s",
    }  # fmt: skip
    assert of(factory, "plain") == {"plain.path": "data/plain.json"}
    assert of(factory, "named") == {"named.path": "data/n.json"}


def test_messages_of_the_hub(factory):
    assert of(factory, "talks") == {
        "talks.path": "hf:org/talks", "talks.subset": "en", "talks.split": "test", "talks.max_rows": 50,
        "talks.columns.messages": "talk",
    }  # fmt: skip
    assert of(factory, "both") == {"both.path": "hf:org/both"}


def test_several_in_order_with_their_most_and_their_system_text(factory):
    found = of(factory, "plain, named", "max_samples: 7\ndefault_system: Be kind.\n")
    assert list(found) == [
        "plain.path", "named.path", "plain.system", "plain.max_rows", "named.system", "named.max_rows",
    ]  # fmt: skip
    assert found["named.max_rows"] == 7


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pairs", "preference pairs"), ("pictures", "images cannot be trained on"), ("script", "no code of a data set"),
        ("odd", "read as role and content"), ("roles", "this word for assistant"),
        ("joined", "a question of two columns"), ("tools", "tool definitions"), ("missing", "has no data set missing"),
    ],
)  # fmt: skip
def test_rows_of_another_kind_are_refused_at_their_line(factory, name, says):
    said = factory.refused(least=f"{LEAST}{name}\n")
    assert says in said
    assert ("x.yml:2: " if name == "missing" else "data/dataset_info.json:") in said


def test_shares(factory):
    assert "plain.weight" not in of(factory, "plain,named", "mix_strategy: concat\n")
    found = of(factory, "plain,named", "mix_strategy: interleave_under\ninterleave_probs: 0.7,0.3\n")
    assert (found["plain.weight"], found["named.weight"]) == (0.7, 0.3)
    assert of(factory, "plain,named", "mix_strategy: interleave_under\n")["named.weight"] == 1.0
    least = f"{LEAST}plain,named\nmix_strategy: interleave_over\n"
    assert "seen twice" in factory.differs(least=least)["mix_strategy"]
    assert "no mix of these" in factory.refused(least=least + "interleave_probs: 0.7\n")


def test_it_is_looked_for_above_the_config_too(factory):
    """As in the tool's own checkout: examples/train_lora/sft.yaml and data/dataset_info.json."""
    Path("data").rename("tool")
    Path("tool/data").mkdir()
    Path("tool/dataset_info.json").rename("tool/data/dataset_info.json")
    Path("tool/examples/train").mkdir(parents=True)
    Path("tool/examples/train/x.yml").write_text(f"{LEAST}faq\n", encoding="utf-8")
    from sftlib.config.converting import convert

    lines = convert("llamafactory", Path("tool/examples/train/x.yml")).lines
    assert lines["data.datasets.faq.path"].value == "tool/data/faq.json"
    assert "there is no dataset_info.json" in factory.refused(least=f"{LEAST}faq\n")
    assert "not fetched" in factory.refused(least=f"{LEAST}faq\ndataset_dir: 'REMOTE:org/x'\n")


def test_rows_that_are_kept_for_evaluation(factory):
    for size, split in (("0.1", (0.9, 0.1, 0)), ("100", (None, 100, 0)), ("0.0", (1, 0, 0))):
        values = factory.values(least=f"{LEAST}plain\nval_size: {size}\n")
        assert tuple(values.get(f"data.split.{name}") for name in ("train", "val", "test")) == split


def test_no_data_set_at_all(factory):
    assert "no `dataset`" in factory.refused(least="model_name_or_path: org/model\n")
