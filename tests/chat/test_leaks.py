"""A question in two splits is seen, however it is written; what `make process` writes has none."""

from __future__ import annotations

from pathlib import Path

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.leaks import count_repeats, find_leaks
from sftlib.chat.stored import RenderedPair, StoredSplit


def split(*questions: str, name: str = "s", answer: str = "A.") -> StoredSplit:
    rows = [
        Conversation((Message("user", text), Message("assistant", answer)), f"{name}:{number}")
        for number, text in enumerate(questions, 1)
    ]
    return StoredSplit(Path(name), "conversations", rows)


def test_case_and_white_space_hide_nothing() -> None:
    found = find_leaks(
        {"train": split("Why?", "What is  2+2?", name="t"), "val": split("When?", "what IS 2+2?\n", name="v")}
    )
    assert [str(leak) for leak in found] == ["t:2 (train) and v:2 (val)"]


def test_a_question_is_named_once_a_split() -> None:
    found = find_leaks(
        {"train": split("a", "a", name="t"), "val": split("a", "a", name="v"), "test": split("a", "b", name="x")}
    )
    assert [str(leak) for leak in found] == ["t:1 (train) and v:1 (val)", "t:1 (train) and x:1 (test)"]


def test_repeats_within_a_split_are_no_leak_and_are_counted() -> None:
    same = split("a", "b", "a", "A")
    assert find_leaks({"train": same, "val": split("c")}) == []
    assert count_repeats(same) == 1  # "A" differs by a letter


def test_an_opening_that_everybody_uses_says_nothing() -> None:
    def talks(name: str, *subjects: str) -> StoredSplit:
        rows = [
            Conversation(
                (
                    Message("user", "Hi"), Message("assistant", "Hello."), Message("user", subject),
                    Message("assistant", "Yes."),
                ),
                f"{name}:{number}",
            )
            for number, subject in enumerate(subjects, 1)
        ]  # fmt: skip
        return StoredSplit(Path(name), "conversations", rows)

    many = [f"subject {number}" for number in range(11)]
    assert find_leaks({"train": talks("t", *many), "val": talks("v", "another")}) == []
    assert [leak.source for leak in find_leaks({"train": talks("t", *many), "val": talks("v", "Subject 4")})] == ["t:5"]
    # of few rows, the opening decides, as it does in `make process`
    assert len(find_leaks({"train": talks("t", *many[:3]), "val": talks("v", "another")})) == 1


def test_rendered_pairs_are_compared_by_their_input() -> None:
    def pairs(name: str, *inputs: str) -> StoredSplit:
        rows = [RenderedPair(text, "4<|im_end|>", f"{name}:{number}") for number, text in enumerate(inputs, 1)]
        return StoredSplit(Path(name), "rendered", rows)

    assert len(find_leaks({"train": pairs("t", "2+2=", "x"), "val": pairs("v", "2+2= ")})) == 1
    assert find_leaks({"train": pairs("t", "2+2=", "x"), "val": pairs("v", "2+3=")}) == []
    assert count_repeats(pairs("t", "x", "x")) == 1


def test_an_opening_that_is_common_in_one_data_set_says_nothing_in_the_others() -> None:
    """As `make process` has it, which deals out one set after the other."""

    def talks(dataset: str, *subjects: str) -> list[Conversation]:
        return [
            Conversation(
                (
                    Message("user", "Hi"), Message("assistant", "Hello."), Message("user", subject),
                    Message("assistant", "Yes."),
                ),
                f"{dataset}:{number}", dataset,
            )
            for number, subject in enumerate(subjects, 1)
        ]  # fmt: skip

    def others(count: int) -> list[Conversation]:
        return [
            Conversation((Message("user", f"Question {i}?"), Message("assistant", "A.")), f"b:{i}", "b")
            for i in range(count)
        ]

    def find(train: list[Conversation], val: list[Conversation]) -> list[str]:
        splits = {"train": train, "val": val}
        found = find_leaks({name: StoredSplit(Path(name), "conversations", rows) for name, rows in splits.items()})
        return [leak.source for leak in found]

    many = talks("a", *(f"subject {i}" for i in range(12)))
    assert find(many[:9] + others(2000), many[9:]) == []  # 12 of 2012 are not many, 12 of 12 are
    assert find(many[:9] + others(2000), [*many[9:], *talks("b", "subject 3")]) == ["a:4"]
    assert find(many[:5] + others(2000), many[5:8]) == ["a:1"]
    later = talks("b", *(f"later {i}" for i in range(12)))
    named = [Conversation(row.messages, row.source, "a") for row in others(2000)]
    assert find(named + later[:9], later[9:]) == []  # common in the second set alone
