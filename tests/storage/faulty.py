"""A door before an S3 server that answers badly at times, as real ones do."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: "error": 500 without doing it. "busy": 503. "slow": late. "lost": it is done, and no reply
#: comes. "cut": the reply ends in its middle.
KINDS = ("error", "busy", "slow", "lost", "cut")
SLOW_S = 0.3
#: Answers that come without anything done. "gone", what S3 says of a put in parts that was ended
#: before, is for tests to choose.
REFUSALS = {"error": 500, "busy": 503, "gone": 404}


class FaultyDoor:
    """Passes requests on to a server; some of them go wrong, chosen by a seed.

    Parameters
    ----------
    port : int
        Of the server, on this machine.
    rate : float
        Share of requests that go wrong.
    seed : int
    """

    def __init__(self, port: int, rate: float = 0.0, seed: int = 0) -> None:
        self.target, self.rate = port, rate
        self.seen: Counter[str] = Counter()
        self.broken = False
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, method: str) -> str:
        """What goes wrong with the next request; "" for nothing."""
        with self._lock:
            if self.broken:
                kind = "error"
            else:
                wrong = self._random.random() < self.rate
                kind = self._random.choice(KINDS) if wrong else ""
            self.seen[method] += 1
            self.seen[kind] += 1
            return kind

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(door: FaultyDoor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _go(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = door.fault(self.command)
            if kind in REFUSALS:
                self.send_response(REFUSALS[kind])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if kind == "slow":
                time.sleep(SLOW_S)
            status, headers, content = self._passed_on(body)
            if kind == "lost":
                self.close_connection = True
                return
            self.send_response(status)
            for key, value in headers:
                if key.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(key, value)
            length = next((v for k, v in headers if k.lower() == "content-length"), None)
            size = length if self.command == "HEAD" and length else str(len(content))
            self.send_header("Content-Length", size)
            self.end_headers()
            if kind == "cut" and content:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            self.wfile.write(content)

        def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            there = http.client.HTTPConnection("127.0.0.1", door.target, timeout=60)
            try:
                kept = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                there.request(self.command, self.path, body or None, kept)
                answer = there.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                there.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _go

    return Handler
