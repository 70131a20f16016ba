"""A T5 by the real scripts, from raw rows to a merged model: it learns, is told apart by its folder, and comes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import make_model
from tiny_project import call, make_project, rows_of
from tiny_t5 import make_t5

from sftlib.files import read_json

T5 = ("model.type=seq2seq",)
PAIRS = [("What is 1 and 2?", "Answer: 3."), ("What is 3 and 4?", "Answer: 7."), ("Be exact.", "Step 1: add them.")]
LEARN = (
    "train.max_steps=45", "train.batch_size=3", "train.effective_batch_size=3", "train.lr_scheduler_type=constant",
    "train.warmup_ratio=0", "train.eval_strategy=no", "train.load_best_model_at_end=false", "train.save_strategy=no",
    "train.eval_steps=null", "train.save_steps=null", "train.logging_steps=1", "data.train_path=pairs.jsonl",
    "logging.backend=none",
)  # fmt: skip
MODES = {
    "full": ("tuning.mode=full", "train.learning_rate=0.005"),
    "lora": ("tuning.lora.r=16", "train.learning_rate=0.02"),
    "qlora": ("tuning.lora.r=16", "train.learning_rate=0.02", "tuning.mode=qlora"),
}
SPEAK = ("infer.max_new_tokens=12", "eval.max_new_tokens=12", "data.test_path=pairs.jsonl", "tuning.mode=auto")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on two T5s: t5, with a head of its own as FLAN-T5 has, and tied. Copy it, never write into it."""
    folder = tmp_path_factory.mktemp("seq2seq")
    project = make_project(folder / "project", make_t5(folder / "t5"))
    make_t5(project / "tied", tie=True)
    rows = [{"user": user, "assistant": answer} for user, answer in PAIRS]
    (project / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        assert call("process_data") == 0
        assert call("render_template", settings=T5) == 0
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def losses(run: str) -> list[float]:
    return [row["loss"] for row in rows_of(f"outputs/{run}/metrics.jsonl") if "loss" in row]


def says_what_it_was_taught(capsys: pytest.CaptureFixture, *options: str, other: tuple[str, ...] = ()) -> bool:
    said = []
    for user, _ in PAIRS:
        capsys.readouterr()
        assert call("infer", "--prompt", user, *options, settings=(*SPEAK, *other)) == 0
        said.append(capsys.readouterr().out.strip())
    return said == [answer for _, answer in PAIRS]


@pytest.mark.parametrize(("mode", "model"), [("full", "t5"), ("full", "tied"), ("lora", "tied"), ("lora", "t5")])
def test_it_learns_and_says_what_it_was_taught(
    mode: str, model: str, project: Path, capsys: pytest.CaptureFixture
) -> None:
    """Nothing but the training is told that it is an encoder-decoder."""
    other = ("model.name=tied",) if model == "tied" else ()
    assert call("train", settings=(*T5, *LEARN, *MODES[mode], *other)) == 0
    assert says_what_it_was_taught(capsys, other=other)
    assert call("eval", settings=(*SPEAK, *other)) == 0
    metrics = read_json("outputs/metrics.json")
    assert (metrics["tuned"]["exact_match"], metrics["tuned"]["stop_rate"]) == (1, 1)
    assert metrics["base"]["exact_match"] == 0
    tuned = Path("outputs/tiny/adapter")
    assert read_json(tuned / "base.json")["type"] == "seq2seq"
    if mode == "full":
        config = read_json(tuned / "config.json")  # what every version of transformers reads the scaling off
        assert config["tie_word_embeddings"] is config["scale_decoder_outputs"] is (model == "tied")
        assert ("lm_head.weight" in load_file(tuned / "model.safetensors")) is (model == "t5")
        return
    assert read_json(tuned / "adapter_config.json")["task_type"] == "SEQ_2_SEQ_LM"
    assert call("merge_lora", "--out", "merged", "--prompts", "3", settings=other) == 0
    report = read_json("merged/merge_report.json")
    assert (report["passed"], report["wrong_layers"]) == (True, [])
    # q k v o of two self-attentions in the encoder, two and two crossed ones in the decoder; wi (wi_0, wi_1) and wo
    assert report["layers"] == 4 * (2 + 2 + 2) + (3 if model == "t5" else 2) * 4
    assert report["mean_kl_to_base"] > 0.5
    assert says_what_it_was_taught(capsys, "--adapter", "merged")
    assert call("merge_lora", "--out", "merged", "--test", "--question", PAIRS[0][0]) == 0
    assert capsys.readouterr().out.strip() == PAIRS[0][1]


def test_in_4_bits_it_learns_as_well_and_its_adapter_is_loaded_in_4_bits(
    project: Path, capsys: pytest.CaptureFixture
) -> None:
    for mode in ("lora", "qlora"):
        assert call("train", settings=(*T5, *LEARN, *MODES[mode], f"run_name={mode}")) == 0
    first, in_4_bits = losses("lora"), losses("qlora")
    assert in_4_bits[0] == pytest.approx(first[0], rel=0.1)  # rounding of random weights, before anything is learnt
    assert in_4_bits[-1] == pytest.approx(first[-1], rel=0.05)
    assert first[-1] < 0.1 < 4 < first[0]
    base = read_json("outputs/qlora/adapter/base.json")
    assert (base["quantization"], base["type"]) == ("nf4", "seq2seq")
    assert says_what_it_was_taught(capsys, "--run", "qlora")
    assert call("eval", "--run", "qlora", settings=SPEAK) == 0
    assert read_json("outputs/metrics.json")["tuned"]["exact_match"] == 1
    assert read_json("outputs/metrics.json")["settings"]["systems"]["tuned"]["weights"] == "4-bit"


def test_batch_files_and_any_batch_size(project: Path) -> None:
    assert call("train", settings=(*T5, *LEARN, *MODES["full"], "train.max_steps=25")) == 0
    questions = [*(user for user, _ in PAIRS), "What?", "What is 11 and 12? Be exact. Add them."]
    Path("questions.txt").write_text("".join(f"{question}\n" for question in questions), encoding="utf-8")
    answers = []
    for size in (1, 2, 5):
        options = ("--input_file", "questions.txt", "--output_file", f"{size}.jsonl")
        assert call("infer", *options, settings=(*SPEAK, f"infer.batch_size={size}")) == 0
        answers.append(rows_of(f"{size}.jsonl"))
    assert answers[0] == answers[1] == answers[2]
    assert len({row["generated"] for row in answers[0]}) > 2  # they differ, so a mix-up would show


def test_an_interrupted_run_ends_with_the_same_weights_and_rendered_rows_train_the_same(project: Path) -> None:
    whole = []
    rendered = tuple(f"data.{split}_path=data/rendered/{split}.jsonl" for split in ("train", "val"))
    for name, settings in (("one", ()), ("again", ()), ("rendered", rendered)):
        full = (*T5, "tuning.mode=full", "train.learning_rate=0.001", f"run_name={name}", "eval.training_rows=0")
        run = Path("outputs") / name
        assert call("train", settings=(*full, *settings)) == 0
        if name == "again":
            for part in ("adapter", "checkpoint-4"):
                shutil.rmtree(run / part)
            (run / "summary.json").unlink()
            assert call("train", settings=full) == 0
        whole.append((run / "adapter" / "model.safetensors").read_bytes())
    assert whole[0] == whole[1] == whole[2]


def test_every_turn_is_an_example(project: Path, capsys: pytest.CaptureFixture) -> None:
    messages = [
        {"role": role, "content": text}
        for pair in PAIRS
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    Path("talk.jsonl").write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    assert call("train", "--show-batch", settings=(*T5, "data.train_path=talk.jsonl", "train.eval_strategy=no")) == 0
    shown = capsys.readouterr()
    assert "1 conversations of the train split hold 3 answers: an example each." in shown.err
    assert "What is 1 and 2?</s><pad>«Answer: 3.</s>»" in shown.out.replace("\n", "").replace(" «", "«")


def test_lengths_of_both_sides_are_counted_and_the_answer_has_a_limit_of_its_own(
    project: Path, capsys: pytest.CaptureFixture
) -> None:
    tight = (*T5, "data.train_path=pairs.jsonl", "train.eval_strategy=no", "train.eval_steps=null",
             "train.load_best_model_at_end=false", "model.max_seq_len=8")  # fmt: skip
    assert call("train", "--dry-run", settings=(*tight, "model.max_target_len=5")) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "2 of 3 rows are with an input longer than 8 tokens (model.max_seq_len), and dropped: " in shown
    assert call("train", "--dry-run", settings=(*tight, "model.max_target_len=4")) == 3
    assert "longer than 8 tokens of input or 4 of answer" in " ".join(capsys.readouterr().err.split())
    assert call("train", "--dry-run", settings=(*tight, "model.max_target_len=4", "data.truncation=truncate")) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "3 of 3 rows are with an answer longer than 4 tokens (model.max_target_len), and cut at the end: " in shown


def test_what_does_not_go_together_is_refused_with_the_cure(project: Path, capsys: pytest.CaptureFixture) -> None:
    def refused(*settings: str) -> str:
        assert call("train", settings=settings) != 0
        return " ".join(capsys.readouterr().err.split())

    assert "Set model.type to seq2seq" in refused()
    assert "model.max_seq_len is of both together" in refused("model.max_target_len=64")
    assert "T5 overflows in float16" in refused(*T5, "train.fp16=true")
    assert "Set data.template_path to auto" in refused(*T5, "data.template_path=plain")
    make_model(Path("causal"))
    assert "Set model.type to causal" in refused(*T5, "model.name=causal")
    unsloth = (*T5, *LEARN, "tuning.backend=unsloth", "train.max_steps=1")
    assert "unsloth cannot run" in refused(*unsloth, "tuning.backend_fallback=false")
    assert call("train", settings=unsloth) == 0
    assert read_json("outputs/tiny/backend.json")["used"] == "plain"


def test_the_pre_flight_looks_at_a_t5(project: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("check", settings=(*T5, *LEARN)) == 0
    shown = capsys.readouterr().out
    assert "the longest of 9 tokens" in " ".join(shown.split())
    assert "the loss of one batch fell" in " ".join(shown.split())
