"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib import files
from sftlib.errors import MachineError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


class Interrupted(Exception):
    """What happens in the middle of writing."""


def interrupted(opened: AbstractContextManager, write: Callable) -> None:
    with opened as target:
        write(target)
        raise Interrupted


def test_a_text_is_written_as_it_is(tmp_path):
    files.write_text(tmp_path / "new" / "a.txt", "é\n\u2028\r\nz")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é\n\u2028\r\nz".encode()


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Interrupted):
        interrupted(files.whole_file(path), lambda stream: stream.write("half"))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal\nfrom sftlib.files import whole_file\n"
        f"with whole_file({str(path)!r}) as stream:\n"
        "    stream.write('half' * 100000)\n    stream.flush()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT / "scripts")
    assert done.returncode != 0
    assert path.read_text() == "old"


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda handle, real=os.fsync: (order.append("fsync"), real(handle)))
    monkeypatch.setattr(os, "replace", lambda *names, real=os.replace: (order.append("rename"), real(*names)))
    files.write_text(tmp_path / "a.txt", "x")
    assert order == ["fsync", "rename", "fsync"]  # the file, its name, the folder that holds the name


def test_a_file_gets_the_usual_permissions(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_bytes_are_written_whole_too(tmp_path):
    with files.whole_file(tmp_path / "a.bin", "wb") as stream:
        stream.write(b"\0\xff")
    assert (tmp_path / "a.bin").read_bytes() == b"\0\xff"


def test_a_folder_appears_whole(tmp_path):
    goal = tmp_path / "models" / "m"
    with files.whole_folder(goal) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "a.txt").write_text("x")
        assert not goal.exists()
        assert staging.parent == goal.parent  # one file system, so that the rename is one step
    assert (goal / "sub" / "a.txt").read_text() == "x"
    assert os.listdir(goal.parent) == ["m"]


def test_an_error_in_a_folder_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted):
        interrupted(files.whole_folder(tmp_path / "m"), lambda staging: (staging / "a.txt").write_text("x"))
    assert os.listdir(tmp_path) == []


def test_a_folder_is_never_replaced(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(FileExistsError), files.whole_folder(tmp_path / "m"):
        pytest.fail("the block must not run")


@given(rows=st.lists(st.dictionaries(TEXT, JSON, min_size=1), max_size=5))
def test_rows_come_back_with_their_line_numbers(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    assert files.write_jsonl(path, rows) == len(rows)
    read = [(number, json.loads(line)) for number, line in files.numbered_lines(path)]
    assert read == list(enumerate(rows, 1))


def test_lines_end_at_newlines_only(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes("\ufeffone\u2028still\x85one\r\n\n  \nfour\x0b4\rfour".encode())
    assert list(files.numbered_lines(path)) == [(1, "one\u2028still\x85one"), (4, "four\x0b4\rfour")]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_json_is_refused_and_nothing_is_written(tmp_path, number):
    for write in (files.write_json, lambda path, value: files.write_jsonl(path, [value])):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path / "a.json", {"loss": number})
    assert os.listdir(tmp_path) == []


def test_json_is_readable_text(tmp_path):
    files.write_json(tmp_path / "a.json", {"é": [1]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "é": [\n    1\n  ]\n}\n'
    assert files.read_json(tmp_path / "a.json") == {"é": [1]}


def test_known_digests(tmp_path):
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path = tmp_path / "a"
    path.write_bytes(b"")
    assert files.sha256_file(path) == files.sha256_text("") == empty
    path.write_bytes("é".encode() * 2**20)  # several blocks
    assert files.sha256_file(path) == files.sha256_text("é" * 2**20)
    assert files.sha256_text("\ud800") != files.sha256_text("\ud801")


def test_a_link_is_relative_and_replaced_in_one_step(tmp_path):
    for run in ("one", "two"):
        (tmp_path / "outputs" / run).mkdir(parents=True)
        files.point_link(tmp_path / "adapters" / "last", tmp_path / "outputs" / run)
    link = tmp_path / "adapters" / "last"
    assert os.readlink(link) == str(Path("..") / "outputs" / "two")
    assert os.listdir(link.parent) == ["last"]
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    files.point_link(link, tmp_path / "elsewhere" / "one")  # over a link that points nowhere
    assert link.resolve() == (tmp_path / "elsewhere" / "one").resolve()


def test_a_link_replaces_no_folder_of_the_user(tmp_path):
    (tmp_path / "last").mkdir()
    with pytest.raises(FileExistsError):
        files.point_link(tmp_path / "last", tmp_path)
    assert not (tmp_path / "last").is_symlink()


def test_the_root_is_the_project(root):
    assert root == files.ROOT


def test_what_the_system_refuses_becomes_an_error_with_words(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(MachineError, match=r"file/x: A file cannot be read or written: Not a directory"),
        files.file_errors(),
    ):
        (tmp_path / "file" / "x").write_text("")
