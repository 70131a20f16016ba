"""Of two settings that cannot both hold the later wins; in one file they are a fault."""

from __future__ import annotations

import pytest

from sftlib.config import to_yaml

BATCH = "train: {{batch_size: {}, grad_accum: {}, effective_batch_size: {}}}"


@pytest.mark.parametrize("shares", ["0.5, 0.3, 0.2", "1, 0, 0", "0.333, 0.333, 0.334", "0.7, 0.2, 0.1"])
def test_shares_that_add_up(desk, shares):
    train, val, test = shares.split(", ")
    assert desk.load(f"data: {{split: {{train: {train}, val: {val}, test: {test}}}}}").data.split.train == float(train)


def test_shares_that_do_not(desk):
    said = desk.refuse("data:\n  split:\n    train: 0.7\n")
    assert said.startswith("mine.yaml:3: The shares of `data.split` do not add up: 0.7 + 0.1 + 0.1 = 0.9.")
    assert "nothing is left to train on" in desk.refuse("data: {split: {train: 0, val: 0.5, test: 0.5}}")


@pytest.mark.parametrize("numbers", [(4, 4, 16), (4, "auto", 16), (4, 3, "null"), (1, "auto", 7), (4, "auto", "null")])
def test_batches_that_agree(desk, numbers):
    train = desk.load(BATCH.format(*numbers)).train
    assert [train.batch_size, train.grad_accum, train.effective_batch_size] == [
        None if n == "null" else n for n in numbers
    ]


def test_batches_that_contradict_in_one_file(desk):
    said = desk.refuse(BATCH.format(4, 3, 16))
    assert "`train.batch_size` 4 x `train.grad_accum` 3 is 12, and `train.effective_batch_size` is 16." in said
    assert "is no multiple of" in desk.refuse(BATCH.format(3, "auto", 16))
    assert "Set train.effective_batch_size to 15 or 18, or to null" in desk.refuse("train: {batch_size: 3}")
    assert "Set train.effective_batch_size to 32, or to null" in desk.refuse("train: {batch_size: 32}")


def test_the_effective_batch_follows_a_later_accumulation(desk):
    assert desk.load("train: {batch_size: 4, grad_accum: 8}").train.effective_batch_size == 32
    assert desk.load(BATCH.format(2, 8, 16), "train.grad_accum=3").train.effective_batch_size == 6
    origins = desk.origins("train:\n  batch_size: 4\n  grad_accum: 8\n")
    assert origins["train.effective_batch_size"] == "mine.yaml:3 (follows train.grad_accum)"


def test_with_an_open_micro_batch_the_effective_batch_is_what_is_stated(desk):
    train = desk.load("train: {grad_accum: 8}").train
    assert (train.batch_size, train.grad_accum, train.effective_batch_size) == ("auto", 8, 16)
    said = desk.refuse("train: {grad_accum: 3}")
    assert "`train.effective_batch_size` 16 is no multiple of `train.grad_accum` 3." in said
    assert "Set train.effective_batch_size to 15 or 18, or to null and train.batch_size to a number." in said
    follows = desk.load("train: {grad_accum: 8}", "train.effective_batch_size=12").train
    assert (follows.grad_accum, follows.effective_batch_size) == ("auto", 12)
    assert desk.load("train: {grad_accum: 8}", "train.effective_batch_size=24").train.grad_accum == 8
    assert "nothing says how many examples a step sees" in desk.refuse("train: {effective_batch_size: null}")


def test_offload_needs_checkpointing(desk):
    said = desk.refuse("train: {activation_offload: true, gradient_checkpointing: false}")
    assert "`train.activation_offload` is true, and `train.gradient_checkpointing` is false" in said
    assert desk.load("train: {activation_offload: true}").train.gradient_checkpointing == "auto"


def test_only_frozen_weights_of_our_own_blocks_are_streamed(desk):
    said = desk.refuse("train: {stream_layers: true}\ntuning: {mode: full}")
    assert "`train.stream_layers` is true, and `tuning.mode` `full` trains every weight" in said
    said = desk.refuse("train: {stream_layers: true}\ntuning: {backend: unsloth}")
    assert "`tuning.backend` `unsloth` runs blocks of its own" in said
    assert desk.load("train: {stream_layers: auto}\ntuning: {mode: full}").train.stream_layers == "auto"


def test_the_accumulation_follows_a_later_effective_batch_or_micro_batch(desk):
    assert desk.load(BATCH.format(2, 8, 16), "train.effective_batch_size=32").train.grad_accum == "auto"
    config = desk.load(BATCH.format(2, 8, 16), "train.batch_size=4")
    assert (config.train.grad_accum, config.train.effective_batch_size) == ("auto", 16)
    assert "is no multiple of" in desk.refuse(BATCH.format(2, 8, 16), "train.batch_size=5")


@pytest.mark.parametrize(
    ("what", "steps", "times"), [("eval", "eval_steps", "evals_per_epoch"), ("save", "save_steps", "saves_per_epoch")]
)
class TestSchedules:
    def test_a_count_implies_steps(self, desk, what, steps, times):
        for count in (steps, times):
            train = desk.load(f"train: {{{count}: 5}}").train
            assert getattr(train, f"{what}_strategy") == "steps"
            assert getattr(train, count) == 5

    def test_steps_without_a_count(self, desk, what, steps, times):
        said = desk.refuse(f"train: {{{what}_strategy: steps}}")
        assert f"Set train.{steps} or train.{times}." in said

    def test_both_counts(self, desk, what, steps, times):
        assert "are both set" in desk.refuse(f"train: {{{what}_strategy: steps, {steps}: 5, {times}: 2}}")

    def test_a_later_count_takes_the_place_of_the_other(self, desk, what, steps, times):
        train = desk.load(f"train: {{{what}_strategy: steps, {steps}: 5}}", f"train.{times}=2").train
        assert (getattr(train, steps), getattr(train, times)) == (None, 2)

    @pytest.mark.parametrize("strategy", ["epoch", "no"])
    def test_a_count_and_another_strategy_in_one_file(self, desk, what, steps, times, strategy):
        text = f"train:\n  load_best_model_at_end: false\n  {what}_strategy: {strategy}\n"
        for count in (steps, times):
            said = desk.refuse(text + f"  {count}: 5\n")
            assert said.startswith("mine.yaml:3: ")
            assert f"Set train.{what}_strategy to steps, or train.{count} to null." in said

    @pytest.mark.parametrize("strategy", ["epoch", "no"])
    def test_a_later_strategy_sets_the_counts_aside(self, desk, what, steps, times, strategy):
        for count in (steps, times):
            train = desk.load(f"train: {{{count}: 5}}", f"train.{what}_strategy={strategy}").train
            assert getattr(train, f"{what}_strategy") == strategy
            assert getattr(train, count) is None


def test_no_evaluation_and_a_best_checkpoint(desk):
    said = desk.refuse("train: {eval_strategy: no, load_best_model_at_end: true}")
    assert "no evaluation says what is best" in said
    assert (
        desk.load("train: {load_best_model_at_end: true}", "train.eval_strategy=no").train.load_best_model_at_end
        is False
    )
    assert desk.refuse("train: {eval_strategy: no}", "train.load_best_model_at_end=true").startswith(
        "--set train.load_best"
    )


def test_early_stopping_needs_an_evaluation(desk):
    said = desk.refuse("train:\n  eval_strategy: no\n  early_stopping_patience: 2\n")
    assert "`train.early_stopping_patience` is set" in said
    assert desk.load("train: {early_stopping_patience: 2}").train.early_stopping_patience == 2


@pytest.mark.parametrize(("metric", "greater"), [("eval_loss", "true"), ("eval_rougeL", "false")])
def test_greater_is_better_must_fit_the_metric(desk, metric, greater):
    assert "follows the metric" in desk.refuse(
        f"train: {{metric_for_best_model: {metric}, greater_is_better: {greater}}}"
    )


def test_greater_is_better_follows_a_later_metric(desk):
    assert (
        desk.load(
            "train: {greater_is_better: false}", "train.metric_for_best_model=eval_rougeL"
        ).train.greater_is_better
        is None
    )
    assert desk.load("train: {greater_is_better: false}").train.greater_is_better is False


def test_the_best_rouge_needs_answers(desk):
    assert "no answer is measured" in desk.refuse(
        "train: {metric_for_best_model: eval_rougeL}\neval: {training_rows: 0}"
    )


def test_who_packs_and_who_cannot(desk):
    said = desk.refuse("train: {packing: true}\nmodel: {type: seq2seq}")
    assert "`train.packing` is true, and `model.type` is `seq2seq`" in said
    said = desk.refuse("train: {packing: true}", "tuning.backend=unsloth")
    assert "`train.packing` is true, and `tuning.backend` is `unsloth`" in said
    assert "Set train.packing to auto." in said
    assert desk.load("train: {packing: true}").train.packing is True
    for others in ("model: {type: seq2seq}", "tuning: {backend: unsloth}"):
        assert desk.load(others).train.packing == "auto"


def test_bf16_and_fp16(desk):
    assert "both true" in desk.refuse("train: {bf16: true, fp16: true}")
    assert desk.load("train: {bf16: true, fp16: false}").train.bf16 is True


def test_the_plain_backend_has_no_4_bit_weights(desk):
    said = desk.refuse("tuning: {mode: qlora}", "tuning.backend=plain")
    assert said.startswith("--set tuning.backend=plain: ")
    assert "(`tuning.mode` at mine.yaml:1)" in said


def test_adapter_settings_beside_full(desk):
    assert "`tuning.lora.r` is set" in desk.refuse("tuning: {mode: full, lora: {r: 4}}")
    config = desk.load("tuning: {lora: {r: 4}}", "tuning.mode=full")
    assert (config.tuning.mode, config.tuning.lora.r) == ("full", 16)
    assert desk.load(to_yaml(config)) == config  # a run is taken up again from the config that it wrote down
    assert desk.load("tuning: {mode: full, lora: {r: 16}}").tuning.mode == "full"


def test_columns_turned_round(desk):
    said = desk.refuse("data:\n  columns:\n    question: user\n    reply: z\n")
    assert "mine.yaml:3: `question` is none of our columns." in said
    assert "Did you mean `user: question`?" in said
    assert "mine.yaml:4: `reply`" in said


@pytest.mark.parametrize("encoding", ["klingon", "rot13", "hex", '"\\0"'])
def test_an_encoding_that_is_none(desk, encoding):
    assert "no such encoding" in desk.refuse(f"data: {{encoding: {encoding}}}")


def test_encodings_that_are_some(desk):
    assert [desk.load("", f"data.encoding={name}").data.encoding for name in ("auto", "cp1252")] == ["auto", "cp1252"]


def test_an_encoder_decoder_has_a_length_of_its_own_for_answers_and_no_float16(desk):
    assert "`causal` model has no input and target apart" in desk.refuse("model: {max_target_len: 64}")
    assert "T5 overflows in float16" in desk.refuse("model: {type: seq2seq}\ntrain: {fp16: true}")
    model = desk.load("model: {type: seq2seq, max_target_len: 64}").model
    assert (model.type, model.max_target_len) == ("seq2seq", 64)


@pytest.mark.parametrize(
    ("key", "value"), [("truncation", "split"), ("truncation", "truncate_turns"), ("loss_on", "all")]
)
def test_an_encoder_decoder_has_two_texts(desk, key, value):
    pairs = "model: {type: seq2seq}\n"
    assert f"`data.{key}` is `{value}`, and `model.type` is `seq2seq`" in desk.refuse(
        f"{pairs}data: {{{key}: {value}}}"
    )
    one = f"data: {{datasets: {{faq: {{path: x, {key}: {value}}}}}}}"
    assert f"`data.datasets.faq.{key}` is `{value}`" in desk.refuse(pairs + one)
    desk.load(f"data: {{{key}: {value}}}")
    desk.load(f"{pairs}data: {{truncation: truncate, loss_on: last}}")


def test_a_regular_expression_is_tried(desk):
    assert "`eval.regex` is no regular expression: " in desk.refuse("eval: {regex: '(a'}")
    assert desk.load(r"eval: {regex: '\d+'}").eval.regex == r"\d+"


@pytest.mark.parametrize(
    "text", ['model: {name: ""}', "data: {raw_path: []}", 'infer: {stop: [""]}', "tuning: {lora: {target_modules: []}}"]
)
def test_empty_texts_and_lists(desk, text):
    assert "empty" in desk.refuse(text)


@pytest.mark.parametrize(
    "text", ['infer: {system: "\\0"}', 'infer: {system: "\\ud83d"}', 'data: {raw_path: [a, "\\0"]}']
)
def test_characters_that_no_file_can_hold(desk, text):
    assert "no UTF-8 file or path can" in desk.refuse(text)


def test_bytes_of_the_command_line_that_are_not_utf8(desk):
    said = desk.refuse("", "infer.system=\udcff")
    assert "no UTF-8 file or path can" in said
    said.encode("utf-8")


def test_a_rule_keeps_quiet_about_a_value_that_is_wrong_by_itself(desk):
    said = desk.refuse("train: {batch_size: 0, grad_accum: 3, effective_batch_size: 5}")
    assert said == "mine.yaml:1: `train.batch_size` is `0`.\nExpected: a whole number (1 or more) or `auto`"
