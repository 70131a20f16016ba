"""Chat completions from any OpenAI-compatible server: a few at a time, patient with a busy one, careful with the key.

    with Endpoint("http://localhost:8000/v1", key="", workers=4) as endpoint:
        for request, outcome in endpoint.ask(requests):        outcome: a Reply, or a Failure with its reason

Busy and stumbling servers (408, 429, 5xx, a lost connection, no answer in time) are asked again after 1, 2, 4, ... s,
or when they say (Retry-After). What no repetition cures ends the work at once, with everything answered so far handed
out: an address where nobody listens, a key that is not taken, a model that is not known. Other refusals and answers
that are no chat completion concern their row alone.

The key goes into the header of a request and nowhere else: it is blotted out of whatever a server sends back.
Worst bug: a key in a message, a log or a file (tests/chat/augmentation/test_endpoint.py).
"""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...errors import DataError, MachineError, UsageError, first_line
from .rewriting import Reply, Request

if TYPE_CHECKING:
    import httpx

LONGEST_WAIT = 300.0  # seconds; a server that wants more is not busy but closed for the day
FIRST_WAIT = 1.0  # seconds before the first repetition, doubled for each further one
BLOT = "[key]"
SHOWN = 200  # characters of what a server says
AHEAD = 2  # requests in hand for each worker, so that none waits for the next


@dataclass(frozen=True)
class Failure:
    """Why a request got no reply: `reason` to count by, `detail` what the server said."""

    reason: str
    detail: str


class Endpoint:
    """A server, asked by several threads.

    wait: how seconds pass, for tests; by default an end of the work wakes it.
    """

    def __init__(
        self, url: str, key: str = "", *, workers: int = 4, retries: int = 5, timeout: float = 120.0,
        wait: Callable[[float], object] | None = None,
    ) -> None:  # fmt: skip
        self.url = _checked(url).rstrip("/")
        self._key, self._workers, self._retries, self._timeout = _checked_key(key), workers, retries, timeout
        self._ended = threading.Event()
        self._wait = wait or self._ended.wait

    def __enter__(self) -> Endpoint:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=self._workers)
        try:
            self._client = httpx.Client(headers=headers, timeout=self._timeout, limits=limits)
        except ValueError as error:  # a proxy in the environment that is none
            raise UsageError(f"The settings of the network cannot be used: {self._blotted(error)}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._client.close()

    def ask(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Every request with what became of it, as they come back. SftError for what concerns them all."""
        asked: SimpleQueue[Request | None] = SimpleQueue()
        back: SimpleQueue[tuple[Request, Reply | Failure | Exception]] = SimpleQueue()
        for _ in range(self._workers):  # daemons: a thread that waits for a server shall not keep Ctrl-C waiting
            threading.Thread(target=self._work, args=(asked, back), daemon=True).start()
        left, in_hand, final = iter(requests), 0, None
        while True:
            for request in islice(left, AHEAD * self._workers - in_hand if final is None else 0):
                asked.put(request)
                in_hand += 1
            if not in_hand:
                break
            request, outcome = back.get()
            in_hand -= 1
            if isinstance(outcome, Exception):  # raised when all that is under way has come back
                final = final or outcome
                self._ended.set()
            elif final is None or isinstance(outcome, Reply):
                yield request, outcome
        for _ in range(self._workers):
            asked.put(None)
        if final is not None:
            raise final

    def _work(self, asked: SimpleQueue, back: SimpleQueue) -> None:
        """What one thread does."""
        while (request := asked.get()) is not None:
            try:
                outcome = Failure("not asked", "") if self._ended.is_set() else self._reply_to(request)
            except Exception as error:
                outcome = error
            back.put((request, outcome))

    def _reply_to(self, request: Request) -> Reply | Failure:
        """The reply to one request, after as many repetitions as it takes or is allowed."""
        import httpx

        for attempt in range(self._retries + 1):
            pause, is_connected = FIRST_WAIT * 2**attempt, True
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=dict(request))
            except httpx.TimeoutException:
                failure = Failure("no answer in time", f"{self._timeout:g} s passed")
            except (httpx.TransportError, httpx.InvalidURL) as error:
                failure = Failure("no connection", self._blotted(error))
                is_connected = not isinstance(error, (httpx.ConnectError, httpx.InvalidURL, httpx.UnsupportedProtocol))
            else:
                if response.status_code == 200:
                    return self._read(response)
                failure = self._refusal(response, request)
                if response.status_code not in (408, 429) and response.status_code < 500:
                    return failure
                pause = self._asked_to_wait(response) or pause
            if attempt < self._retries and not self._ended.is_set():
                self._wait(min(pause, LONGEST_WAIT))
            if self._ended.is_set():
                break
        if not is_connected and not self._ended.is_set():
            raise MachineError(
                f"Nobody answers there: {failure.detail}.", where=self.url,
                expected="an OpenAI-compatible server, such as http://localhost:8000/v1",
                cure="Start the server or correct --endpoint, and run this again: answers that came are kept.",
            )  # fmt: skip
        return failure

    def _read(self, response: httpx.Response) -> Reply | Failure:
        try:
            choice = response.json()["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("no chat completion", self._said(response))
        if text is not None and not isinstance(text, str):
            return Failure("no chat completion", self._said(response))
        return Reply(self._blotted(text or ""), finish if isinstance(finish, str) else "")

    def _refusal(self, response: httpx.Response, request: Request) -> Failure:
        """The failure of a row. SftError for a refusal that every row would meet."""
        status, said = response.status_code, self._said(response)
        if status in (401, 403):
            has = "The key was not taken" if self._key else "The server wants a key, and none was given"
            raise UsageError(
                f"{has} ({status}): {said}", where=self.url,
                cure="Put the key into the environment variable that --key_env names (OPENAI_API_KEY).",
            )  # fmt: skip
        if status in (404, 405) or 300 <= status < 400:
            raise UsageError(
                f"There is no {request['model']!r} to chat with ({status}): {said}", where=self.url,
                expected="a model that the server knows, at an address that ends in /v1",
                cure=f"Correct --endpoint or --model; {self.url}/models may list what there is.",
            )  # fmt: skip
        return Failure({408: "no answer in time", 429: "too busy"}.get(status, f"refused ({status})"), said)

    def _asked_to_wait(self, response: httpx.Response) -> float | None:
        """Seconds that the server asks for. MachineError when it asks for more than anybody waits."""
        asked = response.headers.get("retry-after", "").strip()
        try:
            seconds = float(asked)
        except ValueError:
            date = email.utils.parsedate_tz(asked)
            seconds = email.utils.mktime_tz(date) - time.time() if date else 0.0
        if seconds > LONGEST_WAIT:
            raise MachineError(
                f"The server asks to come back in {seconds:.0f} s ({response.status_code}): {self._said(response)}",
                where=self.url, cure="Run this again then: answers that came are kept.",
            )  # fmt: skip
        return seconds if seconds > 0 else None

    def _said(self, response: httpx.Response) -> str:
        """What a server says, for the user's eyes."""
        said: Any = None
        try:
            said = response.json()
            said = said.get("error", said) if isinstance(said, dict) else said
            said = said.get("message", said) if isinstance(said, dict) else said
        except ValueError:
            said = response.text
        return " ".join(self._blotted(said).split())[:SHOWN] or "(nothing)"

    def _blotted(self, said: object) -> str:
        text = first_line(said) if isinstance(said, BaseException) else str(said)
        return text.replace(self._key, BLOT) if self._key else text


def _checked(url: str) -> str:
    import httpx

    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"--endpoint is no address: {error}", cure=_URL_CURE) from None
    if parts.userinfo or parts.query:
        raise UsageError(
            "--endpoint holds more than an address: a name, a password or a query.", where=f"{parts.host}{parts.path}",
            expected="http://host:port/v1", cure="Put a key into the environment variable that --key_env names.",
        )  # fmt: skip
    if parts.scheme not in ("http", "https") or not parts.host:
        raise UsageError(f"{url!r} is no address of a server.", where="--endpoint", cure=_URL_CURE)
    return url


def _checked_key(key: str) -> str:
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise DataError("The key holds characters that no key has.", cure="Set the variable to the key alone.")
    return key


_URL_CURE = "Give it as http://host:port/v1; for a server on this machine --endpoint http://localhost:8000/v1"
