"""A best checkpoint is one that was saved, and nothing is ignored in silence."""

from __future__ import annotations

import itertools

import pytest

from sftlib.config import Config, TrainSection, settle_schedule, unheeded
from sftlib.config.settling import settle_packing, settle_stated_batch, settled_keys
from sftlib.errors import ConfigError


def train(**settings: object) -> Config:
    return Config(train=TrainSection(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"load_best_model_at_end": False, "eval_strategy": "steps", "eval_steps": 5},
        {"eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 5},
        {"eval_strategy": "steps", "evals_per_epoch": 2, "save_strategy": "steps", "saves_per_epoch": 2},
    ],
)
def test_schedules_that_fit_are_left_alone(settings):
    config = train(**settings)
    assert settle_schedule(config) == (config, [])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"eval_strategy": "steps", "eval_steps": 5},
            "saved every 5 steps, when the model is evaluated, instead of once an epoch",
        ),
        (  # the best evaluation may be one that is not saved
            {"eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 15},
            "saved every 5 steps, when the model is evaluated, instead of every 15 steps",
        ),
        ({"save_strategy": "no"}, "saved once an epoch, when the model is evaluated, instead of never"),
        (
            {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 6},
            "saved every 4 steps, when the model is evaluated, instead of every 6 steps",
        ),
        (
            {"eval_strategy": "steps", "evals_per_epoch": 3, "save_strategy": "steps", "save_steps": 6},
            "saved 3 times an epoch, when the model is evaluated, instead of every 6 steps",
        ),
    ],
)
def test_saving_follows_evaluation_and_says_so(settings, said):
    config, messages = settle_schedule(train(**settings))
    assert config.train.save_strategy == config.train.eval_strategy
    assert (config.train.save_steps, config.train.saves_per_epoch) == (
        config.train.eval_steps,
        config.train.evals_per_epoch,
    )
    assert len(messages) == 1
    assert said in messages[0]


def test_every_pair_of_schedules_settles_into_one_that_is_settled():
    kinds = [("epoch", None, None), ("steps", 4, None), ("steps", 6, None), ("steps", None, 1), ("steps", None, 2)]
    for evaluated, saved in itertools.product(kinds, [*kinds, ("no", None, None)]):
        config = train(
            eval_strategy=evaluated[0], eval_steps=evaluated[1], evals_per_epoch=evaluated[2],
            save_strategy=saved[0], save_steps=saved[1], saves_per_epoch=saved[2],
        )  # fmt: skip
        once, _ = settle_schedule(config)
        assert settle_schedule(once) == (once, [])
        assert (once.train.save_strategy, once.train.saves_per_epoch) == (evaluated[0], evaluated[2])
        assert (once.train.save_steps or 0) % (evaluated[1] or 1) == 0


def test_nothing_else_changes():
    before = train(eval_strategy="steps", eval_steps=5)
    after, _ = settle_schedule(before)
    changed = {name for name, value in after.train if value != getattr(before.train, name)}
    assert changed == {"save_strategy", "save_steps"}
    assert after.model_copy(update={"train": before.train}) == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("infer.top_p=0.9", "infer.top_p 0.9 has no effect: infer.temperature is 0, which is greedy."),
        ("infer.top_k=40", "infer.top_k 40 has no effect: infer.temperature is 0, which is greedy."),
        ("train.lr_scheduler_type=constant", "train.warmup_ratio 0.03 has no effect"),
        ("data.truncation_side=start", "data.truncation_side start has no effect: data.truncation is drop"),
    ],
)
def test_a_setting_without_effect_is_said(desk, override, said):
    messages = unheeded(desk.load("", override))
    assert len(messages) == 1
    assert messages[0].startswith(said)


def test_settings_with_effect_are_not(desk):
    assert unheeded(Config()) == []
    assert unheeded(desk.load("", "infer.top_p=0.9", "infer.top_k=5", "infer.temperature=0.7")) == []
    assert unheeded(desk.load("", "train.lr_scheduler_type=constant", "train.warmup_ratio=0")) == []
    assert unheeded(desk.load("", "data.truncation_side=start", "data.truncation=truncate")) == []


def test_what_was_settled_is_told_key_by_key():
    asked = train(learning_rate="auto", bf16="auto", batch_size=4)
    lora = asked.tuning.lora.model_copy(update={"r": 8})
    settled = train(learning_rate=2e-4, bf16=True, batch_size=4).model_copy(
        update={"tuning": asked.tuning.model_copy(update={"lora": lora})}
    )
    assert settled_keys(asked, settled) == [
        ("tuning.lora.r", "16", "8"), ("train.learning_rate", "auto", "0.0002"), ("train.bf16", "auto", "true"),
    ]  # fmt: skip
    assert settled_keys(asked, asked) == []


@pytest.mark.parametrize(
    ("device", "stated", "settled"),
    [
        ("cuda", {}, ("auto", "auto", 16, "auto", "auto", "auto", "auto")),
        ("cpu", {}, ("auto", "auto", 16, "auto", False, "adamw_torch", False)),
        ("cuda", {"batch_size": 2}, (2, 8, 16, True, False, "adamw_torch", False)),
        ("cpu", {"batch_size": 2}, (2, 8, 16, False, False, "adamw_torch", False)),
        ("mps", {"batch_size": 2, "effective_batch_size": None}, (2, 1, 2, False, False, "adamw_torch", False)),
        ("cuda", {"grad_accum": 4}, (4, 4, 16, True, False, "adamw_torch", False)),
        ("cuda", {"gradient_checkpointing": False}, ("auto", "auto", 16, False, "auto", "auto", "auto")),
        ("cuda", {"activation_offload": True}, ("auto", "auto", 16, True, True, "auto", "auto")),
        ("cuda", {"activation_offload": True, "batch_size": 16}, (16, 1, 16, True, True, "adamw_torch", False)),
        ("cpu", {"activation_offload": True, "batch_size": 16}, (16, 1, 16, False, False, "adamw_torch", False)),
        ("cuda", {"stream_layers": True}, ("auto", "auto", 16, "auto", "auto", "auto", True)),
        ("cpu", {"stream_layers": True, "batch_size": 1}, (1, 16, 16, False, False, "adamw_torch", True)),
        ("cuda", {"optim": "adafactor"}, ("auto", "auto", 16, "auto", "auto", "adafactor", "auto")),
    ],
)
def test_a_batch_is_settled_as_far_as_the_device_says(device, stated, settled):
    train, messages = settle_stated_batch(TrainSection(**stated), device, can_page=True)
    found = (
        train.batch_size, train.grad_accum, train.effective_batch_size, train.gradient_checkpointing,
        train.activation_offload, train.optim, train.stream_layers,
    )  # fmt: skip
    assert found == settled
    about = [f"train.{name}" for name in ("activation_offload", "stream_layers") if stated.get(name) is True]
    assert [message.partition(" ")[0] for message in messages] == (about if device != "cuda" else [])
    assert settle_stated_batch(train, device, can_page=True)[0] == train


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"can_page": True}, ("auto", "auto")), ({}, ("adamw_torch", "auto")),
        ({"can_page": True, "can_stream": False}, ("auto", False)),
        ({"can_page": True, "checkpoints_itself": True}, ("auto", False)),
        ({"can_page": True, "processes": 2}, ("adamw_torch", False)),
    ],
)  # fmt: skip
def test_what_cannot_be_is_not_left_to_the_probe(given, left):
    train, _ = settle_stated_batch(TrainSection(), "cuda", **given)
    assert (train.optim, train.stream_layers) == left


def test_several_processes_do_not_stream():
    with pytest.raises(ConfigError, match="Layers are streamed by one process alone, and 2 take part"):
        settle_stated_batch(TrainSection(stream_layers=True), "cuda", 2)


@pytest.mark.parametrize(
    ("kernel", "asked", "settled"),
    [
        ("auto", "auto", False), ("sdpa", "auto", False), ("eager", "auto", False), ("sdpa", True, True),
        ("flex_attention", "auto", True), ("flash_attention_2", "auto", True), ("flash_attention_3", "auto", True),
        ("varlen", "auto", True),
        ("flash_attention_2", False, False),
    ],
)  # fmt: skip
def test_packing_is_on_where_attention_leaves_out_what_is_not_seen(kernel, asked, settled):
    config = Config(model={"attn_implementation": kernel}, train={"packing": asked})
    assert settle_packing(config, "cuda") is settled
    if asked == "auto":
        for others in (
            {"model": {"attn_implementation": kernel, "type": "seq2seq"}},
            {"tuning": {"backend": "unsloth"}},
        ):
            given = {"model": {"attn_implementation": kernel}} | others
            assert settle_packing(Config(**given), "cuda") is False


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("kernel", ["flex_attention", "flash_attention_2", "flash_attention_3"])
def test_a_kernel_that_the_device_has_not_is_refused_before_anything_is_loaded(kernel, device):
    with pytest.raises(ConfigError, match=f"{kernel} trains on a CUDA GPU only, and this machine trains on {device}."):
        settle_packing(Config(model={"attn_implementation": kernel}), device)


def test_varlen_trains_anywhere():
    assert settle_packing(Config(model={"attn_implementation": "varlen"}), "cpu") is True
