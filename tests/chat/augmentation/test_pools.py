"""Pools: texts as given, files by line or by ---, and nothing empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.chat.augmentation.pools import read_pool
from sftlib.errors import UsageError


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_texts_and_files_in_order_each_once():
    Path("lines.txt").write_bytes("\ufeffBe brief.\r\n\r\n  Sé amable. \nBe brief.\n".encode())
    Path("long.txt").write_text("One\nmessage.\n---\n\nAnother.\n---\n")
    given = ["Be kind.", "@lines.txt", "@long.txt"]
    assert read_pool("--system", given) == ("Be kind.", "Be brief.", "Sé amable.", "One\nmessage.", "Another.")
    assert read_pool("--system", []) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("@none.txt", "none.txt: The file of --persona cannot be read: No such file"),
        ("@bad.txt", "bad.txt: The file of --persona cannot be read: it is not UTF-8"),
        ("@empty.txt", "empty.txt: The file of --persona holds no text"),
        ("  ", "--persona has an empty text"),
    ],
)
def test_pools_that_are_none(given, said):
    Path("bad.txt").write_bytes(b"\xff\xff")
    Path("empty.txt").write_text("\n---\n \n")
    with pytest.raises(UsageError) as raised:
        read_pool("--persona", [given])
    assert str(raised.value).startswith(said)
