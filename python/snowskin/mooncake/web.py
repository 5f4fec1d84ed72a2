"""A small HTTP server: answers for paths, each request in a thread of its own. It listens where it is told, and nowhere else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Optional
from urllib.parse import unquote_to_bytes

log = logging.getLogger("mooncake")

TEXT = "text/plain; version=0.0.4"
JSON = "application/json; charset=utf-8"
#: Bytes of a request's body, at most.
BODY_BYTES_MAX = 64 << 20
IDLE_SECONDS = 60


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    #: Of each name the first value, as bytes.
    query: dict[str, bytes]
    body: bytes


@dataclass
class Answer:
    """What is answered."""

    status: int
    body: bytes
    kind: Optional[str] = None


NOT_FOUND = Answer(404, b"404 Not Found")

Routes = Mapping[str, Callable[[Request], Answer]]


class WebServer:
    """Serves until it is closed. Raises ``OSError`` if it cannot listen there."""

    def __init__(self, host: str, port: int, routes: Routes, methods: tuple[str, ...] = ("GET",)) -> None:
        family = 10 if ":" in host else 2

        class Server(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server((host, port), _handler(routes, methods))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="mooncake-web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; requests that are under way go on to their end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(routes: Routes, methods: tuple[str, ...]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_SECONDS

        def answer(self) -> None:
            body = self.body()
            if body is None:
                found = Answer(413, b"413 Content Too Large")
                self.close_connection = True
            else:
                found = _answer_of(routes, methods, self.command, self.path, body)
            self.send_response(found.status)
            if found.kind is not None:
                self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body)

        def body(self) -> Optional[bytes]:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > BODY_BYTES_MAX:
                return None
            return self.rfile.read(int(length))

        def log_message(self, format: str, *arguments: Any) -> None:
            log.debug("%s " + format, self.client_address[0], *arguments)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    return Handler


def _answer_of(routes: Routes, methods: tuple[str, ...], method: str, target: str, body: bytes) -> Answer:
    path, _, query = target.partition("?")
    route = routes.get(path)
    if route is None or method not in methods:
        return NOT_FOUND
    pairs = [part.partition("=") for part in query.split("&") if part]
    values: dict[str, bytes] = {}
    for name, _, value in pairs:
        values.setdefault(name, unquote_to_bytes(value.replace("+", " ")))
    try:
        return route(Request(method, path, values, body))
    except Exception as error:
        log.exception("%s %s", method, path)
        return Answer(500, f"{type(error).__name__}: {error}\n".encode(), "text/plain; charset=utf-8")
