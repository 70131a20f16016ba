"""Configs as they should not be: good files with hostile values, structures, bytes and includes, case by case."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from sftlib.config.faults import MEANT
from sftlib.config.keys import keys, sections
from sftlib.files import ROOT

SMOKE = (ROOT / "configs" / "run_smoke.yaml").read_text(encoding="utf-8")
BASE = (ROOT / "configs" / "config_base.yaml").read_text(encoding="utf-8")
NAMES = [*keys(), *filter(None, sections()), *MEANT, "include", "<<", "", "?", "train.lr", "a.b.c.d",
    "data.columns.user", "data.columns.",
    "data.columns.a.b", "model.", ".model", "тренер", "x" * 5000, "train..optim", "\u202e", "TRAIN", "train ", "null",
    "true", "1"]  # fmt: skip


def laughs(depth: int, width: int = 9) -> str:
    """A billion of them: each line holds the one before many times."""
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join([*lines, f"train: *a{depth - 1}", f"infer: {{stop: *a{depth - 1}}}", ""])


VALUES = [
    "null", "~", "", "true", "no", "on", "0", "-1", "1", "010", "0x1F", "0b1", "0o7", "1_000", "1__0", "1e400",
    "-1e-400", "2e-4", "1e", ".5", "5.",
    ".inf", "-.inf", ".nan", "NaN", "9" * 30, "9" * 6000, "9223372036854775808", "-9223372036854775809",
    "1.7976931348623157e309", "1:30",
    "2024-01-01", "2024-01-01T00:00:00Z", "1/3", "10%", "1,5", "٣", "１２", "½", "'1'", '"1"', '"\\ud800"', '"\\0"',
    '"\\x41"', '"\\q"', '"a\\\n b"',
    "[]", "{}", "[[]]", "[null]", "[1, 2]", "{a: b}", "{a: {b: {c: d}}}", "[a, [b, {c: d}]]", "{null: 1}", "{[a]: 1}",
    "{? {a: b} : c}",
    "[" * 300, "[" * 600, "{a: " * 300, "{a: " * 600, "[" * 150 + "]" * 150, "{a: " * 150 + "}" * 150, "- - - - - a",
    "&a", "*a", "&a x", "&a [*a]",
    "&a {a: *a}", "!!str 1", "!!int x", "!!float .inf", "!!python/object/apply:os.system [ls]",
    "!!python/name:os.system", "!!binary aGk=", "!!set {a}",
    "!!omap [a: 1]", "!!timestamp x", "!<tag:yaml.org,2002:int> 1", "! x", "!local x", "|", ">", "|2", "|\n  a\n  b",
    ">-\n   x", "@x", "`x`", "%x",
    "a: b", "a #b", "a: b: c", "'a", '"a', "a\tb", "\tx", "auto", "adamw_torch", "AUTO", " auto ", "outputs/../..",
    "/dev/null", "../../etc/passwd",
    "a" * 100000, "(a{1000}){1000}", "(?P<x>a)(?P<x>b)", "[a-", "(" * 300, "(?:" * 5000, "a{99999999999}", "\\",
    "(a+)+$", "utf-16", "idna", "base64",
    "hex", "zip", "rot13", "undefined", "punycode", "utf_8_sig", "mbcs", "a\0b", "x" * 300, "unicode_escape", "é",
    "\u2028", "\x85", "\ufeff", "\ufffe", "💯",
]  # fmt: skip
LINES = [
    "<<: *a", "<<: {seed: 1}", "base: &a\n  seed: 1", "seed: 1\nseed: 2", "train:\n  optim: adafactor\ntrain: {}",
    "\tseed: 1", "  seed: 1", "---", "...",
    "--- {seed: 1}", "%YAML 1.1\n---", "%YAML 9.9\n---", "%TAG ! tag:x,2000:\n---", "- a", "? seed\n: 1",
    "? [a, b]\n: 1", ": 1", "seed", "seed:1", "seed : 1",
    "'seed': 1", '"train": {"epochs": 1}', "seed: 1 # x", "#" * 3000, "train: &t {optim: adafactor}\ninfer: *t",
    "model: &m {model: *m}", "train: {train: {train: 1}}",
    "data: {columns: {user: [a]}}", "data: {columns: {user: q, assistant: q}}", "data: {columns: {1: 2, null: 3}}",
    "data: {split: {train: 1e-320, val: 1, test: 0}}",
    "data: {split: {train: .5, val: .5}}", "train: {evaluation_strategy: steps, eval_strategy: no}",
    "train: {batch_size: 3, effective_batch_size: 7}",
    "train: {batch_size: 9223372036854775807, grad_accum: 9223372036854775807}", "train: {bf16: true, fp16: true}",
    "train: {max_minutes: 1e-300, warmup_ratio: 1}",
    "tuning: {mode: full, lora: {r: 4}}", "tuning: {mode: qlora, backend: plain}", "logging: {backend: [none]}",
    "logging: {backend: [wandb, wandb]}",
    "tuning: {lora: {target_modules: [q_proj, '', q_proj]}}", "train: {eval_steps: 5, eval_strategy: epoch}",
    "eval: {training_rows: 0}\ntrain: {metric_for_best_model: eval_rougeL}",
    laughs(4), laughs(12), laughs(400), laughs(9, 200), "a: &a [*a, *a]", "\n".join(f"k{n}: 1" for n in range(400)),
        "train: " + "{train: " * 50, "x: " + "[a, " * 20000,
]  # fmt: skip
INCLUDES = [
    "case.yaml", "./case.yaml", "loop.yaml", "folder", ".", "..", "/", "binary.yaml", "missing.yaml", "/dev/null",
    "/dev/zero", "/dev/urandom", "pipe", "x" * 300,
    "a/" * 3000 + "b", '"a\\0b"', '"\\ud800"', "[]", "[null]", "[case.yaml, [good.yaml]]", "[good.yaml, good.yaml]",
    "[good.yaml, missing.yaml]", "{a: b}", "good.yaml", "good.yaml",
    "doubling0.yaml", "chain0.yaml", "http://example.com/x.yaml", "~/x.yaml", "utf16.yaml", "latin.yaml", "empty.yaml",
    "large.yaml", "link.yaml", "dangling.yaml", "list.yaml",
    "folder/../good.yaml", "!!str good.yaml", "*.yaml", "'good.yaml '", "\u202egood.yaml", "good.yaml/x",
    "weights.yaml",
]  # fmt: skip
BYTES = [
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\r",
    b"\t",
    b"\x1b[31m",
    b"\x7f",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x08",
    b"\xf4\x90\x80\x80",
]
ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7"]


def make_neighbours(folder: Path) -> None:
    """Files that a case may include."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "folder").mkdir()
    (folder / "good.yaml").write_text("train: {epochs: 1}\n")
    (folder / "loop.yaml").write_text("include: loop.yaml\n")
    (folder / "binary.yaml").write_bytes(bytes(range(256)) * 40)
    (folder / "weights.yaml").write_bytes(b"\0" * 5_000_000)
    (folder / "utf16.yaml").write_bytes("seed: 1\n".encode("utf-16"))
    (folder / "latin.yaml").write_bytes("run_name: é\n".encode("latin-1"))
    (folder / "empty.yaml").write_text("")
    (folder / "list.yaml").write_text("- include: good.yaml\n")
    (folder / "large.yaml").write_text("".join(f"key{n}: {n}\n" for n in range(6_000)))
    (folder / "link.yaml").symlink_to("good.yaml")
    (folder / "dangling.yaml").symlink_to("nowhere.yaml")
    os.mkfifo(folder / "pipe")
    for n in range(60):
        (folder / f"doubling{n}.yaml").write_text(
            f"include: [doubling{n + 1}.yaml, doubling{n + 1}.yaml]\n" if n < 59 else "seed: 1\n"
        )
    for n in range(1500):
        (folder / f"chain{n}.yaml").write_text(f"include: chain{n + 1}.yaml\n" if n < 1499 else "seed: 1\n")


def write_case(path: Path, dice: random.Random) -> list[str]:
    """Write the config of one case; the overrides that go with it."""
    text = dice.choice([SMOKE, SMOKE, BASE, "", "train:\n  epochs: 1\n"]).replace(
        "include: config_base.yaml", "include: good.yaml"
    )
    for _ in range(dice.choice([0, 1, 1, 1, 2, 4])):
        text = dice.choice(SPOILERS)(text, dice)
    data = text.encode(dice.choice(ENCODINGS) if dice.random() < 0.1 else "utf-8", "replace")
    if dice.random() < 0.15:
        spot = dice.randrange(len(data) + 1)
        data = data[:spot] + dice.choice(BYTES) + data[spot:]
    path.write_bytes(data)
    return [override(dice) for _ in range(dice.choice([0, 0, 0, 1, 1, 3]))]


def override(dice: random.Random) -> str:
    if dice.random() < 0.1:
        return dice.choice(
            [
                "",
                "=",
                "seed",
                "=1",
                " = ",
                "seed==1",
                "seed=1=2",
                "\ud800=1",
                "train=\ud800",
                "include=good.yaml",
                "data.columns={user: q}",
                "train={epochs: 1}",
            ]
        )
    return f"{dice.choice(NAMES)}={dice.choice([*VALUES, *LINES])}"


# -- What happens to files -------------------------------------------------------------------------------------------


def other_value(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    number = dice.choice([n for n, line in enumerate(lines) if ":" in line and "#" not in line.split(":")[0]] or [0])
    lines[number] = lines[number].split(":")[0] + ": " + dice.choice(VALUES)
    return "\n".join(lines)


def set_key(text: str, dice: random.Random) -> str:
    """A key with a hostile value as the only thing in the file, or at its end."""
    *parents, leaf = dice.choice(NAMES).split(".")
    line = f"{leaf}: {dice.choice(VALUES)}"
    for parent in reversed(parents):
        line = f"{parent}: {{{line}}}" if dice.random() < 0.5 else f"{parent}:\n  " + line.replace("\n", "\n  ")
    return line + "\n" if dice.random() < 0.7 else f"{text}\n{line}\n"


def put_line(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(dice.randrange(len(lines) + 1), dice.choice(LINES))
    return "\n".join(lines) if dice.random() < 0.5 else dice.choice(LINES) + "\n"


def include(text: str, dice: random.Random) -> str:
    return f"include: {dice.choice(INCLUDES)}\n" + (text.replace("include:", "seed:") if dice.random() < 0.5 else "")


def indent(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    number = dice.randrange(len(lines))
    lines[number] = dice.choice([" ", "  ", "\t", "      ", "- "]) + lines[number].lstrip(dice.choice(["", " "]))
    return "\n".join(lines)


def lose(text: str, dice: random.Random) -> str:
    start = dice.randrange(len(text) + 1)
    return text[:start] + text[start + dice.choice([1, 5, 100, 10**6]) :]


def put_text(text: str, dice: random.Random) -> str:
    spot = dice.randrange(len(text) + 1)
    piece = dice.choice([*VALUES, *":{}[]\"'#&*!|>%@`-?,~=\\\n"])
    return text[:spot] + piece + text[spot:]


def stutter(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    start = dice.randrange(len(lines))
    piece = lines[start : start + dice.choice([1, 1, 5])]
    return "\n".join([*lines[:start], *piece * dice.choice([2, 2, 50]), *lines[start:]])


def other_ends(text: str, dice: random.Random) -> str:
    return text.replace("\n", dice.choice(["\r\n", "\r", "\u2028", "\x85", "\n\n"]))


SPOILERS: list[Callable[[str, random.Random], str]] = [
    other_value, other_value, other_value, set_key, set_key, put_line, put_line, include, include, indent, lose,
        put_text, stutter, other_ends,
]  # fmt: skip
