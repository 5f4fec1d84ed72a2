"""A master of a test's own, and stores of its cluster."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from conftest import binary

from snowskin.mooncake.store import MooncakeDistributedStore

MB = 1 << 20


class Master:
    """A master without engines, and a folder for sockets."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="snowskin-")
        command = [binary("snowskin-master"), "--listen", "127.0.0.1:0", "--no-http", "--lease-ms", "500", "--log", "error"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"frames on ([^\s,]+)", self.process.stdout.readline())
        assert found
        self.address = found[1]

    def settings(self, **others: Any) -> dict[str, Any]:
        given = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "master_server_addr": self.address}
        return {**given, "global_segment_size": "32MB", "ipc_socket_path": self.folder.name, **others}

    def store(self, **others: Any) -> MooncakeDistributedStore:
        store = MooncakeDistributedStore()
        assert store.setup(self.settings(**others)) == 0
        return store

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)
        self.folder.cleanup()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
