"""Web servers on the loopback address that misbehave on request.

    with serving({"/a.zip": File(content), "/b.zip": [Reply(503), Reply(body=content)]}) as server:
        fetch(server.url + "/a.zip")
    server.requests[0].headers["Range"]

`serving_as` is a proxy that answers for other https servers.
"""

import contextlib
import http.server
import re
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from socket import SO_LINGER, SOL_SOCKET

import trustme

DROPS = 16
PAUSE = 0.15


@dataclass
class Request:
    """What a client asked for, `time` in seconds of a monotonic clock; `sent`: bytes of body that
    it was sent."""

    path: str
    query: str
    headers: Message
    time: float = field(default_factory=time.monotonic)
    sent: int = 0


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: HTTP status code.
        body: all that would be sent.
        headers: added to, or instead of, Content-Type and Content-Length; None: leave it out.
        stop: bytes of the body after which the server acts up; None: it behaves.
        how: "cut" closes the connection, "reset" breaks it, "stall" leaves it open in silence,
            "drip" sends the rest, slowly: in DROPS pieces, PAUSE seconds before each; "silence"
            leaves it open without an answer, whatever `stop` is.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    stop: int | None = None
    how: str = "cut"


@dataclass(frozen=True)
class File:
    """A file whose server takes Range and If-Range; `stop` and `how` are those of a Reply."""

    content: bytes
    etag: str = '"1"'
    stop: int | None = None
    how: str = "cut"

    def __call__(self, request: Request) -> Reply:
        size = len(self.content)
        headers = {"ETag": self.etag, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if not wanted or request.headers.get("If-Range", self.etag) != self.etag:
            return Reply(200, self.content, headers, self.stop, self.how)
        start = int(wanted[1])
        if start >= size:
            return Reply(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return Reply(206, self.content[start:], headers, self.stop, self.how)


def page(title: str, text: str = "") -> Reply:
    """An HTML page as Reply, with status 200."""
    body = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>{text}</body></html>"
    return Reply(body=body.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


# A sequence answers one request after the other; its last element answers all that follow.
Route = Reply | Callable[[Request], Reply] | Sequence[Reply | Callable[[Request], Reply]]


class Server(http.server.ThreadingHTTPServer):
    """Answers by `routes` (path without query), anything else with 404; keeps all `requests`."""

    def __init__(self, routes: Mapping[str, Route]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes = dict(routes)
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.authority: trustme.CA | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, request: Request) -> Reply:
        earlier = sum(old.path == request.path for old in self.requests)
        self.requests.append(request)
        route = self.routes.get(request.path, Reply(404, b"nothing here"))
        if isinstance(route, Sequence):
            route = route[min(earlier, len(route) - 1)]
        return route if isinstance(route, Reply) else route(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that hangs up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    host = ""  # of the server that a proxy acts as

    def do_CONNECT(self) -> None:
        if self.server.authority is None:
            self.send_error(405)
            return
        self.host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.authority.issue_cert(self.host).configure_cert(context)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        request = Request(self.host + path, query, self.headers)
        reply = self.server.answer(request)
        if reply.how == "silence":
            self.give_up("stall")
            return
        self.send_response(reply.status)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(reply.body)),
            **reply.headers,
        }
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if headers["Content-Length"] is None and "Transfer-Encoding" not in headers:
            self.close_connection = True  # the only end of such a body
        body = reply.body if reply.stop is None else reply.body[: reply.stop]
        request.sent = len(body)
        self.wfile.write(body)
        if reply.stop is None:
            return
        if reply.how == "drip":
            self.drip(reply.body[reply.stop :])
        else:
            self.give_up(reply.how)

    def drip(self, body: bytes) -> None:
        size = -(-len(body) // DROPS)
        for start in range(0, len(body), size):
            self.server.closing.wait(PAUSE)
            self.wfile.write(body[start : start + size])

    def give_up(self, how: str) -> None:
        self.close_connection = True
        if how == "stall":
            self.server.closing.wait()
        if how == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def serving(routes: Mapping[str, Route]) -> Iterator[Server]:
    """A Server on a free port, which runs during the block."""
    with Server(routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving_as(authority: trustme.CA, routes: Mapping[str, Route]) -> Iterator[Server]:
    """An https proxy that answers instead of the servers that it should connect to.

    Its certificates are from `authority`; a route is "HOST/PATH".
    """
    with serving(routes) as server:
        server.authority = authority
        yield server
