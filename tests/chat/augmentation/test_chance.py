"""Chance of a row: exact in the mean, its own for every purpose, the same in every process."""

from __future__ import annotations

from sftlib.chat.augmentation.chance import Chance


def test_shares_hold_and_purposes_do_not_hang_together():
    rows = [Chance(42, {"row": number}) for number in range(4000)]
    first = [row.falls("system", 0.3) for row in rows]
    second = [row.falls("persona", 0.5) for row in rows]
    both = [a and b for a, b in zip(first, second, strict=True)]
    assert abs(sum(first) - 1200) < 120  # four standard deviations
    assert abs(sum(second) - 2000) < 130
    assert abs(sum(both) - 600) < 95
    assert not any(row.falls("x", 0) for row in rows)
    assert all(row.falls("x", 1) for row in rows)


def test_a_smaller_share_takes_rows_of_a_larger_one():
    for number in range(200):
        row = Chance(1, number)
        assert row.falls("x", 0.6) or not row.falls("x", 0.2)


def test_picks_are_even_and_orders_are_orders():
    picks = [Chance(7, number).pick("system", "abc") for number in range(3000)]
    assert all(abs(picks.count(one) - 1000) < 110 for one in "abc")
    orders = {tuple(Chance(7, number).order("system", 3)) for number in range(200)}
    assert len(orders) == 6
    assert all(sorted(order) == [0, 1, 2] for order in orders)


def test_draws_are_written_down():
    chance = Chance(42, [{"role": "user", "content": "ü"}])
    assert [chance.pick("split", range(100), number) for number in range(3)] == [48, 91, 56]
    assert [Chance(43, "x").pick("a", range(100)), Chance(43, "x", 1).pick("a", range(100))] == [15, 17]
