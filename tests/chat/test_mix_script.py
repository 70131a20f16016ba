"""scripts/mix.py as a person runs it: options that arrive, the table, the report, exit codes, bounded memory."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import mix
import pytest
from chat.conftest import jsonl

from sftlib.chat.processing import process
from sftlib.config.schema import DataSection

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "mix.py"


@pytest.fixture
def project(raw):
    """Two files of rows."""
    raw("c.yaml", "seed: 3\n")
    raw("a.jsonl", [{"q": f"a{n}?", "a": f"{n}."} for n in range(30)])
    raw("b.jsonl", [{"q": f"b{n}?", "a": f"{n}."} for n in range(9)] + [{"q": "A0?", "a": "0."}])
    return raw


def run(*arguments):
    """The script in the current folder."""
    command = [sys.executable, SCRIPT, *arguments, "--config", "c.yaml", "--out", "out.jsonl"]
    return subprocess.run(command, capture_output=True, text=True)


def test_options_arrive(project):
    done = run("a.jsonl:3", "b.jsonl:1", "--rows", "40", "--dedupe", "folded", "--temperature", "2")
    assert done.returncode == 0, done.stderr
    report = json.loads(Path("out.report.json").read_text())
    assert [(one["taken"], one["duplicates"], one["rows"]) for one in report["sets"]] == [(25, 0, 30), (15, 1, 9)]
    assert (report["seed"], report["rows"], report["dedupe"], report["written"]) == (3, 40, "folded", 40)
    assert report["sha256"] == hashlib.sha256(Path("out.jsonl").read_bytes()).hexdigest()
    assert "62.5 %" in done.stdout
    assert "1 or 2" in done.stdout
    assert "Rows of b.jsonl are in the mix more than once" in done.stderr
    assert "make process RAW=out.jsonl" in done.stderr
    before = jsonl("out.jsonl")
    assert run("a.jsonl:3", "b.jsonl:1", "--rows", "40", "--seed", "4").returncode == 0
    assert jsonl("out.jsonl") != before


def test_the_mix_goes_through_process(project):
    assert run("a.jsonl", "b.jsonl").returncode == 0
    report = process(DataSection(), 42, ["out.jsonl"], "processed")
    assert report.kept_rows == 40
    row = jsonl("processed/train.jsonl")[0]
    name, _, line = row["source"].partition(":")
    assert name == "out.jsonl"
    origin = jsonl(name)[int(line) - 1]["mixed_from"]
    assert jsonl(origin.partition(":")[0])[int(origin.partition(":")[2]) - 1]["q"] == row["user"]


def test_a_share_of_less_than_a_row_is_said(project):
    done = run("a.jsonl:1000", "b.jsonl:1")
    assert done.returncode == 0, done.stderr
    assert "No row of b.jsonl is in the mix" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a.jsonl:0"], 2, "The weight of a.jsonl is 0"),
        (["a.jsonl", "a.jsonl:2"], 2, "named twice"),
        (["nowhere.jsonl"], 3, "There is no file or folder 'nowhere.jsonl'"),
        (["a.jsonl", "--similarity", "0", "--dedupe", "near"], 2, "--similarity is 0"),
    ],
)
def test_mistakes_end_with_words_and_their_exit_code(project, capsys, arguments, code, said):
    assert mix.main([*arguments, "--config", "c.yaml", "--out", "out.jsonl"]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("out.jsonl").exists()


def test_memory_does_not_grow_with_the_rows(project):
    with open("big.jsonl", "w") as stream:
        for number in range(3000):
            stream.write(json.dumps({"q": f"{number}", "a": "x" * 20_000}) + "\n")  # 60 MB
    code = (
        f"import sys, resource; sys.path.insert(0, {str(SCRIPT.parent)!r}); import mix\n"
        "import numpy\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "given = ['big.jsonl', 'a.jsonl', '--config', 'c.yaml', '--out', 'out.jsonl', '--dedupe', 'exact']\n"
        "assert mix.main(given) == 0\n"
        "print('KiB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 45_000  # KiB; pydantic and rich take 25,000 of them
    assert Path("out.jsonl").stat().st_size > 60_000_000
