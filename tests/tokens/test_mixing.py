"""Shares of a mix are exact, seeded and what the config says, and a row of it is the row of its table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.config import DatasetSection, MixingSection
from sftlib.errors import DataError
from sftlib.tokens.examples import Example, tally
from sftlib.tokens.mixing import join_tables, mix
from sftlib.tokens.table import ExampleTable


def table(name: str, rows: int) -> ExampleTable:
    """Rows of 2, 3, 4, 2, ... tokens, of which all but the first are trained."""
    lengths = [2 + row % 3 for row in range(rows)]
    return ExampleTable.of(
        Example([row] * length, [-100] + [row] * (length - 1), f"{name}:{row}", row % 5 > 0, 1, 2)
        for row, length in enumerate(lengths)
    )


def mixed(rows: dict[str, int], mixing: MixingSection | None = None, seed: int = 42, **sets: dict):
    tables = {name: table(name, count) for name, count in rows.items()}
    sections = {name: DatasetSection(path="x", **sets.get(name, {})) for name in rows}
    return mix(tables, sections, mixing or MixingSection(), seed)


def seen(examples) -> dict[str, int]:
    """How often each row comes, by its source."""
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.source] = counts.get(example.source, 0) + 1
    return counts


def test_without_wishes_every_row_comes_once() -> None:
    examples, shares = mixed({"a": 3, "b": 5})
    assert seen(examples) == {**{f"a:{row}": 1 for row in range(3)}, **{f"b:{row}": 1 for row in range(5)}}
    assert [example.source for example in examples] != sorted(seen(examples))  # shuffled
    assert (shares["a"].rows, shares["a"].taken, shares["a"].tokens, shares["a"].supervised) == (3, 3, 9, 6)


@pytest.mark.parametrize(
    ("sets", "mixing", "taken"),
    [
        ({"a": {"weight": 1.0}, "b": {"weight": 2.0}}, {}, {"a": 30, "b": 60}),  # a is used up first
        ({"a": {"weight": 3.0}}, {}, {"a": 30, "b": 10}),  # b counts as 1
        ({"a": {"repeat": 2.0}, "b": {"repeat": 0.25}}, {}, {"a": 60, "b": 25}),
        ({"a": {"weight": 1.0, "repeat": 2.0}, "b": {"weight": 1.0}}, {}, {"a": 60, "b": 60}),
        ({"b": {"max_rows": 7}}, {}, {"a": 30, "b": 7}),
        ({"b": {"max_rows": 10, "repeat": 3.0}}, {}, {"a": 30, "b": 30}),
        ({}, {"rows": 13}, {"a": 3, "b": 10}),
        ({"a": {"weight": 1.0}, "b": {"weight": 1.0}}, {"rows": 301}, {"a": 151, "b": 150}),
        ({}, {"temperature": 1e9}, {"a": 30, "b": 30}),
    ],
)
def test_shares_by_hand(sets, mixing, taken) -> None:
    examples, shares = mixed({"a": 30, "b": 100}, MixingSection(**mixing), **sets)
    assert {name: share.taken for name, share in shares.items()} == taken
    counts = seen(examples)
    for name, count in taken.items():
        times = [number for source, number in counts.items() if source.startswith(name)]
        assert sum(times) == count
        assert max(times) - min(times) <= 1  # evenly
    assert examples.lengths.tolist() == [len(one.input_ids) for one in examples]
    for column in ("supervised", "straddling", "stray_ends", "decoder_at"):
        assert getattr(examples, column).tolist() == [getattr(one, column) for one in examples]


def test_a_row_of_a_mix_is_that_of_its_table() -> None:
    examples, _ = mixed({"a": 4, "b": 6}, b={"weight": 1.0})
    for row, example in enumerate(examples):
        name, _, number = example.source.partition(":")
        assert (examples.name_of(row), example) == (name, table(name, 6)[int(number)])
    assert examples[1:3] == [examples[1], examples[2]]
    assert tally(examples).supervised == sum(example.supervised for example in examples)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0.1, 9), st.integers(1, 200))
def test_a_seed_gives_one_mix_whatever_stands_beside_a_set(seed, few, more, weight, rows) -> None:
    weights = {"a": {"weight": weight}, "b": {"weight": 1.0}}
    first, shares = mixed({"a": few, "b": more}, MixingSection(rows=rows), seed, **weights)
    again, _ = mixed({"a": few, "b": more}, MixingSection(rows=rows), seed, **weights)
    assert list(first) == list(again)
    assert sum(share.taken for share in shares.values()) == rows
    exact = rows * weight / (weight + 1)
    assert abs(shares["a"].taken - exact) < 1 + 1e-9
    if not shares["a"].taken:
        return
    alone, _ = mixed({"a": few}, MixingSection(rows=shares["a"].taken), seed)
    assert seen(alone) == {source: times for source, times in seen(first).items() if source.startswith("a:")}


def test_an_empty_set_is_named() -> None:
    with pytest.raises(DataError, match="b holds no rows"):
        mixed({"a": 3, "b": 0}, MixingSection(rows=4), a={"weight": 1.0})


def test_splits_that_are_measured_are_joined_in_order() -> None:
    joined, shares = join_tables({"a": table("a", 2), "b": table("b", 3)})
    assert [example.source for example in joined] == ["a:0", "a:1", "b:0", "b:1", "b:2"]
    assert np.array_equal(joined.set_of, [0, 0, 1, 1, 1])
    assert (shares["b"].taken, shares["b"].tokens) == (3, 9)
