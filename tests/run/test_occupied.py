"""One training at a time in a folder, held by the process and by nothing that outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sftlib.errors import MixError, UsageError
from sftlib.run.folder import RunFolder, open_run
from sftlib.run.occupied import ask_to_stop, is_asked_to_stop, occupied

HOLD = """
import sys, time
sys.path.insert(0, {scripts!r})
from pathlib import Path
from sftlib.run.occupied import occupied
from sftlib.run.folder import RunFolder
with occupied(RunFolder(Path({root!r}), "first")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "first", "auto")


def test_another_process_is_refused_until_it_is_killed(run: RunFolder, root: Path) -> None:
    code = HOLD.format(scripts=str(root / "scripts"), root=str(run.root))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(MixError, match="Another process is training the run first") as caught, occupied(run):
            pass
        assert "make stop RUN=first" in caught.value.cure
        assert ask_to_stop(run.root) == [run]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_asked_to_stop(run)  # left over from the killed one
    with occupied(run):
        assert not is_asked_to_stop(run)


def test_it_is_free_again_after_an_error(run: RunFolder) -> None:
    with pytest.raises(KeyError), occupied(run):
        raise KeyError
    with occupied(run) as held:
        assert held == run


def test_who_is_asked_to_stop(run: RunFolder) -> None:
    other = open_run(run.root, "other", "auto")
    with occupied(other):  # was here, and is gone
        pass
    with occupied(run):
        assert ask_to_stop(run.root) == [run]
        assert is_asked_to_stop(run)
        assert not is_asked_to_stop(other)
        assert ask_to_stop(run.root, "first") == [run]
        with pytest.raises(UsageError, match="The run other is not being trained"):
            ask_to_stop(run.root, "other")
        with pytest.raises(UsageError, match="The run nowhere is not being trained"):
            ask_to_stop(run.root, "nowhere")
    assert not is_asked_to_stop(run)
    with pytest.raises(UsageError, match="No training is in progress"):
        ask_to_stop(run.root)


def test_what_a_kill_left_half_written_is_swept_away(run: RunFolder) -> None:
    (run.path / ".stamp.json.abc.tmp").write_text("{")
    (run.path / ".adapter.xyz.tmp" / "deep").mkdir(parents=True)
    (run.path / "notes.tmp").write_text("mine")
    with occupied(run):
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "notes.tmp"]


def test_only_the_first_process_of_a_training_holds_it(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with occupied(run):
        monkeypatch.setenv("RANK", "1")
        with occupied(run) as held:
            assert held == run
