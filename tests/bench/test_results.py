"""Medians, spread and ratios by hand; and the page, of which only what lies between the marks changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from bench_parts import make_peer, make_work

from sftlib.bench import results
from sftlib.bench.campaign import Standing
from sftlib.bench.generation import Generation
from sftlib.bench.plan import Plan
from sftlib.bench.running import Ran
from sftlib.bench.training import Training
from sftlib.bench.workloads import WORKLOADS, table_name
from sftlib.errors import DataError


def standing(folder: Path, name: str, *seconds: float, peak: float, loss: float) -> Standing:
    """Runs of these seconds, each in a process of ten more."""
    runs = [
        Ran({"seconds": each, "steps": 3, "versions": {"torch": "2.13"}}, each + 10, peak) for each in seconds
    ]  # fmt: skip
    return Standing(make_peer(folder, name), runs, found={"first_loss": 2.5, "unseen_loss": loss})


@pytest.fixture
def standings(tmp_path: Path) -> dict[str, Standing]:
    return {
        "sft-play": standing(tmp_path, "sft-play", 10.0, 14.0, 11.0, peak=2.0, loss=2.0),
        "a": standing(tmp_path, "a", 22.0, 33.0, 44.0, peak=3.0, loss=2.01),
    }


@pytest.fixture
def work(tmp_path: Path) -> Training:
    return make_work(tmp_path)


def test_figures_by_hand(work: Training, standings: dict[str, Standing]) -> None:
    one = results.found(work, standings)
    ours, peer = one.lines
    assert ours.medians == {
        "seconds": 11.0, "process_seconds": 21.0, "peak_gib": 2.0, "first_loss": 2.5, "unseen_loss": 2.0
    }  # fmt: skip
    assert ours.spreads == {"seconds": pytest.approx(4 / 11)}
    assert ours.ratios == {}
    assert len(ours.runs) == 3
    assert (peer.medians["seconds"], peer.spreads["seconds"]) == (33.0, pytest.approx(22 / 33))
    assert peer.ratios == {"seconds": 3.0, "process_seconds": pytest.approx(43 / 21), "peak_gib": 1.5}
    ((headers, rows),) = results.tables([one])
    assert headers == [
        "Who", "training, s", "spread", "ratio", "whole command, s", "ratio", "peak GiB", "ratio", "loss, first batch",
        "loss, unseen rows",
    ]  # fmt: skip
    assert rows[1] == ["A", "33.0", "67%", "3.00x", "43.0", "2.05x", "3.00", "1.50x", "2.5000", "2.0100"]


def test_what_is_no_comparison_has_no_ratio(work: Training, standings: dict[str, Standing]) -> None:
    standings["a"].faults.append("ours is worse on unseen rows")
    peer = results.found(work, standings).lines[1]
    assert peer.medians["seconds"] == 33.0
    assert peer.ratios == {}
    assert peer.note == "ours is worse on unseen rows"
    assert peer.is_void


def test_a_fault_of_ours_voids_every_ratio(work: Training, standings: dict[str, Standing]) -> None:
    standings["sft-play"].faults.append("rows: 9, 10 expected")
    ours, peer = results.found(work, standings).lines
    assert ours.is_void
    assert peer.ratios == {}


def test_who_did_not_run_is_a_line_with_its_error(work: Training, standings: dict[str, Standing]) -> None:
    standings["a"].runs, standings["a"].error, standings["a"].found = [], "ImportError: no kernels", {}
    one = results.found(work, standings)
    ((_, rows),) = results.tables([one])
    assert rows[1] == ["A", *["-"] * 9]
    assert one.lines[1].note == "ImportError: no kernels"
    assert not one.lines[1].is_void


def test_comparisons_of_a_kind_share_a_table(work: Training, standings: dict[str, Standing]) -> None:
    few, many = (dataclasses.replace(work, label=label) for label in ("few", "many"))
    both = [results.found(one, standings) for one in (few, many)]
    ((headers, rows),) = results.tables(both)
    assert headers[:2] == ["What", "Who"]
    assert [row[:2] for row in rows] == [["few", "SFT-PLAY"], ["few", "A"], ["many", "SFT-PLAY"], ["many", "A"]]
    other = Generation(
        folder="f", device="d", model="m", dtype="float32", prompts=1, checked=1, max_new_tokens=1, batch=1, stop_ids=[]
    )
    assert len(results.tables([both[0], results.found(other, standings)])) == 2


def test_the_page_says_what_was_run_where(work: Training, standings: dict[str, Standing]) -> None:
    standings["a"].faults.append("rows: 9, 10 expected")
    about = {"date": "2026-11-21", "device": "a CPU", "rounds": 3, "command": "scripts/bench.py --rows 10"}
    lines = results.page_lines(about, [results.found(work, standings)])
    assert lines[0] == "2026-11-21, a CPU, 3 rounds: `scripts/bench.py --rows 10`"
    assert lines[2] == (
        "- 10 rows, 300 tokens, 100 of them supervised, batch 4, 1 epoch(s); m, LoRA r=4 on q_proj, bf16."
    )
    assert lines[6].startswith("| SFT-PLAY | 11.0 | 36% | - |")
    assert lines[10].startswith("- A: torch 2.13; `name=")
    assert lines[10].endswith("**rows: 9, 10 expected**.")
    assert lines[11] == "- Before training: loss 3.0000 on the 5 unseen rows."


def test_the_file_holds_every_run(work: Training, standings: dict[str, Standing], tmp_path: Path) -> None:
    results.write_results(tmp_path / "r.json", {"date": "today"}, [results.found(work, standings)])
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["about"] == {"date": "today"}
    (comparison,) = written["comparisons"]
    assert (comparison["kind"], comparison["work"]["rows"]) == ("Training", 10)
    ours, peer = comparison["entrants"]
    assert [one["seconds"] for one in peer["runs"]] == [22.0, 33.0, 44.0]
    assert [one["process_seconds"] for one in ours["runs"]] == [20.0, 24.0, 21.0]
    assert peer["ratios"]["seconds"] == 3.0


def test_only_what_lies_between_the_marks_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- bench:training -->\nold\n<!-- /bench:training -->\n\nAfter\n")
    for lines in (["new", "table"], ["newer"]):
        results.update_page(page, "training", lines)
        inside = "\n".join(lines)
        marked = f"<!-- bench:training -->\n{inside}\n<!-- /bench:training -->"
        assert page.read_text() == f"# Before\n{marked}\n\nAfter\n"


@pytest.mark.parametrize(
    "text",
    [
        "no marks\n",
        "<!-- bench:training -->\n",
        "<!-- /bench:training -->\n<!-- bench:training -->\n",
        "<!-- bench:training -->\n<!-- /bench:training -->\n" * 2,
    ],
)
def test_a_page_without_its_marks_stays_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(DataError, match="no place for this table"):
        results.update_page(page, "training", ["new"])
    assert page.read_text() == text


def test_a_table_that_the_page_does_not_have_is_no_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert not results.has_place(page, "training")
    page.write_text("<!-- bench:training-qlora -->\n")
    assert not results.has_place(page, "training")
    assert results.has_place(page, "training-qlora")


def test_the_page_of_the_project_has_a_place_for_every_workload(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((root / "docs" / "BENCHMARKS.md").read_text(encoding="utf-8"))
    plans = [*map(Plan, WORKLOADS), Plan("train", mode="qlora"), Plan("train", ["data/sample"])]
    for name in map(table_name, plans):
        results.update_page(page, name, [f"new {name}"])
        assert f"new {name}\n<!-- /bench:{name} -->" in page.read_text()
