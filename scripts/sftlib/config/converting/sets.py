"""What both tools say of data sets: where the rows are, names, splits, the share that is kept for evaluation.

Comes in: entries and texts. Goes out: settings below data.datasets and data.split. It looks at no row and opens no
file; whether a path is local is asked of the disk, as both tools ask it.

    name_of("mhenrichsen/alpaca_2k_test", taken=[])      ->  "alpaca_2k_test"
    locate("org/name") -> "hf:org/name"                  locate("data/faq.jsonl")  ->  "data/faq.jsonl"

Worst bug: rows of another file or split (tests/config/converting/test_from_axolotl_data.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ..reading import read_number
from .draft import Draft
from .foreign import Entry

DATA_FILE = re.compile(r".*\.(jsonl?|ndjson|csv|tsv|parquet)$", re.I)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ELSEWHERE = re.compile(r"^(s3|s3a|gs|gcs|abfs|adl|oci|https?)://")
ROLES = {  # ours -> what rows may call it, as chat/formats.py reads them
    "system": ("system", "developer"),
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "chatgpt", "model", "bot", "function_call"),
    "tool": ("tool", "function", "observation", "ipython", "function_response"),
}
MESSAGE_KEYS = (("role", "content"), ("from", "value"))  # pairs that rows of messages may use
MESSAGE_COLUMNS = ("messages", "conversations", "conversation")  # found without data.columns


def name_of(path: str, taken: Collection[str]) -> str:
    """A name for a data set, from its path: letters, digits, `_` and `-`."""
    last = re.split(r"[\\/:]", path.rstrip("/"))[-1]
    last = re.sub(r"\.(jsonl?|ndjson|csv|tsv|parquet)$", "", last, flags=re.I)
    short = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_") or "data"
    name, number = short, 2
    while name in taken:
        name, number = f"{short}-{number}", number + 1
    return name


def locate(draft: Draft, entry: Entry, path: str) -> str | None:
    """The path as data.datasets takes it: a file or folder as it is, `hf:org/name` for the hub."""
    if ELSEWHERE.match(path):
        draft.refuse(entry, "rows are not fetched from there.", cure="Get the files and name their folder.")
        return None
    if DATA_FILE.fullmatch(path) or path.startswith((".", "/", "~")) or Path(path).exists():
        return str(Path(path).expanduser())
    if HUB_NAME.fullmatch(path):
        return f"hf:{path}"
    expected = "a file or folder that is there, or org/name of the hub"
    draft.refuse(entry, "it is neither a file here nor a name of the hub.", expected=expected)
    return None


def settle_split(draft: Draft, entry: Entry | None, key: str) -> None:
    """The rows kept for evaluation, as a share or a number; nothing is kept for a test, as with them."""
    size = entry.number() if entry else 0
    if size is None:
        return
    origin = entry or draft.default(key)
    if size == 1 or size < 0 or (size > 1 and size != int(size)):
        draft.refuse(entry, "it is no number of rows to evaluate on.", "a share below 1, or a whole number above 1")
        return
    if size <= 1:
        draft.put("data.split.train", round(1 - size, 9), "the rest")
        draft.put("data.split.val", size, origin)
    else:
        draft.put("data.split.val", int(size), origin)
    draft.put("data.split.test", 0, f"{draft.tool} keeps none: evaluate with make eval-val")


def split_slice(draft: Draft, entry: Entry, path: str, split: str) -> str | None:
    """The split of a data set of the hub, slices of it included; a slice of a file is refused."""
    _, bracket, inside = split.partition("[")
    if bracket and not path.startswith("hf:"):
        draft.refuse(entry, "a slice of a file.", cure="Cut the file, e.g. with head, and name what is left.")
        return None
    if bracket and not all(_is_bound(bound) for bound in inside.rstrip("]").split(":")):
        draft.refuse(entry, "it is no slice.", expected="train[:80%], train[100:200] and the like")
        return None
    return split


def has_known_roles(roles: dict[str, list[str]]) -> list[str]:
    """The names of roles that rows may not use here, as `theirs for ours`."""
    wrong = []
    for role, names in roles.items():
        wrong += [f"{name} for {role}" for name in names if name not in ROLES.get(role, ())]
    return wrong


def _is_bound(text: str) -> bool:
    return not text or read_number(text.removesuffix("%").lstrip("-"), int) is not None
