"""The replies that a file's rows still need: counted, asked for, and kept as they come.

    gather(rows, asked, store, endpoint, limit=None, max_failed=0.05)  ->  Asked(needed=120, known=100, sent=20, ...)

The rows are read twice, once to count and once to ask, so that memory holds keys and never rows. What is in the store
is not asked for again; a killed command goes on where it was.
Worst bug: a reply that is asked for twice (tests/chat/augmentation/test_asking.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ... import console
from ...errors import MachineError, UsageError
from ...units import percent
from ..conversation import Conversation
from .answers import AnswerStore
from .endpoint import Endpoint, Failure
from .operations import Operations, for_rewriting
from .rewriting import Reply, Request, Style, key_of, requests_of, rewritten

NOT_ASKED, FAILED = "not asked for yet", "no reply"
Rows = Callable[[], Iterable[Conversation]]


@dataclass
class Asked:
    """What became of the requests: each different one counts once."""

    needed: int = 0
    known: int = 0  # those whose reply was there
    sent: int = 0
    failed: dict[str, int] = field(default_factory=dict)  # reason -> requests
    left: int = 0  # beyond the limit

    @property
    def failures(self) -> int:
        """Requests without a reply."""
        return sum(self.failed.values())


def gather(
    rows: Rows, asked: Operations, store: AnswerStore, endpoint: Endpoint | None, limit: int | None, max_failed: float
) -> Asked:
    """Ask for what is missing. endpoint: None where the network is forbidden."""
    report, missing = Asked(), _missing(rows, asked, store)
    report.needed, wanted = missing[0], missing[1]
    report.known = report.needed - len(wanted)
    to_send = len(wanted) if limit is None else min(limit, len(wanted))
    report.left = len(wanted) - to_send
    if not to_send:
        return report
    if endpoint is None:
        raise UsageError(
            f"{len(wanted)} of {report.needed} answers are still to be asked for, and HF_HUB_OFFLINE forbids it.",
            cure="Unset HF_HUB_OFFLINE, also for a server on this machine; answers that came before need no network.",
        )
    detail = ""
    with endpoint, console.Meter("answers", to_send) as meter:
        for request, outcome in endpoint.ask(_requests(rows, asked, wanted, to_send)):
            report.sent += 1
            if isinstance(outcome, Reply):
                store.put(key_of(request), outcome)
            else:
                detail = detail or _said(outcome)
                report.failed[outcome.reason] = report.failed.get(outcome.reason, 0) + 1
                if report.failures > max_failed * to_send:
                    raise MachineError(
                        f"{report.failures} of {to_send} answers failed, the first with: {detail}", where=endpoint.url,
                        expected=f"at most {percent(max_failed, 1)} (--max_failed)",
                        cure="Look at the server, and run this again: answers that came are kept. Rows without an "
                        "answer stay as they are, if you allow more by --max_failed.",
                    )  # fmt: skip
            meter.advance(text=f"{report.failures} failed" if report.failed else "")
    if report.failed:
        console.warn(f"{report.failures} of {to_send} answers failed; their rows stay as they are. First: {detail}")
    return report


def from_store(conversation: Conversation, style: Style, store: AnswerStore) -> tuple[Conversation, str | None]:
    """The row with the answers of the store; or as it was, and why."""
    replies = [store.get(key_of(request)) for request in requests_of(conversation, style)]
    if None in replies:
        return conversation, FAILED
    return rewritten(conversation, replies)  # type: ignore[arg-type]


def _missing(rows: Rows, asked: Operations, store: AnswerStore) -> tuple[int, set[bytes]]:
    """How many different requests there are, and the keys of those without a reply."""
    seen: set[bytes] = set()
    missing: set[bytes] = set()
    for request in _all(rows, asked):
        key = bytes.fromhex(key_of(request))
        if key not in seen and store.get(key.hex()) is None:
            missing.add(key)
        seen.add(key)
    return len(seen), missing


def _requests(rows: Rows, asked: Operations, wanted: set[bytes], count: int) -> Iterator[Request]:
    """The first `count` of the wanted requests, each once."""
    for request in _all(rows, asked):
        key = bytes.fromhex(key_of(request))
        if key in wanted and count:
            wanted.discard(key)
            count -= 1
            yield request


def _all(rows: Rows, asked: Operations) -> Iterator[Request]:
    assert asked.style is not None
    for row in rows():
        if (conversation := for_rewriting(row, asked)) is not None:
            yield from requests_of(conversation, asked.style)


def _said(failure: Failure) -> str:
    return f"{failure.reason}: {failure.detail}" if failure.detail else failure.reason
