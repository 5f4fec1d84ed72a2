"""`mooncake_master`: `snowskin-master` with the flags of Mooncake Store's, and its HTTP.

The master itself is a child of this process, and answers clients and engines on ``--rpc_port``. This process serves ``/metrics``, ``/health`` and the
queries about segments and keys on ``--metrics_port``. Whoever ends this process ends both; if the child ends, so does this, with its status.

All of it listens on the loopback interface unless ``--rpc_address`` (and ``--metrics_host``) say otherwise: there is no authentication.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import urllib.request
from typing import Any, Optional

from .. import errors
from .._snowskin import Codes
from . import http_metadata_server, master_flags, sizes
from .codes import OBJECT_NOT_FOUND, WORDS
from .flags import Given, WrongFlag
from .programs import Child, NotStarted, find
from .web import JSON, TEXT, Answer, Request, WebServer

READY = re.compile(r"frames on ([^\s,]+), http on http://(\S+)")
HTTP_SECONDS = 5.0
HELP = """mooncake_master: the master of a Snowskin cluster, with the flags of Mooncake Store's.

Everything listens on 127.0.0.1 unless it is told otherwise (--rpc_address): there is no authentication.

"""


class Queries:
    """What operators ask by HTTP, answered from the master's own HTTP and from the cluster."""

    def __init__(self, frames: str, http: str) -> None:
        self._frames = frames
        self._http = http
        self._lock = threading.Lock()
        self._codes: Optional[Codes] = None

    def routes(self) -> dict[str, Any]:
        """By path."""
        return {
            "/health": self.health,
            "/metrics": self.metrics,
            "/metrics/summary": self.summary,
            "/role": lambda _: Answer(200, b"leader", TEXT),
            "/ha_status": lambda _: Answer(200, b"serving", TEXT),
            "/get_all_segments": self.segments,
            "/query_segment": self.segment,
            "/get_all_keys": self.keys,
            "/query_key": self.key,
            "/batch_query_keys": self.batch,
        }

    def health(self, _: Request) -> Answer:
        """Whether the master answers."""
        self._read("/health")
        found = {"status": "ok", "role": "leader", "ha_state": "serving", "service_ready": True}
        return _json(200, {**found, "leader_address": None, "view_version": None})

    def metrics(self, _: Request) -> Answer:
        """The master's own, in the format that Prometheus reads."""
        return Answer(200, self._read("/metrics"), TEXT)

    def summary(self, _: Request) -> Answer:
        """One line for people."""
        members = self._members()
        used = sum(member["capacity_bytes"] - member["free_bytes"] for member in members)
        line = f"Mem Storage: {used} B / {sum(member['capacity_bytes'] for member in members)} B"
        keys = sum(member["objects"] for member in members)
        return Answer(200, f"{line} | Keys: {keys} | Clients: {len({m['engine'] for m in members})}\n".encode(), TEXT)

    def segments(self, _: Request) -> Answer:
        """Where the cores listen that have memory, a line each."""
        lines = [f"{member['address']}\n" for member in self._members()]
        return Answer(200, "".join(lines).encode(), TEXT)

    def segment(self, request: Request) -> Answer:
        """How full one is."""
        name = request.query.get("segment", b"").decode(errors="replace")
        for member in self._members():
            if member["address"] == name:
                used = member["capacity_bytes"] - member["free_bytes"]
                text = f"{name}\nUsed(bytes): {used}\nCapacity(bytes) : {member['capacity_bytes']}\n"
                return Answer(200, text.encode(), TEXT)
        return Answer(500, b"no such segment", TEXT)

    def keys(self, _: Request) -> Answer:
        """All keys of the default tenant, a line each."""
        codes = self._cluster()
        try:
            found = [] if codes is None else codes.keys("")
        except errors.SnowskinError as error:
            return Answer(503, f"{error}\n".encode(), TEXT)
        return Answer(200, b"".join(key + b"\n" for key, _ in found), TEXT)

    def key(self, request: Request) -> Answer:
        """Where the replicas of an object are."""
        name = request.query.get("key", b"")
        (code, replicas), = self._replicas([name]) if name else ((OBJECT_NOT_FOUND, []),)
        if code < 0:
            found = {"success": False, "error_code": code, "error_message": _word(code)}
            return _json(404, found)
        return _json(200, {"success": True, "data": replicas})

    def batch(self, request: Request) -> Answer:
        """Where the replicas of objects are: names with commas between."""
        names = [name for name in request.query.get("keys", b"").split(b",") if name]
        if not names:
            return _json(400, {"success": False, "error": "name keys: ?keys=key1,key2"})
        data = {}
        for name, (code, replicas) in zip(names, self._replicas(names)):
            is_held = code >= 0
            data[name.decode(errors="replace")] = {
                "ok": is_held,
                "error": None if is_held else _word(code),
                "values": replicas if is_held else None,
                "disk_values": None,
                "local_disk_values": None,
                "nof_values": None,
            }
        return _json(200, {"success": True, "data": data})

    def close(self) -> None:
        """Ends its client."""
        with self._lock:
            if self._codes is not None:
                self._codes.close()

    def _replicas(self, names: list[bytes]) -> list[tuple[int, list[dict[str, Any]]]]:
        codes = self._cluster()
        if codes is None:
            return [(OBJECT_NOT_FOUND, [])] * len(names)
        found = []
        for size, endpoints in codes.holders(names):
            own = {"size_": size, "buffer_address_": 0, "protocol_": "tcp"}
            found.append((min(size, 0), [{**own, "transport_endpoint_": endpoint} for endpoint in endpoints]))
        return found

    def _cluster(self) -> Optional[Codes]:
        """A client of the cluster; None: it has no engine."""
        with self._lock:
            if self._codes is None and self._members():
                try:
                    self._codes = Codes(self._frames)
                except errors.NoEnginesError:
                    return None
            return self._codes

    def _members(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._read("/members"))
        return [member for member in found if member["state"] != "dead"]

    def _read(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{self._http}{path}", timeout=HTTP_SECONDS) as answer:
            found: bytes = answer.read()
            return found


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), JSON)


def _word(code: int) -> str:
    return WORDS.get(code, str(code))


def serve(given: Given) -> int:
    """Runs until a signal or the child's end: the program's status. Raises :class:`NotStarted`, :class:`WrongFlag` and ``OSError``."""
    child = Child(master_flags.command(find("snowskin-master"), given), READY)
    servers: list[WebServer] = []
    queries = Queries(child.words[1], child.words[2])
    try:
        address = given.text("rpc_address")
        host = given.text("metrics_host") or address
        servers.append(WebServer(host, given.number("metrics_port"), queries.routes()))
        words = f"mooncake_master is ready: frames on {child.words[1]}, http on {sizes.join_address(host, servers[0].port)}"
        if given.is_set("enable_http_metadata_server"):
            host = given.text("http_metadata_server_host") or address
            servers.append(http_metadata_server.start(host, given.number("http_metadata_server_port")))
            words += f", metadata on {sizes.join_address(host, servers[1].port)}"
        child.end_on_signals()
        print(words, flush=True)
        return child.wait()
    finally:
        child.end()
        for server in servers:
            server.close()
        queries.close()


def main(arguments: Optional[list[str]] = None) -> int:
    """The program."""
    try:
        given = master_flags.parse(sys.argv[1:] if arguments is None else arguments)
        if given.wants_help:
            print(HELP + master_flags.GRAMMAR.help())
            return 0
        if given.wants_version:
            from .. import __version__

            print(f"mooncake_master of snowskin {__version__}")
            return 0
        for name in given.ignored:
            print(f"mooncake_master: --{name} means nothing here", file=sys.stderr)
        return serve(given)
    except (NotStarted, WrongFlag, OSError, OverflowError) as error:
        print(f"mooncake_master: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
