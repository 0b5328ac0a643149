"""An HTTP server on loopback that answers requests as a test prescribes, and records them."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

ETAG = '"one"'


class Request(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    sent: bytes  # the body of a POST

    def do_GET(self) -> None:
        answers = self.server.answers[self.path]
        requests = self.server.requests
        requests.append((self.path, dict(self.headers)))
        count = sum(path == self.path for path, _ in requests)
        answers[min(count, len(answers)) - 1](self)

    def do_POST(self) -> None:
        self.sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def begin(self, status: int, headers: dict[str, Any]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """In silence."""


Answer = Callable[[Request], None]


class Server(ThreadingHTTPServer):
    """Answers by path: to the first request the first, and so on; the last again and again."""

    daemon_threads = True
    request_queue_size = 128  # connections that wait to be taken

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers: dict[str, tuple[Answer, ...]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []  # path and headers of each request
        self.over = Event()

    def at(self, path: str, *answers: Answer) -> str:
        """The URL of a path that gives these answers."""
        self.answers[path] = answers
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request; None for the whole file."""
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, *_: object) -> None:
        """The client hung up: as expected."""


@contextmanager
def running() -> Iterator[Server]:
    """A server, and no proxy between it and this process."""
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            server.server_close()
            thread.join()


def body(content: bytes, etag: str | None = ETAG, **headers: Any) -> Answer:
    """The whole content, from a server that knows no ranges."""
    stated = {"Content-Length": len(content)} | ({"ETag": etag} if etag else {})

    def answer(request: Request) -> None:
        request.begin(200, stated | headers)
        request.wfile.write(content)

    return answer


def resumable(
    content: bytes, etag: str = ETAG, heeds_if_range: bool = True, begin: int | None = None, most: int | None = None
) -> Answer:
    """Serve the requested range of the content as RFC 9110 defines, with these deviations.

    Args:
        heeds_if_range: a range of another state of the file is answered by the whole file.
        begin: the range starts there, whatever was requested.
        most: the maximum number of bytes sent per range request.
    """

    def answer(request: Request) -> None:
        requested = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if not requested or (heeds_if_range and request.headers.get("If-Range") not in (None, etag)):
            return body(content, etag)(request)
        start = int(requested[1]) if begin is None else begin
        if start >= len(content):
            return request.begin(416, {"Content-Range": f"bytes */{len(content)}"})
        piece = content[start:][:most]
        where = f"bytes {start}-{start + len(piece) - 1}/{len(content)}"
        request.begin(206, {"Content-Range": where, "Content-Length": len(piece), "ETag": etag})
        request.wfile.write(piece)
        return None

    return answer


def cut(content: bytes, after: int, etag: str | None = ETAG, **headers: Any) -> Answer:
    """Close the connection after so many bytes of the requested range, although all were announced."""

    def answer(request: Request) -> None:
        requested = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(requested[1]) if requested and etag else 0
        where = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        stated = {"Content-Length": len(content) - start} | ({"ETag": etag} if etag else {}) | where
        request.begin(206 if start else 200, stated | headers)
        request.wfile.write(content[start : start + after])

    return answer


def stalled(content: bytes, after: int) -> Answer:
    """So many bytes, then silence on an open connection."""

    def answer(request: Request) -> None:
        request.begin(200, {"Content-Length": len(content), "ETag": ETAG})
        request.wfile.write(content[:after])
        request.wfile.flush()
        request.server.over.wait(60)

    return answer


def trickled(content: bytes, pause: float) -> Answer:
    """Byte by byte, with a pause before each."""

    def answer(request: Request) -> None:
        request.begin(200, {"Content-Length": len(content)})
        for byte in content:
            time.sleep(pause)
            request.wfile.write(bytes([byte]))

    return answer


def slow(content: bytes, seconds: float) -> Answer:
    """The whole content after a while."""

    def answer(request: Request) -> None:
        request.server.over.wait(seconds)
        body(content)(request)

    return answer


def unstated(content: bytes) -> Answer:
    """No length: the end of the connection is the end of the file."""

    def answer(request: Request) -> None:
        request.begin(200, {})
        request.wfile.write(content)

    return answer


def chunked(content: bytes, ended: bool = True) -> Answer:
    """In chunks, whose end is marked; or the connection closes before the mark."""

    def answer(request: Request) -> None:
        request.begin(200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(content), 1000):
            piece = content[start : start + 1000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.wfile.write(b"0\r\n\r\n" if ended else b"")

    return answer


def encoded(content: bytes) -> Answer:
    """A body in gzip, although the request rules out encodings."""
    return body(gzip.compress(content), **{"Content-Encoding": "gzip"})


def redirected(to: str) -> Answer:
    return lambda request: request.begin(302, {"Location": to, "Content-Length": 0})


def status(code: int) -> Answer:
    return lambda request: request.begin(code, {"Content-Length": 0})
