"""Whatever stands in a file: it is converted, and read by our loader, or refused with words; never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftlib.config.converting import axolotl as of_axolotl
from sftlib.config.converting import convert
from sftlib.config.converting import llamafactory as of_factory
from sftlib.config.converting.axolotl_keys import DATASET_REFUSED
from sftlib.config.converting.axolotl_keys import LEFT_OUT as AXOLOTL_LEFT_OUT
from sftlib.config.converting.llamafactory_keys import LEFT_OUT as FACTORY_LEFT_OUT
from sftlib.errors import ConfigError

VALUES = st.sampled_from(
    ["true", "false", "null", "", "0", "1", "-1", "0.5", "2e-5", "abc", "[a, b]", "{a: b}", "[]", "[1, [2]]", "'x'",
     "steps", "no", "auto", "train[:80%]", "1e400", "[{a: b}]", "org/x", "all", "4", "a.jsonl", "!!int 3", "ä", "100"]
)  # fmt: skip
BATCH = [
    *[
        "micro_batch_size",
        "gradient_accumulation_steps",
        "batch_size",
        "warmup_steps",
        "eval_steps",
        "evals_per_epoch",
        "save_steps",
        "eval_strategy",
        "save_strategy",
        "bf16",
        "fp16",
        "optimizer",
        "lr_scheduler",
        "adapter",
        "lora_r",
        "lora_target_modules",
        "load_in_4bit",
        "val_set_size",
        "chat_template",
        "chat_template_jinja",
        "datasets",
        "sample_packing",
        "flash_attention",
        "gradient_checkpointing",
        "special_tokens",
        "plugins",
    ],
]
ROWS = [
    *[
        "type",
        "split",
        "name",
        "data_files",
        "field_messages",
        "message_property_mappings",
        "roles",
        "roles_to_train",
        "message_field_training",
        "chat_template",
        "conversation",
    ],
    *DATASET_REFUSED,
]
FACTORY = [
    *[
        "stage",
        "dataset",
        "dataset_dir",
        "val_size",
        "finetuning_type",
        "quantization_bit",
        "lora_rank",
        "lora_target",
        "template",
        "cutoff_len",
        "max_samples",
        "packing",
        "neat_packing",
        "mix_strategy",
        "interleave_probs",
        "report_to",
        "per_device_train_batch_size",
        "eval_strategy",
        "eval_steps",
        "warmup_steps",
        "optim",
        "flash_attn",
        "max_steps",
        "bf16",
        "enable_thinking",
        "default_system",
        "early_stopping_steps",
        "save_strategy",
    ],
]
INFO = [
    "file_name",
    "hf_hub_url",
    "formatting",
    "columns",
    "tags",
    "ranking",
    "subset",
    "split",
    "num_samples",
    "folder",
]


def lines(keys: list[str], most: int = 6) -> st.SearchStrategy[str]:
    chosen = st.dictionaries(st.sampled_from(keys), VALUES, max_size=most)
    return chosen.map(lambda found: "".join(f"{key}: {value}\n" for key, value in found.items()))


def convert_or_refuse(tool: str, text: str) -> None:
    Path("x.yml").write_text(text, encoding="utf-8")
    try:
        said = convert(tool, Path("x.yml")).text(Path("y.yaml"))
    except ConfigError as error:
        said = str(error)
    assert "x.yml" in said or "dataset_info.json" in said


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()


FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(top=lines([*BATCH, *of_axolotl.SAME, *AXOLOTL_LEFT_OUT]), rows=lines(ROWS, 3), is_whole=st.booleans())
def test_axolotl(top, rows, is_whole):
    inner = "".join(f"    {line}\n" for line in rows.splitlines())
    least = f"base_model: org/m\nlearning_rate: 1e-4\ndatasets:\n  - path: org/x\n{inner}"
    convert_or_refuse("axolotl", "".join(part for part in (least if is_whole else "", top) if part) or "a: 1\n")


@FEW
@given(top=lines([*FACTORY, *of_factory.SAME, *FACTORY_LEFT_OUT]), rows=lines(INFO, 4), is_whole=st.booleans())
def test_llama_factory(top, rows, is_whole):
    entry = {key: json.loads(f'"{value}"') for key, _, value in (line.partition(": ") for line in rows.splitlines())}
    Path("data/dataset_info.json").write_text(json.dumps({"faq": entry}), encoding="utf-8")
    least = "model_name_or_path: org/m\ndataset: faq\n" if is_whole else ""
    convert_or_refuse("llamafactory", least + top or "a: 1\n")
