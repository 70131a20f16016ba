"""`make render`: the pairs, and that training on them trains the same text."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from families import FAMILIES
from hypothesis import given, settings
from strategies import conversations

import sftlib
from sftlib.chat.conversation import Conversation
from sftlib.chat.rendered_files import RenderedCounts, render_splits
from sftlib.chat.rendering import render_conversation, render_pair
from sftlib.chat.stored import RenderedPair, read_split
from sftlib.chat.templates import ChatTemplate
from sftlib.errors import DataError

ONE = {"system": "S", "user": "q", "assistant": "a", "source": "raw.jsonl:1"}
TWO = {
    "messages": [
        {"role": "user", "content": "say </s>"}, {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"},
    ],
    "source": "raw.jsonl:2",
}  # fmt: skip
PAIRS = [
    {"input": "<s>[INST] S\n\nq[/INST]", "target": " a</s>", "source": "raw.jsonl:1"},
    {"input": "<s>[INST] say </s>[/INST]", "target": " a</s>", "source": "raw.jsonl:2"},
    {"input": "<s>[INST] say </s>[/INST] a</s>[INST] r[/INST]", "target": " b</s>", "source": "raw.jsonl:2"},
]


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    """Processed splits: two conversations, one, none."""
    write(tmp_path / "processed", train=[ONE, TWO], val=[ONE], test=[])
    return tmp_path / "processed"


def write(folder: Path, **splits: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def mistral() -> ChatTemplate:
    return FAMILIES["mistral"].template("mistral")


def test_one_pair_an_answer(processed: Path, tmp_path: Path) -> None:
    counts = render_splits(processed, tmp_path / "rendered", mistral())
    assert rows_of(tmp_path / "rendered" / "train.jsonl") == PAIRS
    assert rows_of(tmp_path / "rendered" / "val.jsonl") == PAIRS[:1]
    assert rows_of(tmp_path / "rendered" / "test.jsonl") == []
    assert counts == {
        "train": RenderedCounts(rows=2, pairs=3, special_rows=["raw.jsonl:2"]),
        "val": RenderedCounts(rows=1, pairs=1),
        "test": RenderedCounts(),
    }


def test_the_data_set_goes_along(processed: Path, tmp_path: Path) -> None:
    write(processed, val=[{**ONE, "dataset": "faq"}])
    render_splits(processed, tmp_path / "rendered", mistral())
    assert rows_of(tmp_path / "rendered" / "val.jsonl") == [{**PAIRS[0], "dataset": "faq"}]
    assert [row.dataset for row in read_split(tmp_path / "rendered" / "val.jsonl").rows] == ["faq"]


def test_a_refused_row_leaves_the_old_files(processed: Path, tmp_path: Path) -> None:
    out = tmp_path / "rendered"
    render_splits(processed, out, mistral())
    refused = {
        "messages": [*TWO["messages"][:1], {"role": "assistant", "content": "", "tool_calls": [{}]}],
        "source": "r:3",
    }
    write(processed, val=[ONE, refused])
    with pytest.raises(DataError, match="tools") as caught:
        render_splits(processed, out, mistral())
    assert caught.value.where == "r:3"
    assert rows_of(out / "train.jsonl") == PAIRS
    assert sorted(file.name for file in out.iterdir()) == ["test.jsonl", "train.jsonl", "val.jsonl"]


def test_rendered_pairs_are_not_rendered_again(processed: Path, tmp_path: Path) -> None:
    write(processed, val=PAIRS)
    with pytest.raises(DataError, match="rendered pair already"):
        render_splits(processed, tmp_path / "rendered", mistral())


@settings(max_examples=40, deadline=None)
@given(conversation=conversations())
def test_the_pairs_train_the_same_text(tmp_path_factory: pytest.TempPathFactory, conversation: Conversation) -> None:
    template, rendered = mistral(), render_conversation(conversation, mistral())
    for start, end in rendered.spans:
        pair = RenderedPair(rendered.text[:start], rendered.text[start:end], "x")
        again = render_pair(pair, template)
        assert rendered.text.startswith(again.text)
        assert again.spans == ((start, end),)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tiny_model: Path):
    """The script's main, with a build that gives the tiny model."""
    import render_template

    build = SimpleNamespace(fetch_model=lambda settings: SimpleNamespace(folder=tiny_model))
    monkeypatch.setitem(sys.modules, "sftlib.build", build)
    monkeypatch.setattr(sftlib, "build", build, raising=False)
    return render_template.main


def test_the_script(script, processed: Path, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rendered"
    write(processed, train=[ONE, {**ONE, "user": "<|im_end|>"}])
    common = ["--config", str(root / "configs" / "config_base.yaml"), "--set", f"data.rendered_dir={out}"]
    assert script([*common, "--set", f"data.processed_dir={processed}"]) == 0
    pair = read_split(out / "train.jsonl").rows[0]
    assert pair.input == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert pair.target == "a<|im_end|>"
    said = capsys.readouterr()
    assert "conversations" in said.out
    assert "1 rows hold the text of a special token" in said.err
    styled = [*common, "--from", "styled", "--set", f"data.style_dir={processed}", "--set", "data.template_path=plain"]
    assert script(styled) == 0
    assert read_split(out / "val.jsonl").rows[0].target == " a<|im_end|>"


def test_the_script_looks_at_the_data_before_it_fetches_a_model(
    processed: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import render_template

    monkeypatch.setitem(sys.modules, "sftlib.build", None)  # importing it would fail
    (processed / "test.jsonl").unlink()
    common = ["--config", str(root / "configs" / "config_base.yaml")]
    assert render_template.main([*common, "--set", f"data.processed_dir={processed}"]) == 3
    assert "make process" in capsys.readouterr().err
