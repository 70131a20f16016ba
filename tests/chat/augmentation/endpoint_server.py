"""A server of chat completions on this machine, that answers as a test says and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], Any]  # status, headers, body: a text, or what JSON makes of it


def completion(text: str | None, finish: str = "stop") -> Answer:
    """A chat completion that says this."""
    return 200, {}, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


def shouted(asked: dict[str, Any]) -> Answer:
    """The answer that was given, in capitals."""
    return completion(asked["messages"][-1]["content"].partition("\nAnswer:\n")[2].upper())


class Server:
    """What the tests see of it."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer, self.asked, self.headers, self.paths = answer, [], [], []
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Answer] = shouted) -> Iterator[Server]:
    """A server on a free port, closed at the end."""
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.asked.append(asked)
                server.headers.append(dict(self.headers))
                server.paths.append(self.path)
                server.busy += 1
                server.most_busy = max(server.busy, server.most_busy)
            status, headers, body = server.answer(asked)
            with server.lock:
                server.busy -= 1
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # a client that has gone is part of the tests
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
