"""Groups: joined is joined, whatever the order, and the smallest number stands for all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat.groups import Groups


def test_joined_rows_have_one_root_and_the_others_their_own():
    groups = Groups(6)
    assert groups.join(4, 2)
    assert groups.join(5, 4)
    assert not groups.join(2, 5)
    assert [groups.root(row) for row in range(6)] == [0, 1, 2, 3, 2, 2]
    assert groups.roots().tolist() == [0, 1, 2, 3, 2, 2]
    assert groups.members() == [[2, 4, 5]]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_joins_makes_no_difference(joins, random_):
    def members(pairs):
        groups = Groups(10)
        for one, other in pairs:
            groups.join(one, other)
        assert groups.roots().tolist() == [groups.root(row) for row in range(10)]
        return groups.members()

    before = members(joins)
    random_.shuffle(joins)
    assert members(joins) == before
    inside = [set(group) for group in before]
    assert all(one == other or any({one, other} <= group for group in inside) for one, other in joins)
