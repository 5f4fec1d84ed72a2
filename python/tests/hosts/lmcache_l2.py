"""Run by an interpreter that has LMCache: its adapters over our connector, and its own test bench.

    python lmcache_l2.py '{"seeds": …}'
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch  # noqa: F401  (before LMCache's native parts)
from lmcache.v1 import memory_management as memory
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters.config import add_l2_adapters_args, parse_args_to_l2_adapters_config
from lmcache.v1.distributed.l2_adapters.factory import create_l2_adapter_from_registry

CONNECTOR = {"type": "native_plugin", "module_path": "snowskin.connectors.lmcache", "class_name": "Connector"}
ADAPTER = {"type": "plugin", "module_path": "snowskin.connectors.lmcache", "class_name": "Adapter"}


def adapter_of(config: dict[str, Any]) -> Any:
    parser = argparse.ArgumentParser()
    add_l2_adapters_args(parser)
    arguments = parser.parse_args(["--l2-adapter", json.dumps(config)])
    return create_l2_adapter_from_registry(parse_args_to_l2_adapters_config(arguments).adapters[0])


def object_of(size: int, byte: int) -> Any:
    raw = torch.full((size,), byte, dtype=torch.uint8)
    meta = memory.MemoryObjMetadata(
        shape=torch.Size([size]),
        dtype=torch.uint8,
        address=0,
        phy_size=size,
        ref_count=1,
        pin_count=0,
        fmt=memory.MemoryFormat.BINARY,
    )
    return memory.TensorMemoryObj(raw, meta, None)


def wait(fd: int) -> None:
    bell = select.poll()
    bell.register(fd, select.POLLIN)
    assert bell.poll(20_000), "nothing came"
    os.eventfd_read(fd)


def use(adapter: Any, model: str) -> None:
    keys = [ObjectKey(bytes([n]) * 16, model, 3, 1, "salt" if n else "") for n in range(3)]
    # LMCache keeps objects until their tasks have ended; their memory is not kept by the views of it.
    values = [object_of(4096, 1), object_of(1 << 20, 2)]
    task = adapter.submit_store_task(keys[:2], values)
    wait(adapter.get_store_event_fd())
    stored = adapter.pop_completed_store_tasks()[task]
    assert stored.is_successful()
    assert stored.bytes_transferred() == 4096 + (1 << 20), stored
    task = adapter.submit_lookup_and_lock_task(keys, {})
    wait(adapter.get_lookup_and_lock_event_fd())
    assert adapter.query_lookup_and_lock_result(task).get_indices_list() == [0, 1]
    rooms = [object_of(4096, 9), object_of(1 << 20, 9), object_of(64, 9)]
    task = adapter.submit_load_task(keys, rooms)
    wait(adapter.get_load_event_fd())
    assert adapter.query_load_result(task).get_indices_list() == [0, 1]
    assert [set(room.raw_tensor.tolist()) for room in rooms[:2]] == [{1}, {2}]
    longer = [object_of(8192, 9)]
    task = adapter.submit_load_task(keys[:1], longer)
    wait(adapter.get_load_event_fd())
    assert adapter.query_load_result(task).get_indices_list() == [], "a buffer of another length"
    adapter.submit_unlock(keys)
    assert adapter.report_status()["is_healthy"]
    assert adapter.get_usage().total_bytes_used > 0
    adapter.delete(keys)
    adapter.close()


def refused(config: dict[str, Any]) -> str:
    try:
        adapter_of(config).close()
    except Exception as error:
        return str(error)
    raise AssertionError("it was not refused")


def bench(config: dict[str, Any]) -> None:
    command = [str(Path(sys.executable).parent / "lmcache"), "bench", "l2", "--l2-adapter", json.dumps(config)]
    command += ["--no-skip-verify", "--num-keys", "32", "--in-flight", "4", "--data-size-kb", "256", "--rounds", "2"]
    command += ["--lookup-max-hit-rate", "0.5", "--format", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr[-4000:]


def main() -> None:
    settings = json.loads(sys.argv[1])
    print("lmcache", version("lmcache"))
    use(adapter_of({**CONNECTOR, "adapter_params": settings, "max_capacity_gb": 1}), "org/native")
    use(adapter_of({**ADAPTER, "adapter_params": {**settings, "max_capacity_gb": 1}}), "org/plugin")
    use(adapter_of({**CONNECTOR, "adapter_params": {"embedded_memory": "64MB"}}), "org/embedded")
    assert "Snowskin has no setting 'sed'" in refused({**CONNECTOR, "adapter_params": {"sed": 1}})
    bench({**CONNECTOR, "adapter_params": {**settings, "namespace": "bench"}})


main()
