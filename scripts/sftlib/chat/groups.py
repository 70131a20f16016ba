"""Which rows belong together: a union-find over row numbers, in plain arrays.

    groups = Groups(4)
    groups.join(0, 2)
    groups.root(2) == groups.root(0)        ->  True
    groups.members()                        ->  [[0, 2]], the groups of two rows and more

The root of a group is its smallest number, so it does not depend on the order of the joins. 4 bytes a row.
Worst bug: two rows joined and yet in two groups (tests/chat/test_groups.py).
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Groups:
    """Rows 0, 1, 2, ... and who belongs to whom."""

    def __init__(self, rows: int = 0) -> None:
        self._parent = array("I", range(rows))

    def __len__(self) -> int:
        return len(self._parent)

    def root(self, row: int) -> int:
        """The smallest number in the group of a row."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, one: int, other: int) -> bool:
        """Make one group of two; False when they were one already."""
        one, other = self.root(one), self.root(other)
        if one == other:
            return False
        self._parent[max(one, other)] = min(one, other)
        return True

    def roots(self) -> np.ndarray:
        """The root of every row."""
        import numpy as np

        roots = np.array(self._parent, np.uint32)
        while (further := roots[roots]).tobytes() != roots.tobytes():
            roots = further
        return roots

    def members(self) -> list[list[int]]:
        """The groups of two rows and more, each in order, by their smallest numbers."""
        found: dict[int, list[int]] = {}
        for row in range(len(self)):
            if (root := self.root(row)) != row:
                found.setdefault(root, [root]).append(row)
        return [found[root] for root in sorted(found)]
