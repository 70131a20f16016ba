"""An Axolotl config means here what it meant there, or is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.config.converting.axolotl_keys import DATASET_LEFT_OUT, DATASET_REFUSED, LEFT_OUT, REFUSED
from sftlib.config.converting.templates import OF_AXOLOTL, OF_LLAMA_FACTORY
from sftlib.files import ROOT

QLORA = """\
load_in_4bit: true
adapter: qlora
lora_r: 8
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
"""


def test_defaults_of_theirs_are_written_out(axolotl):
    assert axolotl.values() == {
        "model.name": "org/model", "model.max_seq_len": 512, "tuning.mode": "full", "train.epochs": 1.0,
        "train.learning_rate": 2e-5, "train.weight_decay": 0.0, "train.max_grad_norm": 1.0,
        "train.save_total_limit": 4, "seed": 42, "data.truncation": "drop", "data.datasets.talks.path": "hf:org/talks",
        "data.split.train": 1, "data.split.val": 0, "data.split.test": 0, "train.batch_size": 1, "train.grad_accum": 1,
        "train.effective_batch_size": 1, "train.optim": "adamw_torch", "train.lr_scheduler_type": "cosine",
        "train.warmup_ratio": 0.03, "train.eval_strategy": "no", "train.save_strategy": "epoch",
        "train.load_best_model_at_end": False, "train.bf16": "auto", "train.fp16": "auto",
    }  # fmt: skip


def test_an_adapter_on_four_bits(axolotl):
    values = axolotl.values(QLORA)
    assert {name: value for name, value in values.items() if name.startswith("tuning")} == {
        "tuning.mode": "qlora", "tuning.lora.r": 8, "tuning.lora.alpha": 16, "tuning.lora.dropout": 0.05,
        "tuning.lora.target_modules": "all-linear",
    }  # fmt: skip


def test_where_no_modules_are_named_it_is_said(axolotl):
    assert "every linear layer" in axolotl.differs("adapter: lora\nlora_r: 8\n")["adapter"]
    assert "adapter" not in axolotl.differs(QLORA)


def test_modules_by_name_and_the_scaling(axolotl):
    text = "adapter: lora\nlora_target_modules: [q_proj, v_proj]\npeft_use_rslora: true\n"
    values = axolotl.values(text)
    assert values["tuning.mode"] == "lora"
    assert values["tuning.lora.target_modules"] == ["q_proj", "v_proj"]
    assert values["tuning.lora.use_rslora"] is True
    assert "x.yml:6: `lora_target_modules: .*q_proj`" in axolotl.refused("adapter: lora\nlora_target_modules: .*q_proj")


def test_an_8_bit_base_is_told_not_passed_over(axolotl):
    assert "16 bits" in axolotl.differs("adapter: lora\nload_in_8bit: true\n")["load_in_8bit"]
    assert axolotl.values("adapter: lora\nload_in_8bit: true\n")["tuning.mode"] == "lora"


@pytest.mark.parametrize(
    ("written", "rate"), [("2e-5", 2e-5), ("'2e-5'", 2e-5), ("0.0002", 2e-4), ("1e-4", 1e-4), ("2.0e-5", 2e-5)]
)
def test_a_number_is_a_number_however_it_is_written(axolotl, written, rate):
    least = axolotl.least.replace("2e-5", written)
    assert axolotl.values(least=least)["train.learning_rate"] == rate


def test_a_value_of_the_wrong_kind_is_a_fault_with_its_line(axolotl):
    said = axolotl.refused("lora_r: eight\nadapter: lora\nmicro_batch_size: 1.5\n")
    assert "There are 2 reasons why this config of Axolotl is not converted" in said
    assert "x.yml:5: `lora_r` is `eight`." in said
    assert "x.yml:7: `micro_batch_size` is `1.5`." in said


def test_a_value_that_ours_refuses_is_told_with_its_key(axolotl):
    said = axolotl.refused(least=axolotl.least.replace("2e-5", "7"))
    assert "`train.learning_rate` is `7" in said
    assert "above 0, at most 1" in said


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_another_training_is_refused(axolotl, key):
    said = axolotl.refused(f"{key}: something\n")
    assert f"x.yml:5: `{key}: something`: {REFUSED[key][0]}" in said
    assert REFUSED[key][1] in said


@pytest.mark.parametrize("off", ["null", "", "false", "0"])
def test_what_is_switched_off_is_not_refused(axolotl, off):
    assert axolotl.values("".join(f"{key}: {off}\n" for key in REFUSED)) == axolotl.values()


def test_all_refusals_are_told_at_once_by_line(axolotl):
    said = axolotl.refused("rl: dpo\noptimizer: lion\nlr_scheduler: rex\nneftune_noise_alpha: 5\n")
    assert "There are 4 reasons" in said
    places = [line.split(" ")[0] for line in said.splitlines() if line.startswith("x.yml:")]
    assert places == ["x.yml:5:", "x.yml:6:", "x.yml:7:", "x.yml:8:"]


def test_no_key_disappears(axolotl):
    known = [key for key in LEFT_OUT if not key.endswith("*")]
    text = "".join(f"{key}: 7\n" for key in known)
    result = axolotl.convert(text + "made_up: 3\nnothing:\n")
    told = {note.name for note in (*result.left_out, *result.differences)}
    told |= {word for line in result.lines.values() for word in line.origin.replace(",", " ").split()}
    assert {*known, "made_up"} <= told
    assert "nothing" not in told
    assert "known here" in next(note.text for note in result.differences if note.name == "made_up")
    assert axolotl.left_out("wandb_entity: me\nfsdp_config: {a: b}\n") == {
        "wandb_entity": LEFT_OUT["wandb_entity"], "fsdp_config": LEFT_OUT["fsdp*"],
    }  # fmt: skip


def test_no_key_is_both_refused_and_left_out():
    assert not REFUSED.keys() & LEFT_OUT.keys()
    assert not DATASET_REFUSED.keys() & DATASET_LEFT_OUT.keys()


@pytest.mark.parametrize(
    ("policy", "ours"), [("drop", "drop"), ("truncate", "truncate"), ("raise", "drop")]
)  # fmt: skip
def test_rows_that_are_too_long(axolotl, policy, ours):
    text = f"sequence_len: 1024\nexcess_length_strategy: {policy}\n"
    values = axolotl.values(text)
    assert (values["model.max_seq_len"], values["data.truncation"]) == (1024, ours)
    assert ("excess_length_strategy" in axolotl.differs(text)) is (policy == "raise")


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("flash_attention: true", "sdpa"), ("sdp_attention: true", "sdpa"), ("eager_attention: true", "eager"),
        ("flex_attention: true", "flex_attention"), ("flash_attention: false\nsdp_attention: true", "sdpa"),
        ("attn_implementation: flash_attention_2", "flash_attention_2"), ("flash_attention: false", None),
        ("flash_attention: true\nsample_packing: true", "varlen"),
    ],
)  # fmt: skip
def test_attention(axolotl, text, kernel):
    assert axolotl.values(text + "\n").get("model.attn_implementation") == kernel


def test_packs_whose_rows_see_each_other_are_refused(axolotl):
    assert "see each other" in axolotl.refused("sample_packing: true\n")
    assert "see each other" in axolotl.refused("sample_packing: true\nxformers_attention: true\n")
    values = axolotl.values("sample_packing: true\nsdp_attention: true\n")
    assert values["train.packing"] is True
    assert "effective_batch_size" in axolotl.differs("sample_packing: true\nsdp_attention: true\n")["sample_packing"]
    assert axolotl.values("sample_packing: false\n")["train.packing"] is False


@pytest.mark.parametrize("name", sorted(OF_AXOLOTL))
def test_templates_of_ours_that_write_the_same_text(axolotl, name):
    assert axolotl.values(f"chat_template: {name}\n")["data.template_path"] == OF_AXOLOTL[name].path
    assert ("chat_template" in axolotl.differs(f"chat_template: {name}\n")) is bool(OF_AXOLOTL[name].differs)


def test_every_template_that_is_named_is_there():
    for match in (*OF_AXOLOTL.values(), *OF_LLAMA_FACTORY.values()):
        assert match.path == "auto" or (ROOT / match.path).is_file()


def test_other_templates(axolotl):
    said = axolotl.refused("chat_template: metharme\n")
    assert "x.yml:5: `chat_template: metharme`: nothing here writes the text" in said
    assert "chatml, gemma" in said
    assert axolotl.values("chat_template: jinja\nchat_template_jinja: my.jinja\n")["data.template_path"] == "my.jinja"
    assert axolotl.values("chat_template_jinja: my.jinja\n")["data.template_path"] == "my.jinja"
    assert "file of its own" in axolotl.refused("chat_template_jinja: '{% for m in messages %}'\n")
    assert axolotl.values("chat_template: tokenizer_default_fallback_chatml\n")["data.template_path"] == "auto"


def test_sixteen_bits_or_not(axolotl):
    for text, bf16, fp16 in (
        ("bf16: auto\nfp16:\n", "auto", "auto"), ("bf16:\nfp16: true\n", False, True),
        ("fp16: true\n", "auto", "auto"), ("bf16: auto\nfp16: false\n", "auto", False), ("bf16: full\n", True, False),
        ("bf16: true\nfp16: false\n", True, False),
        ("bf16: false\nfp16: true\n", False, True), ("float32: true\n", False, False),
        ("bfloat16: true\n", True, False),
    ):  # fmt: skip
        values = axolotl.values(text)
        assert (values.get("train.bf16"), values.get("train.fp16")) == (bf16, fp16), text
    assert "neither on nor off" in axolotl.refused("bf16: maybe\n")


@pytest.mark.parametrize(
    ("text", "checkpointing", "offload"),
    [
        ("gradient_checkpointing: true", True, None), ("gradient_checkpointing: offload", True, True),
        ("gradient_checkpointing: false", False, None), ("activation_offloading: true", True, True),
        ("gradient_checkpointing: unsloth", True, True), ("", None, None),
    ],
)  # fmt: skip
def test_checkpointing(axolotl, text, checkpointing, offload):
    values = axolotl.values(text + "\n")
    assert values.get("train.gradient_checkpointing") is checkpointing
    assert values.get("train.activation_offload") is offload


def test_where_the_curves_go(axolotl):
    assert "logging.backend" not in axolotl.values("wandb_project:\nuse_tensorboard: false\n")
    both = "wandb_project: mine\nuse_tensorboard: true\n"
    assert axolotl.values(both)["logging.backend"] == ["tensorboard", "wandb"]
    assert "WANDB_PROJECT" in axolotl.left_out(both)["wandb_project"]
    assert "logging.backend" not in axolotl.values("wandb_project: mine\nwandb_mode: disabled\n")


def test_plugins(axolotl):
    liger = "axolotl.integrations.liger.LigerPlugin"
    assert axolotl.left_out(f"plugins: [{liger}]\nliger_rope: true\n").keys() == {"plugins[0]", "liger_rope"}
    said = axolotl.refused("plugins:\n  - axolotl.integrations.kd.KDPlugin\n")
    assert "x.yml:6: `plugins[0]: axolotl.integrations.kd.KDPlugin`" in said


def test_a_tokenizer_from_elsewhere_is_refused(axolotl):
    assert "tokenizer_config" in axolotl.left_out("tokenizer_config: org/model\n")
    assert "x.yml:5" in axolotl.refused("tokenizer_config: org/other\n")


def test_broken_files_are_told_with_their_line(axolotl):
    assert "x.yml:2:" in axolotl.refused(least="a: 1\n b: 2\n")
    assert "not a section of keys" in axolotl.refused(least="- a\n- b\n")
    assert "`lora_r` is there twice" in axolotl.refused("lora_r: 8\nlora_r: 16\n")
    assert "There is no `datasets`" in axolotl.refused(least="base_model: org/model\nlearning_rate: 1e-4\n")
    assert Path("x.yml").is_file()


def test_special_tokens(axolotl):
    text = "special_tokens:\n  pad_token: <|end_of_text|>\n  eos_token: <|im_end|>\n"
    assert "masked by position" in axolotl.left_out(text)["special_tokens.pad_token"]
    assert "stays as it is" in axolotl.differs(text)["special_tokens.eos_token"]
