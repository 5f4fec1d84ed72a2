"""Run by an interpreter that has SGLang: its factory makes our backend, and its cache controller's own code moves pages of its host pools.

    python sglang_hicache.py '{"seeds": …}'

The controller is there without what it needs a GPU and peers for: only its storage code runs.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from sglang.srt.managers.cache_controller import HiCacheController
from sglang.srt.mem_cache.device_pool_info import KVBufferLayout, KVBuffers, MHABufferInfo, MLABufferInfo
from sglang.srt.mem_cache.hicache_storage import (
    HiCacheStorageConfig,
    HiCacheStorageExtraInfo,
    PoolHitPolicy,
    PoolName,
    PoolTransfer,
    PoolTransferResult,
)
from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost
from sglang.srt.mem_cache.pool_host.mla import MLATokenToKVPoolHost
from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory

PAGE, LAYERS, HEADS, WIDTH, TOKENS = 4, 3, 2, 8, 128


def mha_pool(layout: str) -> Any:
    k, v = ([torch.zeros(TOKENS, HEADS, WIDTH, dtype=torch.float16) for _ in range(LAYERS)] for _ in "kv")
    pointers = [torch.tensor([layer.data_ptr() for layer in own], dtype=torch.uint64) for own in (k, v)]
    tables = {"k_data_ptrs": pointers[0], "v_data_ptrs": pointers[1], "layout": KVBufferLayout.NHD}
    info = MHABufferInfo(
        buffers=KVBuffers(k=tuple(k), v=tuple(v), **tables),
        page_size=PAGE,
        head_num=HEADS,
        head_dim=WIDTH,
        v_head_dim=WIDTH,
        dtype=torch.float16,
        device=torch.device("cpu"),
    )
    geometry = {"device_capacity_tokens": TOKENS, "start_layer": 0, "end_layer": LAYERS}
    return MHATokenToKVPoolHost(info, 1.0, 0, PAGE, layout, pin_memory=False, **geometry)


def mla_pool(layout: str) -> Any:
    layers = [torch.zeros(TOKENS, 1, WIDTH + 4, dtype=torch.float16) for _ in range(LAYERS)]
    info = MLABufferInfo(
        buffers=tuple(layers),
        data_ptrs=torch.tensor([layer.data_ptr() for layer in layers], dtype=torch.uint64),
        layer_indices=tuple(range(LAYERS)),
        device_layer_num=LAYERS,
        page_size=PAGE,
        kv_lora_rank=WIDTH,
        qk_rope_head_dim=4,
        kv_cache_dim=WIDTH + 4,
        dtype=torch.float16,
        device=torch.device("cpu"),
    )
    geometry = {"device_capacity_tokens": TOKENS, "start_layer": 0, "end_layer": LAYERS, "target_layer_num": LAYERS}
    return MLATokenToKVPoolHost(info, 1.0, 0, PAGE, layout, pin_memory=False, **geometry)


def config_of(extra: dict[str, Any], **other: Any) -> Any:
    place = {"tp_rank": 0, "tp_size": 1, "pp_rank": 0, "pp_size": 1, "attn_cp_rank": 0, "attn_cp_size": 1}
    kind = {"is_mla_model": False, "enable_storage_metrics": False, "is_page_first_layout": True, "model_name": "org/m"}
    return HiCacheStorageConfig(**{**place, **kind, **other}, extra_config=extra)


def backend_of(settings: dict[str, Any], pool: Any, zero_copy: int = 1, **other: Any) -> Any:
    name = {"backend_name": "snowskin", "module_path": "snowskin.connectors.sglang", "class_name": "HiCache"}
    config = config_of({**name, "interface_v1": zero_copy, **settings}, **other)
    backend = StorageBackendFactory.create_backend("dynamic", config, pool)
    backend.register_mem_pool_host(pool)
    backend.on_host_pools_registered()
    return backend


def controller_of(backend: Any, pool: Any, zero_copy: int = 1) -> Any:
    controller = object.__new__(HiCacheController)
    controller.storage_backend, controller.storage_host_pool, controller.mem_pool_host = backend, pool, pool
    controller.page_size = PAGE
    controller.page_get_func = controller._page_get_zero_copy if zero_copy else controller._generic_page_get
    controller.page_set_func = controller._page_set_zero_copy if zero_copy else controller._generic_page_set
    return controller


def operation_of(hashes: list[str], first: int) -> Any:
    indices = torch.arange(first * PAGE, (first + len(hashes)) * PAGE)
    quiet = {"request_id": "r", "is_terminated": lambda: False, "prefix_keys": None, "completed_tokens": 0}
    return SimpleNamespace(hash_value=hashes, host_indices=indices, **quiet)


def pages_of(pool: Any, first: int, count: int) -> list[list[float]]:
    return [pool.get_data_page(number * PAGE, flat=True).tolist() for number in range(first, first + count)]


def get(controller: Any, hashes: list[str], first: int) -> int:
    operation = operation_of(hashes, first)
    info = HiCacheStorageExtraInfo()
    pages: int = controller._page_transfer_kv_batch(operation, hashes, operation.host_indices, info, [])
    return pages


def use(settings: dict[str, Any], make: Any, layout: str, zero_copy: int) -> None:
    pool = make(layout)
    pool.kv_buffer.copy_(torch.randn(pool.kv_buffer.shape).to(torch.float16))
    is_mla = make is mla_pool
    own = {**settings, "namespace": f"{layout}-{zero_copy}"}
    backend = backend_of(own, pool, zero_copy, is_mla_model=is_mla)
    controller = controller_of(backend, pool, zero_copy)
    hashes = [f"{number:064x}" for number in range(6)]
    assert backend.batch_exists(hashes, HiCacheStorageExtraInfo()) == 0
    backup = operation_of(hashes[:4], 0)
    controller._page_backup(backup)
    assert backup.completed_tokens == 4 * PAGE, backup.completed_tokens
    assert backend.batch_exists(hashes, HiCacheStorageExtraInfo(prefix_keys=[])) == 4
    assert get(controller, hashes[:4], 10) == 4
    assert pages_of(pool, 0, 4) == pages_of(pool, 10, 4)
    assert get(controller, [hashes[0], "no", hashes[1]], 20) == 1, "the prefix ends at the first miss"
    # Another model has other keys, and so has, with heads split among them, another number of ranks.
    for other in ({"model_name": "org/n"}, {} if is_mla else {"tp_size": 2}):
        stranger = backend_of(own, pool, zero_copy, is_mla_model=is_mla, **other)
        assert stranger.batch_exists(hashes[:4]) == (0 if other else 4), other
        stranger.close()
    again = operation_of(hashes, 0)
    controller._page_backup(again)
    assert again.completed_tokens == 6 * PAGE
    backend.clear()
    backend.close()
    assert backend.batch_exists(hashes) == 0 and get(controller, hashes[:2], 10) == 0


def read_across_layouts(settings: dict[str, Any]) -> None:
    """Pages of layer_first and page_first_direct have the same bytes, those of page_first have not."""
    pools = {layout: mha_pool(layout) for layout in ("layer_first", "page_first_direct", "page_first")}
    for pool in pools.values():
        pool.kv_buffer.copy_(torch.randn(pool.kv_buffer.shape).to(torch.float16))
    controllers = {name: controller_of(backend_of({**settings, "namespace": "across"}, pool), pool) for name, pool in pools.items()}
    controllers["layer_first"]._page_backup(operation_of(["a", "b"], 0))
    assert get(controllers["page_first_direct"], ["a", "b"], 5) == 2
    direct = pools["page_first_direct"].k_buffer.reshape(-1, LAYERS, PAGE, HEADS, WIDTH)[5]
    assert torch.equal(direct, pools["layer_first"].k_buffer[:, :PAGE])
    assert get(controllers["page_first"], ["a", "b"], 5) == 0


def use_side_pool(settings: dict[str, Any]) -> None:
    pool, side = mha_pool("page_first"), mha_pool("layer_first")
    side.kv_buffer.copy_(torch.randn(side.kv_buffer.shape).to(torch.float16))
    backend = backend_of({**settings, "namespace": "side"}, pool)
    backend.register_mem_host_pool_v2(side, PoolName.SWA)
    keys = ["a", "b", "c", "d"]
    assert backend.batch_set_v1(keys, torch.arange(4 * PAGE)) == [True] * 4
    transfer = PoolTransfer(name=PoolName.SWA, host_indices=torch.arange(2 * PAGE), keys=["c", "d"])
    assert backend.batch_set_v2([transfer]) == {PoolName.SWA: [True, True]}
    asked = PoolTransfer(name=PoolName.SWA, keys=["x", "y"], hit_policy=PoolHitPolicy.TRAILING_PAGES)
    found = backend.batch_exists_v2(keys, [asked])
    assert found == PoolTransferResult(4, {PoolName.KV: 4, PoolName.SWA: 4}, [4]), found
    asked = PoolTransfer(name=PoolName.SWA, keys=keys, hit_policy=PoolHitPolicy.ALL_PAGES)
    assert backend.batch_exists_v2(keys, [asked]) == PoolTransferResult(0, {PoolName.KV: 4}, [])
    room = PoolTransfer(name=PoolName.SWA, host_indices=torch.arange(8 * PAGE, 11 * PAGE), keys=["c", "d", "no"])
    assert backend.batch_get_v2([room]) == {PoolName.SWA: [True, True, False]}
    assert pages_of(side, 0, 2) == pages_of(side, 8, 2)
    backend.close()


def main() -> None:
    settings = json.loads(sys.argv[1])
    print("sglang", version("sglang"), "torch", version("torch"))
    for make in (mha_pool, mla_pool):
        for layout in ("layer_first", "page_first", "page_first_direct"):
            for zero_copy in (1, 0):
                use(settings, make, layout, zero_copy)
                print(make.__name__, layout, "zero copy" if zero_copy else "tensors", "well")
    read_across_layouts(settings)
    use_side_pool(settings)
    try:
        backend_of({"sed": 1}, mha_pool("page_first"))
    except ValueError as error:
        assert "Snowskin has no setting 'sed'" in str(error)
    else:
        raise AssertionError("it was not refused")


main()
