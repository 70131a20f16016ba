"""Rows that come and go: the answers that transformers gives one by one, in every family, and no work for nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from sftlib.measure import generate, refilled
from sftlib.measure.generate import Answer, Sampling, generate_answers
from sftlib.measure.prompts import Prompt
from sftlib.measure.refilled import Refilled, common_prefix, suits

SIZES = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
    "tie_word_embeddings": False,
}  # fmt: skip
WINDOW = {"head_dim": 16, "sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "llama": {}, "mistral": {"sliding_window": 9}, "qwen2": {}, "qwen3": {"head_dim": 16}, "smollm3": {}, "phi": {},
    "gemma2": WINDOW, "gemma3_text": WINDOW, "gpt2": {}, "gpt_neox": {}, "opt": {"word_embed_proj_dim": 32},
}  # fmt: skip
SYSTEM = "Answer the question. What is the sum? Look at the numbers. "


def answers(speaker: SimpleNamespace, prompts: list[str], **changes) -> list[Answer]:
    settings = {"max_new_tokens": 12, "batch_size": 3, "stop_ids": speaker.stop_ids} | changes
    return generate_answers(speaker.model, speaker.tokenizer, prompts, **settings)


def by_transformers(speaker: SimpleNamespace, prompts: list[str], monkeypatch, **changes) -> list[Answer]:
    """One by one, through transformers' generate."""
    with monkeypatch.context() as patch:
        patch.setattr(generate, "suits", lambda model: False)
        return answers(speaker, prompts, **changes | {"batch_size": 1})


def noted(monkeypatch) -> list[tuple[int, int, int]]:
    """Rows, tokens a row and columns read of every forward pass."""
    passes = []
    real = Refilled._forward

    def forward(self, ids, position_ids, cache, **more):
        passes.append((len(ids), len(ids[0]), cache.get_seq_length()))
        return real(self, ids, position_ids, cache, **more)

    monkeypatch.setattr(Refilled, "_forward", forward)
    return passes


def random_model(family: str, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES | changes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.4)
        model.get_output_embeddings().weight[400:] = 0  # ids without a text
    return model


@pytest.fixture
def with_system(prompts: list[str]) -> list[str]:
    return [f"<|im_start|>system\n{SYSTEM}<|im_end|>\n{prompt}" for prompt in prompts]


@pytest.mark.parametrize(
    ("family", "attention"), [(family, "sdpa") for family in FAMILIES] + [("llama", "eager"), ("gemma2", "eager")]
)
def test_every_family_says_what_it_says_through_transformers(
    family: str, attention: str, speaker, with_system, monkeypatch
):
    model = random_model(family, **FAMILIES[family], attn_implementation=attention)
    assert suits(model)
    other = SimpleNamespace(**vars(speaker) | {"model": model})
    prompts = with_system[:5]
    stops = range(4, 400, 12)
    expected = by_transformers(other, prompts, monkeypatch, stop_ids=stops)
    assert len(set(expected)) == len(prompts)  # they differ, so a mix-up would show
    assert len({answer.tokens for answer in expected}) > 1  # and end at different places
    monkeypatch.setattr(generate, "WholeBatches", None)
    assert answers(other, prompts, batch_size=2, stop_ids=stops) == expected


def test_what_needs_its_own_way_goes_through_transformers(speaker, monkeypatch):
    assert suits(random_model("llama"))
    assert not suits(random_model("phi3"))  # long and short rotations
    assert not suits(random_model("bloom"))  # positions out of the mask
    assert not suits(random_model("mamba"))  # states instead of a cache
    patched = random_model("llama")
    patched.generate = patched.generate  # as Unsloth does it
    assert not suits(patched)
    elsewhere = type(
        "LlamaForCausalLM", (type(patched),), {"forward": lambda self, position_ids, past_key_values: None}
    )
    patched = random_model("llama")
    patched.__class__ = elsewhere
    assert not suits(patched)


def test_no_row_stands_idle(speaker, prompts, monkeypatch):
    """Each pass over rows gives one token that is part of an answer: none is computed behind an end."""
    stops = range(4, 400, 12)
    expected = answers(speaker, prompts, stop_ids=stops)
    assert len({answer.tokens for answer in expected}) > 2
    passes = noted(monkeypatch)
    assert answers(speaker, prompts, stop_ids=stops, batch_size=3) == expected
    said = sum(answer.tokens + answer.stopped for answer in expected)
    assert sum(rows for rows, tokens, _ in passes if tokens == 1) == said - len(prompts)  # the first come from reading
    assert max(rows for rows, _, _ in passes) == 3


def test_with_many_rows_prompts_join_by_the_eighth(speaker, prompts, monkeypatch):
    stops = range(4, 400, 12)
    many = [f"{number} {prompt}" for number in range(3) for prompt in prompts]  # 24
    expected = answers(speaker, many, stop_ids=stops)
    passes = noted(monkeypatch)
    assert answers(speaker, many, stop_ids=stops, batch_size=16) == expected
    joined = [rows for rows, tokens, _ in passes if tokens > 1]
    assert joined[0] == 16
    assert sum(joined) == 24
    assert len(joined) > 2
    assert min(joined[:-1]) >= 2


def test_columns_are_those_of_the_longest_row_at_work(speaker, prompts, monkeypatch):
    passes = noted(monkeypatch)
    answers(speaker, prompts, stop_ids=[], batch_size=2)
    lengths = sorted((len(speaker.tokenizer(prompt)["input_ids"]) for prompt in prompts), reverse=True)
    widths = [width for _, tokens, width in passes if tokens == 1]
    assert widths[:11] == [lengths[0] + said for said in range(11)]
    assert widths[-11:] == [lengths[-2] + said for said in range(11)]


def test_an_answer_longer_than_the_spare_columns(speaker, prompts, monkeypatch):
    monkeypatch.setattr(refilled, "SPARE", 5)
    expected = by_transformers(speaker, prompts, monkeypatch, max_new_tokens=40, stop_ids=[])
    assert answers(speaker, prompts, max_new_tokens=40, stop_ids=[]) == expected


def test_what_prompts_begin_with_is_read_once(speaker, with_system, monkeypatch):
    expected = by_transformers(speaker, with_system, monkeypatch)
    ids = speaker.tokenizer(with_system)["input_ids"]
    shared = len(common_prefix([Prompt(index, one, 1) for index, one in enumerate(ids)]))
    assert shared >= len(speaker.tokenizer(SYSTEM)["input_ids"])
    passes = noted(monkeypatch)
    assert answers(speaker, with_system, batch_size=1) == expected
    read = [tokens for _, tokens, _ in passes if tokens > 1]
    assert read[0] == shared
    assert sum(read[1:]) == sum(len(one) - shared for one in ids)


@pytest.mark.parametrize(
    ("ids", "shared"),
    [
        ([[7] * 20 + [1], [7] * 20 + [2]], 20),
        ([[7] * 20, [7] * 20], 19),  # each keeps a token of its own to go on from
        ([[7] * 30, [7] * 20], 19),
        ([[7] * 20 + [1], [7] * 18 + [1, 2], [7] * 30], 18),
        ([[7] * 15 + [1], [7] * 15 + [2]], 0),  # too short to be worth it
        ([[7] * 20], 0),
    ],
)
def test_the_common_prefix(ids: list[list[int]], shared: int):
    assert common_prefix([Prompt(index, one, 1) for index, one in enumerate(ids)]) == [7] * shared


def test_memory_that_runs_out_on_the_way_changes_no_answer(speaker, with_system, monkeypatch):
    expected = answers(speaker, with_system, max_new_tokens=20)
    real, steps = Refilled._forward, []

    def forward(self, ids, *rest, **more):
        steps.append(len(ids))
        if len(ids) > 2 and len(steps) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, ids, *rest, **more)

    monkeypatch.setattr(Refilled, "_forward", forward)
    assert answers(speaker, with_system, max_new_tokens=20, batch_size=5) == expected
    assert steps[8] == 5
    assert set(steps[10:]) == {1, 2}


def test_a_penalty_needs_no_prompts_of_one_length(speaker, prompts, monkeypatch):
    sampling = Sampling(repetition_penalty=1.5)
    expected = by_transformers(speaker, prompts, monkeypatch, sampling=sampling)
    passes = noted(monkeypatch)
    assert answers(speaker, prompts, sampling=sampling, batch_size=8) == expected
    assert passes[0][0] == 8


def test_an_own_logits_argument_is_not_needed(speaker, prompts, monkeypatch):
    """Models without logits_to_keep give the scores of every position."""
    expected = answers(speaker, prompts)
    real = Refilled.__init__

    def without(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self._chooses_logits = False

    monkeypatch.setattr(Refilled, "__init__", without)
    assert answers(speaker, prompts) == expected


def test_read_states_are_those_of_the_prompt_alone(speaker, with_system):
    """To rounding, with the common part read apart and a longer neighbour beside it."""
    ids = speaker.tokenizer(with_system)["input_ids"]
    prefix = common_prefix([Prompt(index, one, 1) for index, one in enumerate(ids)])
    with torch.inference_mode():
        cache, logits = Refilled(speaker.model.eval(), None, None, 3, prefix)._read(ids[:3])
        for row, one in enumerate(ids[:3]):
            alone = DynamicCache()
            expected = speaker.model(torch.tensor([one]), past_key_values=alone).logits[0, -1]
            torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=1e-4)
            for layer, other in zip(cache.layers, alone.layers, strict=True):
                torch.testing.assert_close(layer.keys[row, :, : len(one)], other.keys[0], atol=1e-4, rtol=1e-4)
