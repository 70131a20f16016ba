"""The data sets of a config as `make process` reads them, and the system message of each row.

`data.datasets` names several, `data.raw_path` one without a name; from here on both are the same.

    raw_sets(section)                     ->  [RawSet("faq", ("data/raw/faq.jsonl",), ...), RawSet("code", ...)]
    put_system(conversation, raw_set, 42)      the same row gets the same text of a pool in any order of rows and files

Worst bug: a key of a data set that is not heeded (tests/chat/test_raw_sets.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..config.schema import DataSection, DatasetSection
from ..errors import ConfigError
from .cleaning import clean_text
from .conversation import Conversation
from .style import put


@dataclass(frozen=True)
class RawSet:
    """One data set: its name ("" when there is only one), where its rows are, and how they are read.

    key: where the config names its path.
    """

    name: str
    paths: tuple[str, ...]
    columns: Mapping[str, str]
    system: tuple[str, ...] = ()
    system_mode: str = "only_if_missing"
    key: str = field(default="data.raw_path", compare=False)


def raw_sets(section: DataSection, raw_paths: Sequence[str] | None = None) -> list[RawSet]:
    """The data sets in their order; `raw_paths` are read instead of all that the config names."""
    if raw_paths or not section.datasets:
        return [RawSet("", tuple(raw_paths or _listed(section.raw_path)), section.columns)]
    return [_raw_set(name, one, section.columns) for name, one in section.datasets.items()]


def put_system(conversation: Conversation, raw_set: RawSet, seed: int) -> Conversation:
    """The conversation with the system message of its data set, chosen from the pool by what the row says."""
    if not raw_set.system:
        return conversation
    content = json.dumps(conversation.to_dicts(), sort_keys=True).encode("utf-8")
    drawn = hashlib.blake2b(content, digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return put(conversation, raw_set.system[int.from_bytes(drawn, "big") % len(raw_set.system)], raw_set.system_mode)


def _raw_set(name: str, own: DatasetSection, columns: Mapping[str, str]) -> RawSet:
    key = f"data.datasets.{name}"
    texts = [clean_text(text, {}).strip() for text in _listed(own.system or [])]
    if not all(texts):
        raise ConfigError("A system message is empty.", where=f"{key}.system", cure="Write a text, or leave it out.")
    paths = tuple(_of_hub(path, own) for path in _listed(own.path))
    return RawSet(name, paths, {**columns, **own.columns}, tuple(texts), own.system_mode, f"{key}.path")


def _of_hub(path: str, own: DatasetSection) -> str:
    """An address of the hub with subset and split in it, as readers.py takes them; any other path as it is."""
    if not path.startswith("hf:"):
        return path
    address, _, split = path.partition(":")[2].partition(":")
    if own.subset:
        address = "/".join([*address.split("/")[:2], own.subset])
    split = own.split or split
    return f"hf:{address}" + (f":{split}" if split else "")


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
