"""The whole chain by its real scripts on a tiny model: every arrow of the design is a file that the next one reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_project import call, make_project, rows_of

from sftlib.files import read_json


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project that was processed, styled, rendered, checked and trained. Copy it, never write into it."""
    folder = make_project(tmp_path_factory.mktemp("chain") / "project", tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("process_data") == 0
        assert call("style_prompt", "--style", "Be exact.") == 0
        assert call("render_template", "--from", "styled") == 0
        assert call("check") == 0
        assert call("train") == 0
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained project, as current folder."""
    shutil.copytree(trained, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_run_holds_all_that_the_design_names(project):
    run = Path("outputs/tiny")
    for name in (
        "config.yaml", "backend.json", "stamp.json", "metrics.jsonl", "seen.jsonl", "train_log.csv",
        "time_metrics.json", "summary.json", "best.json", "adapter/adapter_model.safetensors", "adapter/tokenizer.json",
        "adapter/chat_template.jinja", "adapter/generation_config.json", "adapter/base.json",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert list(Path("outputs/tb/tiny").rglob("events.out.tfevents.*"))
    assert Path("adapters/last").resolve() == (run / "adapter").resolve()
    assert read_json(run / "backend.json")["used"] == "plain"
    assert read_json(run / "stamp.json")["data"].keys() == {"train", "val"}
    assert {row["source"].split(":")[0] for row in rows_of("data/processed/train.jsonl")} == {"raw/sums.jsonl"}


def test_training_lowers_the_loss_and_writes_it_down(project):
    losses = [row["loss"] for row in rows_of("outputs/tiny/metrics.jsonl") if "loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    evaluations = [row for row in rows_of("outputs/tiny/metrics.jsonl") if "eval_loss" in row]
    assert [row["step"] for row in evaluations] == [2, 4]
    assert all(0 <= row["eval_rougeL"] <= 1 for row in evaluations)


def test_two_trainings_are_bit_equal(project):
    assert call("train", settings=("run_name=again",)) == 0
    first, second = (Path(f"outputs/{run}/adapter/adapter_model.safetensors") for run in ("tiny", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_finished_run_is_not_trained_over(project, capsys):
    before = Path("outputs/tiny/adapter/adapter_model.safetensors").read_bytes()
    assert call("train") == 5
    assert "is finished" in capsys.readouterr().err
    assert Path("outputs/tiny/adapter/adapter_model.safetensors").read_bytes() == before


def test_an_interrupted_run_goes_on_and_refuses_other_data(project, capsys):
    """Taken back to its first checkpoint, it ends with the same weights; on other data or settings it refuses."""
    run = Path("outputs/tiny")
    whole = (run / "adapter/adapter_model.safetensors").read_bytes()
    for path in ("adapter", "checkpoint-4"):
        shutil.rmtree(run / path)
    (run / "summary.json").unlink()
    assert call("train", settings=("train.learning_rate=0.02",)) == 5
    assert "train.learning_rate was 0.01, is 0.02" in capsys.readouterr().err
    train = Path("data/processed/train.jsonl")
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("add them", "sum them", 1), encoding="utf-8")
    assert call("train") == 5
    assert "data.train was" in capsys.readouterr().err
    train.write_text(text, encoding="utf-8")
    assert call("train") == 0
    assert "Going on from" in capsys.readouterr().err
    assert (run / "adapter/adapter_model.safetensors").read_bytes() == whole


def test_evaluation_of_base_and_tuned(project, capsys):
    assert call("eval", "--split", "test") == 0
    shown = capsys.readouterr().out
    assert "ROUGE-L" in shown
    assert "stop rate" in shown
    metrics = read_json("outputs/metrics.json")
    assert metrics == read_json("outputs/tiny/eval/test/metrics.json")
    for system in ("base", "tuned"):
        assert 0 <= metrics[system]["rougeL"] <= 1
        assert 0 <= metrics[system]["stop_rate"] <= 1
    samples = rows_of("outputs/samples.jsonl")
    assert len(samples) == 3
    assert Path("outputs/samples.md").is_file()


def test_evaluation_does_not_depend_on_its_batch_size(project):
    answers = []
    for size in (1, 3):
        assert call("eval", settings=(f"eval.batch_size={size}",)) == 0
        answers.append(rows_of("outputs/samples.jsonl"))
    assert answers[0] == answers[1]


def test_answers(project, capsys):
    assert call("infer", "--prompt", "What is 1 and 2?") == 0
    single = capsys.readouterr().out.rstrip("\n")
    Path("questions.txt").write_text("What is 1 and 2?\nWhat is 5 and 6?\n", encoding="utf-8")
    assert call("infer", "--input_file", "questions.txt", "--output_file", "answers.jsonl") == 0
    first, _ = rows_of("answers.jsonl")
    assert first["generated"] == single


def test_without_an_adapter_nothing_takes_its_place(project, capsys):
    shutil.rmtree("outputs/tiny/adapter")
    for name, options in (("eval", ()), ("infer", ("--prompt", "x")), ("merge_lora", ("--out", "merged"))):
        assert call(name, *options) != 0
        assert "make train" in capsys.readouterr().err


def test_merge_and_plain_transformers(project, capsys):
    assert call("merge_lora", "--out", "merged", "--dtype", "bf16", "--prompts", "3") == 0
    report = read_json("merged/merge_report.json")
    assert report["passed"]
    assert report["prompts"] == 3
    assert report["wrong_layers"] == []
    assert call("merge_lora", "--out", "merged", "--test") == 0
    capsys.readouterr()
    # The merged folder is a whole model, and answers as the adapter does.
    answers = []
    for options in ((), ("--adapter", "merged")):
        assert call("infer", "--prompt", "What is 1 and 2?", *options, settings=("infer.max_new_tokens=3",)) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("kind", ["processed_with_style", "rendered"])
def test_styled_and_rendered_splits_are_trained_on(project, kind, capsys):
    paths = tuple(f"data.{split}_path=data/{kind}/{split}.jsonl" for split in ("train", "val", "test"))
    assert call("train", settings=("run_name=other", *paths)) == 0
    plain, other = (read_json(f"outputs/{run}/stamp.json")["data"]["train"] for run in ("tiny", "other"))
    assert plain != other
    capsys.readouterr()
    assert call("train", "--show-batch", settings=paths) == 0
    shown = capsys.readouterr().out
    assert "Be exact." in shown
    assert call("eval", "--run", "other", settings=paths) == 0


def test_rendered_and_styled_train_the_same_tokens(project):
    weights = []
    for kind in ("processed_with_style", "rendered"):
        paths = tuple(f"data.{split}_path=data/{kind}/{split}.jsonl" for split in ("train", "val", "test"))
        assert call("train", settings=(f"run_name={kind}", "eval.training_rows=0", *paths)) == 0
        weights.append(Path(f"outputs/{kind}/adapter/adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_full_fine_tune_is_saved_evaluated_and_talked_to(project, capsys):
    full = ("tuning.mode=full", "run_name=full", "train.learning_rate=0.001")
    assert call("train", settings=full) == 0
    adapter = Path("outputs/full/adapter")
    assert (adapter / "model.safetensors").is_file()
    assert not (adapter / "adapter_config.json").exists()
    assert call("eval", "--run", "full") == 0
    metrics = read_json("outputs/metrics.json")
    assert set(metrics) >= {"base", "tuned"}
    assert call("infer", "--run", "full", "--prompt", "What is 1 and 2?") == 0
    capsys.readouterr()
    assert call("merge_lora", "--adapters", str(adapter), "--out", "merged") != 0


@pytest.mark.parametrize("settings", [("model.attn_implementation=varlen",), ("train.packing=true",)])
def test_packed_it_is_the_same_training(project, settings):
    settings = (*settings, "run_name=packed")
    for script in ("check", "train", "eval"):
        assert call(script, settings=settings) == 0, script
    backend = read_json("outputs/packed/backend.json")
    assert backend["batch"]["packing"] is True
    assert backend["attention"] == ("varlen" if "varlen" in settings[0] else "short_rows")
    for key in ("loss", "eval_loss", "eval_rougeL", "supervised_tokens"):
        padded, packed = (
            [row[key] for row in rows_of(f"outputs/{run}/metrics.jsonl") if key in row] for run in ("tiny", "packed")
        )
        assert packed == pytest.approx(padded, rel=1e-5), key
    assert not read_json("outputs/tiny/backend.json")["batch"]["packing"]


def test_qlora_on_a_cpu(project):
    """4-bit weights are trained, evaluated in 4 bits, and merged into 16-bit ones."""
    assert call("train", settings=("tuning.mode=qlora", "run_name=four")) == 0
    assert read_json("outputs/four/backend.json") | {"used": "bnb", "mode": "qlora"} == read_json(
        "outputs/four/backend.json"
    )
    assert read_json("outputs/four/adapter/base.json")["quantization"] == "nf4"
    assert call("eval", "--run", "four", settings=("tuning.mode=auto",)) == 0
    assert call("merge_lora", "--adapters", "outputs/four/adapter", "--out", "merged") == 0


def test_unsloth_falls_back_and_says_so(project, capsys):
    assert call("train", settings=("tuning.mode=qlora", "tuning.backend=unsloth", "run_name=fast")) == 0
    assert "unsloth needs an NVIDIA or AMD GPU" in capsys.readouterr().err
    backend = read_json("outputs/fast/backend.json")
    assert (backend["asked"], backend["used"]) == ("unsloth", "bnb")
    assert "GPU" in backend["reason"]
    assert any("unsloth" in warning for warning in read_json("outputs/fast/stamp.json")["warnings"])
    off = ("tuning.backend=unsloth", "tuning.mode=qlora", "run_name=strict", "tuning.backend_fallback=false")
    assert call("train", settings=off) == 4


def test_a_template_of_ones_own(project, capsys):
    Path("mine.jinja").write_text("Q: {{ user }}\nA: {{ assistant }}", encoding="utf-8")
    assert call("train", settings=("data.template_path=mine.jinja", "run_name=mine")) == 0
    capsys.readouterr()
    assert call("train", "--show-batch", settings=("data.template_path=mine.jinja",)) == 0
    assert "Q: What is" in capsys.readouterr().out
    assert call("infer", "--run", "mine", "--prompt", "What is 1 and 2?") == 0


def test_dry_run_and_print_config_train_nothing(project, capsys):
    assert call("train", "--dry-run", settings=("run_name=dry",)) == 0
    assert "learning_rate: 0.01" in capsys.readouterr().out
    assert call("train", "--print-config", settings=("train.epochs=2",)) == 0
    assert "train.epochs" in capsys.readouterr().out
    assert not Path("outputs/dry").exists()


def test_the_resolved_config_repeats_the_run(project):
    """outputs/<run>/config.yaml alone gives the same weights."""
    shutil.copy("outputs/tiny/config.yaml", "config.yaml")
    assert call("train", settings=("run_name=repeated",)) == 0
    first, second = (Path(f"outputs/{run}/adapter/adapter_model.safetensors") for run in ("tiny", "repeated"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("script", "missing", "makes_it"),
    [
        ("train", "data/processed", "make process"), ("check", "data/processed", "make process"),
        ("style_prompt", "data/processed", "make process"), ("render_template", "data/processed", "make process"),
        ("eval", "data/processed", "make process"), ("eval", "outputs", "make train"),
        ("infer", "outputs", "make train"),
    ],
)  # fmt: skip
def test_what_is_missing_names_the_target_that_makes_it(project, script, missing, makes_it, capsys):
    shutil.rmtree(missing)
    if script == "train":
        shutil.rmtree("raw")  # of which it would make them
    options = {"style_prompt": ("--style", "x"), "infer": ("--prompt", "x")}.get(script, ())
    assert call(script, *options) != 0
    said = capsys.readouterr()
    assert makes_it in said.out + said.err


def test_every_row_says_where_it_came_from(project):
    rendered = rows_of("data/rendered/train.jsonl")
    assert rendered[0].keys() >= {"input", "target"}
    assert json.dumps(rendered[0]).count("Be exact.") == 1
