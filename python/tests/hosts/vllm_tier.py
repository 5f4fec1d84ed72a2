"""Run by an interpreter that has vLLM: its TieringOffloadingManager with our tier below its host memory.

    python vllm_tier.py '{"seeds": …}'
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from vllm.v1.kv_offload.base import LookupResult, ReqContext, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.factory import OffloadingSpecFactory

BLOCK = 4096


def manager_of(tier: dict[str, Any], engine: str, model: str = "org/model", tp: int = 1) -> Any:
    extra = {"spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 64 * BLOCK, "block_size": 16}
    extra["secondary_tiers"] = [{"type": "SnowskinTier", "module_path": "snowskin.connectors.vllm", **tier}]
    config = OffloadingConfig(
        groups=(OffloadingGroupConfig(16, ("l0",), 0),),
        worker_kv_bytes_per_block=BLOCK // tp,
        enable_kv_cache_events=False,
        extra_config=extra,
        engine_id=f"{engine}{os.getpid()}",
        model=OffloadingModelConfig(model, "float16"),
        cache=OffloadingCacheConfig(16, 1),
        parallel=OffloadingParallelConfig(0, tp, tp, 1, 1, 1, 0, 1, None, False),
    )
    return OffloadingSpecFactory.create_spec(config).get_manager()


def rows(manager: Any) -> np.ndarray[Any, Any]:
    return np.asarray(manager.primary_tier.get_kv_memoryview()).view(np.uint8)


def step(manager: Any) -> None:
    with manager.lock:
        manager.on_schedule_end(ScheduleEndContext((), ()))
    time.sleep(0.01)


def store(manager: Any, keys: list[bytes], request: str) -> None:
    context = ReqContext(request)
    manager.on_new_request(context)
    assert manager.lookup(keys[0], context) in (LookupResult.RETRY, LookupResult.MISS)
    output = manager.prepare_store(keys, context)
    for key, chunk in zip(keys, output.store_spec.block_ids if hasattr(output.store_spec, "block_ids") else chunks_of(output)):
        rows(manager)[int(chunk)] = value_of(key)
    manager.complete_store(keys, context, True)
    while manager.has_pending_work():
        step(manager)
    manager.on_request_finished(context)


def chunks_of(output: Any) -> Any:
    spec = output.store_spec
    names = [name for name in dir(spec) if "ids" in name]
    return getattr(spec, names[0])


def value_of(key: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer((key * (BLOCK // len(key) + 1))[:BLOCK], dtype=np.uint8)


def lookup(manager: Any, keys: list[bytes], context: Any) -> list[str]:
    for _ in range(500):
        with manager.lock:
            results = [manager.lookup(key, context).name for key in keys]
        if not {"RETRY", "HIT_PENDING"} & set(results):
            return results
        step(manager)
    raise AssertionError(f"no end of {results}")


def load(manager: Any, keys: list[bytes], context: Any) -> None:
    spec = manager.prepare_load(keys, context)
    for key, chunk in zip(keys, chunks_of(type("Output", (), {"store_spec": spec}))):
        assert (rows(manager)[int(chunk)] == value_of(key)).all()
    manager.complete_load(keys, context)


def main() -> None:
    tier = json.loads(sys.argv[1])
    print("vllm", version("vllm"))
    keys = [make_offload_key(bytes([number]) * 32, 0) for number in range(20)]
    first = manager_of(tier, "first")
    store(first, keys[:16], "r1")
    first.reset_cache()
    first.on_reset_flushed()
    context = ReqContext("r2")
    first.on_new_request(context)
    assert lookup(first, keys[:16], context) == ["HIT"] * 16, "promoted from below"
    load(first, keys[:16], context)
    first.on_request_finished(context)
    # Another engine of the same model finds them, one of another model or of other parallelism does not.
    for model, tp, expected in (("org/model", 1, "HIT"), ("org/other", 1, "MISS"), ("org/model", 2, "MISS")):
        other = manager_of(tier, f"{model[4:]}{tp}", model, tp)
        context = ReqContext("r3")
        other.on_new_request(context)
        assert lookup(other, [*keys[:4], keys[19]], context) == [expected] * 4 + ["MISS"], (model, tp)
        if expected == "HIT":
            load(other, keys[:4], context)
        other.on_request_finished(context)
        other.shutdown()
    first.shutdown()
    try:
        manager_of({**tier, "sed": 1}, "refused")
    except ValueError as error:
        assert "Snowskin has no setting 'sed'" in str(error)
    else:
        raise AssertionError("it was not refused")


main()
