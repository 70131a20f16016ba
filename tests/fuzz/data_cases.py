"""Raw data as it should not be: good files of every kind, spoilt in the ways that files are spoilt, case by case."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from sftlib.config.schema import DataSection, SplitSection

ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "cp1252",
    "latin-1",
    "shift_jis",
    "utf-7",
]
ASKED = ["auto"] * 60 + [*ENCODINGS, "ascii", "idna", "punycode", "unicode_escape", "undefined", "gb18030", "cp037"]
MARKS = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff"]
MAGIC = [b"PAR1", b"\x1f\x8b", b"PK\x03\x04", b"ARROW1", b"BZh", b"\x28\xb5\x2f\xfd", b"%PDF-1.7", b"\x7fELF"]
BYTES = [b"\0", b"\r", b"\r\n", b"\n\n", b"\t", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b";", b"|",
    b"\xff",
    b"\xc3", b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\x0b", b"\x0c", b"\x1a", b"\x7f", b"//x", b"/*x*/",
    b"NaN", b"<|im_end|>",
    b"\xef\xbf\xbe", b"\xf4\x90\x80\x80", b"\\u0000", b"\\ud800", b"\\udc00"]  # fmt: skip
SUFFIXES = [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", "", ".JSON", ".gz"]
NAMES = ["question", "answer", "messages", "conversations", "role", "content", "system", "history", "user",
    "assistant", "input",
    "output", "instruction", "prompt", "completion", "context", "data", "Question", "que stion", "", "\\u0000",
    "\\ud800", "tool_calls",
    "name", "from", "value", "function_call", "text", "chosen", "frage", "source"]  # fmt: skip


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" + closing * depth


HOSTILE = [  # JSON values, as text
    "null", "true", "false", "0", "-0", "1.10", "1e400", "-1e-999", "NaN", "-Infinity", "9" * 5000, "0x10", "01", "1.",
    "undefined", "'x'",
    '""', '" "', '"\\n\\t"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x41"', '"\\u12"',
    '"\t"', '"<|im_end|>"',
    '"{{ eos_token }}"', '"\\u2028"', '"\\ufeff"', f'"{"long " * 20000}"', "[]", "{}", "[[]]", "[null]", '[{}]',
    '{"":""}', '{"a":1,"a":2}',
    *(nested(depth, "[", "]") for depth in (30, 200, 400, 900, 5000, 60000)),
    *(nested(depth, '{"a":', "}") for depth in (30, 200, 400, 900, 5000, 60000)),
    '"[[[[[["', f'"{nested(300, "[", "]")}"', f'"{nested(3000, "[", "]")}"', '"[1, 2"', '"{}"',
    '[{"role":"user","content":"hi"}]', '[{"role":"assistant","content":"hi"}]', '[{"role":"user"},{"role":"user"}]',
    '[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"a"}]',
    '[{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":"{\\"x\\":1e999}"}}]},'
    '{"role":"tool","content":"5"},{"role":"assistant","content":"a"}]',
    '[{"role":"user","content":"u"},{"role":"assistant","content":"","tool_calls":"x"}]',
    '[{"role":"user","content":"u"},{"role":"assistant","content":"","tool_calls":5}]',
    '[{"role":"user","content":"u"},{"role":"assistant","content":"","tool_calls":{"function":{}}}]',
    '[{"role":"user","content":"u","name":{"x":[1]}},{"role":"assistant","content":"a","name":5}]',
    '[{"role":"user","content":"u"},{"role":"assistant","content":"a","reasoning_content":["x"]}]',
    '[{"role":5,"content":"u"},{"role":null,"content":5}]', '[{"role":["user"],"content":"u"}]',
    '[{"role":{"a":1},"content":"u"}]',
    '[{"from":"human","value":"u"},{"from":"function_call","value":"{\\"name\\":1}"},{"from":"gpt","value":"a"}]',
    '[{"from":"gpt","value":"a"},{"from":"human","value":"u"}]',
    '[{"from":"human","value":{"a":1}},{"from":"gpt","value":[1]}]',
    '[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]},{"role":"assistant","content":["a"]}]',
    '[{"role":"user","content":[{"type":["text"],"text":5}]},{"role":"assistant","content":[null]}]',
    '[["q","a"],["q","a"]]', '[["q"]]', '[[1,2]]', "[1,2,3]", '{"role":"user","content":"u"}',
]  # fmt: skip
GOOD = [
    "Why is the sky blue?",
    "2 + 2 = ?",
    "Wie heißt das?",
    "漢字",
    "🙂 ok",
    "a, b; c\td",
    'He said "no".',
    "two\nlines",
    "it's",
    "x" * 300,
]


class Case:
    """The files of one case, and how `process` is asked to read them."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice = folder, dice
        raw = folder / "raw"
        raw.mkdir(parents=True)
        for number in range(dice.choice([1, 1, 1, 1, 2])):
            data, suffix = document(dice)
            for _ in range(dice.choice([0, 0, 1, 1, 1, 2, 3])):
                data = dice.choice(SPOILERS)(data, dice)
            if dice.random() < 0.15:
                suffix = dice.choice(SUFFIXES)
            (raw / f"{number}{suffix}").write_bytes(data)
        whole = dice.random() < 0.5
        self.paths = [str(raw)] if whole else [str(path) for path in sorted(raw.iterdir())]
        self.section = DataSection(
            encoding=dice.choice(ASKED), max_rejected=dice.choice([0.05, 1.0, 1.0, 1.0]),
            columns=dice.choice([{}] * 12 + [{"user": "frage", "assistant": "answer"}, {"messages": "data"},
                {"system": "name"}]),
            split=SplitSection(**dict(zip(("train", "val", "test"), dice.choice([(0.8, 0.1, 0.1), (1.0, 0.0, 0.0),
                (0.34, 0.33, 0.33)]),
                strict=True))),
        )  # fmt: skip


# -- Good files, with rows that are not ------------------------------------------------------------------------------


def document(dice: random.Random) -> tuple[bytes, str]:
    """A file of some kind, its rows good or hostile, and the suffix it should have."""
    kind = dice.choice(["jsonl", "jsonl", "json", "json", "wrapped", "csv", "csv", "tsv", "parquet"])
    if kind == "parquet":
        return parquet(dice.randrange(8)), ".parquet"
    count = dice.choice([0, 1, 1, 2, 2, 3, 3, 5, 5, 12, 12, 12, 12, 25, 25])
    if kind in ("csv", "tsv"):
        delimiter = "\t" if kind == "tsv" else dice.choice(",,,;|")
        return "".join(delimited(dice, count, delimiter)).encode("utf-8"), f".{kind}"
    rows = [row(dice) for _ in range(count)]
    if kind == "jsonl":
        return "".join(f"{one}\n" for one in rows).encode("utf-8"), ".jsonl"
    array = "[" + ",\n ".join(rows) + "]"
    wrapper = dice.choice(["data", "train", "rows"])
    text = array if kind == "json" else f'{{"version": 2, "{wrapper}": {array}, "more": 1}}'
    return text.encode("utf-8"), ".json"


def row(dice: random.Random) -> str:
    """One row as JSON text: of a known shape, with now and then a field, a name or the whole replaced."""
    number, ask, say = dice.randrange(1000), dice.choice(GOOD), dice.choice(GOOD)
    fields = dice.choice([
        {"question": f"{ask} {number}", "answer": say}, {"instruction": f"{ask} {number}", "input": say, "output": say},
        {"system": say, "user": f"{ask} {number}", "assistant": say}, {"prompt": f"{ask} {number}", "completion": say,
        "id": number},
        {"messages": [{"role": "user", "content": f"{ask} {number}"}, {"role": "assistant", "content": say}]},
        {"conversations": [{"from": "human", "value": f"{ask} {number}"}, {"from": "gpt", "value": say}] * 2},
        {"question": f"{ask} {number}", "answer": number, "history": [[ask, say]]}, {"frage": ask, "answer": say,
        "data": []},
    ])  # fmt: skip
    texts = {name: json.dumps(value, ensure_ascii=dice.random() < 0.5) for name, value in fields.items()}
    if dice.random() < 0.25:
        texts[dice.choice([*texts, dice.choice(NAMES)])] = dice.choice(HOSTILE)
    pairs = [f'"{name}": {text}' for name, text in texts.items()]
    if dice.random() < 0.05:
        pairs.append(dice.choice(pairs))
    if dice.random() < 0.05:
        dice.shuffle(pairs)
    return dice.choice(HOSTILE) if dice.random() < 0.03 else "{" + ", ".join(pairs) + "}"


def delimited(dice: random.Random, count: int, delimiter: str) -> Iterator[str]:
    """The lines of a CSV, some with cells, quotes or ends that do not fit."""
    header = dice.choice([*[["question", "answer"]] * 5, *[["instruction", "input", "output"]] * 3, ["messages"],
        ["frage", "antwort"], ["a"] * 2,
        ["question", "", ""], ["question", "answer", *map(str, range(3000))],
        [dice.choice(NAMES) for _ in range(4)]])  # fmt: skip
    end = dice.choice(["\n", "\n", "\r\n", "\r"])
    if dice.random() < 0.95:
        yield delimiter.join(header) + end
    for _ in range(count):
        cells = [
            dice.choice([*GOOD, *GOOD, dice.choice(HOSTILE)]) + str(dice.randrange(99))
            for _ in header[: dice.choice([1, 9, 9, 9])]
        ]
        if dice.random() < 0.9:
            cells = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        yield delimiter.join(cells + ["x"] * (dice.random() < 0.05)) + (end if dice.random() < 0.97 else "\r\n\n")


@functools.cache
def parquet(number: int) -> bytes:
    """One of eight Parquet files with columns of many types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [0, 1, 3, 20, 20, 20, 300, 5][number]
    count = range(rows)
    columns = {
        "question": pa.array([f"What is {i}?" for i in count]), "answer": pa.array([f"{GOOD[i % 10]}" for i in count]),
    }  # fmt: skip
    if number == 4:
        talk = [[{"role": "user", "content": f"u{i}"}, {"role": "assistant", "content": "a"}] for i in count]
        columns = {"messages": pa.array(talk), "when": pa.array([10**17 + i for i in count], pa.timestamp("us", "UTC"))}
    if number == 5:
        columns |= {
            "bytes": pa.array([b"\xff\xfe"] * rows), "price": pa.array([float("nan")] * rows),
            "for": pa.array([2**40] * rows, pa.duration("s")), "map": pa.array([[("k", 1)]] * rows,
            pa.map_(pa.string(), pa.int64())),
        }  # fmt: skip
    if number == 3:
        columns["when"] = pa.array([10**15] * rows, pa.timestamp("us", "Mars/Olympus"))
    if number == 6:
        columns["answer"] = pa.array([GOOD[i % 10] for i in count]).dictionary_encode()
    if number == 1:
        columns |= {"when": pa.array([2**62], pa.timestamp("us")), "day": pa.array([2**31 - 1], pa.date32())}
    if number == 7:
        columns["answer"] = pa.array([b"\xff\xff", b"ok", b"\xc3\xa9", None, b""], pa.binary())
    stream = io.BytesIO()
    pq.write_table(
        pa.table(columns), stream, compression=["snappy", "none", "zstd", "gzip"][number % 4], row_group_size=7
    )
    return stream.getvalue()


# -- What happens to files -------------------------------------------------------------------------------------------


def flip(data: bytes, dice: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 4, 40])):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def behead(data: bytes, dice: random.Random) -> bytes:
    return data[dice.randrange(len(data) + 1) :]


def lose(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data) + 1)
    return data[:start] + data[start + dice.randrange(1, 200) :]


def stutter(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data) + 1)
    piece = data[start : start + dice.randrange(1, 2000)]
    return data[:start] + piece * dice.choice([2, 3, 50]) + data[start:]


def strew(data: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice([1, 1, 2, 10])):
        spot = dice.randrange(len(data) + 1)
        data = data[:spot] + dice.choice(BYTES) * dice.choice([1, 1, 1, 2, 1000]) + data[spot:]
    return data


def mark(data: bytes, dice: random.Random) -> bytes:
    return dice.choice(MARKS) * dice.choice([1, 1, 2]) + data


def disguise(data: bytes, dice: random.Random) -> bytes:
    return dice.choice(MAGIC) + data


def recode(data: bytes, dice: random.Random) -> bytes:
    return data.decode("utf-8", "replace").encode(dice.choice(ENCODINGS), "replace")


def other_ends(data: bytes, dice: random.Random) -> bytes:
    ends = [b"\r\n", b"\r", b"\n\r", b"\n\n\n", "\u2028".encode(), b"\x85", b" "]
    return b"".join(line + (dice.choice(ends) if dice.random() < 0.5 else b"\n") for line in data.split(b"\n"))


def join(data: bytes, dice: random.Random) -> bytes:
    return data + dice.choice([b"", b"\n", b","]) + document(dice)[0]


def shuffle(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\n")
    dice.shuffle(lines)
    return b"\n".join(lines)


def put_hostile(data: bytes, dice: random.Random) -> bytes:
    spot = dice.randrange(len(data) + 1)
    return data[:spot] + dice.choice(HOSTILE).encode() + data[spot:]


def pack(data: bytes, dice: random.Random) -> bytes:
    return dice.choice([gzip.compress, bz2.compress])(data)


def replace_all(data: bytes, dice: random.Random) -> bytes:
    return dice.choice([b"", b"\n", b" \n\t", b"\0" * 5000, b"[" * 70000, b'{"a":' * 70000, b'"' * 999, b"," * 200000,
        b"a,b\n" * 9999,
        dice.randbytes(3000), b"hello", b"[]", b"{}", b"[{}]", b"null", b"a,b", b"PAR1", b"PAR1PAR1", b'[{"a":1}',
            b"[,,,,]"])  # fmt: skip


SPOILERS: list[Callable[[bytes, random.Random], bytes]] = [
    flip, flip, flip, cut, cut, behead, lose, lose, stutter, stutter, strew, strew, strew, mark, mark, disguise,
        recode, recode,
    other_ends, other_ends, join, join, shuffle, shuffle, put_hostile, put_hostile, pack,
    replace_all,
]  # fmt: skip
