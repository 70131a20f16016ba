"""Whether the splits in a folder are what config, raw data and code would give now; if not, why, in words.

    look(section, seed, "data/processed")
        ->  Freshness(missing=[], changes=["data.split.val was 0.1 and is 0.2"], edited=[], ...)

What made the splits stands in report.json as `key`: the settings that matter by their names, the hashes of the raw
files and of the blocklist, and of our own code. No row is parsed here, raw files are hashed. Data sets of the hub are
taken to be as they were.
Worst bug: splits of yesterday's data or settings (tests/chat/test_freshness.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..config.schema import DataSection
from ..errors import DataError
from ..files import read_json, sha256_file, sha256_text
from .dealing import SPLITS
from .raw_sets import RawSet, raw_sets
from .readers import find_sources

REPORT = "report.json"
ROOM = Path(__file__).parent
CODE = (
    "blocklist", "cleaning", "conversation", "dealing", "decoding", "formats", "groups", "jsonstream",
    "near_duplicates", "processing", "provenance", "questions", "raw_sets", "readers", "rows", "slices", "splitting",
    "style",
)  # fmt: skip


@dataclass(frozen=True)
class Freshness:
    """Of the splits in a folder: which are not there, what changed since they were made, which somebody edited since.

    raw_changes: those of `changes` that happened to the raw files, none where the config names other ones now. has_raw:
    False where the raw data is not there, so that the splits cannot be made anew.
    """

    missing: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    raw_changes: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    has_raw: bool = True

    @property
    def is_current(self) -> bool:
        """Whether to make them now would give the same."""
        return not (self.missing or self.changes or self.edited)


def key_of(section: DataSection, seed: int, sets: Sequence[RawSet], files: Mapping[str, str | None]) -> dict[str, Any]:
    """All that the splits depend on. files: the raw files and their hashes, None for data sets of the hub."""
    settings: dict[str, Any] = {
        "seed": seed, "data.encoding": section.encoding, "data.max_rejected": section.max_rejected,
        **{f"data.split.{name}": getattr(section.split, name) for name in SPLITS},
        "data.near_duplicates": section.near_duplicates, "data.group_by": section.group_by,
        "data.blocklist": section.blocklist, "data.datasets": [one.name for one in sets if one.name],
    }  # fmt: skip
    for one in sets:
        place = one.key.rpartition(".")[0]
        settings |= {one.key: list(one.paths), f"{place}.columns": dict(one.columns)}
        if one.name:
            settings |= {f"{place}.system": list(one.system), f"{place}.system_mode": one.system_mode}
    blocklist = Path(section.blocklist) if section.blocklist else None
    return {
        "settings": settings,
        "files": dict(files),
        "blocklist": sha256_file(blocklist) if blocklist and blocklist.is_file() else None,
        "code": _code_version(with_near=section.near_duplicates is not None),
    }


def look(section: DataSection, seed: int, folder: str | Path) -> Freshness:
    """What is to be said about the splits in a folder."""
    paths = {name: Path(folder) / f"{name}.jsonl" for name in SPLITS}
    missing = [path.as_posix() for path in paths.values() if not path.is_file()]
    sets, files, has_raw = raw_sets(section), {}, True
    try:
        for one in sets:
            sources, _ = find_sources(one.paths, section.encoding, one.key)
            files |= {source.name: sha256_file(source.path) if source.path else None for source in sources}
    except DataError as error:
        has_raw, why_not = False, error.seen
    found = _read_report(Path(folder) / REPORT)
    there = [name for name in SPLITS if paths[name].as_posix() not in missing]
    if found is None:
        return Freshness(missing, edited=[paths[name].as_posix() for name in there], has_raw=has_raw)
    made = {name: found["splits"][name]["sha256"] for name in there}
    edited = [paths[name].as_posix() for name in there if sha256_file(paths[name]) != made[name]]
    if not has_raw:
        return Freshness(missing, [why_not.rstrip(".")], edited=edited, has_raw=False)
    then, now = found["key"], key_of(section, seed, sets, files)
    changed = list(_changed_files(then["files"], now["files"]))
    same_paths = all(then["settings"].get(one.key) == list(one.paths) for one in sets)
    return Freshness(missing, [*_changed_settings(then, now), *changed], changed if same_paths else [], edited)


def _changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    then, today = before["settings"], now["settings"]
    for name in {**then, **today}:
        if then.get(name) != today.get(name):
            yield f"{name} was {_shown(then.get(name))} and is {_shown(today.get(name))}"
    if before["blocklist"] != now["blocklist"]:
        yield "the rows of data.blocklist changed"
    if before["code"] != now["code"]:
        yield "the code of this project changed"


def _changed_files(then: Mapping[str, str | None], today: Mapping[str, str | None]) -> Iterator[str]:
    for path in {**then, **today}:
        if path not in today:
            yield f"{path} is read no more"
        elif path not in then:
            yield f"{path} is new"
        elif then[path] != today[path]:
            yield f"{path} changed"


def _read_report(path: Path) -> dict[str, Any] | None:
    """A report with all that is asked of it; None where there is none."""
    try:
        report = read_json(path)
        whole = all(name in report["key"] for name in ("settings", "files", "blocklist", "code"))
        return report if whole and all(report["splits"][name]["sha256"] for name in SPLITS) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shown(value: Any) -> str:
    text = "null" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text and len(text) <= 60 else f"{text[:60]}…" if text else "empty"


@cache
def _code_version(*, with_near: bool) -> str:
    """Hash of the sources that decide what is in the splits."""
    digests = [sha256_file(ROOM / f"{name}.py") for name in CODE]
    return sha256_text("".join(digests) + (version("rensa") if with_near else ""))
