"""The client of a chat server, against one on this machine: patience, refusals, bounded work, and a key nobody sees."""

from __future__ import annotations

import email.utils
import socket
import threading
import time

import pytest
from chat.augmentation.endpoint_server import completion, serving

from sftlib.chat.augmentation.endpoint import Endpoint, Failure
from sftlib.chat.augmentation.rewriting import Reply
from sftlib.errors import DataError, MachineError, UsageError

KEY = "sk-a-very-secret-key"
HI = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def ask(url, *requests, key="", waits=None, **options):
    """What comes back, in the order of the requests. Waits take no time and are written down."""
    with Endpoint(url, key, wait=(waits if waits is not None else []).append, **options) as endpoint:
        back = {id(request): outcome for request, outcome in endpoint.ask(requests)}
    return [back[id(request)] for request in requests]


def in_turn(*answers):
    """A server's answers, one a request, the last one for all that follow."""
    left = list(answers)
    return lambda asked: left.pop(0) if len(left) > 1 else left[0]


def test_a_completion_is_asked_for_and_read():
    with serving(lambda asked: completion(" Hello! ", "stop")) as server:
        assert ask(server.url + "/", HI, key=KEY) == [Reply(" Hello! ", "stop")]
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked == [HI]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_without_a_key_none_is_sent():
    with serving() as server:
        ask(server.url, {**HI, "messages": [{"role": "user", "content": "\nAnswer:\nx"}]})
    assert "Authorization" not in server.headers[0]


def test_a_busy_server_is_asked_again_ever_more_slowly():
    busy, waits = (429, {}, "busy"), []
    with serving(in_turn(busy, (500, {}, ""), (503, {}, ""), completion("x"))) as server:
        assert ask(server.url, HI, waits=waits) == [Reply("x", "stop")]
    assert waits == [1, 2, 4]


def test_retry_after_is_honoured_in_both_spellings():
    waits = []
    date = email.utils.formatdate(time.time() + 40, usegmt=True)
    answers = (429, {"Retry-After": "17"}, ""), (503, {"Retry-After": date}, ""), completion("x")
    with serving(in_turn(*answers)) as server:
        assert ask(server.url, HI, waits=waits) == [Reply("x", "stop")]
    assert waits[0] == 17
    assert 35 < waits[1] <= 40


def test_what_stays_busy_is_a_failure_of_its_row():
    waits = []
    with serving(lambda asked: (429, {}, {"error": {"message": "too\nmany"}})) as server:
        assert ask(server.url, HI, retries=2, waits=waits) == [Failure("too busy", "too many")]
        assert len(server.asked) == 3
    assert waits == [1, 2]


def test_a_server_that_wants_hours_ends_the_work():
    with (
        serving(lambda asked: (429, {"Retry-After": "7200"}, "quota")) as server,
        pytest.raises(MachineError, match=r"come back in 7200 s \(429\): quota"),
    ):
        ask(server.url, HI)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((401, {}, {"error": {"message": f"Incorrect key: {KEY}"}}), UsageError, r"not taken \(401\): .*\[key\]"),
        ((403, {}, "no"), UsageError, r"The key was not taken \(403\): no"),
        ((404, {}, {"error": "no such model"}), UsageError, r"no 'm' to chat with \(404\): no such model"),
        ((404, {}, "<html>Not found</html>"), UsageError, "ends in /v1"),
        ((301, {"Location": "http://elsewhere/"}, ""), UsageError, r"\(301\): \(nothing\)"),
    ],
)
def test_what_no_repetition_cures_ends_the_work_at_once(answer, error, said):
    left = iter(range(50))
    with (
        serving(lambda asked: answer) as server,
        pytest.raises(error, match=f"(?s){said}") as raised,
        Endpoint(server.url, KEY, workers=2) as endpoint,
    ):
        list(endpoint.ask({**HI, "n": number} for number in left))
    assert len(server.asked) <= 4  # those that were under way
    assert next(left) <= 4, "no further request is even made"
    assert KEY not in str(raised.value)


def test_answers_that_are_none_are_failures_of_their_rows():
    answers = [
        (200, {}, "<html>"), (200, {}, {"error": f"{KEY}?"}), (200, {}, {"choices": []}), (200, {}, "[1]"),
        completion(["x"]), (400, {}, {"error": {"message": "too long"}}),
    ]  # fmt: skip
    with serving(in_turn(*answers)) as server:
        back = ask(server.url, *({**HI, "n": number} for number in range(6)), key=KEY, workers=1)
        assert len(server.asked) == 6
    assert [one.reason for one in back] == ["no chat completion"] * 5 + ["refused (400)"]
    assert [one.detail for one in back[:2]] == ["<html>", "[key]?"]
    assert back[5].detail == "too long"


def test_null_is_an_empty_answer():
    with serving(lambda asked: completion(None, None)) as server:
        assert ask(server.url, HI) == [Reply("", "")]


def test_a_key_that_comes_back_in_an_answer_is_blotted_out():
    with serving(lambda asked: completion(f"Your key is {KEY}.")) as server:
        assert ask(server.url, HI, key=KEY) == [Reply("Your key is [key].", "stop")]


def test_a_server_that_is_too_slow():
    released = threading.Event()

    def late(asked):
        released.wait(5)
        return completion("x")

    with serving(late) as server:
        assert ask(server.url, HI, retries=1, timeout=0.05) == [Failure("no answer in time", "0.05 s passed")]
        assert len(server.asked) == 2
        released.set()


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url, waits = f"http://127.0.0.1:{taken.getsockname()[1]}/v1", []
        with pytest.raises(MachineError, match=r"(?s)Nobody answers there.*run this again: answers that came are kept"):
            ask(url, HI, retries=1, waits=waits)
    assert waits == [1]


def test_what_others_got_is_handed_out_before_an_error():
    second = threading.Event()

    def answer(asked):
        if asked["n"] == 0:
            return 401, {}, ""
        second.wait(5)
        return completion("x")

    with serving(answer) as server, Endpoint(server.url, workers=2) as endpoint:
        back = endpoint.ask({**HI, "n": number} for number in range(2))
        threading.Timer(0.05, second.set).start()
        assert next(back)[1] == Reply("x", "stop")
        with pytest.raises(UsageError, match="wants a key, and none was given"):
            next(back)


def test_no_more_at_once_than_asked_for_and_no_request_ahead_of_its_time():
    drawn = []

    def requests():
        for number in range(40):
            drawn.append(number)
            yield {**HI, "n": number}

    def answer(asked):
        time.sleep(0.002)
        return completion("x")

    with serving(answer) as server, Endpoint(server.url, workers=3) as endpoint:
        back = endpoint.ask(requests())
        next(back)
        assert len(drawn) <= 6
        assert len(list(back)) == 39
    assert server.most_busy <= 3
    assert len(server.asked) == 40


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8000", "is no address of a server"),
        ("ftp://host/v1", "is no address of a server"),
        ("http://", "is no address of a server"),
        ("http://host:eighty/v1", "is no address"),
        (f"http://me:{KEY}@host/v1", "more than an address"),
        (f"http://host/v1?key={KEY}", "more than an address"),
    ],
)
def test_addresses_that_are_none(url, said):
    with pytest.raises(UsageError, match=said) as raised:
        Endpoint(url)
    assert KEY not in str(raised.value)


def test_a_key_is_one_line_of_ascii():
    assert Endpoint("http://host/v1", f"{KEY}\n")._key == KEY
    for key in ("two\nlines", "schlüssel"):
        with pytest.raises(DataError, match="no key has") as raised:
            Endpoint("http://host/v1", key)
        assert key not in str(raised.value)
