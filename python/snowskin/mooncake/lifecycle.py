"""Setting a store up, and taking it down: its client, what it lends, the memory that it may use."""

from __future__ import annotations

import logging
import random
import socket
import weakref
from typing import Any, Callable, Optional

from .. import errors
from .. import _snowskin
from . import checks, offload, settings as settings_module, sizes
from .base import Base, Place
from .codes import HEALTHY, INTERNAL, INVALID_PARAMETERS, MASTER_OUT_OF_REACH, NOT_SET_UP, OK
from .link import Link
from .memory import Pool
from .regions import Regions
from .settings import Settings, Unusable
from .web import JSON, TEXT, Answer, WebServer

log = logging.getLogger("mooncake")

#: Ports of hostnames that name none.
HOSTNAME_PORTS = range(12300, 14300)
PORT_TRIES = 64
MASTER_SECONDS = 3.0
LOOPBACK = "127.0.0.1"


class Lifecycle(Base):
    """See the module's head."""

    def setup(self, *arguments: Any, **named: Any) -> int:
        """Connects to a cluster, and lends it memory. 0, or a code.

        ``setup(local_hostname, metadata_server, global_segment_size, local_buffer_size, protocol, rdma_devices, master_server_addr,
        engine=None, enable_ssd_offload=False, ssd_offload_path="", tenant_id="default", enable_client_http_server=False,
        client_http_port=9300)``, by position or by name; or ``setup(config)`` with one dictionary of these, and ``ipc_socket_path``.

        A store that is set up already is closed first.
        """
        with self._setting_up:
            return self._answer(lambda: self._set_up(settings_module.parse(arguments, named)))

    def setup_dummy(self, mem_pool_size: int, local_buffer_size: int, server_address: str) -> int:
        """Connects to an engine of this machine, and lends nothing. ``alloc_from_mem_pool`` gives out so much registered memory. 0, or a code."""
        pool_size = checks.number("mem_pool_size", mem_pool_size)
        local_size = checks.number("local_buffer_size", local_buffer_size)
        address = checks.text("server_address", server_address)
        given = Settings("localhost", "", 0, local_size, "tcp", "", address)
        with self._setting_up:
            return self._answer(lambda: self._set_up(given, Pool(pool_size)))

    def close(self) -> int:
        """Leaves the cluster. What this store lent is gone then; buffers that it answered stay as long as they are used."""
        with self._setting_up:
            self._take_down()
        return OK

    def health_check(self) -> int:
        """0: well; 1: not set up; 2: the master cannot be reached."""
        place = self._place
        if place is None or not place.link.verbs.is_usable():
            return NOT_SET_UP
        return HEALTHY if _is_reachable(place.settings.master_server_addr) else MASTER_OUT_OF_REACH

    def get_hostname(self) -> str:
        """What this store is called, "host:port"; "" if it has no name."""
        place = self._place
        return "" if place is None else place.hostname

    def register_buffer(self, buffer_ptr: int, size: int) -> int:
        """Lets verbs use these bytes from now on. They have to stay where they are until they are unregistered."""
        start, size = checks.number("buffer_ptr", buffer_ptr), checks.number("size", size)
        place = self._place
        if place is None:
            return INVALID_PARAMETERS
        if place.pool is not None and size and place.pool.holds(start, size):
            return OK
        return OK if place.link.register(start, size) else INVALID_PARAMETERS

    def unregister_buffer(self, buffer_ptr: int) -> int:
        """Forgets the bytes that begin there."""
        start = checks.number("buffer_ptr", buffer_ptr)
        place = self._place
        if place is None:
            return INVALID_PARAMETERS
        if place.pool is not None and place.pool.holds(start, 1):
            return OK
        return OK if place.link.unregister(start) else INVALID_PARAMETERS

    def alloc_from_mem_pool(self, size: int) -> int:
        """The address of registered memory of a store that ``setup_dummy`` has set up; 0: there is none (left)."""
        size = checks.number("size", size)
        place = self._place
        return 0 if place is None or place.pool is None else place.pool.take(size)

    def _take_down(self) -> None:
        self._place = None
        if self._end is not None:
            # Closes the place, once.
            self._end()
            self._end = None

    def _answer(self, set_up: Callable[[], Place]) -> int:
        self._take_down()
        try:
            place = set_up()
            # A store that nobody knows of any more leaves, and so does one at the interpreter's end.
            self._end = weakref.finalize(self, place.close)
            self._place = place
        except Unusable as refusal:
            log.error("the store is not set up: %s", refusal)
            return refusal.code
        except (errors.SnowskinError, OSError, ValueError) as error:
            log.error("the store is not set up: %s", error)
            return INTERNAL
        return OK

    def _set_up(self, settings: Settings, pool: Optional[Pool] = None) -> Place:
        if pool is None:
            for sentence in settings_module.ignored(settings):
                log.info("%s", sentence)
        if not _is_reachable(settings.master_server_addr):
            raise Unusable(INTERNAL, f"the master at {settings.master_server_addr} cannot be reached")
        regions = Regions()
        hostname = "" if pool is not None else _hostname(settings.local_hostname)
        engine = _engine(settings, settings.global_segment_size, hostname) if settings.global_segment_size else None
        link: Optional[Link] = None
        try:
            # An engine that is named instead of a master is about to have joined.
            is_awaited = engine is not None or pool is not None
            link = Link([settings.master_server_addr], regions, client_settings(settings), is_awaited)
            place = Place(settings, hostname, regions, link, engine, pool=pool)
            if pool is not None and pool.size:
                link.register(pool.start, pool.size)
            if settings.enable_client_http_server:
                place.web = _serve(weakref.WeakMethod(self.health_check), settings)
        except BaseException:
            if link is not None:
                link.close()
            if engine is not None:
                engine.close()
            raise
        return place

    def _lend(self, place: Place, size: int, file: Optional[str]) -> _snowskin.Engine:
        return _engine(place.settings, size, with_ssd=False, file=file)


def client_settings(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {"tenant": settings.tenant_id}
    folder = settings_module.folder_of_sockets(settings.ipc_socket_path)
    return {**found, "local_sockets": folder} if folder else found


def _engine(
    settings: Settings, size: int, hostname: str = "", with_ssd: bool = True, file: Optional[str] = None
) -> _snowskin.Engine:
    """An engine in this process that lends so many bytes. It listens at the port of the hostname, so that others know it by that, or at a free one."""
    flags: dict[str, Any] = {}
    folder = settings_module.folder_of_sockets(settings.ipc_socket_path)
    if folder:
        flags["local_sockets"] = folder
    if with_ssd and settings.enable_ssd_offload:
        try:
            flags["ssd"] = offload.folder(settings.ssd_offload_path)
            flags["ssd_size"] = str(offload.size(flags["ssd"]))
        except ValueError as error:
            raise Unusable(INVALID_PARAMETERS, str(error)) from None
    address, (_, port) = _own_address(settings.local_hostname), sizes.split_address(hostname)
    listen = sizes.join_address(address, int(port) if port.isdigit() and _is_free(address, int(port)) else 0)
    return _snowskin.Engine(
        memory=size, cores=1, master=settings.master_server_addr, listen=listen, memory_file=file, **flags
    )


def _own_address(hostname: str) -> str:
    """The address at which others reach this machine by its name; the loopback, if that is none of this machine's."""
    host, _ = sizes.split_address(hostname)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("local_hostname %s has no address (%s): other machines cannot reach what this store lends", host, error)
        return LOOPBACK
    for family, kind, _, _, address in sorted(found, key=lambda entry: entry[0]):
        if address[0] in ("0.0.0.0", "::"):
            continue
        with socket.socket(family, kind) as probe:
            try:
                probe.bind((address[0], 0))
            except OSError:
                continue
            return str(address[0])
    log.warning("local_hostname %s is no address of this machine: other machines cannot reach what this store lends", host)
    return LOOPBACK


def _hostname(given: str) -> str:
    """The name with a port: its own, or a free one."""
    host, port = sizes.split_address(given)
    if port:
        return given
    address = _own_address(given)
    numbers = random.sample(HOSTNAME_PORTS, PORT_TRIES)
    return sizes.join_address(host, next((number for number in numbers if _is_free(address, number)), numbers[0]))


def _is_free(address: str, port: int) -> bool:
    """Whether somebody may listen there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, port))
        except (OSError, OverflowError):
            return False
    return True


def _is_reachable(address: str) -> bool:
    """Whether somebody accepts connections there."""
    host, port = sizes.split_address(address)
    try:
        socket.create_connection((host, int(port)), MASTER_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _serve(health_check: weakref.WeakMethod[Callable[[], int]], settings: Settings) -> Optional[WebServer]:
    """Health and a few numbers of a store, for this machine."""

    def code_of_health() -> int:
        check = health_check()
        return NOT_SET_UP if check is None else check()

    def health(_: Any) -> Answer:
        code = code_of_health()
        status = "healthy" if code == HEALTHY else "unhealthy"
        return Answer(200 if code == HEALTHY else 503, f'{{"status":"{status}","code":{code}}}'.encode(), JSON)

    def metrics(_: Any) -> Answer:
        lent = settings.global_segment_size
        lines = [
            "# HELP mooncake_client_healthy 1: the master can be reached",
            "# TYPE mooncake_client_healthy gauge",
            f"mooncake_client_healthy {int(code_of_health() == HEALTHY)}",
            "# HELP mooncake_client_lent_bytes Bytes that this store lends",
            "# TYPE mooncake_client_lent_bytes gauge",
            f"mooncake_client_lent_bytes {lent}",
        ]
        return Answer(200, "\n".join([*lines, ""]).encode(), TEXT)

    try:
        return WebServer(LOOPBACK, settings.client_http_port, {"/health": health, "/metrics": metrics})
    except (OSError, OverflowError) as error:
        log.error("health cannot be served on port %d: %s", settings.client_http_port, error)
        return None
