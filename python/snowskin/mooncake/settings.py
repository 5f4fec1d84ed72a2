"""What `setup` is given: by position, by name, or all in one dictionary.

By position and by name, wrong types are a ``TypeError``. In a dictionary, texts are read as what they are to be, and what cannot be read is
:class:`Unusable`, which `setup` logs and answers with a code. So is, in all forms, what cannot be done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional

from . import checks, sizes
from .codes import INTERNAL, INVALID_PARAMETERS

#: The least that a segment may have.
SEGMENT_BYTES_MIN = 16 << 20
PROTOCOLS = ("tcp", "rdma")
MASTER_DEFAULT = "127.0.0.1:50051"


class Unusable(Exception):
    """Arguments with which a store cannot be set up, and the code that says so."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass
class Settings:
    """What a store is set up with."""

    local_hostname: str
    metadata_server: str
    global_segment_size: int
    local_buffer_size: int
    protocol: str
    rdma_devices: str
    master_server_addr: str
    engine: object = None
    enable_ssd_offload: bool = False
    ssd_offload_path: str = ""
    tenant_id: str = "default"
    enable_client_http_server: bool = False
    client_http_port: int = 9300
    #: Only in a dictionary: where clients of this machine meet engines; a folder, or a path in it.
    ipc_socket_path: str = ""

    def check(self) -> None:
        """Raises :class:`Unusable` for what cannot be done."""
        if not self.local_hostname:
            raise Unusable(INVALID_PARAMETERS, "local_hostname is empty: name this machine")
        if 0 < self.global_segment_size < SEGMENT_BYTES_MIN:
            sentence = f"global_segment_size is {self.global_segment_size}: a segment has at least 16MB, or is none (0)"
            raise Unusable(INVALID_PARAMETERS, sentence)
        if self.protocol not in PROTOCOLS:
            raise Unusable(INTERNAL, f'protocol is {self.protocol!r}: "tcp" and "rdma" are known')
        host, port = sizes.split_address(self.master_server_addr)
        if "://" in self.master_server_addr or not host or not port.isdigit():
            sentence = f"master_server_addr is {self.master_server_addr!r}: it is the master's host:port"
            raise Unusable(INTERNAL, sentence)


_NAMES = [field.name for field in fields(Settings) if field.name != "ipc_socket_path"]
_REQUIRED = _NAMES[:7]
_SIZES = ("global_segment_size", "local_buffer_size")
_TRUTHS = ("enable_ssd_offload", "enable_client_http_server")
_DICTIONARY_DEFAULTS: dict[str, Any] = {
    "global_segment_size": 16 << 20,
    "local_buffer_size": 16 << 20,
    "protocol": "tcp",
    "rdma_devices": "",
    "master_server_addr": MASTER_DEFAULT,
}
#: Names by which configuration files know some of them.
_OTHER_NAMES = {"master_server_address": "master_server_addr", "device_name": "rdma_devices"}


def parse(positional: tuple[Any, ...], named: Mapping[str, Any]) -> Settings:
    """The settings of a call. Raises ``TypeError`` and :class:`Unusable`."""
    is_dictionary = (len(positional) == 1 and not named) or (not positional and set(named) == {"config"})
    if is_dictionary:
        dictionary = positional[0] if positional else named["config"]
        if not isinstance(dictionary, dict):
            raise TypeError("setup takes seven arguments and more, or one dictionary")
        settings = _of_dictionary(dictionary)
    else:
        settings = _of_arguments(positional, named)
    settings.tenant_id = settings.tenant_id or "default"
    settings.check()
    return settings


def _of_arguments(positional: tuple[Any, ...], named: Mapping[str, Any]) -> Settings:
    if len(positional) > len(_NAMES):
        raise TypeError(f"setup takes at most {len(_NAMES)} arguments, not {len(positional)}")
    given = dict(zip(_NAMES, positional))
    for name, value in named.items():
        if name not in _NAMES or name in given:
            raise TypeError(f"setup has no argument {name}, or was given it twice")
        given[name] = value
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise TypeError(f"setup is missing {', '.join(missing)}")
    for name, value in given.items():
        if name in _SIZES or name == "client_http_port":
            given[name] = checks.number(name, value)
        elif name in _TRUTHS:
            given[name] = bool(value)
        elif name != "engine":
            given[name] = checks.text(name, value)
    return Settings(**given)


def _of_dictionary(dictionary: dict[Any, Any]) -> Settings:
    given = dict(_DICTIONARY_DEFAULTS)
    known = {*_NAMES, "ipc_socket_path"}
    for key, value in dictionary.items():
        name = _OTHER_NAMES.get(key, key) if isinstance(key, str) else key
        # A name of the other kind does not overrule the right one.
        if name in known and not (name != key and name in dictionary):
            given[name] = _read(name, value)
    for name in ("local_hostname", "metadata_server"):
        if given.get(name) is None:
            raise Unusable(INVALID_PARAMETERS, f"the dictionary does not name {name}")
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _read(name: str, value: Any) -> Any:
    """A value of the dictionary; None: it is not named."""
    try:
        if name in _SIZES:
            return sizes.size(name, value)
        if name in _TRUTHS:
            return sizes.truth(name, value)
        if name == "client_http_port":
            return sizes.port(name, value)
    except (TypeError, ValueError) as error:
        raise Unusable(INVALID_PARAMETERS, str(error)) from None
    if name == "engine":
        return value
    return _DICTIONARY_DEFAULTS.get(name) if value is None else str(value)


def ignored(settings: Settings) -> list[str]:
    """A sentence for each setting that means nothing here."""
    sentences = [f"metadata_server ({settings.metadata_server or 'none'}) is not needed: the master knows all members"]
    if settings.protocol == "rdma":
        sentences.append("protocol rdma: engines on other machines are reached over TCP")
    if settings.rdma_devices:
        sentences.append(f"rdma_devices ({settings.rdma_devices}) are not used")
    if settings.engine is not None:
        sentences.append("engine is not used: the store moves its own bytes")
    return sentences


def folder_of_sockets(path: str) -> Optional[str]:
    """The folder in which stores and engines of this machine meet: what ``ipc_socket_path`` means, or else ``SNOWSKIN_LOCAL_SOCKETS``."""
    if not path:
        return os.environ.get("SNOWSKIN_LOCAL_SOCKETS") or None
    return path if os.path.isdir(path) else os.path.dirname(path) or None
