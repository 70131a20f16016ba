"""What is said of a split is the same from its rows and from the cache, and the second start reads no row."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sftlib import build, build_examples, console
from sftlib.chat.conversation import Conversation, Message
from sftlib.config import load_config
from sftlib.files import ROOT, write_jsonl
from sftlib.tokens.remarks import NAMED, Found, Remarks, Shortened


def talk(question: str, source: str) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", "4")), source)


def test_remarks_survive_as_json() -> None:
    shortened = Shortened({40: 2}, {20: 3, 9: 1}, 30, 28, 1, 2, 3, 4, Found(1, ["a:4"]), dropped=Found(1, ["a:5"]))
    remarks = Remarks(3, 5, 4, Found(1, ["a:1"]), Found(2, ["a:2", "a:3"]), shortened=shortened)
    assert Remarks.from_dict(json.loads(json.dumps(asdict(remarks)))) == remarks


def test_rows_with_special_text_are_counted_and_the_first_named() -> None:
    rows = [talk("no <|im_end|>" if number % 2 else "yes", f"a:{number}") for number in range(20)]
    remarks = Remarks()
    assert list(remarks.watch_rows(rows, {"<|im_end|>"})) == rows
    assert (remarks.rows, remarks.marked.count) == (20, 10)
    assert remarks.marked.first == ["a:1", "a:3", "a:5", "a:7", "a:9"][:NAMED]


def test_the_second_start_says_the_same_and_reads_no_row(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('Not this.') }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    rows = [
        {"user": "no", "assistant": "4"},
        {"user": "a<|im_end|>", "assistant": "4"},
        {"user": "b", "assistant": "5"},
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    config = load_config(
        ROOT / "configs" / "config_base.yaml",
        [
            f"model.name={tiny_model}", f"train.output_dir={tmp_path}", "tuning.mode=lora", "tuning.backend=plain",
            f"data.template_path={template}", "data.max_rejected=0.5",
        ],
    )  # fmt: skip
    text = build.load_text(config)
    paths = {"train": tmp_path / "train.jsonl"}
    first = build_examples.prepare(config, text, paths)["train"]
    assert said == [
        "1 of 3 rows of the train split are left out, as they cannot be rendered.",
        "1 rows of the train split hold text that is a special token of this model, such as "
        f"{tmp_path}/train.jsonl:2; the model reads it as the token.",
    ]
    monkeypatch.setattr(build_examples, "set_rows", lambda *_: pytest.fail("the rows are read again"))
    second = build_examples.prepare(config, text, paths)["train"]
    assert said[2:] == said[:2]
    assert list(second.examples.examples) == list(first.examples.examples)
    assert (second.tally, second.lengths, len(second.stored)) == (first.tally, first.lengths, 3)
