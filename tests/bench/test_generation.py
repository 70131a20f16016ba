"""Prompts, our answers and transformers' own, on the tiny model: the same in float32, and seen when they are not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from bench_parts import report_of_job
from tiny_project import make_project

from sftlib.bench.entrants import PEERS
from sftlib.bench.generation import Generation
from sftlib.bench.plan import Plan
from sftlib.build_bench_answers import perform, prepare
from sftlib.config.loader import load_config
from sftlib.files import read_json


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Generation:
    """Six prompts, answered in six tokens, two at once."""
    folder = make_project(tmp_path_factory.mktemp("answers") / "project", tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = Plan("generate", ["raw"], rows=6, batch=2, max_new_tokens=6)
        (work,) = prepare(load_config("config.yaml"), plan, folder / "bench")
    return work


def report_of(work: Generation, folder: Path, runner: str | None, *, check: bool = False, **options: bool) -> dict:
    """What ours (no runner) or a peer reports of a run in this process."""
    folder.mkdir()
    job = work.job(folder, check=check, options=options)
    return report_of_job(job, perform, PEERS / runner if runner else None)


def test_prompts_end_where_the_answer_begins(asked: Generation) -> None:
    prompts = read_json(Path(asked.folder) / "prompts.json")
    assert len(prompts) == asked.prompts == asked.checked == 6
    assert all(prompt.endswith("<|im_end|>\n<|im_start|>assistant\n") for prompt in prompts)
    assert asked.dtype == "float32"
    assert asked.stop_ids == [2]


@pytest.mark.parametrize("options", [{}, {"is_batched": True}])
def test_transformers_gives_our_answers_in_float32(asked: Generation, tmp_path: Path, options: dict) -> None:
    ours = report_of(asked, tmp_path / "ours", None)
    peer = report_of(asked, tmp_path / "peer", "with_generate.py", check=True, **options)
    assert asked.faults_of_check(peer) == asked.faults_of_run(peer) == asked.faults_of_run(ours) == []
    assert asked.found_in_check(peer) == {"identical_fp32": 1.0}
    assert peer["tokens"] == ours["tokens"] > 0
    assert asked.outcomes({"sft-play": ours, "peer": peer})["peer"] == {"identical": 1.0}
    assert asked.further({"seconds": 2.0, "tokens": 30}) == {"tokens_per_second": 15.0}


def test_one_other_answer_is_a_fault_of_a_check(asked: Generation, tmp_path: Path) -> None:
    answers = read_json(Path(asked.folder) / "expected.json")
    for name, changed in (("text", ["other", answers[0][1]]), ("tokens", [answers[0][0], answers[0][1] + 1])):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([changed, *answers[1:]]))
        assert asked.faults_of_check({"answers": str(path)}) == ["of its answers in float32 83% are ours"]
        assert asked.faults_of_run({"answers": str(path)}) == []  # near-ties are no fault where 16 bits may be timed


def test_a_missing_answer_is_a_fault(asked: Generation, tmp_path: Path) -> None:
    path = tmp_path / "few.json"
    path.write_text(json.dumps(read_json(Path(asked.folder) / "expected.json")[:5]))
    assert asked.faults_of_check({"answers": str(path)}) == ["answers: 5, 6 expected"]
    assert asked.faults_of_run({"answers": str(path)}) == ["answers: 5, 6 expected"]


def test_a_check_is_exact_and_short(asked: Generation, tmp_path: Path) -> None:
    work = dataclasses.replace(asked, dtype="bfloat16", checked=2)
    told = [work.job(tmp_path, check=check, options={}) for check in (True, False)]
    assert [(one["dtype"], one["most"]) for one in told] == [("float32", 2), ("bfloat16", 6)]
