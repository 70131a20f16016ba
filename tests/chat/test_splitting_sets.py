"""Splitting of several data sets: leak-proof over all of them, stable when one is added, exact in each."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.dealing import SPLITS, split_counts
from sftlib.chat.splitting import FIELD, NEAR, SAME, SplitTable

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
WORDS = [f"word{i}" for i in range(2000)]


class Made(NamedTuple):
    """A row, and what may join it to others: its question, the text it is a version of, its field."""

    conversation: Conversation
    question: int
    version: int
    value: str | None


def row(question: int, version: int, value: str | None, random_: random.Random) -> Made:
    """Words of answer, one of 240 another in every row: versions of one text are alike at 0.94 or more."""
    words = random.Random(version).choices(WORDS, k=240)
    words[random_.randrange(240)] = f"other{random_.randrange(10**9)}"
    messages = (Message("user", f"question{question}"), Message("assistant", " ".join(words)))
    return Made(Conversation(messages, f"f:{random_.randrange(10**9)}"), question, version, value)


def made_sets(seed: int, sets: int = 3) -> list[list[Made]]:
    """Data sets of some forty rows; about every third belongs to others, in its set or in another."""
    random_ = random.Random(seed)
    pools = (range(6), range(100, 106), ["a", "b", "c", "d"])
    found = []
    for _ in range(sets):
        rows = []
        for _ in range(random_.randrange(30, 50)):
            question, version, value = random_.randrange(10**9), random_.randrange(10**9), None
            match random_.randrange(9):
                case 0:
                    question = random_.choice(pools[0])
                case 1:
                    version = random_.choice(pools[1])
                case 2:
                    value = random_.choice(pools[2])
            rows.append(row(question, version, value, random_))
        found.append(rows)
    return found


def deal(sets: list[list[Made]], shares=SHARES) -> tuple[dict[str, str | None], list]:
    """The split of each row by its source, None where it is left out; and what became of each set."""
    with SplitTable(42, 0.8) as table:
        for rank, rows in enumerate(sets):
            for made in rows:
                assert table.add(made.conversation, rank, made.value) is None
        dealt = table.assign(shares, [str(rank) for rank in range(len(sets))])
        lines = {made.conversation.to_row()["assistant"]: made for rows in sets for made in rows}
        found: dict[str, str | None] = {one.source: None for one in table.left_out()}
        for stored in table.rows():
            made = next(made for answer, made in lines.items() if answer in stored.line)
            assert stored.rank == next(rank for rank, rows in enumerate(sets) if made in rows)
            found[made.conversation.source] = stored.split
    return found, dealt


def belong(one: Made, other: Made) -> bool:
    return (
        one.question == other.question
        or one.version == other.version
        or (one.value is not None and one.value == other.value)
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_what_belongs_together_is_never_in_two_splits_and_no_row_is_lost(seed):
    sets = made_sets(seed)
    found, dealt = deal(sets)
    rows = [made for rows in sets for made in rows]
    assert found.keys() == {made.conversation.source for made in rows}
    kept = [made for made in rows if found[made.conversation.source] is not None]
    for at, one in enumerate(kept):
        for other in kept[at + 1 :]:
            if belong(one, other):
                assert found[one.conversation.source] == found[other.conversation.source]
    for rows, one in zip(sets, dealt, strict=True):
        splits = [found[made.conversation.source] for made in rows]
        assert one.left_out == splits.count(None)
        assert one.rows == len(rows) - one.left_out
    assert dealt[0].left_out == dealt[0].follow == 0


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_a_set_that_is_added_moves_no_row_of_those_before(seed):
    sets = made_sets(seed)
    whole, _ = deal(sets)
    for count in (1, 2):
        before, _ = deal(sets[:count])
        assert before == {source: whole[source] for source in before}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_inside_a_set_makes_no_difference(seed, random_):
    sets = made_sets(seed)
    before, _ = deal(sets)
    for rows in sets:
        random_.shuffle(rows)
    assert deal(sets)[0] == before


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_the_shares_of_each_set_are_exact(seed):
    """All rows that follow nothing are dealt so that each set has its share, those that follow included."""
    sets = made_sets(seed, sets=2)
    found, dealt = deal(sets)
    for rows, one in zip(sets, dealt, strict=True):
        splits = [found[made.conversation.source] for made in rows]
        targets = split_counts(one.rows, SHARES)
        counts = {name: splits.count(name) for name in SPLITS}
        assert counts == targets or one.follow


def test_a_set_that_follows_still_has_its_shares():
    random_ = random.Random(1)
    first = [row(i, i, None, random_) for i in range(50)]
    second = [row(i, 1000 + i, None, random_) for i in range(20)]  # ask what the first asks
    second += [row(2000 + i, 2000 + i, None, random_) for i in range(80)]
    found, dealt = deal([first, second])
    asked = {made.question: found[made.conversation.source] for made in first}
    assert all(found[made.conversation.source] == asked[made.question] for made in second[:20])
    assert dealt[1].follow == 20
    splits = [found[made.conversation.source] for made in second]
    assert {name: splits.count(name) for name in SPLITS} == {"train": 60, "val": 20, "test": 20}


def test_a_row_of_two_splits_is_left_out_and_its_friends_are_not():
    random_ = random.Random(2)
    first = [row(i, i, None, random_) for i in range(20)]
    found, _ = deal([first])
    train, val = (next(made for made in first if found[made.conversation.source] == name) for name in ("train", "val"))
    torn = row(train.question, val.version, "x", random_)
    friend = row(500, 500, "x", random_)
    found, dealt = deal([first, [torn, friend]])
    assert found[torn.conversation.source] is None
    assert found[friend.conversation.source] == "train"
    assert dealt[1].left_out == 1


def test_of_friends_that_belong_to_two_splits_the_larger_side_stays():
    random_ = random.Random(3)
    first = [row(i, i, None, random_) for i in range(20)]
    found, _ = deal([first])
    train, val = (next(made for made in first if found[made.conversation.source] == name) for name in ("train", "val"))
    to_val = [row(val.question, 600 + i, "x", random_) for i in range(3)]
    to_train = [row(train.question, 700, "x", random_)]
    found, _ = deal([first, to_val + to_train])
    assert {found[made.conversation.source] for made in to_val} == {"val"}
    assert found[to_train[0].conversation.source] is None


@pytest.mark.parametrize("why", [SAME, NEAR, FIELD])
def test_a_group_that_is_too_large_is_named_with_two_of_its_rows(why):
    random_ = random.Random(4)
    single = [row(100 + i, 100 + i, None, random_) for i in range(30)]
    kinds = {SAME: (7, None, None), NEAR: (None, 7, None), FIELD: (None, None, "a")}
    question, version, value = kinds[why]
    large = [row(question or 200 + i, version or 200 + i, value, random_) for i in range(11)]
    _, dealt = deal([[*single, *large]])
    (group,) = dealt[0].large
    assert (group.rows, group.why) == (11, why)
    assert len(set(group.example)) == 2
    assert set(group.example) <= {made.conversation.source for made in large}
    assert dealt[0].near_groups == (why == NEAR)
    assert dealt[0].near_rows == 11 * (why == NEAR)


def test_numbers_of_rows_hold_for_each_set():
    random_ = random.Random(5)
    sets = [[row(s * 100 + i, s * 100 + i, None, random_) for i in range(30)] for s in range(2)]
    found, _ = deal(sets, {"train": 0.8, "val": 7, "test": 3})
    for rows in sets:
        splits = [found[made.conversation.source] for made in rows]
        assert {name: splits.count(name) for name in SPLITS} == {"train": 20, "val": 7, "test": 3}


def test_equal_rows_of_two_sets_are_kept_in_the_first():
    made = row(1, 1, "a", random.Random(6))
    with SplitTable(42) as table:
        assert table.add(made.conversation, 0, None) is None
        assert table.add(made.conversation, 1, "a") == made.conversation.source
        assert [one.rows for one in table.assign(SHARES, ["first", "second"])] == [1, 0]


def test_an_equal_row_still_joins_what_its_field_names():
    """Which of two equal rows is kept depends on their order; who belongs to whom does not."""
    random_ = random.Random(7)
    rows = [row(i, i, "ab"[i % 2], random_) for i in range(8)]
    twin = rows[0]._replace(value="b", conversation=Conversation(rows[0].conversation.messages, "twin"))
    with SplitTable(42) as table:
        for made in [*rows, twin]:
            table.add(made.conversation, 0, made.value)
        (dealt,) = table.assign(SHARES, [""])
    assert dealt.groups == {"train": 1, "val": 0, "test": 0}


def test_a_common_opening_of_an_earlier_set_binds_nobody():
    random_ = random.Random(8)

    def talk(question: str) -> Made:
        messages = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", question))
        answer = Message("assistant", " ".join(random_.choices(WORDS, k=30)))
        return Made(Conversation((*messages, answer), f"f:{random_.randrange(10**9)}"), 0, 0, None)

    first, second = ([talk(f"{name} {i}") for i in range(40)] for name in ("first", "second"))
    repeated = Made(Conversation((*first[0].conversation.messages[:3], Message("assistant", "x")), "f:1"), 0, 0, None)
    with SplitTable(42) as table:
        for rank, rows in enumerate((first, [*second, repeated])):
            for made in rows:
                table.add(made.conversation, rank)
        dealt = table.assign(SHARES, ["a", "b"])
        splits = {stored.line: stored.split for stored in table.rows()}
    assert [one.follow for one in dealt] == [0, 1]
    assert dealt[1].left_out == 0
    ends = [next(split for line, split in splits.items() if f'"{source}"' in line) for source in
            (first[0].conversation.source, "f:1")]  # fmt: skip
    assert len(set(ends)) == 1


def test_an_opening_that_is_common_only_in_all_sets_together_binds_nobody():
    """Six of forty rows in each set: not more than ten in either, but in both."""
    random_ = random.Random(9)

    def rows(name: str) -> list[Made]:
        def talk(i: int) -> Made:
            answer = Message("assistant", " ".join(random_.choices(WORDS, k=30)))
            head = (Message("user", "Hi"), Message("assistant", "Hello!")) if i < 6 else ()
            return Made(Conversation((*head, Message("user", f"{name} {i}"), answer), f"{name}:{i}"), 0, 0, None)

        return [talk(i) for i in range(40)]

    with SplitTable(42) as table:
        for rank, name in enumerate(("first", "second")):
            for made in rows(name):
                table.add(made.conversation, rank)
        dealt = table.assign(SHARES, ["first", "second"])
    assert sum(dealt[0].groups.values()) == 35  # six are one group
    assert sum(dealt[1].groups.values()) == 40
    assert dealt[1].follow == 0


def test_an_opening_that_is_common_in_a_later_set_alone_makes_no_group_of_it():
    """Twelve of twelve rows of it, and of 1312 in all."""
    random_ = random.Random(10)
    hello = (Message("user", "Hi"), Message("assistant", "Hello!"))
    with SplitTable(42) as table:
        for i in range(1300):
            table.add(Conversation((Message("user", f"Q {i}"), Message("assistant", "a")), f"first:{i}"), 0)
        for i in range(12):
            answer = Message("assistant", " ".join(random_.choices(WORDS, k=30)))
            table.add(Conversation((*hello, Message("user", f"R {i}"), answer), f"second:{i}"), 1)
        dealt = table.assign(SHARES, ["first", "second"])
    assert sum(dealt[1].groups.values()) == 12
