"""Rows that say nearly the same: found by MinHash and LSH, then verified by counting.

In: texts, one after another. Out: pairs of their numbers with the similarity, at or above a threshold.

    with NearDuplicates(0.8) as near:
        for text in texts:
            near.add(text)                      numbers them 0, 1, 2, ...
        for pair in near.pairs(): ...           Pair(first=3, second=17, similarity=0.93)

The similarity of two texts is Jaccard's: of the runs of three words that either has, the share that both have. Words
are folded (case, white space, Unicode composition) and lose their punctuation, but + - * / % = stay: 48 + 27 is not
48 - 27. Each letter of a script that is written without blanks (Chinese, Japanese, Thai, Khmer, ...) is a word. One
changed word changes three runs: rows of 29 words and more that differ in one are alike at 0.8, shorter ones are not, so
questions made from a template stay apart. A text of one or two words is only like one of the same words.

Candidates are rows that agree in one of several bands of their signatures; the similarity of a candidate is counted,
so no pair that is reported lies below the threshold. The bands are chosen so that a pair exactly at it is found with a
probability of 0.98 or more (at 0.8, of 12,000 pairs 99.6 % were), and pairs above it surer still. Where thousands of
rows agree in a band, each is compared with the first PROBES of its rank and of those before, and with no more than
PATIENCE in all.

Data sets are added in their order as `rank` 0, 1, ...; pairs come by the rank of the later row. Within a rank there are
enough of them to join all that belongs together, not all there are; of two ranks, all that were found. Which rows are
alike depends neither on the order of `add` within a rank nor on later ranks. The seed is fixed.
Memory: 220 bytes a row, 350 while pairs are made (100,000 rows were measured); the runs lie on the disk, 8 bytes each.
Time: 85 microseconds a row of 98 words, 30 more where each is like twelve others, 100 where a thousand nearly are.
Worst bug: near duplicates that are not found (tests/chat/test_near_duplicates.py).
"""

from __future__ import annotations

import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from .groups import Groups
from .questions import fold

if TYPE_CHECKING:
    import numpy as np

RUN = 3  # words; of two, templates that differ in a number become alike, of five, short rows never are
SLOTS = 60  # of a signature, 2 bytes each; enough for bands down to a threshold of 0.3
FOUND = 0.98  # of the pairs exactly at the threshold
PROBES = 16  # rows of a band that all others of it are compared with; bounds the work where thousands agree in one
PATIENCE = 32  # candidates of a row that are counted, likewise
DOUBT = 0.15  # of an estimate by 60 slots: 3 standard deviations; what it puts further below is not counted
SEED = 42
_BLOCK = 1 << 16  # words that are signed at once
_PAIRS = 1 << 15  # pairs that are estimated at once

_WITHOUT_BLANKS = (  # Thai, Lao, Tibetan, Burmese, Khmer, kana, ideographs of four planes
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_BETWEEN = (  # white space and the punctuation of sentences; what stands in sums and names is no such
    r"\s.,;:!?\"'`()\[\]{}\u00a1\u00ab\u00b4\u00bb\u00bf\u2010-\u2027\u2030-\u205e\u060c\u061b\u061f\u0964\u0965"
    r"\u3001-\u303f\uff01\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f"
)
_WORDS = re.compile(f"[{_WITHOUT_BLANKS}]|[^{_WITHOUT_BLANKS}{_BETWEEN}]+")


class Pair(NamedTuple):
    """Two texts by their numbers, the smaller first, and their similarity, 0 to 1."""

    first: int
    second: int
    similarity: float


def words_of(text: str) -> list[str]:
    """The words that are compared; of a text of punctuation alone, the text itself."""
    folded = fold(text)
    return _WORDS.findall(folded) or [folded]


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, slots of each): the longest bands that still find FOUND of the pairs at the threshold."""
    for slots in range(SLOTS, 1, -1):
        bands = SLOTS // slots
        if 1 - (1 - threshold**slots) ** bands >= FOUND:
            return bands, slots
    return SLOTS, 1


class NearDuplicates:
    """Texts on their way to being compared. Their runs lie in an unnamed file that ends with the object."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._bands, self._slots = bands_for(threshold)
        self._waiting: list[list[str]] = []
        self._words = 0  # that wait
        self._ranks = array("H")
        self._starts = array("Q", [0])  # of a text's runs in the file, in runs
        self._signatures, self._contents = bytearray(), bytearray()

    def __enter__(self) -> NearDuplicates:
        self._runs = tempfile.TemporaryFile()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._runs.close()

    def __len__(self) -> int:
        return len(self._ranks)

    def add(self, text: str, rank: int = 0) -> int:
        """Take a text in; its number."""
        words = words_of(text)
        self._waiting.append(words)
        self._words += len(words)
        self._ranks.append(rank)
        if self._words >= _BLOCK:
            self._sign()
        return len(self) - 1

    def pairs(self) -> Iterator[Pair]:
        """Enough pairs at or above the threshold to join all that belongs together."""
        import numpy as np

        self._sign()
        self._runs.flush()
        rows = len(self)
        signatures = np.frombuffer(self._signatures, np.uint16).reshape(rows, SLOTS)
        contents, ranks = np.frombuffer(self._contents, np.uint64), np.frombuffer(self._ranks, np.uint16)
        by_content = np.lexsort((contents, ranks)).astype(np.uint32)
        probed = np.zeros(rows, np.uint64)  # bit by bit, the bands in which a row was a probe
        groups, counted = Groups(rows), bytearray(rows)
        for rank in np.unique(ranks):
            probed[:] = 0
            known = by_content[: np.searchsorted(ranks[by_content], rank, side="right")]
            for band in range(self._bands):
                roots = groups.roots()
                for probes, others in self._met(signatures, known, ranks == rank, probed, band):
                    apart = roots[probes] != roots[others]
                    probes, others = probes[apart], others[apart]
                    likely = self._likely(signatures, probed, band, probes, others)
                    found = zip(probes[likely].tolist(), others[likely].tolist(), strict=True)
                    yield from self._verified(found, contents, groups, counted)

    def _met(
        self, signatures: np.ndarray, known: np.ndarray, is_new: np.ndarray, probed: np.ndarray, band: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of known rows that agree in a band, in blocks: the first PROBES, old and new, with the new ones."""
        import numpy as np

        keys = np.zeros(len(known), np.uint64)
        for column in range(band * self._slots, (band + 1) * self._slots):
            keys = _mixed(keys ^ signatures[known, column])
        order = np.argsort(keys, kind="stable")
        keys, members = keys[order], known[order]
        at, is_old = np.arange(len(keys)), ~is_new[members]
        begins = np.concatenate(([True], keys[1:] != keys[:-1]))
        first = np.maximum.accumulate(np.where(begins, at, 0))
        count = np.concatenate(([0], np.cumsum(is_old)))
        old = count[at + 1] - count[first]  # rows of earlier ranks that stand before one in its bucket
        place = np.where(is_old, at - first, at - first - old)
        probed[members[place < PROBES]] |= np.uint64(1 << band)
        for start, before in ((first, np.where(is_old, 0, old)), (first + old, np.where(is_old, 0, place))):
            for turn in range(PROBES):
                after = np.flatnonzero(before > turn)
                for begin in range(0, len(after), _PAIRS):
                    some = after[begin : begin + _PAIRS]
                    yield members[start[some] + turn], members[some]

    def _likely(
        self, signatures: np.ndarray, probed: np.ndarray, band: int, probes: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        """Which pairs may reach the threshold, and were not met in an earlier band."""
        import numpy as np

        equal = signatures[probes] == signatures[others]
        likely = equal.mean(axis=1) >= self._threshold - DOUBT
        for earlier in range(band):
            was_probe = (probed[probes] >> np.uint64(earlier) & np.uint64(1)).astype(bool)
            likely &= ~(was_probe & equal[:, earlier * self._slots : (earlier + 1) * self._slots].all(axis=1))
        return likely

    def _verified(
        self, found: Iterable[tuple[int, int]], contents: np.ndarray, groups: Groups, counted: bytearray
    ) -> Iterator[Pair]:
        """The pairs whose similarity, counted, is at or above the threshold, and which say something new."""
        known, mine = -1, set()
        for probe, other in found:
            if counted[other] == PATIENCE or groups.root(probe) == groups.root(other):
                continue
            similarity = 1.0
            counted[other] += 1
            if contents[probe] != contents[other]:
                if known != probe:
                    known, mine = probe, self._runs_of(probe)
                theirs = self._runs_of(other)
                both = len(mine & theirs)
                similarity = both / (len(mine) + len(theirs) - both)
            if similarity >= self._threshold:
                if self._ranks[probe] == self._ranks[other]:
                    groups.join(probe, other)
                yield Pair(min(probe, other), max(probe, other), similarity)

    def _runs_of(self, number: int) -> set[int]:
        start, end = self._starts[number], self._starts[number + 1]
        self._runs.seek(8 * start)
        return set(array("Q", self._runs.read(8 * (end - start))))

    def _sign(self) -> None:
        """Signatures and runs of the texts that wait."""
        if not self._waiting:
            return
        import numpy as np
        from rensa import RMinHash

        hashes = RMinHash.hash_token_sets(self._waiting)
        words = np.fromiter(chain.from_iterable(hashes), np.uint64)
        runs, lengths = _runs(words, np.array(list(map(len, hashes))))
        ends = np.cumsum(lengths)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(runs, [0, *ends.tolist()], num_perm=SLOTS, seed=SEED)
        self._signatures += (np.array(matrix.to_rows(), np.uint32) & 0xFFFF).astype(np.uint16).tobytes()
        self._contents += np.add.reduceat(_mixed(runs), ends - lengths).tobytes()
        self._runs.write(runs.tobytes())
        self._starts.extend((ends + self._starts[-1]).tolist())
        self._waiting.clear()
        self._words = 0


def _runs(words: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of every RUN neighbouring words, row after row, and how many each row has: one for a short row."""
    import numpy as np

    lengths = np.maximum(counts - (RUN - 1), 1)
    rows = np.repeat(np.arange(len(counts)), lengths)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = (np.cumsum(counts) - counts)[rows] + within
    runs = _mixed(words[first])
    for step in range(1, RUN):
        is_inside = step < counts[rows]
        runs = _mixed(runs ^ np.where(is_inside, words[np.where(is_inside, first + step, first)], 0))
    return runs, lengths


def _mixed(values: np.ndarray) -> np.ndarray:
    """64-bit values spread over all 64 bits (the finalizer of splitmix64)."""
    import numpy as np

    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
