"""`python -m mooncake.http_metadata_server`: keeps what others put there, in memory.

Stores of Snowskin need none: their master knows all members. It is here for scripts that start one, and for other programs that keep something in it:
``GET``, ``PUT`` and ``DELETE`` of ``/metadata?key=KEY``. There is no authentication: it listens on the loopback interface unless it is told otherwise.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from typing import Optional

from .web import JSON, Answer, Request, WebServer

log = logging.getLogger("mooncake")

PORT_DEFAULT = 8080
LOOPBACK = "127.0.0.1"
#: Keys with this in them are put once.
ONCE = b"rpc_meta"
#: Keys, at most: what grows without end is a mistake of somebody's.
KEYS_MAX = 1 << 20


class Metadata:
    """Values by their keys. Any number of threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[bytes, bytes] = {}

    def answer(self, request: Request) -> Answer:
        """``/metadata?key=``."""
        key = request.query.get("key", b"")
        if not key:
            return Answer(400, b"name a key: /metadata?key=KEY", JSON)
        with self._lock:
            if request.method == "PUT":
                return self._put(key, request.body)
            if request.method not in ("GET", "DELETE"):
                return Answer(405, b"only GET, PUT and DELETE", JSON)
            value = self._values.get(key)
            if value is None:
                return Answer(404, b"no such key", JSON)
            if request.method == "DELETE":
                del self._values[key]
                return Answer(200, b"deleted", JSON)
            return Answer(200, value, "application/json")

    def _put(self, key: bytes, value: bytes) -> Answer:
        if key in self._values and ONCE in key:
            return Answer(400, b"this key is put once", JSON)
        if key not in self._values and len(self._values) >= KEYS_MAX:
            return Answer(507, b"too many keys", JSON)
        self._values[key] = value
        return Answer(200, b"put", JSON)


def start(host: str, port: int) -> WebServer:
    """Serves an empty one there."""
    methods = ("GET", "PUT", "DELETE", "POST")
    return WebServer(host, port, {"/metadata": Metadata().answer}, methods)


def main(arguments: Optional[list[str]] = None) -> int:
    """The program: runs until a signal ends it."""
    parser = argparse.ArgumentParser(prog="mooncake_http_metadata_server", description="Keeps metadata in memory, behind HTTP.")
    parser.add_argument("--port", type=int, default=PORT_DEFAULT, help="where to listen; 0: any free one (default: %(default)s)")
    parser.add_argument("--host", default=LOOPBACK, help="where to listen (default: %(default)s)")
    levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    parser.add_argument("--log-level", choices=levels, default="INFO", help="what to log (default: %(default)s)")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=given.log_level, format="%(asctime)s %(levelname)s %(message)s")
    try:
        server = start(given.host, given.port)
    except (OSError, OverflowError) as error:
        print(f"mooncake_http_metadata_server: cannot listen on {given.host}:{given.port}: {error}", file=sys.stderr)
        return 1
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(f"serving metadata on {given.host}:{server.port}", flush=True)
    ended.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
