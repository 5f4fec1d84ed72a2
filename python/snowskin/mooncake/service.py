"""`mooncake_store_service`: a store behind HTTP, for programs in other languages and for operators.

============================  ==========================================================================
``PUT /api/put``              ``{"key": ..., "value": ...}``, both texts
``GET /api/get/KEY``          the value's bytes; 404
``GET /api/exist/KEY``        ``{"exists": true}``
``DELETE /api/remove/KEY``    removes a key; 500 if it is not there, or has just been read
``DELETE /api/remove_all``    removes all keys that nobody has just read
``POST /api/mount``           ``{"size": bytes}``: lends more memory; answers ``segment_ids``
``POST /api/unmount``         ``{"segment_ids": [...]}``: takes it back
``POST /api/mount_shm``       ``{"name": ..., "size": bytes}``: lends a file in ``/dev/shm``; answers ``segment_ids``
``POST /api/unmount_shm``     ``{"segment_ids": [...]}``: takes it back
``POST /api/reconfigure``     ``{"mode": "decode", "path": ..., "size": bytes}`` lends a file, ``{"mode": "prefill"}`` takes that one back
============================  ==========================================================================

``/api/unmount_local_disk`` has nothing to take back. There is no authentication: it listens on the loopback interface unless it is told otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Callable, Optional

from .async_store import MooncakeDistributedStoreAsync
from .codes import OK
from .mooncake_config import MooncakeConfig

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("mooncake")

PORT_DEFAULT = 8080
LOOPBACK = "127.0.0.1"
#: Bytes of a request, at most.
REQUEST_BYTES_MAX = 1 << 30
GRACE_SECONDS_MAX = 3600
#: Between two attempts to set the store up.
PAUSE_SECONDS = 1.0
#: Where shared memory has its names.
SHARED_MEMORY = "/dev/shm"


class BadRequest(Exception):
    """A request that cannot be understood."""


class MooncakeStoreService:
    """A store, and the HTTP server in front of it."""

    def __init__(self, config_path: Optional[str] = None, cli_config: Optional[dict[str, Any]] = None) -> None:
        config = MooncakeConfig.from_file(config_path) if config_path else None
        self._settings = _settings(config, cli_config or {})
        self.store = MooncakeDistributedStoreAsync()
        self._runner: Optional[web.AppRunner] = None
        #: Segments that are lent for decode.
        self._of_decode: list[str] = []
        #: Where it listens.
        self.port = 0

    async def start_store_service(self, max_wait_time: float = 60) -> bool:
        """Sets the store up, and tries again for so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait_time
        while True:
            if await asyncio.to_thread(self.store.setup, self._settings) == OK:
                return True
            if loop.time() + PAUSE_SECONDS > deadline:
                return False
            await asyncio.sleep(PAUSE_SECONDS)

    async def start_http_service(self, port: int = PORT_DEFAULT, host: str = LOOPBACK) -> bool:
        """Begins to answer; port 0 is any that is free."""
        web = _aiohttp_web()
        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        routes = {
            ("PUT", "/api/put"): self._put,
            ("GET", "/api/get/{key}"): self._get,
            ("GET", "/api/exist/{key}"): self._exist,
            ("DELETE", "/api/remove/{key}"): self._remove,
            ("DELETE", "/api/remove_all"): self._remove_all,
            ("POST", "/api/mount"): self._mount,
            ("POST", "/api/unmount"): self._unmount,
            ("POST", "/api/mount_shm"): self._mount_shm,
            ("POST", "/api/unmount_shm"): self._unmount_shm,
            ("POST", "/api/unmount_local_disk"): self._unmount_local_disk,
            ("POST", "/api/reconfigure"): self._reconfigure,
        }
        for (method, path), answer in routes.items():
            app.router.add_route(method, path, _guarded(answer))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        log.info("serving HTTP on %s:%d", host, self.port)
        return True

    async def stop(self) -> None:
        """Ends the server, and then the store."""
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.to_thread(self.store.close)

    async def _put(self, request: web.Request) -> web.Response:
        body = await _body(request)
        key, value = body.get("key"), body.get("value")
        if not key or value is None:
            raise BadRequest("a put has a key and a value")
        if not isinstance(key, str) or not isinstance(value, str):
            raise BadRequest("key and value are texts")
        code = await self.store.async_put(key, value.encode())
        return _done(code, f"the store answers {code}")

    async def _get(self, request: web.Request) -> web.Response:
        value = await self.store.async_get(request.match_info["key"])
        if not value:
            return _json(404, {"error": "no such key"})
        found: web.Response = _aiohttp_web().Response(body=value, content_type="application/octet-stream")
        return found

    async def _exist(self, request: web.Request) -> web.Response:
        code = await self.store.async_is_exist(request.match_info["key"])
        return _json(200, {"exists": code == 1})

    async def _remove(self, request: web.Request) -> web.Response:
        code = await self.store.async_remove(request.match_info["key"])
        return _done(code, f"the store answers {code}")

    async def _remove_all(self, _: web.Request) -> web.Response:
        count = await self.store.async_remove_all()
        if count < 0:
            return _json(500, {"error": f"the store answers {count}"})
        return _json(200, {"status": f"success removed {count} keys"})

    async def _mount(self, request: web.Request) -> web.Response:
        body = await _body(request)
        size = _positive("size", body.get("size"))
        found = await asyncio.to_thread(self.store.allocate_and_mount_segment, size)
        if found["ret"] != OK:
            return _json(500, {"error": f"the store answers {found['ret']}"})
        return _json(
            200,
            {"status": "success", "segment_ids": found["segment_ids"], "allocated_size": found["allocated_size"]},
        )

    async def _unmount(self, request: web.Request) -> web.Response:
        body = await _body(request)
        names, grace = _names(body), _grace(body)
        code = await asyncio.to_thread(self.store.unmount_and_free_segment, names, grace)
        return _done(code, f"the store answers {code}")

    async def _mount_shm(self, request: web.Request) -> web.Response:
        body = await _body(request)
        name, size = body.get("name"), _positive("size", body.get("size"))
        if not isinstance(name, str) or not name or "/" in name:
            raise BadRequest("name is that of a file in /dev/shm")
        found = await self._mount_file(f"{SHARED_MEMORY}/{name}", size, body)
        if found["ret"] != OK:
            return _json(500, {"error": f"the store answers {found['ret']}"})
        return _json(200, {"status": "success", "segment_ids": found["segment_ids"]})

    async def _unmount_shm(self, request: web.Request) -> web.Response:
        names = _names(await _body(request))
        code = await asyncio.to_thread(self.store.unmount_segment, names)
        if code != OK:
            return _json(500, {"error": f"the store answers {code}", "failed_segment_ids": names})
        return _json(200, {"status": "success"})

    async def _unmount_local_disk(self, request: web.Request) -> web.Response:
        grace = _grace(await _body(request))
        code = await asyncio.to_thread(self.store.unmount_local_disk_segment, grace)
        return _done(code, f"the store answers {code}")

    async def _reconfigure(self, request: web.Request) -> web.Response:
        body = await _body(request)
        mode = body.get("mode")
        if mode not in ("prefill", "decode"):
            raise BadRequest('mode is "prefill" or "decode"')
        if mode == "prefill":
            await self._take_back()
            return _json(200, {"status": "success", "mode": mode})
        path, size = body.get("path"), _positive("size", body.get("size"))
        if not isinstance(path, str) or not path:
            raise BadRequest("decode needs the path of a file, and its size")
        await self._take_back()
        found = await self._mount_file(path, size, body)
        if found["ret"] != OK:
            return _json(500, {"error": f"the store answers {found['ret']}", "mode": "prefill"})
        self._of_decode = found["segment_ids"]
        return _json(200, {"status": "success", "mode": mode, "segment_ids": found["segment_ids"]})

    async def _mount_file(self, path: str, size: int, body: dict[str, Any]) -> dict[str, Any]:
        offset = body.get("offset", 0)
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise BadRequest("offset is an integer from 0 on")
        return await asyncio.to_thread(self.store.mount_segment, path, size, offset)

    async def _take_back(self) -> None:
        """What was lent for decode."""
        names, self._of_decode = self._of_decode, []
        await asyncio.to_thread(self.store.unmount_segment, names)


def _settings(config: Optional[MooncakeConfig], overrides: dict[str, Any]) -> dict[str, Any]:
    """The dictionary that ``setup`` takes, of the file or the environment, and what is named besides."""
    found = config or (MooncakeConfig.load_from_env() if not _is_whole(overrides) else None)
    values = {} if found is None else dict(vars(found))
    return {**values, **overrides}


def _is_whole(overrides: dict[str, Any]) -> bool:
    return {"local_hostname", "metadata_server"} <= set(overrides)


def _aiohttp_web() -> Any:
    try:
        from aiohttp import web
    except ImportError:
        raise RuntimeError("the REST service needs aiohttp: pip install 'snowskin[mooncake]'") from None
    return web


Handler = Callable[["web.Request"], Awaitable["web.Response"]]


def _guarded(answer: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.Response:
        try:
            return await answer(request)
        except BadRequest as error:
            return _json(400, {"error": str(error)})

    return guarded


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.read())
    except ValueError:
        raise BadRequest("the body is no JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("the body is no JSON object")
    return found


def _json(status: int, value: dict[str, Any]) -> web.Response:
    found: web.Response = _aiohttp_web().json_response(value, status=status)
    return found


def _done(code: int, error: str) -> web.Response:
    return _json(200, {"status": "success"}) if code == OK else _json(500, {"error": error})


def _positive(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise BadRequest(f"{what} is a whole number above 0")
    return value


def _grace(body: dict[str, Any]) -> int:
    value = body.get("grace_period_seconds", 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= GRACE_SECONDS_MAX:
        raise BadRequest(f"grace_period_seconds is a whole number from 0 to {GRACE_SECONDS_MAX}")
    return value


def _names(body: dict[str, Any]) -> list[str]:
    names = body.get("segment_ids")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadRequest("segment_ids is a list of texts")
    return names


def parse_arguments(arguments: Optional[list[str]] = None) -> argparse.Namespace:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="mooncake_store_service", description="A store behind HTTP.")
    parser.add_argument("--config", help="JSON file with the store's settings (default: $MOONCAKE_CONFIG_PATH, or MOONCAKE_ variables)")
    parser.add_argument("-D", "--define", action="append", default=[], help="a setting, NAME=VALUE; more than once")
    parser.add_argument("--host", default=LOOPBACK, help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=PORT_DEFAULT, help="where to listen; 0: any free one (default: %(default)s)")
    parser.add_argument("--max-wait-time", type=float, default=60, help="seconds to wait for the master (default: %(default)s)")
    return parser.parse_args(arguments)


async def serve(given: argparse.Namespace) -> int:
    """Runs until a signal ends it: the program's status."""
    defined = dict(part.split("=", 1) if "=" in part else (part, "") for part in given.define)
    service = MooncakeStoreService(given.config, defined)
    if not await service.start_store_service(given.max_wait_time):
        return 1
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await service.start_http_service(given.port, given.host)
        print(f"serving HTTP on {given.host}:{service.port}", flush=True)
        await ended.wait()
    finally:
        await service.stop()
    return 0


def sync_main(arguments: Optional[list[str]] = None) -> int:
    """The program."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    given = parse_arguments(arguments)
    try:
        return asyncio.run(serve(given))
    except (OSError, RuntimeError, ValueError) as error:
        print(f"mooncake_store_service: {error}", file=sys.stderr)
        return 1


main = sync_main

if __name__ == "__main__":
    sys.exit(sync_main())
