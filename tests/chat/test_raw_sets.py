"""Data sets of the config: every key arrives, and a row gets the same system message wherever it stands."""

from __future__ import annotations

import pytest

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.raw_sets import RawSet, put_system, raw_sets
from sftlib.config.schema import DataSection
from sftlib.errors import ConfigError

POOL = ("Be brief.", "Be kind.", "Be exact.")


def talk(question: str, system: str | None = None, source: str = "a.jsonl:1") -> Conversation:
    head = (Message("system", system),) if system else ()
    return Conversation((*head, Message("user", question), Message("assistant", "a")), source)


def test_raw_path_is_one_set_without_a_name():
    section = DataSection(raw_path=["a.jsonl", "b"], columns={"user": "frage"})
    assert raw_sets(section) == [RawSet("", ("a.jsonl", "b"), {"user": "frage"})]
    assert raw_sets(DataSection(datasets={"x": {"path": "y"}}), ["given"]) == [RawSet("", ("given",), {})]


def test_the_sets_of_a_config_in_their_order():
    section = DataSection(
        columns={"user": "frage", "assistant": "antwort"},
        datasets={
            "faq": {"path": "faq.csv", "columns": {"user": "q"}, "system": POOL[0], "system_mode": "replace"},
            "code": {"path": ["a", "b"], "system": list(POOL)},
        },
    )
    assert raw_sets(section) == [
        RawSet("faq", ("faq.csv",), {"user": "q", "assistant": "antwort"}, POOL[:1], "replace"),
        RawSet("code", ("a", "b"), {"user": "frage", "assistant": "antwort"}, POOL),
    ]
    assert raw_sets(section)[1].key == "data.datasets.code.path"


@pytest.mark.parametrize(
    ("own", "path"),
    [
        ({"path": "hf:org/name"}, "hf:org/name"),
        ({"path": "hf:org/name", "subset": "main"}, "hf:org/name/main"),
        ({"path": "hf:org/name", "split": "test"}, "hf:org/name:test"),
        ({"path": "hf:org/name/old:train", "subset": "main", "split": "test"}, "hf:org/name/main:test"),
        ({"path": "hf:org/name/old:train"}, "hf:org/name/old:train"),
    ],
)
def test_subset_and_split_of_the_hub(own, path):
    assert raw_sets(DataSection(datasets={"x": own}))[0].paths == (path,)


def test_an_empty_system_message_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        raw_sets(DataSection(datasets={"x": {"path": "p", "system": ["a", " "]}}))


@pytest.mark.parametrize(
    ("mode", "own", "system"),
    [
        ("only_if_missing", None, "Be brief."),
        ("only_if_missing", "Be long.", "Be long."),
        ("replace", "Be long.", "Be brief."),
        ("prepend", "Be long.", "Be brief.\n\nBe long."),
        ("prepend", None, "Be brief."),
    ],
)
def test_the_modes(mode, own, system):
    found = put_system(talk("2+2?", own), RawSet("x", (), {}, ("Be brief.",), mode), 42)
    assert found.messages[0] == Message("system", system)
    assert found.messages[1:] == talk("2+2?").messages


def test_without_a_system_message_nothing_changes():
    assert put_system(talk("2+2?"), RawSet("x", (), {}), 42) == talk("2+2?")


def test_a_pool_is_drawn_from_by_content_and_seed():
    pool = RawSet("x", (), {}, POOL)

    def drawn(seed: int, source: str = "a.jsonl:1") -> list[str]:
        return [put_system(talk(f"What is {i}?", source=source), pool, seed).messages[0].content for i in range(300)]

    assert drawn(1) == drawn(1, "elsewhere.csv:9")
    assert drawn(1) != drawn(2)
    assert min(drawn(1).count(text) for text in POOL) > 70
