"""The data sets of an Axolotl config: the same rows, the same fields, the same messages trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.chat.formats import _ROLES
from sftlib.config.converting import sets
from sftlib.config.converting.axolotl_keys import DATASET_REFUSED

HEAD = "base_model: org/model\nlearning_rate: 1e-4\ndatasets:\n"


def datasets(values, name):
    start = f"data.datasets.{name}."
    return {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}


def one(axolotl, entry: str, name: str, top: str = ""):
    return datasets(axolotl.values(least=f"{HEAD}  - {entry}\n{top}"), name)


def refused(axolotl, entry: str, top: str = "") -> str:
    return axolotl.refused(least=f"{HEAD}  - {entry}\n{top}")


def test_where_the_rows_are(axolotl):
    Path("here").mkdir()
    for entry, name, path in (
        ("{path: org/talks, type: chat_template}", "talks", "hf:org/talks"),
        ("{path: ./data/faq.jsonl, type: alpaca}", "faq", "data/faq.jsonl"),
        ("{path: data/faq.parquet, type: alpaca, ds_type: parquet}", "faq", "data/faq.parquet"),
        ("{path: here, type: alpaca}", "here", "here"),
        ("{path: json, data_files: a/b.json, type: alpaca}", "b", "a/b.json"),
        ("{path: json, data_files: [b.json, c.json], type: alpaca}", "b", ["b.json", "c.json"]),
    ):
        assert one(axolotl, entry, name)["path"] == path, entry


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{path: 's3://bucket/x', type: alpaca}", "not fetched from there"),
        ("{path: nowhere, type: alpaca}", "neither a file here nor a name of the hub"),
        ("{path: org/talks, data_files: [a.json], type: alpaca}", "are not picked"),
        ("{type: alpaca}", "does not say where its rows are"),
        ("{path: org/talks}", "has no type"),
        ("{path: org/talks, type: completion}", "pre-training"),
        ("{path: org/talks, type: input_output}", "nothing here reads rows of this type"),
        ("{path: a.jsonl, split: 'train[:10%]', type: alpaca}", "a slice of a file"),
        ("{path: org/talks, split: 'train[a:b]', type: alpaca}", "it is no slice"),
    ],
)
def test_rows_that_cannot_be_had_are_refused(axolotl, entry, says):
    said = refused(axolotl, entry)
    assert says in said
    assert "x.yml:4: " in said


def test_two_of_a_name_and_all_of_them_in_order(axolotl):
    text = HEAD + "  - {path: a/talks, type: chat_template}\n  - {path: b/talks, type: chat_template}\n"
    values = axolotl.values(least=text)
    paths = {key: value for key, value in values.items() if key.endswith(".path")}
    assert paths == {"data.datasets.talks.path": "hf:a/talks", "data.datasets.talks-2.path": "hf:b/talks"}


def test_a_split_a_slice_of_it_and_a_subset(axolotl):
    entry = "{path: org/talks, name: en, split: 'train[:80%]', type: chat_template}"
    assert one(axolotl, entry, "talks") == {"path": "hf:org/talks", "subset": "en", "split": "train[:80%]"}


def test_messages_by_their_field_and_keys(axolotl):
    mapping = "message_property_mappings: {role: from, content: value}"
    entry = f"{{path: org/x, type: chat_template, field_messages: talk, {mapping}}}"
    assert one(axolotl, entry, "x") == {"path": "hf:org/x", "columns.messages": "talk"}
    entry = "{path: org/x, type: chat_template, message_property_mappings: {role: who, content: what}}"
    assert "read as role and content" in refused(axolotl, entry)
    entry = "{path: org/x, type: chat_template, message_field_role: from, message_field_content: content}"
    assert "read as role and content" in refused(axolotl, entry)
    assert one(axolotl, "{path: org/x, type: sharegpt}", "x") == {"path": "hf:org/x"}


def test_roles(axolotl):
    known = "{path: org/x, type: chat_template, roles: {user: [human, user], assistant: [gpt]}}"
    assert one(axolotl, known, "x") == {"path": "hf:org/x"}
    said = refused(axolotl, "{path: org/x, type: chat_template, roles: {assistant: [gpt, oracle]}}")
    assert "oracle for assistant" in said


def test_the_roles_are_those_that_rows_are_read_with():
    spelled = {name.replace("_", ""): role for role, names in sets.ROLES.items() for name in names}
    assert spelled == _ROLES


def test_fields_of_a_prompt_of_ones_own(axolotl):
    text = (
        "  - path: org/x\n    type:\n      field_instruction: q\n      field_output: a\n      field_system: s\n"
        "      system_prompt: Be brief.\n      format: '{instruction}'\n      system_format: '{system}'\n"
    )
    assert datasets(axolotl.values(least=HEAD + text), "x") == {
        "path": "hf:org/x", "columns.user": "q", "columns.assistant": "a", "columns.system": "s", "system": "Be brief.",
    }  # fmt: skip
    said = axolotl.refused(least=HEAD + text.replace("'{instruction}'", "'[INST] {instruction}'"))
    assert "x.yml:10: `datasets[0].type.format" in said
    assert "chat template's business" in said
    said = axolotl.refused(least=HEAD + text.replace("field_system: s", "field_input: more"))
    assert "a question of two fields" in said


def test_the_text_of_alpaca_is_said_not_to_be_written(axolotl):
    least = HEAD + "  - {path: org/x, type: alpaca}\n"
    assert "chat template as it is" in axolotl.differs(least=least)["datasets[0].type"]
    assert one(axolotl, "{path: org/x, type: alpaca_w_system.load_open_orca}", "x")["columns.user"] == "question"


def test_what_is_trained(axolotl):
    assert axolotl.values("train_on_inputs: true\n")["data.loss_on"] == "all"
    assert axolotl.values("train_on_inputs: false\n")["data.loss_on"] == "assistant"
    entry = "{path: org/x, type: chat_template, roles_to_train: [assistant], train_on_eos: turn}"
    assert one(axolotl, entry, "x")["loss_on"] == "assistant"
    entry = "{path: org/x, type: chat_template, message_field_training: train}"
    assert one(axolotl, entry, "x")["loss_on"] == "flagged"
    for entry, says in (
        ("{path: org/x, type: chat_template, roles_to_train: [user, assistant]}", "assistant's messages are trained"),
        ("{path: org/x, type: chat_template, roles_to_train: []}", "messages without a mark"),
        ("{path: org/x, type: chat_template, message_field_training: learn}", "marked with `train`"),
    ):
        assert says in refused(axolotl, entry)
    assert "Keep one of the two" in refused(
        axolotl, "{path: org/x, type: chat_template, roles_to_train: [assistant]}", "train_on_inputs: true\n"
    )
    least = HEAD + "  - {path: org/x, type: chat_template, train_on_eos: all}\n"
    assert "no other end" in axolotl.differs(least=least)["datasets[0].train_on_eos"]


@pytest.mark.parametrize("key", sorted(DATASET_REFUSED))
def test_keys_of_a_data_set_that_are_refused(axolotl, key):
    assert DATASET_REFUSED[key][0] in refused(axolotl, f"{{path: org/x, type: chat_template, {key}: 2}}")


def test_a_system_text_for_rows_without_one(axolotl):
    entry = "{path: org/x, type: chat_template}"
    assert one(axolotl, entry, "x", "default_system_message: Be kind.\n")["system"] == "Be kind."


def test_one_template_for_all_data_sets(axolotl):
    text = HEAD + "".join(f"  - {{path: org/{name}, type: chat_template, chat_template: chatml}}\n" for name in "ab")
    assert axolotl.values(least=text)["data.template_path"] == "chat_templates/default.jinja"
    assert "another template was named before" in axolotl.refused(least=text.replace("chatml", "gemma", 1))


@pytest.mark.parametrize(
    ("size", "split"),
    [
        ("0.05", (0.95, 0.05, 0)), ("0", (1, 0, 0)), ("0.0", (1, 0, 0)), ("200", (None, 200, 0)),
        ("1e3", (None, 1000, 0)),
    ],
)  # fmt: skip
def test_rows_that_are_kept_for_evaluation(axolotl, size, split):
    values = axolotl.values(f"val_set_size: {size}\n")
    assert tuple(values.get(f"data.split.{name}") for name in ("train", "val", "test")) == split


def test_no_number_of_rows(axolotl):
    for size in ("1", "-3", "20.5"):
        assert "no number of rows" in axolotl.refused(f"val_set_size: {size}\n")
    assert "test_datasets" in axolotl.refused("test_datasets:\n  - {path: org/x, split: test}\n")
