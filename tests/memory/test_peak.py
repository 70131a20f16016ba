"""The comparison with a real training: the very code of `make estimate-verify`, on a CPU, by the CPU's allocator."""

from __future__ import annotations

import gc
import math
from functools import partial
from pathlib import Path

import pytest
from memory_parts import CPU, SIZES, allocated

from sftlib import build, build_peak
from sftlib.build_estimate import setup_of
from sftlib.build_peak import Case, Compared, case_config, train_on_noise, verify, write_random_model
from sftlib.config import Config
from sftlib.memory.estimate import estimate
from sftlib.memory.search import search
from sftlib.model.blueprint import read_blueprint

NUMBERS = SIZES | {"model_type": "llama", "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6}


@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_case_is_trained_and_its_peak_is_near_the_estimate(checkpointing: bool, tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", NUMBERS)
    case = Case("tiny", 384, "lora", checkpointing)
    config = build.settle(case_config(Config(), case, folder), CPU)
    shape = read_blueprint(folder / "config.json", config.tuning.lora, "auto")
    loaded = []
    gc.collect()  # nothing of an earlier test is freed while this one is measured
    _, _, peak = allocated(
        lambda: train_on_noise(config, folder, tmp_path, CPU, shape.vocabulary, lambda: loaded.append(True))
    )
    assert loaded == [True]
    assert (tmp_path / "runs" / "noise" / "train_log.csv").read_text().count("\n") >= 1
    estimated = estimate(shape, setup_of(config, CPU)).peak
    assert 0.95 * peak < estimated < 1.1 * peak, estimated / peak


def test_a_case_keeps_the_config_s_adapter_and_optimizer(tmp_path: Path) -> None:
    given = Config()
    given = given.model_copy(update={"train": given.train.model_copy(update={"optim": "adafactor"})})
    config = case_config(given, Case("m", 64, "full", False), tmp_path)
    assert config.train.optim == "adafactor"
    assert (config.tuning.mode, config.model.max_seq_len, config.train.gradient_checkpointing) == ("full", 64, False)


def test_both_numbers_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    gib = 2**30
    case = Case("Qwen2.5-3B", 512, "qlora", True)
    build_peak.show([Compared(case, 3 * gib, 4 * gib), Compared(case, 90 * gib, None)])
    out = capsys.readouterr().out
    assert "3.00 GiB" in out
    assert "4.00 GiB" in out
    assert "-25.0%" in out
    assert "would not fit" in out


def test_the_grid_is_run_case_by_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the models, the device and the measurement played."""
    gpu = build_peak.Device("cuda", "a GPU", 80 * 2**30, 79 * 2**30, (9, 0), has_bf16=True)
    monkeypatch.setattr(build_peak, "find_device", lambda: gpu)
    monkeypatch.setattr(build_peak, "MODELS", {"tiny": NUMBERS})
    monkeypatch.setattr(build_peak, "COMPARED", ("tiny",))
    monkeypatch.setattr(build_peak.torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(build_peak.torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(build_peak.torch.cuda, "max_memory_allocated", lambda: 1000)
    trained = []
    monkeypatch.setattr(build_peak, "train_on_noise", lambda config, *rest: trained.append(config))
    compared = verify(Config())
    assert [(one.case.length, one.case.mode) for one in compared] == [
        (length, mode) for length in (512, 2048) for mode in ("qlora", "qlora", "lora", "full")
    ]
    assert [config.tuning.mode for config in trained] == ["qlora", "qlora", "lora", "full"] * 2
    assert {one.measured for one in compared} == {1000}
    assert all(one.estimated > 1000 for one in compared)


def test_the_probe_s_choice_is_found_by_its_own_trials(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    """On a CPU, on a tiny model; what it is found for is the small card, not this machine."""
    from sftlib import build_probed

    monkeypatch.setattr(build_probed, "MODELS", {"tiny": NUMBERS})
    monkeypatch.setattr(build_probed, "CASES", (("tiny", 64),))
    monkeypatch.setattr(build_probed, "EFFECTIVE", 2)
    monkeypatch.setattr(build_probed, "LADDER", build_probed.LADDER[:2])
    monkeypatch.setattr(build_probed, "find_device", lambda: CPU)
    monkeypatch.setattr(build_probed, "search", partial(search, seconds=math.inf))  # however busy it is
    (one,) = build_probed.verify(Config())
    assert one.room == int(0.97 * 8 * 2**30)
    assert [tried.choice.size for tried in one.found.tried] == [1, 2]
    assert one.found.chosen.speed > 0
    assert one.estimated > 0
    build_probed.show([one])
    assert "The probe's choice in 8.00 GiB, qlora" in capsys.readouterr().out
    monkeypatch.setattr(build_probed, "LIMIT_BYTES", 1)
    (none,) = build_probed.verify(Config())
    assert none.found.chosen is None
    build_probed.show([none])
    assert "nothing fits" in capsys.readouterr().out


def test_long_rows_are_tried_with_each_of_the_means_in_turn(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """On a CPU, on a tiny model; a paged optimizer is there as well, and moves no pages."""
    from sftlib import build_probed

    monkeypatch.setattr(build_probed, "MODELS", {"tiny": NUMBERS})
    monkeypatch.setattr(build_probed, "LONG", (("tiny", 192),))
    monkeypatch.setattr(build_probed, "EFFECTIVE", 2)
    monkeypatch.setattr(build_probed, "find_device", lambda: CPU)
    (one,) = build_probed.in_turn(Config())
    assert [tried.choice for tried, _ in one.tried] == [(1, *rung) for rung in build_probed.LADDER]
    assert all(tried.fits and tried.speed > 0 for tried, _ in one.tried)
    estimated = [peak for _, peak in one.tried]
    assert estimated == sorted(estimated, reverse=True)
    assert estimated[-1] < estimated[0]
    assert list(one.costs) == ["checkpointing", "offload", "paged", "stream"]
    assert {name: length for name, (_, length) in one.costs.items()}["stream"] == 192
    build_probed.show_in_turn([one])
    said = " ".join(capsys.readouterr().out.split())
    assert "A row at a time in 8.00 GiB, qlora, each of the means on top" in said
    assert all(f"{name} +" in said for name in ("checkpointing", "offload", "paged"))
    assert "tiny: with layer streaming" in said
    monkeypatch.setattr(build_probed, "LIMIT_BYTES", one.weights)
    (small,) = build_probed.in_turn(Config())
    assert [tried.choice.means for tried, _ in small.tried] == [build_probed.LADDER[-1]]
    build_probed.show_in_turn([small])
    assert "the weights alone take" in " ".join(capsys.readouterr().out.split())
