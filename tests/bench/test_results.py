"""Medians, spread and ratios by hand; and the page, of which only what lies between the marks changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_parts import make_peer, make_work

from sftlib.bench import results
from sftlib.bench.campaign import Standing
from sftlib.bench.honesty import Outcome
from sftlib.bench.running import Ran
from sftlib.errors import DataError


def standing(folder: Path, name: str, *seconds: float, peak: float, loss: float) -> Standing:
    """Runs of these seconds, each in a process of ten more."""
    runs = [
        Ran({"seconds": each, "steps": 3, "versions": {"torch": "2.13"}}, each + 10, peak) for each in seconds
    ]  # fmt: skip
    return Standing(make_peer(folder, name), runs, first_loss=2.5, outcome=Outcome(500, loss))


@pytest.fixture
def standings(tmp_path: Path) -> dict[str, Standing]:
    return {
        "sft-play": standing(tmp_path, "sft-play", 10.0, 14.0, 11.0, peak=2.0, loss=2.0),
        "a": standing(tmp_path, "a", 22.0, 33.0, 44.0, peak=3.0, loss=2.01),
    }


def test_figures_by_hand(standings: dict[str, Standing]) -> None:
    ours, peer = results.figures(standings)
    assert (ours.seconds, ours.process_seconds, ours.peak_gib, ours.runs, ours.steps) == (11.0, 21.0, 2.0, 3, 3)
    assert ours.spread == pytest.approx(4 / 11)
    assert ours.ratio is ours.peak_ratio is None
    assert (peer.seconds, peer.ratio, peer.peak_ratio) == (33.0, 3.0, 1.5)
    assert peer.process_ratio == pytest.approx(43 / 21)
    assert peer.spread == pytest.approx(22 / 33)
    assert results.rows([ours, peer])[1] == [
        "A", "33.0", "67%", "3.00x", "43.0", "2.05x", "3.00", "1.50x", "2.5000", "2.0100"
    ]  # fmt: skip


def test_what_is_no_comparison_has_no_ratio(standings: dict[str, Standing]) -> None:
    standings["a"].faults.append("ours is worse on unseen rows")
    peer = results.figures(standings)[1]
    assert peer.seconds == 33.0
    assert peer.ratio is peer.process_ratio is peer.peak_ratio is None
    assert peer.note == "ours is worse on unseen rows"


def test_a_fault_of_ours_voids_every_ratio(standings: dict[str, Standing]) -> None:
    standings["sft-play"].faults.append("rows: 9, 10 expected")
    assert results.figures(standings)[1].ratio is None


def test_who_did_not_run_is_a_line_with_its_error(standings: dict[str, Standing]) -> None:
    standings["a"].runs, standings["a"].error, standings["a"].outcome = [], "ImportError: no kernels", None
    ours, peer = results.figures(standings)
    assert results.rows([ours, peer])[1] == ["A", *["-"] * 7, "2.5000", "-"]
    assert peer.note == "ImportError: no kernels"


def test_the_page_says_what_was_run_where(standings: dict[str, Standing], tmp_path: Path) -> None:
    standings["a"].faults.append("rows: 9, 10 expected")
    told = results.about(make_work(tmp_path), 3, "2026-11-21", "scripts/bench.py --rows 10")
    lines = results.page_lines(told, results.figures(standings))
    assert lines[0] == (
        "2026-11-21, a CPU; 10 rows, 100 supervised tokens, batch 4, 1 epoch(s); m, LoRA r=4 on q_proj, bf16; "
        "3 rounds, 5 unseen rows: `scripts/bench.py --rows 10`"
    )
    assert lines[4].startswith("| SFT-PLAY | 11.0 | 36% | - |")
    assert lines[8].startswith("- A: torch 2.13; `name=")
    assert lines[8].endswith("**rows: 9, 10 expected**.")
    assert lines[9] == "- Before training: loss 3.0000 on the unseen rows."


def test_the_file_holds_every_run(standings: dict[str, Standing], tmp_path: Path) -> None:
    results.write_results(tmp_path / "r.json", {"date": "today"}, standings)
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["about"] == {"date": "today"}
    assert [one["report"]["seconds"] for one in written["entrants"][1]["each"]] == [22.0, 33.0, 44.0]
    assert written["entrants"][1]["ratio"] == 3.0


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


def test_the_page_of_the_project_has_its_marks(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((root / "docs" / "BENCHMARKS.md").read_text(encoding="utf-8"))
    results.update_page(page, "training", ["new"])
    assert "new\n<!-- /bench:training -->" in page.read_text()
