"""How many examples a step sees, when the model is evaluated, which rate holds: as there."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def steps(values):
    return values["train.batch_size"], values["train.grad_accum"], values["train.effective_batch_size"]


def test_a_step_sees_the_same_examples(axolotl):
    text = "micro_batch_size: 2\ngradient_accumulation_steps: 4\n"
    assert steps(axolotl.values(text)) == (2, 4, 8)
    assert steps(axolotl.values(text, devices=3)) == (2, 12, 24)
    assert steps(axolotl.values("micro_batch_size: 2\nbatch_size: 16\n")) == (2, 8, 16)
    assert steps(axolotl.values("micro_batch_size: 2\nbatch_size: 16\n", devices=2)) == (2, 16, 32)
    assert "no multiple" in axolotl.refused("micro_batch_size: 3\nbatch_size: 16\n")
    assert "says the same" in axolotl.refused("gradient_accumulation_steps: 2\nbatch_size: 16\n")


def test_a_step_of_llama_factory(factory):
    assert steps(factory.values()) == (8, 1, 8)
    text = "per_device_train_batch_size: 1\ngradient_accumulation_steps: 8\n"
    assert steps(factory.values(text, devices=2)) == (1, 16, 16)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("adamw_bnb_8bit", "adamw_8bit"), ("adamw_hf", "adamw_torch"), ("paged_adamw_32bit", "paged_adamw_32bit"),
        ("adamw_torch_fused", "adamw_torch_fused"), ("adafactor", "adafactor"),
    ],
)  # fmt: skip
def test_optimizers(axolotl, theirs, ours):
    assert axolotl.values(f"optimizer: {theirs}\n")["train.optim"] == ours


@pytest.mark.parametrize("name", ["lion_8bit", "muon", "galore_adamw", "sgd", "came_pytorch"])
def test_another_optimizer_is_refused(axolotl, name):
    said = axolotl.refused(f"optimizer: {name}\n")
    assert f"x.yml:5: `optimizer: {name}`: there is no such optimizer here." in said


def test_the_moments_of_adam(axolotl):
    assert axolotl.left_out("adam_beta2: 0.999\n").keys() == {"adam_beta2"}
    assert axolotl.differs("adam_beta2: 0.95\nadam_epsilon: 1e-8\n") == {"adam_beta2": "it is always 0.999 here"}


def test_schedules(axolotl, factory):
    assert axolotl.values("lr_scheduler: linear\n")["train.lr_scheduler_type"] == "linear"
    assert axolotl.values("lr_scheduler: cosine_with_restarts\n")["train.lr_scheduler_type"] == "cosine"
    assert "no such schedule" in axolotl.refused("lr_scheduler: one_cycle\n")
    assert "cosine_min_lr_ratio" in axolotl.differs("cosine_min_lr_ratio: 0.1\n")
    assert factory.values()["train.lr_scheduler_type"] == "linear"


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("", 0.03), ("warmup_ratio: 0.1", 0.1), ("warmup_steps: 0", 0.0), ("warmup_steps: 0.1", 0.1),
        ("warmup_steps: 10\nmax_steps: 200", 0.05), ("warmup_steps: 10", None),
    ],
)  # fmt: skip
def test_warm_up(axolotl, text, ratio):
    assert axolotl.values(text + "\n").get("train.warmup_ratio") == ratio
    assert ("warmup_steps" in axolotl.differs(text + "\n")) is (ratio is None)


EVALUATED = "val_set_size: 0.1\nnum_epochs: 2\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evals_per_epoch: 4", ("steps", None, 4)), ("eval_steps: 50", ("steps", 50, None)),
        ("eval_steps: 0.05", ("steps", None, 10)), ("eval_steps: 0.5", ("steps", None, 1)),
        ("eval_steps: 0.1\nmax_steps: 300", ("steps", 30, None)), ("eval_strategy: epoch", ("epoch", None, None)),
        ("eval_strategy: no", ("no", None, None)), ("evaluation_strategy: steps", ("steps", 500, None)),
        ("evals_per_epoch: 0", ("no", None, None)), ("", ("epoch", None, None)),
        ("eval_strategy: steps\neval_steps: 20", ("steps", 20, None)),
    ],
)  # fmt: skip
def test_evaluations(axolotl, text, expected):
    values = axolotl.values(EVALUATED + text + "\n")
    keys = ("train.eval_strategy", "train.eval_steps", "train.evals_per_epoch")
    assert tuple(values.get(key) for key in keys) == expected


def test_a_share_that_is_no_whole_number_of_evaluations_is_told(axolotl):
    assert axolotl.differs(EVALUATED + "eval_steps: 0.2\n")["eval_steps"] == "it was 2.5 times an epoch and is 2 times"
    text = EVALUATED.replace("2", "4") + "eval_steps: 0.5\n"
    assert axolotl.differs(text)["eval_steps"] == "it was 0.5 times an epoch and is once an epoch"


def test_checkpoints_and_the_best_one(axolotl):
    text = EVALUATED + (
        "saves_per_epoch: 2\nsave_total_limit: 3\nload_best_model_at_end: true\nmetric_for_best_model: eval_loss\n"
        "greater_is_better: false\nearly_stopping_patience: 5\n"
    )
    values = axolotl.values(text)
    assert (values["train.save_strategy"], values["train.saves_per_epoch"]) == ("steps", 2)
    assert values["train.save_total_limit"] == 3
    assert values["train.load_best_model_at_end"] is True
    assert values["train.early_stopping_patience"] == 5
    assert "metric_for_best_model" in axolotl.differs(EVALUATED + "metric_for_best_model: accuracy\n")
    assert axolotl.values("save_strategy: best\n")["train.save_strategy"] == "epoch"
    assert axolotl.values("save_strategy: no\n")["train.save_strategy"] == "no"


def test_without_rows_to_evaluate_on_nothing_is_evaluated(axolotl):
    text = "eval_steps: 10\nearly_stopping_patience: 2\nload_best_model_at_end: true\n"
    values = axolotl.values(text)
    assert values["train.eval_strategy"] == "no"
    assert values["train.load_best_model_at_end"] is False
    assert "train.early_stopping_patience" not in values
    assert "eval_steps" in axolotl.left_out(text)
    assert "early_stopping_patience" in axolotl.differs(text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(micro=st.integers(1, 64), accumulation=st.integers(1, 64), devices=st.integers(1, 16))
def test_the_examples_of_a_step_are_those_of_all_devices(axolotl, micro, accumulation, devices):
    text = f"micro_batch_size: {micro}\ngradient_accumulation_steps: {accumulation}\n"
    size, times, whole = steps(
        {name: line.value for name, line in axolotl.convert(text, devices=devices).lines.items()}
    )
    assert size == micro
    assert size * times == whole == micro * accumulation * devices
