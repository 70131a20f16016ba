"""scripts/augment.py as a person runs it: options that arrive, what is printed, mistakes, and a key nobody sees."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import augment
import pytest
from chat.augmentation.endpoint_server import completion, serving, shouted
from chat.conftest import jsonl

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "augment.py"
KEY = "sk-a-very-secret-key"
CONFIG = "seed: 3\ntrain:\n  output_dir: results\ndata:\n  columns: {user: frage, assistant: antwort}\n"


@pytest.fixture
def project(raw):
    """A config, and ten raw rows with columns of their own."""
    raw("c.yaml", CONFIG)
    raw("a.csv", "frage;antwort\n" + "".join(f"Frage {n}?;Antwort {n}.\n" for n in range(10)))
    raw("pool.txt", "Sei knapp.\nSei nett.\n")
    return raw


def command(*arguments):
    files = ["b.jsonl"] if "b.jsonl" in arguments else ["a.csv"]
    arguments = [one for one in arguments if one != "b.jsonl"]
    return [sys.executable, SCRIPT, *files, "--config", "c.yaml", "--out", "out.jsonl", *map(str, arguments)]


def run(*arguments, offline="", **environment):
    """The script on the project's rows."""
    env = {**os.environ, "HF_HUB_OFFLINE": offline, "TRANSFORMERS_OFFLINE": "", **environment}
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=env)


def styled(url, *more):
    return "--endpoint", url, "--model", "m", "--instruction", "Schrei.", *more


def test_options_arrive(project):
    done = run(
        "--system", "@pool.txt", "--system", "Sei kurz.", "--copies", 3, "--system_mode", "replace", "--persona", "P.",
        "--share", "persona=0", "--share", "split=1", "--split_characters", 9, "--follow_up", "Weiter.", "--structure",
        "--guard", 4, "--tags", "drop",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = jsonl("out.jsonl")
    assert len(rows) == 10 + 30 + 4
    assert {row["system"] for row in rows[:40]} == {"", "Sei kurz.", "Sei knapp.", "Sei nett."}
    report = json.loads(Path("out.report.json").read_text())
    assert report["seed"] == 3
    assert report["inputs"] == ["a.csv"]
    assert report["operations"]["split"]["chosen"] == 10
    assert "persona" not in report["operations"]
    assert "guard rows" in done.stdout
    assert "make process RAW=out.jsonl SET=data.group_by=source" in done.stderr


def test_tags_that_are_kept_are_warned_of(project):
    project("b.jsonl", [{"frage": "a", "antwort": "b</s>"}, {"frage": "c", "antwort": "d"}])
    done = run("b.jsonl", "--persona", "P.")
    assert done.returncode == 0, done.stderr
    assert "Rows whose answers hold literal chat tags, kept: 1." in done.stderr
    done = run("b.jsonl", "--tags", "remove")
    assert "Rows with chat tags: 1 in an answer, 1 cut off." in done.stderr
    assert "warning" not in done.stderr


def test_styled_with_a_key_that_nobody_sees(project):
    with serving() as server:
        done = run(*styled(server.url, "--key_env", "MY_KEY", "--max_tokens", 77, "--temperature", 0.5), MY_KEY=KEY)
        assert done.returncode == 0, done.stderr
        assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
        assert {(one["max_tokens"], one["temperature"]) for one in server.asked} == {(77, 0.5)}
        server.answer = lambda asked: (401, {}, {"error": {"message": f"wrong key {KEY}"}})
        refused = run(*styled(server.url, "--debug"), OPENAI_API_KEY=KEY)
    assert refused.returncode == 2
    assert "wrong key [key]" in refused.stderr
    assert jsonl("out.jsonl")[4]["assistant"] == "ANTWORT 4."
    said = [done.stdout, done.stderr, refused.stdout, refused.stderr]
    files = [path.read_bytes().decode("latin-1") for path in Path().rglob("*") if path.is_file()]
    assert any("ANTWORT 4." in text for text in files)
    assert not any(KEY in text for text in [*said, *files])


def test_a_kill_and_again_asks_only_for_the_rest(project):
    reached = threading.Event()

    def answer(asked):
        if "Frage 6?" in asked["messages"][1]["content"]:
            reached.set()
            time.sleep(30)
        return shouted(asked)

    with serving(answer) as server:
        arguments = styled(server.url, "--workers", 1)
        env = {**os.environ, "HF_HUB_OFFLINE": ""}
        process = subprocess.Popen(command(*arguments), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert reached.wait(30)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert time.monotonic() - started < 5, "an answer that is on its way does not keep Ctrl-C waiting"
        process.communicate()
        assert not Path("out.jsonl").exists()
        server.answer, before = shouted, len(server.asked)
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert len(server.asked) - before == 4  # of 0 to 9 these are 6 to 9
    with sqlite3.connect("results/answers.sqlite") as data:
        assert data.execute("SELECT count(*) FROM replies").fetchone() == (10,)


def test_offline_nothing_is_sent_but_what_is_known_is_used(project):
    with serving() as server:
        done = run(*styled(server.url), offline="1")
        assert done.returncode == 2
        assert "10 of 10 answers are still to be asked for, and HF_HUB_OFFLINE forbids it" in done.stderr
        assert server.asked == []
        assert run(*styled(server.url)).returncode == 0
    done = run(*styled("http://127.0.0.1:9/v1"), offline="1")
    assert done.returncode == 0, done.stderr
    assert jsonl("out.jsonl")[0]["assistant"] == "ANTWORT 0."


def test_replies_that_are_not_taken_are_counted(project):
    with serving(lambda asked: completion("ANT", "length")) as server:
        done = run(*styled(server.url, "--limit", 4))
    assert done.returncode == 0, done.stderr
    assert "4 cut off" in done.stdout
    assert "6 not asked for yet" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Nothing is to be done"),
        (["--persona", "P.", "--out", "a.csv"], 2, "The output is one of the inputs"),
        (["--persona", "P.", "--share", "persona"], 2, "--share persona says no share"),
        (["--persona", "P.", "--share", "size=1"], 2, "--share size=1 cannot be"),
        (["--split_words", "0"], 2, "--split_words is 0"),
        (["--split_words", "5", "--split_characters", "5"], 2, "two sizes for one thing"),
        (["--guard", "-1"], 2, "--guard is -1"),
        (["--guard", "1", "--max_failed", "5"], 2, "--max_failed is 5 and --temperature 0"),
        (["--endpoint", "http://x/v1", "--model", "m"], 2, "--instruction must be given too"),
        (["--system", "@none.txt"], 2, "none.txt: The file of --system cannot be read"),
        (["--endpoint", f"http://u:{KEY}@x/v1", "--model", "m", "--instruction", "i"], 2, "more than an address"),
        (["--persona", "P.", "--set", "data.columns={user: x}"], 3, "10 of 10 rows cannot be used"),
        (["--persona", "P.", "--out", "c.yaml/x.jsonl"], 4, "cannot be read or written"),
    ],
)
def test_mistakes_end_with_words_and_their_exit_code(project, capsys, monkeypatch, arguments, code, said):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert augment.main(list(map(str, command(*arguments)[2:]))) == code
    stderr = capsys.readouterr().err
    assert said in " ".join(stderr.split())
    assert KEY not in stderr
