"""What shapes the weights is compared, what does not may change, and nothing is mixed in silence."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sftlib import console, files
from sftlib.config.schema import Config
from sftlib.errors import MixError
from sftlib.run import Difference, RunFolder, Stamp, compare, matching_settings, open_run
from sftlib.run.stamp import code_revision, hash_files, refuse_to_mix, write_backend

A, B = "a" * 64, "b" * 64


def stamp(**changes: Any) -> Stamp:
    made: dict[str, Any] = {
        "data": {"train": A, "val": A}, "template": A, "tokenizer": A, "backend": "plain",
        "settings": matching_settings(Config().model_dump()), "base": {"name": "m", "revision": None},
        "code": {"git": "unknown", "scripts": A},
    }  # fmt: skip
    return Stamp(**made | changes)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "first", "auto")


def test_a_stamp_comes_back_the_same(run: RunFolder) -> None:
    written = stamp(warnings=["earlier"])
    console.warn("something fell back")
    written.write(run)
    read = Stamp.read(run)
    assert compare(written, read) == []
    assert read.warnings[0] == "earlier"
    assert read.warnings[-1] == "something fell back"
    assert dataclasses.replace(read, warnings=["earlier"]) == written
    read.write(run)
    assert Stamp.read(run).warnings == read.warnings  # written again at the end: no warning twice


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"data": {"train": B, "val": A}}, Difference("data.train", A, B)),
        ({"data": {"train": A}}, Difference("data.val", A, None)),
        ({"template": B}, Difference("template", A, B)),
        ({"tokenizer": B}, Difference("tokenizer", A, B)),
        ({"base": {"name": "m", "revision": "f00"}}, Difference("base.revision", None, "f00")),
        ({"backend": "bnb"}, Difference("backend", "plain", "bnb")),
        ({"code": {"git": "f00", "scripts": B}}, None),
        ({"warnings": ["w"]}, None),
    ],
)
def test_each_difference_is_listed(changes: dict[str, Any], difference: Difference | None) -> None:
    assert compare(stamp(), stamp(**changes)) == ([difference] if difference else [])


def change(key: str, value: Any) -> list[str]:
    """The keys that differ when one key of the config does."""
    config = Config().model_dump()
    section = config
    *path, last = key.split(".")
    for name in path:
        section = section[name]
    assert section[last] != value
    section[last] = value
    return [difference.key for difference in compare(stamp(), stamp(settings=matching_settings(config)))]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1), ("train.epochs", 4.0), ("train.learning_rate", 1e-3), ("train.batch_size", 2),
        ("train.eval_steps", 9), ("train.warmup_ratio", 0.5), ("train.optim", "adafactor"), ("tuning.mode", "full"),
        ("tuning.lora.r", 4), ("tuning.lora.target_modules", ["q_proj"]), ("model.max_seq_len", 99),
        ("model.attn_implementation", "eager"), ("data.truncation", "split"), ("data.truncation_side", "start"),
        ("data.loss_on", "last"),
    ],
)  # fmt: skip
def test_settings_that_shape_the_weights_count(key: str, value: Any) -> None:
    assert change(key, value) == [f"settings.{key}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run_name", "x"), ("logging.backend", "none"), ("train.logging_steps", 9), ("train.save_total_limit", 9),
        ("train.resume", "never"), ("train.output_dir", "elsewhere"), ("infer.temperature", 0.5), ("eval.limit", 5),
        ("eval.training_rows", 0), ("model.local_dir", "elsewhere"), ("data.processed_dir", "elsewhere"),
    ],
)  # fmt: skip
def test_settings_that_do_not_may_change(key: str, value: Any) -> None:
    assert change(key, value) == []


def test_how_answers_are_sampled_counts_where_it_chooses_the_best_checkpoint() -> None:
    config = Config().model_dump()
    config["train"]["metric_for_best_model"] = "eval_rougeL"
    before = matching_settings(config)
    config["eval"]["training_rows"] = 3
    assert compare(stamp(settings=before), stamp(settings=matching_settings(config))) == [
        Difference("settings.eval.training_rows", 4, 3)
    ]


def test_every_key_of_the_config_is_kept_or_left_out_on_purpose() -> None:
    kept = {key.split(".")[0] for key in matching_settings(Config().model_dump())}
    assert kept == {"seed", "model", "tuning", "train", "data"}


def interrupted(run: RunFolder, made_by: Stamp | None) -> RunFolder:
    """A run with a checkpoint."""
    (run.path / "checkpoint-3").mkdir()
    files.write_json(run.backend, {"used": "plain"})
    if made_by:
        made_by.write(run)
    return run


def test_continuing_with_something_else_is_refused_and_each_thing_named(run: RunFolder) -> None:
    interrupted(run, stamp())
    refuse_to_mix(run, stamp())
    settings = {**stamp().settings, "train.epochs": 9.0}
    with pytest.raises(MixError) as caught:
        refuse_to_mix(run, stamp(data={"train": B, "val": A}, settings=settings))
    assert "data.train was aaaaaaaaaaaa, is bbbbbbbbbbbb; settings.train.epochs was 3.0, is 9.0" in caught.value.seen
    assert "FRESH=1" in caught.value.cure


def test_a_run_without_checkpoints_holds_nothing_to_mix(run: RunFolder) -> None:
    refuse_to_mix(run, stamp())
    stamp().write(run)  # and then it failed, say at a wrong setting
    refuse_to_mix(run, stamp(template=B))


def test_checkpoints_that_nothing_vouches_for_are_not_continued(run: RunFolder) -> None:
    with pytest.raises(MixError, match=r"Nothing says what made the checkpoints.*stamp\.json .* it is not there"):
        refuse_to_mix(interrupted(run, None), stamp())


@pytest.mark.parametrize("name", ["stamp.json", "backend.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "it is not there"),
        (b"", "it cannot be read"),
        (b'{"data": {"train": "aa', "it cannot be read"),
        (b"\xff\xfe", "it cannot be read"),
        (b"[]", "it is not a JSON object"),
        (b"{}", "it is not a stamp|it does not name a backend"),
        (b'{"colour": "blue"}', "it is not a stamp|it does not name a backend"),
    ],
)
def test_an_unreadable_stamp_is_an_error(run: RunFolder, name: str, content: bytes | None, said: str) -> None:
    interrupted(run, stamp())
    refuse_to_mix(run, stamp())
    (run.path / name).unlink()
    if content is not None:
        (run.path / name).write_bytes(content)
    with pytest.raises(MixError, match=said) as caught:
        refuse_to_mix(run, stamp())
    assert caught.value.where == str(run.path / name)


def test_a_checkpoint_of_another_run_is_compared_too(run: RunFolder) -> None:
    other = interrupted(open_run(run.root, "other", "auto"), stamp(template=B))
    path = str(other.path / "checkpoint-3")
    refuse_to_mix(run, stamp(template=B), path)
    with pytest.raises(MixError, match="The run other was made by something else: template was bbbb"):
        refuse_to_mix(run, stamp(), path)
    refuse_to_mix(run, stamp(), "auto")


def test_warnings_of_the_first_session_stay_after_a_resume(run: RunFolder) -> None:
    interrupted(run, stamp(warnings=["before the kill"]))
    stamp().write(run)
    assert Stamp.read(run).warnings[0] == "before the kill"


def test_other_code_is_a_warning(run: RunFolder) -> None:
    refuse_to_mix(interrupted(run, stamp()), stamp(code={"git": "unknown", "scripts": B}))
    assert "was begun with other code (aaaaaaaaaaaa)" in console.warnings()[-1]


def test_code_revision_sees_changes_that_are_not_committed(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/train.py").write_text("1")
    before = code_revision(tmp_path)
    assert before["git"] == "unknown"
    (tmp_path / "scripts/train.py").write_text("2")
    assert code_revision(tmp_path)["scripts"] != before["scripts"]
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    revision = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert code_revision(tmp_path)["git"] == revision


def test_a_digest_over_files_sees_names_and_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x")
    two.write_text("y")
    digest = hash_files(tmp_path, [one, two])
    assert digest != hash_files(tmp_path, [one])
    two.write_text("z")
    assert digest != hash_files(tmp_path, [one, two])
    two.write_text("y")
    assert digest == hash_files(tmp_path, [one, two])
    two.rename(tmp_path / "three")
    assert digest != hash_files(tmp_path, [one, tmp_path / "three"])


def test_backend_json_says_what_ran(run: RunFolder) -> None:
    write_backend(
        run, asked="unsloth", used="bnb", reason="unsloth is not installed", mode="qlora", dtype="bf16",
        attention="sdpa", device={"kind": "cpu", "name": "laptop"}, batch={"batch_size": 4}, launch={"kind": "single"},
    )  # fmt: skip
    written = files.read_json(run.backend)
    assert (written["asked"], written["used"], written["reason"]) == ("unsloth", "bnb", "unsloth is not installed")
    assert written["device"] == {"kind": "cpu", "name": "laptop"}
    assert written["versions"]["python"] == sys.version.split()[0]
    assert written["versions"]["torch"] == importlib.metadata.version("torch")
    assert all(written["versions"].values())


def test_the_run_room_needs_no_torch() -> None:
    code = "import sys, sftlib.run, sftlib.run.stamp; print('torch' in sys.modules or 'numpy' in sys.modules)"
    path = str(files.ROOT / "scripts")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert done.stdout.strip() == "False"
