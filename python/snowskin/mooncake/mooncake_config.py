"""`MooncakeConfig`: what a process that uses the store reads from a JSON file or from the environment."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from . import sizes

log = logging.getLogger("mooncake")

DEFAULT_GLOBAL_SEGMENT_SIZE = 3355443200
DEFAULT_LOCAL_BUFFER_SIZE = 1 << 30

#: The environment variable of each setting.
_VARIABLES = {
    "local_hostname": "MOONCAKE_LOCAL_HOSTNAME",
    "metadata_server": "MOONCAKE_TE_META_DATA_SERVER",
    "global_segment_size": "MOONCAKE_GLOBAL_SEGMENT_SIZE",
    "local_buffer_size": "MOONCAKE_LOCAL_BUFFER_SIZE",
    "protocol": "MOONCAKE_PROTOCOL",
    "device_name": "MOONCAKE_DEVICE",
    "master_server_address": "MOONCAKE_MASTER",
    "enable_ssd_offload": "MOONCAKE_OFFLOAD_ENABLED",
    "ssd_offload_path": "MOONCAKE_OFFLOAD_FILE_STORAGE_PATH",
    "tenant_id": "MOONCAKE_TENANT_ID",
    "enable_client_http_server": "MOONCAKE_ENABLE_CLIENT_HTTP_SERVER",
    "client_http_port": "MOONCAKE_CLIENT_HTTP_PORT",
}
_REQUIRED = ("local_hostname", "metadata_server", "master_server_address")
_CACHE_VARIABLES = ("LOCAL_HOT_CACHE_SIZE", "MC_STORE_LOCAL_HOT_CACHE_SIZE")


@dataclass
class MooncakeConfig:
    """Where the cluster is, and what this process gives to it. Raises ``ValueError`` for what cannot be."""

    local_hostname: str
    #: Not needed here: "P2PHANDSHAKE" says so.
    metadata_server: str
    #: Bytes that this process lends; 0: it is only a client.
    global_segment_size: int
    local_buffer_size: int
    #: "tcp" or "rdma", in small letters.
    protocol: str
    device_name: Optional[str]
    master_server_address: str
    enable_ssd_offload: bool = False
    ssd_offload_path: str = ""
    tenant_id: str = "default"
    enable_client_http_server: bool = False
    client_http_port: int = 9300

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, str) or not self.protocol.strip():
            raise ValueError(f'protocol is {self.protocol!r}: name one, such as "tcp"')
        self.protocol = self.protocol.strip().lower()
        for name in ("global_segment_size", "local_buffer_size"):
            sizes.size(name, getattr(self, name))
        for name in _REQUIRED:
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} is {value!r}: it must be named")

    @staticmethod
    def from_file(file_path: str) -> MooncakeConfig:
        """Reads a JSON file with these names."""
        with open(file_path, encoding="utf-8") as file:
            values = json.load(file)
        if not isinstance(values, dict):
            raise ValueError(f"{file_path} has no object with settings in it")
        for name in _REQUIRED:
            if name not in values:
                raise ValueError(f"{file_path} does not name {name}")
        return _made_of(values)

    @staticmethod
    def load_from_env() -> MooncakeConfig:
        """Reads the file that ``MOONCAKE_CONFIG_PATH`` names; without one, the other ``MOONCAKE_`` variables."""
        if any(os.environ.get(name) for name in _CACHE_VARIABLES):
            log.info("the local hot cache is not needed: values on this machine are read where they lie")
        path = os.environ.get("MOONCAKE_CONFIG_PATH")
        if path:
            return MooncakeConfig.from_file(path)
        if not os.environ.get("MOONCAKE_MASTER"):
            raise ValueError("set MOONCAKE_CONFIG_PATH to a JSON file, or MOONCAKE_MASTER to the master's host:port")
        given = {name: os.environ[variable] for name, variable in _VARIABLES.items() if variable in os.environ}
        return _made_of({"local_hostname": "localhost", "metadata_server": "P2PHANDSHAKE", **given})


def _made_of(values: Mapping[str, Any]) -> MooncakeConfig:
    path, tenant = values.get("ssd_offload_path"), values.get("tenant_id")
    return MooncakeConfig(
        local_hostname=values["local_hostname"],
        metadata_server=values["metadata_server"],
        global_segment_size=sizes.size(
            "global_segment_size", values.get("global_segment_size", DEFAULT_GLOBAL_SEGMENT_SIZE)
        ),
        local_buffer_size=sizes.size("local_buffer_size", values.get("local_buffer_size", DEFAULT_LOCAL_BUFFER_SIZE)),
        protocol=values.get("protocol", "tcp"),
        device_name=values.get("device_name", ""),
        master_server_address=values["master_server_address"],
        enable_ssd_offload=sizes.truth("enable_ssd_offload", values.get("enable_ssd_offload", False)),
        ssd_offload_path="" if path is None else str(path),
        tenant_id="default" if tenant is None else str(tenant),
        enable_client_http_server=sizes.truth(
            "enable_client_http_server", values.get("enable_client_http_server", False)
        ),
        client_http_port=sizes.port("client_http_port", values.get("client_http_port", 9300)),
    )
