"""Mixed files: exact shares, every row in one piece with its origin, doubles by what they say, names with colons."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from chat.conftest import jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.chat.mixed_files import MixedSet, Wishes, mix, read_sets
from sftlib.chat.shares import counts_of
from sftlib.errors import DataError, UsageError


def rows(letter: str, count: int) -> list[dict]:
    return [{"question": f"{letter}{n}?", "answer": f"{letter} {n}."} for n in range(count)]


def mixed(*given: str, columns=None, out="mixed.jsonl", **wishes) -> tuple[list[MixedSet], list[dict]]:
    """The sets as they came out, and the rows."""
    sets = read_sets(given)
    mix(sets, Wishes(**{"seed": 42, **wishes}), columns or {}, "auto", Path(out))
    return sets, jsonl(out)


def test_all_rows_once_shuffled_with_their_origin(raw):
    names = [raw("a.jsonl", rows("a", 30)), raw("b.jsonl", rows("b", 10))]
    sets, made = mixed(*names)
    assert [one.taken for one in sets] == [30, 10]
    assert len(made) == 40
    assert {row["mixed_from"] for row in made} == {f"a.jsonl:{n}" for n in range(1, 31)} | {
        f"b.jsonl:{n}" for n in range(1, 11)
    }
    for row in made:
        name, _, line = row.pop("mixed_from").partition(":")
        assert row == jsonl(name)[int(line) - 1]
    letters = "".join(row["question"][0] for row in made)
    assert letters.count("ab") + letters.count("ba") > 5, "shuffled"
    assert mixed(*names, out="again.jsonl")[1] == jsonl("mixed.jsonl")
    assert mixed(*names, seed=7)[1] != jsonl("again.jsonl")


def test_weights_and_rows_by_hand(raw):
    raw("a.jsonl", rows("a", 30)), raw("b.jsonl", rows("b", 10)), raw("c.jsonl", rows("c", 40))
    assert [one.taken for one in mixed("a.jsonl:2", "b.jsonl:1")[0]] == [20, 10]
    assert [one.taken for one in mixed("a.jsonl:0.5", "b.jsonl", "c.jsonl:1e0")[0]] == [5, 10, 10]
    sets, made = mixed("a.jsonl:1", "b.jsonl:3", rows=48)
    assert [(one.taken, one.times()) for one in sets] == [(12, "0 or 1"), (36, "3 or 4")]
    chosen = {row["mixed_from"] for row in made if row["mixed_from"].startswith("a")}
    assert len(chosen) == 12
    assert chosen != {f"a.jsonl:{n}" for n in range(1, 13)}
    again = mixed("a.jsonl:1", "b.jsonl:3", rows=48, seed=7)[1]
    assert chosen != {row["mixed_from"] for row in again if row["mixed_from"].startswith("a")}
    times = Counter(row["mixed_from"] for row in made if row["mixed_from"].startswith("b"))
    assert sorted(times.values()) == [3, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert [one.taken for one in mixed("b.jsonl", "c.jsonl", temperature=2)[0]] == [10, 20]


def test_rows_keep_what_they_have(raw):
    raw(
        "a.jsonl",
        '{"q": 1.10, "a": [1e400, null, true, "\\u2028 x"], "source": "mine", "id": 007}\n'.replace("007", "7"),
    )
    raw("b.csv", "frage;antwort\n1,10;Zwei\nZeilen\n".replace("Zwei\nZeilen", '"Zwei\nZeilen"'))
    raw("c.jsonl", [{"q": "x", "mixed_from": "first.jsonl:9"}])
    mixed("a.jsonl", "b.csv", "c.jsonl")
    lines = set(Path("mixed.jsonl").read_text(encoding="utf-8").split("\n")) - {""}
    assert lines == {
        '{"q":1.10,"a":[1e400,null,true,"\u2028 x"],"source":"mine","id":7,"mixed_from":"a.jsonl:1"}',
        '{"frage":"1,10","antwort":"Zwei\\nZeilen","mixed_from":"b.csv:2"}',
        '{"q":"x","mixed_from":"first.jsonl:9"}',
    }


def test_a_number_behind_the_last_colon_is_a_weight_and_nothing_else(raw):
    Path("C:").mkdir()
    raw("C:/faq.jsonl", rows("a", 2))
    raw("notes:2", rows("b", 2))
    cases = {
        "a.jsonl": ("a.jsonl", None),
        "a.jsonl:2": ("a.jsonl", 2.0),
        "a.jsonl:0.25": ("a.jsonl", 0.25),
        "C:/faq.jsonl": ("C:/faq.jsonl", None),
        "C:/faq.jsonl:3": ("C:/faq.jsonl", 3.0),
        "C:\\data\\faq.jsonl:3": ("C:\\data\\faq.jsonl", 3.0),
        "C:\\data\\faq.jsonl": ("C:\\data\\faq.jsonl", None),
        "notes:2": ("notes:2", None),  # there is such a file
        "notes:2:5": ("notes:2", 5.0),
        "hf:org/name:train": ("hf:org/name:train", None),
        "hf:org/name:train:1e-1": ("hf:org/name:train", 0.1),
        "a.jsonl:x2": ("a.jsonl:x2", None),
    }
    assert {one: (read_sets([one])[0].path, read_sets([one])[0].weight) for one in cases} == cases
    assert [one.taken for one in mixed("C:/faq.jsonl:1", "notes:2:1")[0]] == [2, 2]


def test_doubles(raw):
    raw("a.jsonl", [{"q": "What is it?", "a": "A cat."}, {"q": "Who?", "a": "Me."}, {"x": 1, "y": 2}])
    raw(
        "b.jsonl",
        [
            {"conversations": [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A cat."}]},
            {"instruction": " what  IS it?", "output": "a cat.", "id": 4},
            {"y": 2, "x": 1, "source": "elsewhere"},
            {"q": "Who?", "a": "Not me."},
        ],
    )
    assert [(one.duplicates, one.taken) for one in mixed("a.jsonl", "b.jsonl")[0]] == [(0, 3), (0, 4)]
    assert [(one.duplicates, one.taken) for one in mixed("a.jsonl", "b.jsonl", dedupe="exact")[0]] == [(0, 3), (2, 2)]
    sets, made = mixed("a.jsonl", "b.jsonl", dedupe="folded")
    assert [(one.duplicates, one.taken) for one in sets] == [(0, 3), (3, 1)]
    assert {row["mixed_from"] for row in made} == {"a.jsonl:1", "a.jsonl:2", "a.jsonl:3", "b.jsonl:4"}
    assert [one.taken for one in mixed("b.jsonl", "a.jsonl", dedupe="folded")[0]] == [3, 1]


def test_near_doubles(raw):
    words = [f"word{n}" for n in range(60)]
    near = [*words[:30], "other", *words[31:]]
    raw("a.jsonl", [{"q": "One?", "a": " ".join(words)}, {"q": "Two?", "a": " ".join(words[::-1])}])
    raw("b.jsonl", [{"q": "One?", "a": " ".join(near)}, {"q": "One?", "a": " ".join(words[::2])}])
    sets, made = mixed("a.jsonl", "b.jsonl", dedupe="near")
    assert [(one.duplicates, one.taken) for one in sets] == [(0, 2), (1, 1)]
    assert {row["mixed_from"] for row in made} == {"a.jsonl:1", "a.jsonl:2", "b.jsonl:2"}
    assert [one.taken for one in mixed("a.jsonl", "b.jsonl", dedupe="near", similarity=0.99)[0]] == [2, 2]


def test_columns_of_one_set_do_not_hide_the_other(raw):
    raw("a.csv", "frage;antwort\nWas?;Das.\n")
    raw("b.jsonl", [{"instruction": "Was?", "output": "Das."}])
    columns = {"user": "frage", "assistant": "antwort"}
    assert [one.taken for one in mixed("a.csv", "b.jsonl", columns=columns, dedupe="exact")[0]] == [1, 0]


def test_a_folder_is_one_set(raw):
    raw("d/a.jsonl", rows("a", 3)), raw("d/b.jsonl", rows("b", 3)), raw("c.jsonl", rows("c", 9))
    sets, _ = mixed("d:2", "c.jsonl:1")
    assert [(one.taken, one.files) for one in sets] == [(6, ["d/a.jsonl", "d/b.jsonl"]), (3, ["c.jsonl"])]


def test_broken_lines_are_counted_and_too_many_refused(raw):
    raw("a.jsonl", "".join(f'{{"q": {n}}}\n' for n in range(30)) + '{"q": \n')
    sets, made = mixed("a.jsonl")
    assert (sets[0].read, sets[0].broken, len(made)) == (31, 1, 30)
    assert sets[0].examples[0].startswith("a.jsonl:31: broken JSON")
    raw("b.jsonl", '{"q": 1}\n{"q": 2}\n[3]\n')
    with pytest.raises(DataError, match=r"b\.jsonl: 1 of 3 lines are no rows, such as b\.jsonl:3: not an object"):
        mixed("b.jsonl", out="other.jsonl")
    assert not Path("other.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "wishes", "error", "said"),
    [
        (["a.jsonl:1", "a.jsonl:2"], {}, UsageError, r"a\.jsonl is named twice"),
        (["a.jsonl:0"], {}, UsageError, r"The weight of a\.jsonl is 0"),
        (["a.jsonl:-1"], {}, UsageError, r"The weight of a\.jsonl is -1"),
        (["d", "d/b.jsonl"], {}, UsageError, r"d/b\.jsonl: This file is in two of the sets, d and d/b\.jsonl"),
        (["a.jsonl", "none.jsonl:2"], {}, DataError, r"no file or folder 'none\.jsonl'"),
        (["a.jsonl:1", "empty.jsonl:1"], {}, DataError, r"empty\.jsonl holds no rows"),
        (["empty.jsonl"], {}, DataError, "The sets hold no rows"),
        (["a.jsonl"], {"rows": 0}, UsageError, "is to have 0 rows"),
        (["a.jsonl"], {"temperature": 0}, UsageError, "The temperature is 0"),
        (["a.jsonl"], {"out": "a.jsonl"}, UsageError, "The output is one of the inputs"),
    ],
)
def test_what_cannot_be_mixed(raw, given, wishes, error, said):
    raw("a.jsonl", rows("a", 3)), raw("d/b.jsonl", rows("b", 3)), raw("empty.jsonl", "")
    with pytest.raises(error, match=said):
        mixed(*given, **wishes)
    assert len(jsonl("a.jsonl")) == 3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.none() | st.integers(1, 90),
    st.lists(st.sampled_from(["", ":1", ":2.5", ":0.1"]), min_size=4, max_size=4),
)
def test_shares_are_exact_and_no_row_is_favoured(tmp_path_factory, sizes, count, weights):
    folder = tmp_path_factory.mktemp("mix")
    names = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(size)))
        names.append(f"{path}{weights[number]}")
    sets, made = mixed(*names, rows=count, out=folder / "out" / "mixed.jsonl")
    asked = {one.path: one.weight for one in sets if one.weight is not None}
    assert {one.path: one.taken for one in sets} == counts_of(
        dict(zip((one.path for one in sets), sizes, strict=True)), weights=asked or None, rows=count
    )
    assert len(made) == (count or sum(one.taken for one in sets))
    times = Counter(row["mixed_from"] for row in made)
    for one, size in zip(sets, sizes, strict=True):
        own = [times[f"{one.files[0]}:{n}"] for n in range(1, size + 1)]
        assert sum(own) == one.taken
        assert max(own) - min(own) <= 1
