"""The workflows with `make` replaced by one that writes down what it is asked: order, options, questions, failures.

That the same calls work for real is shown by tests/e2e.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from pathlib import Path

import pytest
from front_door import ROOT, clean_environment, run, write_program

MAKE = """#!/bin/bash
# Notes its arguments; fails for what is listed in `failing`; makes what the workflows look for.
[[ $1 == --question ]] && exit "$(cat installed)"
shift # --no-print-directory
printf '%s\\n' "$*" >> calls
while read -r words; do
    [[ " $* " == *" $words "* ]] && exit 2
done < failing
if [[ " $* " =~ " train RUN="([^ ]*) && ! -e stopping ]]; then
    mkdir -p "outputs/${BASH_REMATCH[1]}" && touch "outputs/${BASH_REMATCH[1]}/summary.json"
fi
exit 0
"""
PYTHON = """#!/bin/sh
[ "$1" = - ] && echo "0.210 -> 0.430" || echo "hardware: $*"
"""
EMPTY = "CONFIG= MODEL= SET="


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The workflows in a project of stand-ins, with sample data and an installed environment."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    for name in ("data/raw", "data/sample", "configs", "outputs"):
        (folder / name).mkdir(parents=True)
    (folder / "data" / "sample" / "teaching_steps.jsonl").write_text("{}\n")
    (folder / "data" / "raw" / ".gitkeep").touch()
    (folder / "configs" / "run_smoke.yaml").touch()
    (folder / "failing").touch()
    (folder / "installed").write_text("0")
    write_program(folder / "programs" / "make", MAKE)
    write_program(folder / ".venv" / "bin" / "python", PYTHON)
    return folder


def workflow(project: Path, name: str, *options: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = f"{project / 'programs'}:{os.environ['PATH']}"
    return run(str(project / "workflows" / name), *options, folder=folder or project, PATH=path)


def calls(project: Path) -> list[str]:
    path = project / "calls"
    return path.read_text().splitlines() if path.exists() else []


def in_a_terminal(project: Path, *options: str, answers: list[str]) -> tuple[int, str]:
    """Run quick start on a terminal, typing the next answer at each question mark that waits; exit code and screen."""
    master, slave = pty.openpty()
    environment = clean_environment() | {"PATH": f"{project / 'programs'}:{os.environ['PATH']}", "TERM": "dumb"}
    process = subprocess.Popen(
        [str(project / "workflows" / "quick_start.sh"), *options], cwd=project, env=environment,
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    screen, left = "", list(answers)
    while select.select([master], [], [], 20)[0]:
        try:
            screen += os.read(master, 4096).decode()
        except OSError:  # the terminal is closed: it has ended
            break
        if screen.endswith(("[Y/n] ", "above: ")):
            os.write(master, (left.pop(0) + "\n").encode())
    os.close(master)
    assert not left, f"not asked for: {left}\n{screen}"
    return process.wait(20), screen


def test_quick_start_is_the_whole_chain_in_order(project: Path) -> None:
    done = workflow(project, "quick_start.sh", "--yes")
    assert done.returncode == 0, done.stderr
    assert calls(project) == [
        "install",
        f"download-model {EMPTY}",
        f"process RAW= {EMPTY}",
        f"check {EMPTY}",
        f"train RUN=quick-start {EMPTY}",
        f"eval-test RUN=quick-start {EMPTY}",
        f"merge RUN=quick-start {EMPTY}",
        f"merge-test RUN=quick-start {EMPTY}",
    ]
    assert (project / "data" / "raw" / "teaching_steps.jsonl").is_file()
    assert "hardware: scripts/hardware.py --config configs/config_base.yaml" in done.stdout
    assert "[1/9] Installing" in done.stdout
    assert "[9/9] done in" in done.stdout
    assert "make infer-interactive RUN=quick-start" in done.stdout


def test_data_of_ones_own_is_taken_and_sample_data_stays_out(project: Path) -> None:
    (project / "data" / "raw" / "mine.csv").touch()
    assert workflow(project, "quick_start.sh").returncode == 0
    assert [path.name for path in (project / "data" / "raw").glob("[!.]*")] == ["mine.csv"]


def test_options_reach_make_from_another_folder(project: Path, tmp_path: Path) -> None:
    (tmp_path / "my rows.csv").touch()
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.gguf").touch()
    options = ["--model", "mine.gguf", "--run", "r1", "--steps", "4", "--config", "mine.yaml"]
    done = workflow(project, "quick_start.sh", *options, "--raw", "my rows.csv", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    given = f"CONFIG={tmp_path}/mine.yaml MODEL={tmp_path}/mine.gguf SET=train.max_steps=4"
    assert f"process RAW={tmp_path}/my rows.csv {given}" in calls(project)
    assert f"train RUN=r1 {given}" in calls(project)
    assert (
        f"hardware.py --config {tmp_path}/mine.yaml --set model.name={tmp_path}/mine.gguf --set train.max_steps=4"
        in done.stdout
    )


def test_a_finished_run_is_never_trained_over(project: Path) -> None:
    (project / "outputs" / "quick-start").mkdir()
    (project / "outputs" / "quick-start" / "summary.json").touch()
    (project / "outputs" / "quick-start-2").mkdir()  # begun, not finished: that one is gone on with
    workflow(project, "quick_start.sh", "--smoke")
    assert "train RUN=quick-start-2 CONFIG=configs/run_smoke.yaml MODEL= SET=" in calls(project)


def test_a_failed_stage_is_named_with_the_way_on(project: Path) -> None:
    (project / "failing").write_text("train\n")
    done = workflow(project, "quick_start.sh", "--smoke", "--model", "my model.gguf")
    assert done.returncode == 1
    assert calls(project)[-1].startswith("train ")
    assert "[7/9] Training" in done.stderr
    assert "failed with exit code 2" in done.stderr
    way_on = "--run quick-start --from train --model my\\ model.gguf --config configs/run_smoke.yaml"
    assert f"go on with: ./workflows/quick_start.sh {way_on}" in done.stderr

    (project / "failing").write_text("")
    (project / "calls").unlink()
    done = workflow(project, "quick_start.sh", "--run", "quick-start", "--from", "train")
    assert done.returncode == 0, done.stderr
    assert [call.split()[0] for call in calls(project)] == ["install", "train", "eval-test", "merge", "merge-test"]
    assert "[5/5] done in" in done.stdout


def test_a_training_that_was_stopped_is_gone_on_with(project: Path) -> None:
    """It ends well, as it was asked to, but there is nothing to measure yet."""
    (project / "stopping").touch()
    done = workflow(project, "quick_start.sh", "--yes", "--run", "mine")
    assert done.returncode == 1
    assert "stopped before its end" in done.stderr
    assert "--run mine --from train" in done.stderr
    assert not any("eval" in call for call in calls(project))


def test_a_failed_install_stops_before_everything(project: Path) -> None:
    (project / "failing").write_text("install\n")
    done = workflow(project, "quick_start.sh")
    assert done.returncode == 1
    assert calls(project) == ["install"]
    assert done.stderr.rstrip().endswith("go on with: ./workflows/quick_start.sh")


def test_a_person_is_asked_and_enter_takes_the_defaults(project: Path) -> None:
    (project / "installed").write_text("1")
    code, screen = in_a_terminal(project, answers=["", "", "", "n"])
    assert code == 0, screen
    assert (
        screen.index("Install it?") < screen.index("hardware:") < screen.index("Base model?") < screen.index("Begin?")
    )
    assert f"train RUN=quick-start {EMPTY}" in calls(project)
    assert calls(project)[-1].startswith("merge-test")


def test_a_person_may_choose_another_model_and_talk_to_it(project: Path) -> None:
    code, screen = in_a_terminal(project, answers=["org/name", "y", ""])
    assert code == 0, screen
    assert "train RUN=quick-start CONFIG= MODEL=org/name SET=" in calls(project)
    assert calls(project)[-1] == "infer-interactive RUN=quick-start CONFIG= MODEL=org/name SET="


@pytest.mark.parametrize(("answers", "made"), [(["n"], []), (["", "", "n"], ["install"])])
def test_no_means_no(project: Path, answers: list[str], made: list[str]) -> None:
    (project / "installed").write_text("1")
    code, screen = in_a_terminal(project, answers=answers)
    assert code == 0, screen
    assert calls(project) == made
    assert "Stopped before anything was trained." in screen


def test_yes_asks_nothing_even_in_a_terminal(project: Path) -> None:
    code, screen = in_a_terminal(project, "--yes", answers=[])
    assert code == 0, screen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frob"], "There is no option --frob."),
        (["--model"], "--model needs a value."),
        (["--steps", "0"], "--steps takes a whole number above 0"),
        (["--run", "a b"], "--run takes letters"),
        (["--raw", "nowhere.csv"], "There is no file or folder 'nowhere.csv'."),
        (["--config", "nowhere.yaml"], "There is no config 'nowhere.yaml'."),
        (["--from", "lunch", "--run", "r"], "There is no stage 'lunch'"),
        (["--from", "train"], "name it with --run"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_done(project: Path, options: list[str], message: str) -> None:
    done = workflow(project, "quick_start.sh", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "quick_start.sh --help" in done.stderr
    assert calls(project) == []


def test_a_whole_model_is_not_merged(project: Path) -> None:
    (project / "outputs" / "r" / "adapter").mkdir(parents=True)
    (project / "outputs" / "r" / "adapter" / "config.json").touch()
    done = workflow(project, "quick_start.sh", "--run", "r")
    assert done.returncode == 0, done.stderr
    assert "nothing to merge" in done.stdout
    assert not any(call.startswith("merge") for call in calls(project))


@pytest.mark.parametrize("name", ["quick_start.sh", "batch_process.sh"])
def test_help(project: Path, name: str) -> None:
    done = workflow(project, name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"./workflows/{name} [options]")
    assert calls(project) == []


def test_a_batch_goes_on_after_a_failure_and_says_so_at_the_end(project: Path, tmp_path: Path) -> None:
    for name in ("faq.csv", "two words.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "notes.d").mkdir()
    (project / "failing").write_text("eval-test RUN=faq\n")
    done = workflow(
        project, "batch_process.sh", "faq.csv", "two words.jsonl", "notes.d", "--steps", "2", folder=tmp_path
    )
    assert done.returncode == 1
    begun = [call for call in calls(project) if call.split()[0] in ("process", "train", "eval-test", "merge-test")]
    expected = [
        f"process RAW={tmp_path}/faq.csv SET=data.processed_dir=data/processed/faq CONFIG= MODEL=",
        "train RUN=faq SET=data.processed_dir=data/processed/faq train.max_steps=2 CONFIG= MODEL=",
        "eval-test RUN=faq SET=data.processed_dir=data/processed/faq CONFIG= MODEL=",
    ]
    assert begun[:3] == expected
    assert (
        f"process RAW={tmp_path}/two words.jsonl SET=data.processed_dir=data/processed/two-words CONFIG= MODEL="
        in begun
    )
    assert "merge-test RUN=notes.d CONFIG= MODEL=" in begun
    table = done.stdout[done.stdout.rindex("\nrun ") :].split("\n")
    assert [line.split() for line in table[2:5]] == [
        ["faq", "failed:", "eval", "0.0", "-"],
        ["two-words", "done", "0.0", "0.210", "->", "0.430"],
        ["notes.d", "done", "0.0", "0.210", "->", "0.430"],
    ]
    assert "1 of 3 failed" in done.stderr


def test_a_batch_without_paths_takes_what_lies_in_raw(project: Path) -> None:
    for name in ("a.csv", "a.jsonl"):
        (project / "data" / "raw" / name).touch()
    done = workflow(project, "batch_process.sh", "--smoke")
    assert done.returncode == 0, done.stderr
    assert [call.split()[1] for call in calls(project) if call.startswith("train")] == ["RUN=a", "RUN=a-2"]


@pytest.mark.parametrize(
    ("source", "name"), [("tb", "tb-data"), ("_été 2024.csv", "t---2024"), ("...", "run"), ("a.b.jsonl", "a.b")]
)
def test_the_name_of_a_run_is_one_that_training_accepts(project: Path, source: str, name: str) -> None:
    (project / source).touch()
    assert workflow(project, "batch_process.sh", source).returncode == 0
    trained = next(call for call in calls(project) if call.startswith("train"))
    assert f" RUN={name} " in trained


def test_a_batch_of_nothing_is_an_error(project: Path) -> None:
    done = workflow(project, "batch_process.sh")
    assert done.returncode == 2
    assert "data/raw is empty and no PATH was given." in done.stderr


def test_a_batch_whose_install_fails_begins_nothing(project: Path) -> None:
    (project / "data" / "raw" / "a.csv").touch()
    (project / "failing").write_text("install\n")
    assert workflow(project, "batch_process.sh").returncode != 0
    assert calls(project) == ["install"]


def test_the_shell_scripts_are_clean() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(os.sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("no shellcheck; `make install EXTRAS=dev` brings it")
    scripts = [*ROOT.glob("workflows/*.sh"), *ROOT.glob("scripts/*.sh"), ROOT / ".ci" / "run"]
    done = run(shellcheck, "--external-sources", *map(str, sorted(scripts)))
    assert done.returncode == 0, done.stdout
