"""What is still to be asked for: each request once, nothing twice, within the limit, and failures that are borne."""

from __future__ import annotations

import pytest
from chat.augmentation.endpoint_server import completion, serving, shouted
from chat.augmentation.rows import talk

from sftlib.chat.augmentation.answers import AnswerStore
from sftlib.chat.augmentation.asking import Asked, from_store, gather
from sftlib.chat.augmentation.chance import Chance
from sftlib.chat.augmentation.endpoint import Endpoint
from sftlib.chat.augmentation.operations import Operations
from sftlib.chat.augmentation.rewriting import Style
from sftlib.errors import MachineError, UsageError

STYLE = Style("m", "Shout.", 0.0)
ASKED = Operations(42, style=STYLE)
ROWS = [talk(f"{number}?", f"answer {number}") for number in range(8)]


@pytest.fixture
def store(tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        yield store


def gathered(store, url, rows=ROWS, asked=ASKED, limit=None, max_failed=0.0):
    """`gather` with a server at this address, None for a network that is forbidden."""
    endpoint = None if url is None else Endpoint(url, workers=2, retries=0, wait=lambda seconds: None)
    return gather(lambda: iter(rows), asked, store, endpoint, limit, max_failed)


def test_a_second_time_nothing_is_sent(store):
    with serving() as server:
        assert gathered(store, server.url) == Asked(needed=8, sent=8)
        assert gathered(store, server.url) == Asked(needed=8, known=8)
        assert len(server.asked) == 8
    assert gathered(store, None) == Asked(needed=8, known=8)  # without a network too
    assert from_store(ROWS[3], STYLE, store)[0].messages[1].content == "ANSWER 3"


def test_equal_requests_are_sent_once(store):
    with serving() as server:
        assert gathered(store, server.url, [talk("a?", "b"), talk("a?", "b"), talk("c?", "d", "a?", "b")]).sent == 2
        assert len(server.asked) == 2
        assert from_store(talk("c?", "d"), STYLE, store)[1] is None


def test_only_rows_of_the_share_are_asked_for(store):
    asked = Operations(42, {"style": 0.5}, style=STYLE)
    chosen = [row for row in ROWS if asked.is_chosen("style", Chance(42, row.to_dicts()))]
    assert 0 < len(chosen) < 8
    with serving() as server:
        assert gathered(store, server.url, asked=asked).sent == len(chosen)


def test_the_limit_is_kept_and_the_rest_is_for_another_run(store):
    with serving() as server:
        assert gathered(store, server.url, limit=3) == Asked(needed=8, sent=3, left=5)
        assert gathered(store, server.url, limit=0) == Asked(needed=8, known=3, left=5)
        assert gathered(store, server.url, limit=99) == Asked(needed=8, known=3, sent=5)
        assert len(server.asked) == 8


def test_failures_are_counted_kept_out_of_the_store_and_asked_for_again(store):
    def answer(asked):
        return (500, {}, "oops") if "5?" in asked["messages"][1]["content"] else shouted(asked)

    with serving(answer) as server:
        assert gathered(store, server.url, max_failed=0.2) == Asked(needed=8, sent=8, failed={"refused (500)": 1})
        assert from_store(ROWS[5], STYLE, store) == (ROWS[5], "no reply")
        server.answer = shouted
        assert gathered(store, server.url) == Asked(needed=8, known=7, sent=1)


def test_too_many_failures_end_it_and_what_came_is_kept(store):
    def answer(asked):
        return (400, {}, "no numbers") if asked["messages"][1]["content"][10] in "3456" else shouted(asked)

    with serving(answer) as server:
        with pytest.raises(MachineError, match=r"(?s)2 of 8 answers failed, .*refused \(400\): no numbers.*12\.5 %"):
            gathered(store, server.url, max_failed=0.125)
        server.answer = shouted
        assert gathered(store, server.url).known >= 3


def test_without_a_network_nothing_is_asked(store):
    with pytest.raises(UsageError, match="8 of 8 answers are still to be asked for, and HF_HUB_OFFLINE forbids it"):
        gathered(store, None)


def test_replies_that_are_not_taken_are_not_paid_for_again(store):
    with serving(lambda asked: completion("AN", "length")) as server:
        gathered(store, server.url, ROWS[:1])
        assert gathered(store, server.url, ROWS[:1]).sent == 0
    assert from_store(ROWS[0], STYLE, store) == (ROWS[0], "cut off")
