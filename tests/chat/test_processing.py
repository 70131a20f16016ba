"""Processing: every row is in a split, a duplicate, or rejected with a reason; memory stays small."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from chat.conftest import all_rows, jsonl, read_rows, run_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftlib.errors import DataError, SftError
from sftlib.files import sha256_file

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def qa(count: int) -> list[dict]:
    return [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(count)]


def test_rows_arrive_with_their_source(raw):
    report = run_process(raw("faq.jsonl", qa(10)))
    assert {name: split["rows"] for name, split in report.splits.items()} == {"train": 8, "val": 1, "test": 1}
    assert sorted(all_rows(), key=lambda row: int(row["source"].split(":")[1])) == [
        {"system": "", "user": f"What is {i}?", "assistant": f"It is {i}.", "source": f"faq.jsonl:{i + 1}"}
        for i in range(10)
    ]


def test_the_files_of_a_split_keep_the_order_of_the_raw_rows(raw):
    run_process(raw("faq.jsonl", qa(50)))
    lines = [int(row["source"].split(":")[1]) for row in jsonl("out/train.jsonl")]
    assert lines == sorted(lines)


def test_nothing_disappears(raw):
    rows = [
        *qa(40),
        {"question": "What is 0?", "answer": "It is 0."},  # equal to the first
        {"question": " ", "answer": "x"},
        {"question": "x", "answer": None},
        {"text": "all in one"},
        {"conversations": [{"from": "gpt", "value": "Hi"}]},
        {"conversations": [{"from": f, "value": v} for f, v in (("human", "a\r\n"), ("gpt", "b"), ("human", "c"))]},
    ]  # fmt: skip
    raw("faq.jsonl", rows)
    Path("faq.jsonl").write_text(Path("faq.jsonl").read_text() + '{"question": broken\n')
    report = run_process("faq.jsonl", max_rejected=0.2)
    assert report.read == 47
    assert report.duplicates == 1
    assert report.rejected == {
        "empty prompt": 1, "empty answer": 1, "unknown shape": 1, "roles out of order": 1, "broken JSON": 1,
    }  # fmt: skip
    assert report.kept_rows == 41 == len(all_rows())
    assert report.changed == {"line ends made \\n": 1, "cut after the last answer": 1}
    assert report.formats["question/answer"] == {
        "rows": 40,
        "why": "has 'question' and 'answer'",
        "first": "faq.jsonl:1",
    }
    assert report.formats["sharegpt"]["rows"] == 1
    rejected = jsonl("out/rejected.jsonl")
    assert [row["source"] for row in rejected] == [f"faq.jsonl:{line}" for line in (41, 42, 43, 44, 45, 47)]
    assert rejected[0]["reason"] == "duplicate"
    assert rejected[0]["detail"] == "equal to faq.jsonl:1"
    assert rejected[3] == {
        "source": "faq.jsonl:44",
        "reason": "unknown shape",
        "detail": "two texts are needed, the question and the answer, such as 'user' and 'assistant'; it has 'text'",
        "seen": '{"text":"all in one"}',
    }


def test_the_report_is_written_with_hashes(raw):
    name = raw("faq.jsonl", qa(20))
    report = run_process(name, seed=7)
    written = json.loads(Path("out/report.json").read_text())
    assert written["seed"] == 7
    assert written["shares"] == {"train": 0.8, "val": 0.1, "test": 0.1}
    assert written["files"] == [
        {
            "path": "faq.jsonl", "kind": "JSON Lines", "why": "20 of its first 20 lines are objects, utf-8",
            "rows": 20, "sha256": sha256_file(name), "dataset": "",
        }
    ]  # fmt: skip
    assert written["splits"] == report.splits
    digest = sha256_file("out/val.jsonl")
    sets = {"": {"rows": 2, "sha256": digest}}
    assert written["splits"]["val"] == {"rows": 2, "questions": 2, "sha256": digest, "sets": sets}


def test_too_many_bad_rows_fail_and_leave_older_splits(raw):
    run_process(raw("good.jsonl", qa(10)))
    before = {name: Path(f"out/{name}.jsonl").read_bytes() for name in ("train", "val", "test")}
    bad = [{"frage": f"Was ist {i}?", "antwort": f"Das ist eine lange Antwort: {i}."} for i in range(3)]
    with pytest.raises(DataError, match=r"3 of 13 rows \(23.1 %\) cannot be used") as caught:
        run_process(raw("mixed.jsonl", [*qa(10), *bad]))
    assert "data.columns: {user: frage, assistant: antwort}" in caught.value.seen
    assert "as in mixed.jsonl:11" in caught.value.seen
    assert caught.value.where == str(Path("out/rejected.jsonl"))
    assert [row["source"] for row in jsonl("out/rejected.jsonl")] == [f"mixed.jsonl:{line}" for line in (11, 12, 13)]
    assert {name: Path(f"out/{name}.jsonl").read_bytes() for name in before} == before


def test_the_limit_is_a_share_of_all_rows_and_duplicates_are_no_fault(raw):
    name = raw("faq.jsonl", [*qa(19), {"question": "", "answer": "x"}])
    assert run_process(name, max_rejected=0.05).rejected_rows == 1
    with pytest.raises(DataError):
        run_process(name, max_rejected=0.049)
    assert run_process(raw("twice.jsonl", qa(5) * 20), max_rejected=0.0).duplicates == 95


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_tiny_data(raw, rows):
    report = run_process(raw("faq.jsonl", qa(rows)))
    report.show()
    expected = {1: (1, 0, 0), 2: (1, 1, 0), 5: (3, 1, 1)}[rows]
    assert tuple(len(jsonl(f"out/{name}.jsonl")) for name in ("train", "val", "test")) == expected


def test_an_empty_split_is_said_aloud(raw, capsys):
    run_process(raw("faq.jsonl", qa(2))).show()
    assert "The test split is empty" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_no_rows_at_all(raw, content):
    with pytest.raises(DataError, match="holds no rows"):
        run_process(raw("faq.json", content))


def test_several_files_of_several_kinds_and_the_same_rows_twice(raw):
    raw("data/a.csv", "question,answer\n" + "".join(f"What is {i}?,It is {i}.\n" for i in range(30)))
    raw("data/b.jsonl", qa(30))
    raw("data/c.json", json.dumps({"data": [{"instruction": "i", "input": "", "output": "o"}]}))
    report = run_process("data")
    assert report.duplicates == 30
    assert [file["rows"] for file in report.files] == [30, 30, 1]
    assert {name: one["rows"] for name, one in report.formats.items()} == {"question/answer": 30, "alpaca": 1}


def test_half_pairs_and_odd_names_can_be_written_down(raw):
    raw("faq.jsonl", '{"text\\ud800": "a\\ud83d"}\n' + "".join(json.dumps(row) + "\n" for row in qa(30)))
    run_process("faq.jsonl")
    assert "\ufffd" in jsonl("out/rejected.jsonl")[0]["seen"]


def test_the_summary_says_what_was_taken_for_what_and_why(raw, capsys):
    run_process(raw("faq.jsonl", [*qa(50), {"text": "x"}])).show()
    shown = capsys.readouterr()
    for text in ("JSON Lines", "20 of its first 20 lines", "question/answer", "'question'", "train", "40", "80.0 %"):
        assert text in shown.out
    for text in ("unknown shape", "faq.jsonl:51", "two texts are needed"):
        assert text in shown.err


def test_two_runs_are_equal_to_the_byte(raw):
    name = raw("faq.jsonl", qa(300))
    run_process(name, out="a")
    run_process(name, out="b")
    for file in ("train.jsonl", "val.jsonl", "test.jsonl", "report.json"):
        assert Path("a", file).read_bytes() == Path("b", file).read_bytes()


# Memory


PEAK = """
import sys
from sftlib.chat.processing import process
from sftlib.config.schema import DataSection
process(DataSection(), 42, [sys.argv[1]], "out-" + sys.argv[1])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))  # KiB
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_file(raw, kind):
    text = "word " * 500  # 2,000 rows are 5 MB, 10,000 are 25 MB

    def write(rows: int) -> str:
        pairs = [(f"question {i}", f"{text}{i}") for i in range(rows)]
        if kind == "csv":
            return raw(f"{rows}.csv", "q,a\n" + "".join(f"{q},{a}\n" for q, a in pairs))
        lines = [json.dumps({"q": q, "a": a}) for q, a in pairs]
        return raw(
            f"{rows}.{kind}", "\n".join(lines) if kind == "jsonl" else '{"n": 1, "data": [' + ",".join(lines) + "]}"
        )

    def peak_mib(rows: int) -> float:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, write(rows)],
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout) / 1024

    small, large = peak_mib(2_000), peak_mib(10_000)
    # SQLite's page cache ends at 16 MiB, which the smaller file fills in part; 20 MB of rows would not fit in here.
    assert large - small < 15, f"{small:.0f} MiB -> {large:.0f} MiB"


# Damaged files


def damage(content: bytes, random_: random.Random) -> bytes:
    """The bytes with a few flips, a cut, an insertion or pieces in another order."""
    data = bytearray(content)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data)) if data else 0
        match random_.randrange(6):
            case 0 if data:
                data[at] ^= 1 << random_.randrange(8)
            case 1 if data:
                data[at] = random_.choice(b'"{}[],:\\\n\r\t\0 \xff\xef1')
            case 2:
                del data[at:]
            case 3:
                data[at:at] = random_.choice(
                    [b'"', b"{", b"[", b"\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\\u", b"\0", b"1e999"]
                )
            case 4:
                lines = bytes(data).split(b"\n")
                random_.shuffle(lines)
                data = bytearray(b"\n".join(lines))
            case _:
                del data[at : at + random_.randint(1, 30)]
    return bytes(data)


def sound_files(folder: Path) -> dict[str, bytes]:
    """One good file of each kind."""
    import pyarrow
    import pyarrow.parquet

    rows = qa(12)
    talk = [
        {"conversations": [{"from": "human", "value": row["question"]}, {"from": "gpt", "value": "é\u2028"}]}
        for row in rows
    ]
    tool = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1.0}'}}],
    }
    after = [{"role": "tool", "content": "3"}, {"role": "assistant", "content": "y"}]
    tools = [{"messages": [{"role": "user", "content": str(i)}, tool, *after]} for i in range(9)]
    parquet = folder / "sound.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    return {
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "b.json": json.dumps({"v": 1, "data": rows}, indent=1).encode(),
        "c.json": json.dumps(talk, ensure_ascii=False).encode(),
        "d.csv": ("q,a\n" + "".join(f'"say ""{i}""\nnow","it is, {i}"\n' for i in range(12))).encode(),
        "e.tsv": ("q\ta\n" + "".join(f"ask {i}\tanswer {i}\n" for i in range(12))).encode("utf-16"),
        "f.jsonl": "".join(json.dumps(row) + "\n" for row in tools).encode(),
        "g.parquet": parquet.read_bytes(),
    }


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=5000)
@given(st.integers(0, 6), st.randoms(use_true_random=False))
def test_a_damaged_file_ends_in_a_result_or_in_words(raw, tmp_path, which, random_):
    name, content = sorted(sound_files(tmp_path).items())[which]
    raw(name, damage(content, random_))
    try:
        report = run_process(name, max_rejected=1.0)
    except SftError:
        return
    assert (
        report.read == sum(file["rows"] for file in report.files) == len(all_rows()) + len(jsonl("out/rejected.jsonl"))
    )
    assert report.read == len(read_rows(name))
