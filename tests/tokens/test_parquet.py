"""What stands in the Parquet file is what is trained, read back by others' readers."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_dataset
from pyarrow import parquet

from sftlib.tokens import parquet as writer
from sftlib.tokens.examples import Example
from sftlib.tokens.mixing import join_tables
from sftlib.tokens.table import ExampleTable

X = -100


def joined(**sets: list[Example]):
    return join_tables({name: ExampleTable.of(rows) for name, rows in sets.items()})[0]


def test_rows_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GROUP", 2)
    examples = joined(
        faq=[Example([5, 6, 2], [X, 6, 2], "ä.jsonl:1"), Example([7, 8], [X, 8], "ä.jsonl:2#1", False)],
        sums=[Example([9, 2], [X, 2], "s:1")],
    )
    writer.write_parquet(tmp_path / "train.parquet", examples, "train")
    assert parquet.ParquetFile(tmp_path / "train.parquet").num_row_groups == 2
    rows = load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), split="train", cache_dir=tmp_path / "c")
    assert list(rows) == [
        {"input_ids": [5, 6, 2], "labels": [X, 6, 2], "dataset": "faq", "source": "ä.jsonl:1", "is_complete": True},
        {"input_ids": [7, 8], "labels": [X, 8], "dataset": "faq", "source": "ä.jsonl:2#1", "is_complete": False},
        {"input_ids": [9, 2], "labels": [X, 2], "dataset": "sums", "source": "s:1", "is_complete": True},
    ]


def test_an_encoder_and_a_decoder_have_columns_of_their_own(tmp_path: Path) -> None:
    pair = Example([5, 6, 1, 0, 8, 1], [X, X, X, X, 8, 1], "a:1", decoder_at=3)
    writer.write_parquet(tmp_path / "val.parquet", joined(a=[pair]), "val")
    assert parquet.read_table(tmp_path / "val.parquet").to_pylist() == [
        {"input_ids": [5, 6, 1], "decoder_input_ids": [0, 8, 1], "labels": [X, 8, 1], "dataset": "a", "source": "a:1",
         "is_complete": True},
    ]  # fmt: skip


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    writer.write_parquet(tmp_path / "a.parquet", joined(a=[Example([5], [X], "\ud800.jsonl:1")]), "a")
    assert parquet.read_table(tmp_path / "a.parquet")["source"].to_pylist() == ["\\ud800.jsonl:1"]
