"""A LLaMA-Factory config means here what it meant there, or is refused with its line."""

from __future__ import annotations

import pytest

from sftlib.config.converting.llamafactory_keys import LEFT_OUT, REFUSED
from sftlib.config.converting.templates import OF_LLAMA_FACTORY

SFT = """\
model_name_or_path: org/model
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_target: all
quantization_bit: 4
dataset: org/faq
dataset_dir: ONLINE
template: llama3
cutoff_len: 1024
max_samples: 1000
output_dir: saves/llama3/sft
logging_steps: 10
save_steps: 250
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 2.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
val_size: 0.1
eval_strategy: steps
eval_steps: 500
"""


def test_a_whole_config(factory):
    assert factory.values(least=SFT) == {
        "model.name": "org/model", "model.max_seq_len": 1024, "train.epochs": 2.0, "train.learning_rate": 1e-4,
        "train.weight_decay": 0.0, "train.max_grad_norm": 1.0, "train.logging_steps": 10, "seed": 42,
        "train.output_dir": "saves/llama3/sft", "train.save_total_limit": None, "train.gradient_checkpointing": True,
        "tuning.mode": "qlora", "tuning.lora.r": 16, "tuning.lora.alpha": 32,
        "tuning.lora.target_modules": "all-linear",
        "data.truncation": "truncate", "data.template_path": "chat_templates/llama3.jinja", "data.split.train": 0.9,
        "data.split.val": 0.1, "data.split.test": 0, "data.loss_on": "assistant",
        "data.datasets.faq.path": "hf:org/faq", "data.datasets.faq.max_rows": 1000,
        "train.batch_size": 1, "train.grad_accum": 8,
        "train.effective_batch_size": 8, "train.optim": "adamw_torch", "train.lr_scheduler_type": "cosine",
        "train.warmup_ratio": 0.1, "train.eval_strategy": "steps", "train.eval_steps": 500,
        "train.save_strategy": "steps", "train.save_steps": 250, "train.load_best_model_at_end": False,
        "train.bf16": True, "train.fp16": False,
    }  # fmt: skip


def test_defaults_of_theirs_are_written_out(factory):
    values = factory.values()
    expected = {
        "model.max_seq_len": 2048, "train.epochs": 3.0, "train.learning_rate": 5e-5, "train.logging_steps": 500,
        "tuning.mode": "lora", "tuning.lora.r": 8, "tuning.lora.alpha": 16, "tuning.lora.target_modules": "all-linear",
        "train.batch_size": 8, "train.warmup_ratio": 0.0, "train.lr_scheduler_type": "linear",
        "train.eval_strategy": "no", "train.save_steps": 500, "train.bf16": False, "train.fp16": False,
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("stage", ["pt", "rm", "ppo", "dpo", "kto", "other"])
def test_another_stage_is_refused(factory, stage):
    assert f"x.yml:4: `stage: {stage}`" in factory.refused(f"stage: {stage}\n")


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_another_training_is_refused(factory, key):
    said = factory.refused(f"{key}: something\n")
    assert f"x.yml:4: `{key}: something`: {REFUSED[key][0]}" in said


def test_no_key_disappears(factory):
    known = [key for key in LEFT_OUT if not key.endswith("*") and key != "quantization_method"]
    result = factory.convert("".join(f"{key}: 7\n" for key in known) + "made_up: 3\n")
    told = {note.name for note in (*result.left_out, *result.differences)}
    assert {*known, "made_up"} <= told
    assert not REFUSED.keys() & LEFT_OUT.keys()


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("finetuning_type: full", "full"), ("quantization_bit: 4", "qlora"), ("quantization_bit: 8", "lora"),
        ("finetuning_type: lora", "lora"),
    ],
)  # fmt: skip
def test_what_is_trained(factory, text, mode):
    assert factory.values(text + "\n")["tuning.mode"] == mode
    assert ("quantization_bit" in factory.differs(text + "\n")) is ("8" in text)


def test_other_ways_to_train_are_refused(factory):
    assert "lora or full" in factory.refused("finetuning_type: freeze\n")
    assert "4 or 16 bits" in factory.refused("quantization_bit: 2\n")
    assert "bitsandbytes holds" in factory.refused("quantization_bit: 4\nquantization_method: hqq\n")


def test_the_adapter(factory):
    values = factory.values(
        "lora_rank: 4\nlora_alpha: 7\nlora_dropout: 0.1\nlora_target: q_proj,v_proj\nuse_rslora: true\n"
    )
    lora = {key.removeprefix("tuning.lora."): value for key, value in values.items() if ".lora." in key}
    assert lora == {"r": 4, "alpha": 7, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"], "use_rslora": True}


def test_the_part_that_is_trained(factory):
    assert factory.values("train_on_prompt: true\n")["data.loss_on"] == "all"
    assert factory.values("mask_history: true\n")["data.loss_on"] == "last"
    assert factory.values("mask_history: false\n")["data.loss_on"] == "assistant"


def test_packing(factory):
    assert "see each other" in factory.refused("packing: true\n")
    assert factory.values("neat_packing: true\npacking: true\n")["train.packing"] is True
    assert "effective_batch_size" in factory.differs("neat_packing: true\n")["neat_packing"]
    assert factory.values("packing: false\n")["train.packing"] is False


@pytest.mark.parametrize("name", sorted(OF_LLAMA_FACTORY))
def test_templates(factory, name):
    assert factory.values(f"template: {name}\n")["data.template_path"] == OF_LLAMA_FACTORY[name].path


def test_thinking_and_other_templates(factory):
    values = factory.values("template: qwen3\nenable_thinking: false\n")
    assert values["data.template_path"] == "chat_templates/qwen3.jinja"
    assert "nothing here writes the text" in factory.refused("template: vicuna\n")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("flash_attn: fa2", "model.attn_implementation", "flash_attention_2"),
        ("flash_attn: auto", "model.attn_implementation", None),
        ("flash_attn: disabled", "model.attn_implementation", "eager"),
        ("use_unsloth: true", "tuning.backend", "unsloth"),
        ("disable_gradient_checkpointing: true", "train.gradient_checkpointing", False),
        ("model_revision: abc", "model.revision", "abc"),
        ("model_revision: main", "model.revision", None),
        ("max_steps: -1", "train.max_steps", None),
        ("max_steps: 30", "train.max_steps", 30),
        ("pure_bf16: true", "train.bf16", True),
        ("report_to: none", "logging.backend", "none"),
        ("report_to: wandb", "logging.backend", ["wandb"]),
        ("report_to: all", "logging.backend", ["tensorboard", "wandb"]),
        ("save_strategy: epoch", "train.save_strategy", "epoch"),
    ],
)
def test_single_keys(factory, text, key, value):
    assert factory.values(text + "\n").get(key) == value


def test_steps_without_a_strategy(factory):
    assert "nothing is evaluated" in factory.left_out("val_size: 0.1\neval_steps: 10\n")["eval_steps"]
    assert factory.values("val_size: 0.1\neval_steps: 10\n")["train.eval_strategy"] == "no"


def test_a_tracker_that_is_not_here_is_told(factory):
    assert "mlflow" in factory.differs("report_to: [wandb, mlflow]\n")["report_to"]
    assert "run_name" in factory.left_out("run_name: mine\n")
