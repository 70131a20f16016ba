"""Every target of the front door: listed by `make help`, and exactly the line over the script that it is said to be."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from front_door import ROOT, make_venv, run

BASE = "--config configs/config_base.yaml"
# target (and variables) -> what it runs, in order; {python} is the environment's
LINES = {
    "download-model MODEL=org/name": [f"{{python}} scripts/download_model.py {BASE} --set 'model.name=org/name'"],
    "init NAME=my-project": ["{python} scripts/init_project.py 'my-project'"],
    "convert-config FROM=axolotl IN='my x.yml' OUT=configs/y.yaml": [
        "{python} scripts/convert_config.py --from 'axolotl' --in 'my x.yml' --out 'configs/y.yaml'"
    ],
    "convert-config FROM=llamafactory IN=x.yml OUT=y.yaml DEVICES=4 FORCE=1": [
        "{python} scripts/convert_config.py --from 'llamafactory' --in 'x.yml' --out 'y.yaml' --devices '4' --force"
    ],
    "templates": [f"{{python}} scripts/templates.py {BASE}"],
    "templates MODEL=org/name": [f"{{python}} scripts/templates.py {BASE} --set 'model.name=org/name'"],
    "augment RAW=a.csv OUT=b.jsonl PERSONA='You teach.' OPTIONS='--structure --copies 2' SYSTEM=@s.txt": [
        f"{{python}} scripts/augment.py 'a.csv' --out 'b.jsonl' {BASE} --system '@s.txt' --persona 'You teach.' "
        "'--structure' '--copies' '2'"
    ],
    "augment OUT=b.jsonl ENDPOINT=http://x/v1 MODEL=m STYLE='Be brief.'": [
        f"{{python}} scripts/augment.py --out 'b.jsonl' {BASE} --set 'model.name=m' --endpoint 'http://x/v1' "
        "--model 'm' --instruction 'Be brief.'"
    ],
    "mix FILES='a.jsonl:2 b.jsonl:1' OUT=c.jsonl ROWS=9 OPTIONS='--dedupe near'": [
        f"{{python}} scripts/mix.py 'a.jsonl:2' 'b.jsonl:1' --out 'c.jsonl' {BASE} --rows '9' '--dedupe' 'near'"
    ],
    "process": [f"{{python}} scripts/process_data.py {BASE}"],
    "process RAW=a.csv": [f"{{python}} scripts/process_data.py {BASE} --raw_path 'a.csv'"],
    "style STYLE='Be brief.'": [f"{{python}} scripts/style_prompt.py {BASE} --style 'Be brief.'"],
    "render": [f"{{python}} scripts/render_template.py {BASE}"],
    "render DATA=styled": [f"{{python}} scripts/render_template.py {BASE} --from 'styled'"],
    "full-pipeline": [
        f"{{python}} scripts/process_data.py {BASE}",
        f"{{python}} scripts/render_template.py {BASE} --from processed",
    ],
    "full-pipeline STYLE='Be brief.'": [
        f"{{python}} scripts/process_data.py {BASE}",
        f"{{python}} scripts/style_prompt.py {BASE} --style 'Be brief.'",
        f"{{python}} scripts/render_template.py {BASE} --from styled",
    ],
    "prepare": [f"{{python}} scripts/prepare.py {BASE}"],
    "prepare CONFIG=mine/train.yaml DRY_RUN=1": ["{python} scripts/prepare.py --config 'mine/train.yaml' --dry-run"],
    "prepare DEBUG=2": [f"{{python}} scripts/prepare.py {BASE} --debug '2'"],
    "analyze": [f"{{python}} scripts/analyze.py {BASE}"],
    "analyze FAIL_ON=leaks,private NO_TOKENS=1 DATA=styled": [
        f"{{python}} scripts/analyze.py {BASE} --set data.train_path=data/processed_with_style/train.jsonl "
        "--set data.val_path=data/processed_with_style/val.jsonl "
        "--set data.test_path=data/processed_with_style/test.jsonl --fail-on 'leaks,private' --no-tokens"
    ],
    "check": [f"{{python}} scripts/check.py {BASE}"],
    "rehearse": [f"{{python}} scripts/rehearse.py {BASE}"],
    "rehearse RAW=a.csv": [f"{{python}} scripts/rehearse.py {BASE} --raw_path 'a.csv'"],
    "estimate": [f"{{python}} scripts/estimate.py {BASE}"],
    "estimate CARD=12": [f"{{python}} scripts/estimate.py {BASE} --card '12'"],
    "estimate-verify": [f"{{python}} scripts/estimate.py {BASE} --verify"],
    "train": [f"{{python}} scripts/train.py {BASE}"],
    "train RUN=first CONFIG=mine.yaml": ["{python} scripts/train.py --config 'mine.yaml' --set 'run_name=first'"],
    "train SET='a.b=1 c.d=x'": [f"{{python}} scripts/train.py {BASE} --set 'a.b=1' --set 'c.d=x'"],
    "train DATA=styled": [
        f"{{python}} scripts/train.py {BASE} --set data.train_path=data/processed_with_style/train.jsonl "
        "--set data.val_path=data/processed_with_style/val.jsonl "
        "--set data.test_path=data/processed_with_style/test.jsonl"
    ],
    "train-bnb": ["{python} scripts/train.py --config configs/run_bnb.yaml"],
    "train-bnb CONFIG=mine.yaml": ["{python} scripts/train.py --config 'mine.yaml'"],
    "verify-unsloth": ["{python} scripts/verify_unsloth.py --config configs/run_unsloth.yaml"],
    "verify-unsloth SET=tuning.mode=lora DATA=processed": [
        "{python} scripts/verify_unsloth.py --config configs/run_unsloth.yaml --set 'tuning.mode=lora' "
        "--set data.train_path=data/processed/train.jsonl --set data.val_path=data/processed/val.jsonl "
        "--set data.test_path=data/processed/test.jsonl"
    ],
    "train-unsloth": ["{python} scripts/train.py --config configs/run_unsloth.yaml"],
    "train-with-tb": [
        "{python} scripts/tensorboard_server.py start --port 6006",
        f"{{python}} scripts/train.py {BASE}",
    ],
    "train-bnb-tb TB_PORT=6010": [
        "{python} scripts/tensorboard_server.py start --port 6010",
        "{python} scripts/train.py --config configs/run_bnb.yaml",
    ],
    "train-unsloth-tb": [
        "{python} scripts/tensorboard_server.py start --port 6006",
        "{python} scripts/train.py --config configs/run_unsloth.yaml",
    ],
    "train-bnb ACCELERATE=fsdp2 PROCESSES=4": [
        "{python} -m accelerate.commands.launch --config_file configs/accelerate/fsdp2.yaml --num_processes '4' "
        "scripts/train.py --config configs/run_bnb.yaml"
    ],
    "train ACCELERATE=single": [
        "{python} -m accelerate.commands.launch --config_file configs/accelerate/single.yaml "
        f"scripts/train.py {BASE}"
    ],
    "train RUN=first FRESH=1": [f"{{python}} scripts/train.py {BASE} --set 'run_name=first' --fresh"],
    "stop": [f"{{python}} scripts/stop.py {BASE}"],
    "stop RUN=first": [f"{{python}} scripts/stop.py {BASE} --run 'first'"],
    "eval": [f"{{python}} scripts/eval.py {BASE} --split test"],
    "eval-val LIMIT=5": [f"{{python}} scripts/eval.py {BASE} --split val --limit '5'"],
    "eval-test RUN=first": [f"{{python}} scripts/eval.py {BASE} --run 'first' --split test"],
    "eval-quick": [f"{{python}} scripts/eval.py {BASE} --split val --limit 200"],
    "eval-full": [
        f"{{python}} scripts/eval.py {BASE} --split val --set eval.limit=null",
        f"{{python}} scripts/eval.py {BASE} --split test --set eval.limit=null",
    ],
    "infer": [f"{{python}} scripts/infer.py {BASE}"],
    "infer PROMPT='Why?'": [f"{{python}} scripts/infer.py {BASE} --prompt 'Why?'"],
    "infer-batch INPUT=q.txt OUTPUT=a.jsonl": [
        f"{{python}} scripts/infer.py {BASE} --mode batch --input_file 'q.txt' --output_file 'a.jsonl'"
    ],
    "infer-interactive ADAPTER=adapters/last": [
        f"{{python}} scripts/infer.py {BASE} --adapter 'adapters/last' --mode interactive"
    ],
    "merge RUN=first": [
        f"{{python}} scripts/merge_lora.py {BASE} --run 'first' --dtype fp16"
    ],
    "merge ADAPTER='my a' OUTPUT=there": [
        f"{{python}} scripts/merge_lora.py {BASE} --adapters 'my a' --out 'there' --dtype fp16"
    ],
    "merge-bf16 RUN=first": [
        f"{{python}} scripts/merge_lora.py {BASE} --run 'first' --dtype bf16"
    ],
    "merge CONFIG=my-project/train.yaml": [
        "{python} scripts/merge_lora.py --config 'my-project/train.yaml' --dtype fp16"
    ],
    "merge-test RUN=none-of-this-name": [
        f"{{python}} scripts/merge_lora.py {BASE} --run 'none-of-this-name' --test"
    ],
    "why ROW=faq.jsonl:17": [f"{{python}} scripts/why.py {BASE} --row 'faq.jsonl:17'"],
    "why RUN=first DATA=rendered": [
        f"{{python}} scripts/why.py {BASE} --set data.train_path=data/rendered/train.jsonl "
        "--set data.val_path=data/rendered/val.jsonl --set data.test_path=data/rendered/test.jsonl --run 'first'"
    ],
    "blocklist": [f"{{python}} scripts/why.py {BASE} --blocklist"],
    "blocklist RUN=first ROW=a.csv:2 OUT='my list.txt'": [
        f"{{python}} scripts/why.py {BASE} --blocklist --row 'a.csv:2' --run 'first' --out 'my list.txt'"
    ],
    "tensorboard": ["{python} scripts/tensorboard_server.py start --port 6006"],
    "tensorboard CONFIG=my-project/train.yaml": [
        "{python} scripts/tensorboard_server.py start --port 6006 --config 'my-project/train.yaml'"
    ],
    "tb-stop": ["{python} scripts/tensorboard_server.py stop"],
    "tb-clean": ["{python} scripts/tensorboard_server.py clean"],
    "tb-open": ["{python} scripts/tensorboard_server.py open"],
    "profile": [f"{{python}} scripts/profile_step.py {BASE}"],
    "profile RUN=first STEPS=5 SET=tuning.mode=lora": [
        f"{{python}} scripts/profile_step.py {BASE} --set 'tuning.mode=lora' --set 'run_name=first' --steps '5'"
    ],
    "bench": [f"{{python}} scripts/bench.py {BASE}"],
    "bench WORKLOAD=generate MODE=qlora DATA=shared/rows.jsonl": [
        f"{{python}} scripts/bench.py {BASE} --workload 'generate' --mode 'qlora' --raw_path 'shared/rows.jsonl'"
    ],
    "bench RAW=a.csv ROWS=96 ROUNDS=2 PEERS='trainer trl' PEER_VENVS='trl=/t lf=/l'": [
        f"{{python}} scripts/bench.py {BASE} --raw_path 'a.csv' --rows '96' --rounds '2' --peers trainer trl "
        "--environment 'trl=/t' --environment 'lf=/l'"
    ],
    "test": ["OMP_NUM_THREADS=1 {python} -m pytest --numprocesses=auto"],
    "fuzz": ["OMP_NUM_THREADS=1 {python} -m pytest -q tests/fuzz"],
    "fuzz CASE=data:137": ["CASE='data:137' OMP_NUM_THREADS=1 {python} -m pytest -q tests/fuzz"],
}  # fmt: skip
PROMISED = [
    "help", "install", "setup-dirs", "augment", "mix", "process", "style", "render", "full-pipeline", "prepare",
    "check", "train",
    "train-bnb", "train-unsloth", "train-with-tb", "train-bnb-tb", "train-unsloth-tb", "stop", "eval",
    "eval-val",
    "eval-test", "eval-quick", "eval-full", "infer", "infer-batch", "infer-interactive", "download-model",
    "merge", "merge-bf16", "merge-test", "tensorboard", "tb-stop", "tb-clean", "tb-open", "clean", "lint",
    "test", "fuzz", "rehearse", "estimate", "estimate-verify", "install-unsloth", "verify-unsloth",
    "bench", "bench-peers", "profile", "init", "convert-config", "templates", "why", "blocklist",
    "analyze",
]  # fmt: skip


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    return make_venv(tmp_path / "venv")


@pytest.mark.parametrize("call", LINES)
def test_a_target_is_its_line(venv: Path, call: str) -> None:
    done = run("make", f"VENV={venv}", "-n", *shlex.split(call))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [line.format(python=f"{venv}/bin/python") for line in LINES[call]]


def test_help_lists_exactly_what_is_promised() -> None:
    text = run("make", "help").stdout
    listed, variables = text.split("\nVariables\n")
    assert sorted(re.findall(r"^  ([a-z0-9-]+) ", listed, re.M)) == sorted(PROMISED)
    for name in ("CONFIG", "STYLE", "MODEL", "TB_PORT", "RUN", "SET"):
        assert re.search(rf"^  {name} ", variables, re.M)
    assert run("make").stdout == text


def test_every_promised_target_has_its_line_tested() -> None:
    tested = {call.split()[0] for call in LINES}
    elsewhere = {"help", "install", "install-unsloth", "setup-dirs", "clean", "lint", "bench-peers"}
    assert tested | elsewhere == set(PROMISED)


@pytest.mark.parametrize("target", sorted(set(PROMISED) - {"help", "setup-dirs", "clean", "bench-peers"}))
def test_a_target_installs_first_on_a_fresh_clone(tmp_path: Path, target: str) -> None:
    done = run("make", "-n", f"VENV={tmp_path}/none", target)
    assert f"scripts/make_environment.sh {tmp_path}/none requirements.txt" in done.stdout.splitlines()[0]


def test_each_peer_gets_an_environment_of_its_own_once(tmp_path: Path) -> None:
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    for name in ("trl", "llamafactory"):
        (tmp_path / f"requirements-bench-{name}.txt").touch()
    lines = run("make", "-n", "bench-peers", folder=tmp_path).stdout
    for name in ("trl", "llamafactory"):
        assert f"make_environment.sh .venv-bench-{name} requirements-bench-{name}.txt " in lines
    (tmp_path / ".venv-bench-trl").mkdir()
    (tmp_path / ".venv-bench-trl" / ".installed").touch()
    assert ".venv-bench-trl " not in run("make", "-n", "bench-peers", folder=tmp_path).stdout


def test_the_environment_of_unsloth_is_made_where_there_is_a_gpu(tmp_path: Path) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert text.count("/dev/nvidia0 /dev/dxg") == 1
    for name in ("trl", "unsloth"):
        (tmp_path / f"requirements-bench-{name}.txt").touch()
    for driver, is_made in (("there", True), ("nowhere", False)):
        (tmp_path / "there").touch()
        (tmp_path / "Makefile").write_text(text.replace("/dev/nvidia0 /dev/dxg", str(tmp_path / driver)))
        lines = run("make", "-n", "bench-peers", folder=tmp_path).stdout
        assert ".venv-bench-trl " in lines
        assert (".venv-bench-unsloth " in lines) is is_made


def test_unsloth_is_installed_on_top_of_the_core_once(venv: Path, tmp_path: Path) -> None:
    line = f"scripts/make_environment.sh {venv} requirements-unsloth.txt"
    assert line in run("make", "-n", f"VENV={venv}", "install-unsloth").stdout
    (venv / ".installed-unsloth").touch()
    assert "make_environment.sh" not in run("make", "-n", f"VENV={venv}", "install-unsloth").stdout
    both = run("make", "-n", f"VENV={tmp_path}/none", "install-unsloth").stdout
    assert both.index("requirements.txt") < both.index("requirements-unsloth.txt")


def test_an_environment_without_its_python_is_made_anew(venv: Path) -> None:
    """A link into nowhere is what an upgrade of the system's Python leaves."""
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(venv / "gone")
    assert "make_environment.sh" in run("make", "-n", f"VENV={venv}", "check").stdout


@pytest.mark.parametrize(
    ("target", "variable", "value"),
    [
        ("style", "STYLE", 'it\'s a "test" of `this` $HOME and $(that); done'),
        ("infer", "PROMPT", "1 < 2 && 3 | 4 * 5 # 6"),
        ("process", "RAW", "my data/a 'b'.csv"),
    ],
)
def test_a_text_arrives_as_it_was_typed(tmp_path: Path, target: str, variable: str, value: str) -> None:
    venv = make_venv(tmp_path, 'for word; do printf "%s\\n" "$word"; done')
    done = run("make", "-s", target, f"VENV={venv}", f"{variable}={value}")
    assert done.returncode == 0, done.stderr
    assert value in done.stdout.splitlines()


def test_an_unknown_split_is_refused(venv: Path) -> None:
    done = run("make", "-n", "train", "DATA=style", f"VENV={venv}")
    assert done.returncode == 2
    assert "DATA=style is none of processed, styled, rendered" in done.stderr


def test_a_pythonpath_from_elsewhere_is_not_seen(tmp_path: Path) -> None:
    venv = make_venv(tmp_path, 'echo "[$PYTHONPATH]"')
    assert run("make", "-s", "check", f"VENV={venv}", PYTHONPATH="/from/elsewhere").stdout == "[]\n"


def test_a_failing_script_fails_the_target(tmp_path: Path) -> None:
    venv = make_venv(tmp_path, "exit 3")
    assert run("make", "-s", "full-pipeline", f"VENV={venv}").returncode == 2


def test_clean_deletes_what_can_be_made_again_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    assert run("make", "setup-dirs", folder=tmp_path).returncode == 0
    kept = ["data/raw/mine.csv", "models/m/weights", "outputs/run/adapter/w", "adapters/last", "data/sample/s.jsonl"]
    gone = [
        "data/processed/train.jsonl",
        "data/processed_with_style/x",
        "data/rendered/x",
        "outputs/.cache/x",
        "outputs/.rehearsal/x",
    ]
    gone += [".pytest_cache/x", "scripts/sftlib/__pycache__/x.pyc", "tests/__pycache__/x.pyc"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = run("make", "clean", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in gone if (tmp_path / name).exists()] == []
