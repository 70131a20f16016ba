"""The GPU workload on a CPU with tiny shapes: its rows, its search, and our own training under a limit."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from pathlib import Path

import pytest
from bench_parts import TOLD, make_peer
from tiny_project import make_project, rows_of

from sftlib import build_bench_card
from sftlib.bench.campaign import campaign
from sftlib.bench.card import Card, Longest
from sftlib.bench.plan import SHAPES, Plan
from sftlib.bench.workloads import read_work
from sftlib.build_bench_card import GSM8K, LENGTHS, Length, perform, prepare, write_contests
from sftlib.build_peak import MODELS
from sftlib.config.loader import load_config
from sftlib.errors import MachineError

TINY = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list:
    """Two lengths and a search of one shape."""
    folder = make_project(tmp_path_factory.mktemp("card") / "project", tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config, plan = load_config("config.yaml", ["tuning.mode=auto"]), Plan("gpu", rows=1)
        lengths = (Length(200, 2, is_short=True), Length(64, 1))
        return write_contests(config, plan, folder / "bench", {"tiny": TINY}, lengths, (32, 64))


def tokens_of(folder: Path, name: str, model: str) -> list[int]:
    """Of the rows of a file of peers, with the line end that our text has behind the answer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [row["prompt"] + row["completion"] + "\n" for row in rows_of(folder / name)]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids]


def test_rows_are_as_long_as_they_are_said_to_be(written: list) -> None:
    short, long, longest = written
    for work, limit in ((short, 200), (long, 64)):
        tokens = tokens_of(Path(work.folder), "rows.jsonl", work.model)
        assert (len(tokens), sum(tokens)) == (work.rows, work.tokens)
        assert tokens[0] == max(tokens) == limit
        assert len(set(tokens)) > 2
    for length in longest.lengths:
        assert tokens_of(Path(longest.folder), f"rows-{length}.jsonl", longest.model) == [length, length]


def test_short_rows_have_the_lengths_of_gsm8k() -> None:
    draw = random.Random(1)
    drawn = sorted(build_bench_card._draw_length(draw, Length(512, 8, is_short=True)) for _ in range(2000))
    for decile in range(1, 10):
        assert drawn[200 * decile] == pytest.approx(GSM8K[decile], rel=0.06)
    assert drawn[-1] <= 512


def test_everyone_is_told_of_the_same_qlora(written: list) -> None:
    for work in written:
        config = load_config(
            Path(work.folder) / ("config.yaml" if isinstance(work, Card) else f"config-{work.lengths[0]}.yaml")
        )
        assert config.tuning.mode == "qlora"
        assert config.tuning.lora.r == work.lora["r"] == 16
        assert config.train.batch_size == config.train.effective_batch_size == work.batch
        assert config.train.learning_rate == work.settings["learning_rate"] == 1e-4
        assert config.train.max_steps is None
        assert work.quantization["bnb_4bit_quant_type"] == "nf4"
        assert work.lora["target_modules"] == [
            "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"
        ]  # fmt: skip


def test_it_is_read_as_it_was_written(written: list) -> None:
    for work in written:
        work.write()
        assert read_work(Path(work.folder)) == work


def test_without_a_gpu_it_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MachineError, match="no CUDA device"):
        prepare(load_config("configs/config_base.yaml"), Plan("gpu"), tmp_path)
    assert set(SHAPES) <= set(MODELS)
    assert [length.tokens for length in LENGTHS] == [512, 2048, 8192]


@pytest.mark.parametrize(("fits", "found"), [(10**6, 64), (40, 32), (16, 16), (15, None)])
def test_the_longest_is_found_by_bisection(tmp_path: Path, fits: int, found: int | None) -> None:
    told = TOLD | {"rows": 10}
    work = Longest(folder=str(tmp_path), **told, lengths=[16, 32, 48, 64], limit_gib=8.0)
    peer = make_peer(tmp_path, "a", longest=fits)
    (standing,) = campaign(work, [peer], 1, tmp_path).values()
    if found is None:
        assert standing.error.startswith("ImportError: no kernels here")
        assert standing.runs == []
    else:
        (ran,) = standing.runs
        assert ran.report["longest"] == found
        assert ran.report["stopped_by"].startswith("ImportError" if found < 64 else "")
        assert json.loads((tmp_path / "round-1" / "a" / str(found) / "job.json").read_text())["limit_gib"] == 8.0
    assert len((tmp_path / "diary.txt").read_text().splitlines()) <= 3


def test_a_length_at_which_nothing_was_trained_does_not_count(tmp_path: Path) -> None:
    work = Longest(folder=str(tmp_path), **TOLD, lengths=[16, 32], limit_gib=8.0)
    peer = make_peer(tmp_path, "a", report={"rows": 0})
    (standing,) = campaign(work, [peer], 1, tmp_path).values()
    assert standing.faults == ["rows: 0, 10 expected"]
    assert standing.runs == []


def test_ours_trains_the_longest_rows_through_the_script(written: list, tmp_path: Path, monkeypatch) -> None:
    longest = written[-1]
    ours = longest.entrants()[0]
    trial = dataclasses.replace(ours, config="config-32.yaml", rows="train-32.jsonl", options={"length": 32})
    command = trial.command(longest, tmp_path, check=False)
    assert command[1].endswith("bench.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(SystemExit) as ended:
        perform(json.loads((tmp_path / "job.json").read_text()))
    assert ended.value.code == 0
    report = trial.report(longest, tmp_path, 0.0)
    assert (report["rows"], report["steps"]) == (2, 2)
    assert longest.further(report)["step_seconds"] == report["seconds"] / 2
