"""The cache gives back what was kept, makes again what changed, and is never half a file."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sftlib.tokens import cache, identity
from sftlib.tokens.cache import CacheKey, cached_examples
from sftlib.tokens.columns import Columns, in_columns
from sftlib.tokens.examples import Example
from sftlib.tokens.identity import code_version, tokenizer_digest
from sftlib.tokens.remarks import Remarks

KEY = CacheKey(rows="r", template="t", tokenizer="k", options="drop/1024")
EXAMPLES = [
    Example([1, 2, 3], [-100, 2, 3], "a:1"),
    Example([], [], "空:2", is_complete=False),
    Example([70000], [-100], 'a"\n:3', straddling=2, stray_ends=1),
]


class Maker:
    def __init__(self, examples: list[Example]) -> None:
        self.examples, self.calls = examples, 0

    def __call__(self, remarks: Remarks) -> Iterator[Columns]:
        self.calls += 1
        remarks.asked = len(self.examples)
        return in_columns(self.examples)


@pytest.mark.parametrize("examples", [EXAMPLES, []])
def test_made_once_and_read_back_the_same(tmp_path: Path, examples: list[Example]) -> None:
    maker = Maker(examples)
    for _ in range(2):
        found = cached_examples(tmp_path / "new" / "folder", KEY, maker)
        assert list(found) == examples
        assert found.remarks == Remarks(asked=len(examples))
    assert maker.calls == 1


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(CacheKey)])
def test_one_changed_character_in_any_part_makes_again(tmp_path: Path, name: str) -> None:
    maker = Maker(EXAMPLES)
    cached_examples(tmp_path, KEY, maker)
    cached_examples(tmp_path, dataclasses.replace(KEY, **{name: getattr(KEY, name) + "."}), maker)
    assert maker.calls == 2


def test_characters_do_not_wander_between_the_parts() -> None:
    assert CacheKey("ab", "c", "", "").digest() != CacheKey("a", "bc", "", "").digest()


def test_changed_code_makes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in identity.CODE:
        copy = tmp_path / "code" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((identity.ROOMS / name).read_bytes())
    monkeypatch.setattr(identity, "ROOMS", tmp_path / "code")
    versions = []
    for name in (None, *identity.CODE):
        if name:
            (tmp_path / "code" / name).write_bytes((tmp_path / "code" / name).read_bytes() + b"\n")
        code_version.cache_clear()
        versions.append(KEY.digest())
    code_version.cache_clear()
    assert len(set(versions)) == len(identity.CODE) + 1


@pytest.mark.parametrize("name", identity.CALLED)
def test_another_version_of_a_library_makes_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, version = KEY.digest(), identity.version
    monkeypatch.setattr(identity, "version", lambda called: version(called) + (".1" if called == name else ""))
    code_version.cache_clear()
    other = KEY.digest()
    code_version.cache_clear()
    assert other != digest


def test_every_tokenizer_file_counts(tmp_path: Path, tiny_model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    digests = {tokenizer_digest(tmp_path)}
    for name in identity.TOKENIZER_FILES:
        with open(tmp_path / name, "a") as file:
            file.write(" ")
        digests.add(tokenizer_digest(tmp_path))
    (tmp_path / "model.safetensors").write_text("not a part of the tokenizer")
    assert len(digests) == len(identity.TOKENIZER_FILES) + 1
    assert tokenizer_digest(tmp_path) in digests


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_broken_file_is_made_again(tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]) -> None:
    maker = Maker(EXAMPLES)
    cached_examples(tmp_path, KEY, maker)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    assert list(cached_examples(tmp_path, KEY, maker)) == EXAMPLES
    assert list(cached_examples(tmp_path, KEY, maker)) == EXAMPLES
    assert maker.calls == 2
    assert "made again" in capsys.readouterr().err


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(remarks: Remarks) -> Iterator[Columns]:
        yield Columns.of(EXAMPLES)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached_examples(tmp_path / "cache", KEY, fail)
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_of_many_data_sets_stay_while_they_are_small(tmp_path: Path) -> None:
    keys = [dataclasses.replace(KEY, rows=str(number)) for number in range(4 * cache.KEPT)]
    for age, key in enumerate(keys):
        cached_examples(tmp_path, key, Maker(EXAMPLES))
        os.utime(tmp_path / f"{key.digest()}.arrow", (age, age))
    assert len(list(tmp_path.iterdir())) == len(keys)


def test_old_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT_BYTES", 0)
    maker = Maker(EXAMPLES)
    keys = [dataclasses.replace(KEY, rows=str(number)) for number in range(cache.KEPT + 2)]
    for age, key in enumerate(keys[:-1]):
        cached_examples(tmp_path, key, maker)
        os.utime(tmp_path / f"{key.digest()}.arrow", (age, age))
    cached_examples(tmp_path, keys[1], maker)  # used again: now the newest
    cached_examples(tmp_path, keys[-1], maker)
    left = {file.stem for file in tmp_path.iterdir()}
    assert left == {key.digest() for key in (keys[1], *keys[3:])}


def test_what_earlier_versions_and_killed_writes_left_goes(tmp_path: Path) -> None:
    digest = KEY.digest()
    gone = [f"{digest}.safetensors", f".{digest}.arrow.x7.tmp"]
    kept = ["probe.json", "notes.safetensors", f".{digest}.arrow.y8.tmp"]
    for name in (*gone, *kept):
        (tmp_path / name).write_text("")
    (tmp_path / "unsloth").mkdir()
    for name in (*gone, *kept[:2], "unsloth"):
        os.utime(tmp_path / name, (0, 0))
    cached_examples(tmp_path, KEY, Maker(EXAMPLES))
    assert {path.name for path in tmp_path.iterdir()} == {f"{digest}.arrow", "unsloth", *kept}


def test_files_that_others_delete_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process sweeps the same folder, at the worst moments."""
    monkeypatch.setattr(cache, "KEPT_BYTES", 0)
    maker = Maker(EXAMPLES)
    keys = [dataclasses.replace(KEY, rows=str(number)) for number in range(cache.KEPT + 3)]
    for age, key in enumerate(keys[:-1]):
        cached_examples(tmp_path, key, maker)
        os.utime(tmp_path / f"{key.digest()}.arrow", (age, age))
    files, unlink = Path.iterdir, Path.unlink

    def listed(folder: Path) -> Iterator[Path]:
        yield from [*files(folder), folder / f"{'0' * 64}.arrow"]  # the last is gone when it is looked at

    def gone(path: Path) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr(Path, "iterdir", listed)
    monkeypatch.setattr(Path, "unlink", gone)
    cached_examples(tmp_path, keys[-1], maker)
    assert len(list(files(tmp_path))) == cache.KEPT
    used = tmp_path / f"{keys[-1].digest()}.arrow"
    monkeypatch.setattr(os, "utime", lambda path: os.stat(tmp_path / "gone"))
    assert list(cached_examples(tmp_path, keys[-1], maker)) == EXAMPLES
    assert used.is_file()


def test_twenty_thousand_examples_come_back_as_they_were(tmp_path: Path) -> None:
    dice = random.Random(0)
    ids = [dice.randrange(50000) for _ in range(400)]
    examples = [Example(ids[: 100 + n % 200], ids[: 100 + n % 200], f"raw.jsonl:{n}") for n in range(20_000)]
    cached_examples(tmp_path, KEY, Maker(examples))
    assert list(cached_examples(tmp_path, KEY, Maker([]))) == examples
