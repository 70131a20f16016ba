"""Micro-batches that were found on this machine, so that the next run of the same kind starts at once.

In: the folder of the runs' caches and a key, everything that the choice depends on. Out: the `Choice` that was kept for
it. One small JSON file, written whole, in which each entry carries its key in clear; deleting it forgets everything.

    kept = Remembered(Path("outputs/.cache"), {"model": "9f2c..", "longest": 512, "card": "RTX 3070", "free": 28, ...})
    kept.remember(Choice(4, True, False))
    kept.recall()  ->  Choice(4, True, False)

A training whose memory runs out keeps the smaller size that went through, by the same function.

Worst bug: the choice of another model, length or card (tests/memory/test_remembered.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import console
from ..files import read_json, sha256_text, write_json
from .search import Choice

NAME = "micro_batches.json"
KEPT = 64  # entries; older ones are dropped
BUCKET_BYTES = 256 * 2**20  # free memory is compared in these: less than what a search leaves free on 8 GiB


class Remembered:
    """What is kept for one key; `key` holds what JSON can."""

    def __init__(self, folder: str | Path, key: Mapping[str, Any]) -> None:
        self.path = Path(folder) / NAME
        self.key = dict(key)
        self._digest = sha256_text(json.dumps(self.key, sort_keys=True))

    def recall(self) -> Choice | None:
        """The choice that was kept, if any."""
        found = self._entries().get(self._digest)
        return Choice(**found["choice"]) if found else None

    def remember(self, choice: Choice) -> None:
        """Keep it, in the place of what was kept before."""
        entries = self._entries()
        entries.pop(self._digest, None)  # so that it is the newest
        entries[self._digest] = {"choice": choice._asdict(), "key": self.key}
        write_json(self.path, dict(list(entries.items())[-KEPT:]))

    def _entries(self) -> dict[str, Any]:
        try:
            entries = read_json(self.path)
            choices = [entry["choice"] for entry in entries.values()]
            if all(set(one) == set(Choice._fields) and Choice(**one).size >= 1 for one in choices):
                return entries
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        console.note(f"{self.path} is not readable: what was found before is found anew.")
        return {}
