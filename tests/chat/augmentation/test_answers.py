"""The store of replies: kept through a kill, shared, and clear about a file that is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sftlib.chat.augmentation.answers import AnswerStore
from sftlib.chat.augmentation.rewriting import Reply
from sftlib.errors import MachineError


def test_what_is_put_is_there(tmp_path):
    path = tmp_path / "new" / "answers.sqlite"
    with AnswerStore(path) as store:
        assert store.get("a") is None
        store.put("a", Reply("Ahoy! 漢字", "stop"))
        store.put("b", Reply("", "length"))
        store.put("a", Reply("Ahoy!", "stop"))
    with AnswerStore(path) as store, AnswerStore(path) as other:
        assert store.get("a") == Reply("Ahoy!", "stop")
        other.put("c", Reply("x", ""))
        assert store.get("c") == Reply("x", "")
        assert store.get("b") == Reply("", "length")


def test_a_kill_loses_nothing(tmp_path):
    code = (
        "import os, signal, sys\nfrom sftlib.chat.augmentation.answers import AnswerStore\n"
        "from sftlib.chat.augmentation.rewriting import Reply\n"
        "with AnswerStore(sys.argv[1]) as store:\n"
        "    store.put('a', Reply('kept', 'stop'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path, scripts = tmp_path / "answers.sqlite", Path(__file__).resolve().parents[3] / "scripts"
    done = subprocess.run([sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": str(scripts)})
    assert done.returncode == -signal.SIGKILL
    with AnswerStore(path) as store:
        assert store.get("a") == Reply("kept", "stop")


def test_a_file_that_is_no_store(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_text("no database, but long enough to look at" * 100)
    with pytest.raises(MachineError, match=r"answers\.sqlite: The store of answers cannot be used"), AnswerStore(path):
        pass
