"""The probe: real numbers from this machine, and a container's limit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from sftlib.memory import probe


def test_finds_the_device_of_this_machine():
    device = probe.find_device()
    assert device.kind == ("cuda" if torch.cuda.is_available() else "cpu") or device.kind == "mps"
    assert 0 < device.free_bytes <= device.total_bytes
    assert device.name


def test_main_memory_is_the_system_s_without_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(probe, "CGROUP", tmp_path)
    total, free = probe.main_memory()
    assert total == psutil.virtual_memory().total
    assert 0 < free <= total


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    monkeypatch.setattr(probe, "CGROUP", tmp_path)
    assert probe.main_memory() == (1000, 500)  # 1000 - 700 used + 200 of page cache that can be given back


def test_no_limit_is_written_max(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\n")
    monkeypatch.setattr(probe, "CGROUP", tmp_path)
    assert probe.main_memory()[0] == psutil.virtual_memory().total


def test_the_peak_is_in_bytes():
    resident = psutil.Process().memory_info().rss
    assert resident * 0.9 < probe.process_peak_bytes() < psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("answer", "drives"), [("Enabled\n", True), ("Disabled\n", False), ("[N/A]\n", True), (None, True)]
)
def test_a_gpu_drives_a_display_unless_the_driver_says_no(monkeypatch: pytest.MonkeyPatch, answer: str | None, drives):
    asked = []

    def run(command, **options):
        asked.append(command)
        if answer is None:
            raise FileNotFoundError("nvidia-smi")
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(probe.subprocess, "run", run)
    monkeypatch.setattr(probe.torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="8a1b-22"))
    assert probe.drives_display() is drives
    assert asked[0][-1] == "--id=GPU-8a1b-22"


@pytest.mark.parametrize(("fraction", "total", "free"), [(1.0, 80, 70), (0.25, 20, 17), (0.9, 72, 69)])
def test_what_a_process_is_allowed_of_a_card_is_all_there_is(monkeypatch, fraction: float, total: int, free: int):
    answers = {
        "is_available": True, "mem_get_info": (70, 80), "get_per_process_memory_fraction": fraction,
        "memory_reserved": 3, "get_device_capability": (9, 0), "is_bf16_supported": True, "get_device_name": "a card",
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    device = probe.find_device()
    assert (device.kind, device.total_bytes, device.free_bytes) == ("cuda", total, free)
