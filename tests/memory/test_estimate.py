"""Moments, cards and changes: what an estimate says of a model whose numbers are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from memory_parts import GIB, make

from sftlib.build_peak import MODELS
from sftlib.config.schema import LoraSection
from sftlib.memory import estimate as estimating
from sftlib.memory.estimate import Estimate, Setup, estimate, usable
from sftlib.memory.plan import cheapest_changes, with_all
from sftlib.memory.shape import ModelShape
from sftlib.model.blueprint import read_blueprint

SETUP = Setup(
    mode="lora", rank=16, dropout=False, optim="adamw_torch", checkpointing=False, width=2, rows=4, length=128,
    accumulates=True, answer_rows=2, eval_rows=8, eval_tokens=32, logits_bytes=64 * 2**20, softmax_bytes=16 * 2**20,
)  # fmt: skip


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> ModelShape:
    """Two blocks of hidden size 64, MLP 160, 4 heads of 16 with 2 for keys, vocabulary 512."""
    folder = make("llama", tmp_path_factory.mktemp("model"))
    return read_blueprint(folder / "config.json", LoraSection(), "auto")


def test_the_terms_by_hand(shape: ModelShape) -> None:
    moments = estimate(shape, SETUP).moments
    # r (in + out) of q k v o gate up down, two blocks: 16 x 2 x (128 + 96 + 96 + 128 + 3 x 224)
    adapter = 16 * 2 * (128 + 96 + 96 + 128 + 3 * 224)
    step = moments["optimizer step"]
    assert step["adapter"] == 4 * adapter
    assert step["gradients"] == 4 * adapter
    assert step["optimizer state"] == 8 * adapter + 4 * 28  # and a step count for each of 28 tensors
    assert step["working buffers"] == 4 * adapter + 8_519_680  # square roots, cuBLAS
    answers = moments["answers"]
    assert answers["key-value cache"] == 2 * (2 * 2 * 16) * 2 * 2 * (128 + 32)  # blocks, K and V, bytes, rows, tokens
    assert "gradients" not in answers
    assert "optimizer state" not in moments["make eval"]
    # 512 positions of 512 logits in float32, three at once; hidden states and their gradient in 16 bits
    assert moments["loss"]["loss"] == (2 + 4 + 4) * 512 * 512 + 2 * 2 * 512 * 64


def test_the_loss_is_chunked(shape: ModelShape) -> None:
    chunk = 100 * 4 * 512  # room for 100 positions of 512
    loss = estimate(shape, replace(SETUP, logits_bytes=chunk, softmax_bytes=chunk // 4)).moments["loss"]["loss"]
    assert loss == chunk / 2 + 2 * chunk / 4 + 2 * 2 * 512 * 64


def test_what_makes_it_larger_and_smaller(shape: ModelShape) -> None:
    def peak(**changes: object) -> int:
        return estimate(shape, replace(SETUP, **changes)).peak

    base = peak()
    larger = ({"rows": 8}, {"length": 256}, {"rank": 32}, {"mode": "full"}, {"dropout": True}, {"width": 4})
    for changes in larger:
        assert peak(**changes) > base, changes
    for changes in ({"mode": "qlora"}, {"checkpointing": True}, {"optim": "adamw_8bit"}, {"accumulates": False}):
        assert peak(**changes) < base, changes


def test_rows_together_need_no_mask_and_eager_attention_grows_with_the_square(shape: ModelShape) -> None:
    def kept(rows: int, length: int, attention: str) -> int:
        found = estimate(replace(shape, attention=attention), replace(SETUP, rows=rows, length=length))
        return found.moments["loss"]["activations"]

    grown = kept(2, 1024, "sdpa") - kept(2, 512, "sdpa")
    assert kept(2, 1536, "sdpa") - kept(2, 1024, "sdpa") == grown  # a mask would grow with the square
    # twice the length is twice everything but the scores of four heads: 6 bytes each, four times as many
    assert kept(1, 1024, "eager") - 2 * kept(1, 512, "eager") == 2 * 2 * 6 * 4 * 512 * 512
    assert kept(2, 512, "flash_attention_2") == kept(2, 512, "sdpa")


def test_a_packed_row_is_a_square_of_all_tokens_to_sdpa_and_not_to_flash(shape: ModelShape) -> None:
    """Of 4 rows of 128 tokens: a bias of 2 bytes for each pair of them, in each of 2 blocks."""

    def kept(attention: str, *, packing: bool) -> int:
        found = estimate(replace(shape, attention=attention, kv_heads=4), replace(SETUP, packing=packing))
        return found.moments["loss"]["activations"]

    tables = 2 * (512 - 128) * 16 * 2  # cosine and sine of every token, not of every position, in bfloat16
    assert kept("flash_attention_2", packing=True) - kept("flash_attention_2", packing=False) == tables
    assert kept("sdpa", packing=True) - kept("sdpa", packing=False) == tables + 512 * 512 * 2 * 2
    changes = cheapest_changes(replace(shape, attention="eager"), replace(SETUP, packing=True, length=512), available=0)
    assert changes[0].setting == "train.packing=false"


def with_moments(**moments: dict[str, int]) -> Estimate:
    return Estimate({"loss": {}, "backward": {}, "optimizer step": {}} | moments, 0)


def test_the_peak_is_that_of_the_largest_moment_and_the_card_leaves_room() -> None:
    found = with_moments(loss={"base, 4 bits": 5 * GIB}, backward={"base, 4 bits": 6 * GIB, "activations": GIB})
    assert (found.peak_moment, found.peak) == ("backward", 7 * GIB)
    assert found.fragmentation == int(0.05 * GIB)  # the weights are one piece and never move
    assert found.total == 7 * GIB + int(0.05 * GIB) + GIB // 2
    assert found.card_gib == 10  # 7.55 GiB is more than 94 % of 8
    assert usable(8 * GIB) == int(0.94 * 8 * GIB)
    assert with_moments(loss={"activations": 100 * GIB}).card_gib is None


def test_answers_do_not_decide_whether_it_fits() -> None:
    """They are generated in smaller batches when memory runs out."""
    found = with_moments(loss={"base, 4 bits": 2 * GIB}, answers={"base, 4 bits": 2 * GIB, "key-value cache": 60 * GIB})
    assert found.peak == 2 * GIB
    assert found.card_gib == 6
    assert found.evaluation_total == 62 * GIB + 3 * GIB + GIB // 2


def test_a_3b_model_in_4_bits_is_what_the_project_promises(tmp_path: Path) -> None:
    """Qwen2.5-3B: 6 GB in 16 bits, QLoRA in 8 GiB."""
    numbers = (
        '{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, '
        '"num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": true}'
    )
    (tmp_path / "config.json").write_text(numbers)
    shape = read_blueprint(tmp_path / "config.json", LoraSection(), "auto")
    assert shape.parameters == 3_085_938_688  # as published
    setup = replace(SETUP, mode="qlora", checkpointing=True, length=1024)
    assert estimate(shape, setup).card_gib in (6, 8)
    assert estimate(shape, replace(setup, mode="lora")).card_gib > 8
    assert estimate(shape, replace(setup, mode="full")).card_gib >= 48


@pytest.fixture(scope="module")
def half_billion(tmp_path_factory: pytest.TempPathFactory) -> ModelShape:
    """Qwen2.5-0.5B."""
    file = tmp_path_factory.mktemp("qwen") / "config.json"
    file.write_text(json.dumps(MODELS["Qwen2.5-0.5B"]))
    return read_blueprint(file, LoraSection(), "auto")


def test_the_cheapest_changes_come_first_and_save_what_they_say(half_billion: ModelShape) -> None:
    shape, setup = half_billion, replace(SETUP, mode="full", rows=8, length=512)
    before = estimate(shape, setup).total
    changes = cheapest_changes(shape, setup, available=0)
    assert [change.setting for change in changes] == [
        "train.gradient_checkpointing=true", "train.batch_size=1", "tuning.mode=lora",
    ]  # fmt: skip
    assert changes[0].saved == before - estimate(shape, replace(setup, checkpointing=True)).total
    assert changes[1].saved == before - estimate(shape, replace(setup, rows=1)).total
    assert not any(change.fits for change in changes)
    together = with_all(shape, setup, changes)
    assert together.total == estimate(shape, replace(setup, checkpointing=True, rows=1, mode="lora")).total


def test_a_change_that_is_enough_says_so(half_billion: ModelShape) -> None:
    setup = replace(SETUP, rows=8, length=2048)
    enough = estimate(half_billion, replace(setup, checkpointing=True)).total
    first, second, third = cheapest_changes(half_billion, setup, available=enough)
    assert [first.fits, second.setting, third.fits] == [True, "train.batch_size=1", False]
    assert third.setting == "tuning.mode=qlora"


def test_offload_takes_the_inputs_of_all_blocks_but_those_on_their_way_off_the_card(half_billion: ModelShape) -> None:
    setup = replace(SETUP, mode="qlora", checkpointing=True, rows=2, length=1024)
    kept, moved = (estimate(half_billion, one).moments for one in (setup, replace(setup, offload=True)))
    block = 2 * 1024 * 896 * 2  # rows, tokens, hidden, bfloat16
    assert kept["loss"]["activations"] - moved["loss"]["activations"] == 23 * block
    assert kept["backward"]["activations"] - moved["backward"]["activations"] == 22 * block
    changes = cheapest_changes(half_billion, replace(setup, rows=1), available=0)
    assert changes[0].setting == "train.activation_offload=true"
    assert changes[0].saved > 10 * 2**20


def test_the_micro_batch_is_as_large_as_fits_and_divides_the_batch(half_billion: ModelShape) -> None:
    setup = replace(SETUP, checkpointing=True, rows=15, length=1024)
    enough = estimate(half_billion, replace(setup, rows=4)).total
    change = cheapest_changes(half_billion, setup, available=enough)[0]
    assert (change.setting, change.fits) == ("train.batch_size=3", True)


def test_what_saves_next_to_nothing_is_not_proposed(shape: ModelShape) -> None:
    """Of two blocks of hidden size 64 every change saves something, and none as much as 10 MiB."""
    setup = replace(SETUP, mode="lora", checkpointing=True, rows=2)
    assert estimate(shape, replace(setup, rows=1)).total < estimate(shape, setup).total
    assert cheapest_changes(shape, setup, available=0) == []


def test_nothing_is_left_to_change(half_billion: ModelShape) -> None:
    setup = replace(SETUP, mode="qlora", checkpointing=True, rows=1, optim="paged_adamw_8bit", rank=8, stream=True)
    assert cheapest_changes(half_billion, setup, available=0) == []


def test_every_term_that_is_used_has_a_line_in_the_table(shape: ModelShape) -> None:
    for mode in ("qlora", "lora", "full"):
        for terms in estimate(shape, replace(SETUP, mode=mode)).moments.values():
            assert set(terms) <= set(estimating.TERMS)
