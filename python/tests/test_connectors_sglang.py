"""SGLang's backend, driven with the calls that SGLang makes, over a stand-in for its host memory; and by SGLang itself, where it is installed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest
from conftest import Engine, value_of
from hosts import host_or_skip

from snowskin.connectors import sglang
from snowskin.connectors.sglang import HiCache

PAGE = 4
#: Bytes of a token in one layer, of K or of V.
WIDTH = 64
LAYERS = 3


class Tensor:
    """What there is of a tensor where there is no torch."""

    device = SimpleNamespace(type="cpu")
    requires_grad = False

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def is_contiguous(self) -> bool:
        return bool(self.array.flags["C_CONTIGUOUS"])

    def numel(self) -> int:
        return int(self.array.size)

    def element_size(self) -> int:
        return int(self.array.itemsize)


class Pool:
    """SGLang's host memory of a model: `page_first` has a page of K in one piece and one of V, `layer_first` in one for each layer."""

    def __init__(self, layout: str = "page_first", parts: int = 2, pages: int = 32) -> None:
        self.page_size, self.layout, self.dtype, self.parts = PAGE, layout, "torch.uint8", parts
        self.piece = PAGE * WIDTH * (1 if layout == "layer_first" else LAYERS)
        self.pieces = LAYERS if layout == "layer_first" else 1
        self.bytes = np.zeros((parts, self.pieces, pages, self.piece), dtype=np.uint8)
        self.kv_buffer = Tensor(self.bytes)

    def get_page_buffer_meta(self, indices: Any) -> tuple[list[int], list[int]]:
        pages = [int(index) // PAGE for index in indices[::PAGE]]
        at = [self.bytes[part, layer, page].ctypes.data for page in pages for layer in range(self.pieces) for part in range(self.parts)]
        return at, [self.piece] * len(at)

    def fill(self, page: int, name: str) -> None:
        for part in range(self.parts):
            value = value_of(f"{name}{part}", self.piece * self.pieces)
            self.bytes[part, :, page] = np.frombuffer(value, dtype=np.uint8).reshape(self.pieces, self.piece)

    def has(self, page: int, name: str) -> bool:
        values = (value_of(f"{name}{part}", self.piece * self.pieces) for part in range(self.parts))
        return all(self.bytes[part, :, page].tobytes() == value for part, value in enumerate(values))


def config_of(extra: dict[str, Any], **other: Any) -> Any:
    place = {"tp_rank": 0, "tp_size": 1, "pp_rank": 0, "pp_size": 1, "is_mla_model": False, "should_split_heads": False}
    return SimpleNamespace(**{"tp_lcm_size": None, "model_name": "org/model", **place, **other}, extra_config=extra)


def backend_of(engine: Engine, pool: Optional[Pool], extra: Optional[dict[str, Any]] = None, **other: Any) -> HiCache:
    own = {"backend_name": "snowskin", "module_path": "m", "class_name": "C", "interface_v1": 1}
    where = {"seeds": engine.cores, "local_sockets": str(engine.sockets), "deadline": 2.0}
    backend = HiCache(config_of({**own, **where, **(extra or {})}, **other), {})
    if pool is not None:
        backend.register_mem_pool_host(pool)
    return backend


def indices_of(*pages: int) -> list[int]:
    return [page * PAGE + token for page in pages for token in range(PAGE)]


@pytest.fixture(params=["page_first", "layer_first"])
def pool(request: pytest.FixtureRequest) -> Pool:
    return Pool(request.param)


@pytest.fixture
def backend(engine: Engine, pool: Pool) -> Iterator[HiCache]:
    backend = backend_of(engine, pool)
    yield backend
    backend.close()


def test_a_round(backend: HiCache, pool: Pool) -> None:
    keys = ["h0", "h1", "h2"]
    assert backend.batch_exists(keys) == 0 and not backend.exists("h0")
    for page, key in enumerate(keys):
        pool.fill(page, key)
    assert backend.batch_set_v1(keys[:2], indices_of(0, 1)) == [True, True]
    assert backend.batch_set_v1(keys, indices_of(0, 1, 2)) == [True] * 3, "some were held already"
    assert backend.batch_exists([*keys, "h3"]) == 3 and backend.batch_exists(["h3", *keys]) == 0
    assert backend.batch_get_v1(["h2", "no", "h0"], indices_of(10, 11, 12)) == [True, False, True]
    assert pool.has(10, "h2") and pool.has(12, "h0")
    backend.clear()


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({}, "tag_org-model_uint8-page_first-tp1_h_0_k"),
        ({"tp_rank": 1, "tp_size": 4}, "tag_org-model_uint8-page_first-tp4_h_1_k"),
        ({"pp_rank": 1, "pp_size": 2}, "tag_org-model_uint8-page_first-tp1-pp2_h_0_1_k"),
        ({"is_mla_model": True}, "tag_org-model_uint8-page_first_h__k"),
        ({"is_mla_model": True, "pp_rank": 1, "pp_size": 2}, "tag_org-model_uint8-page_first-pp2_h_1_k"),
        ({"tp_rank": 1, "tp_size": 2, "tp_lcm_size": 4, "should_split_heads": True}, "tag_org-model_uint8-page_first-tp4_h_2_k"),
    ],
)
def test_keys_are_those_of_the_mooncake_backend(engine: Engine, other: dict[str, Any], name: str) -> None:
    backend = backend_of(engine, Pool(), {"extra_backend_tag": "tag"}, **other)
    with engine.store() as store:
        names = [name] if other.get("is_mla_model") else [name, name[:-1] + "v"]
        if "tp_lcm_size" in other:
            names += [name.replace("_2_k", "_3_k"), name.replace("_2_k", "_3_v")]
        store.put(names, [b"x"] * len(names))
        assert backend.exists("h")
        store.remove(names[-1:], force=True)
        assert not backend.exists("h")
    backend.close()


def test_pages_of_mla_models_are_of_all_ranks(engine: Engine) -> None:
    pool = Pool("layer_first", parts=1)
    pool.fill(0, "a")
    writer = backend_of(engine, pool, is_mla_model=True, tp_size=2)
    reader = backend_of(engine, pool, is_mla_model=True, tp_size=2, tp_rank=1)
    assert writer.batch_set_v1(["a"], indices_of(0)) == [True]
    assert reader.batch_get_v1(["a"], indices_of(7)) == [True] and pool.has(7, "a")
    writer.close()
    reader.close()


@pytest.mark.parametrize("layout", ["page_first", "layer_first"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_value_of_another_length_is_a_miss(engine: Engine, layout: str, more: int) -> None:
    pool = Pool(layout)
    backend = backend_of(engine, pool)
    for page, key in enumerate(["h0", "h1"]):
        pool.fill(page, key)
    assert backend.batch_set_v1(["h0", "h1"], indices_of(0, 1)) == [True, True]
    name = backend._names.of("h0", "0_v")
    with engine.store() as store:
        store.put(name, bytes(pool.piece * pool.pieces + more), replace=True)
    assert backend.batch_get_v1(["h0", "h1"], indices_of(5, 6)) == [False, True]
    backend.close()


def test_tensors(engine: Engine) -> None:
    backend = backend_of(engine, Pool(), {"interface_v1": 0})
    values = [np.frombuffer(value_of(f"t{number}", 999), dtype=np.uint8) for number in range(3)]
    assert backend.batch_set(["t0", "t1", "t2"], [Tensor(value) for value in values])
    assert backend.set("t0", Tensor(values[0])) and backend.batch_exists(["t0", "t1", "t2", "t3"]) == 3
    rooms = [Tensor(np.zeros(size, dtype=np.uint8)) for size in (999, 998, 1000, 999)]
    read = backend.batch_get(["t0", "t1", "t2", "t3"], rooms)
    assert read == [rooms[0], None, None, None] and (rooms[0].array == values[0]).all()
    assert backend.get("t1", rooms[3]) is rooms[3] and backend.get("t9", rooms[3]) is None
    backend.close()


def test_addresses(engine: Engine) -> None:
    pool = Pool()
    pool.fill(0, "a")
    backend = backend_of(engine, pool)
    first, fifth = (pool.bytes[0, 0, page].ctypes.data for page in (0, 5))
    assert backend.set("a", target_location=first, target_sizes=pool.piece)
    assert backend.get("a", fifth, pool.piece) and (pool.bytes[0, 0, 5] == pool.bytes[0, 0, 0]).all()
    assert backend.batch_get(["a", "b"], [fifth, first], [pool.piece, pool.piece]) == 1
    assert not backend.get("a", fifth, pool.piece - 1)
    assert not backend.set("b", target_location=1 << 20, target_sizes=8), "memory that is not registered"
    backend.close()


def test_side_pools(engine: Engine) -> None:
    pool, side = Pool(), Pool("layer_first")
    backend = backend_of(engine, pool)
    backend.register_mem_host_pool_v2(side, "swa")
    backend.register_mem_host_pool_v2(side, "swa")
    for page in range(4):
        side.fill(page, f"s{page}")
    backend.batch_set_v1(["a", "b", "c", "d"], indices_of(0, 1, 2, 3))
    transfer = SimpleNamespace(name="swa", keys=["b", "c"], host_indices=indices_of(1, 2), hit_policy="trailing_pages")
    assert backend.batch_set_v2([transfer]) == {"swa": [True, True]}
    found = backend.batch_exists_v2(["a", "b", "c", "d"], [transfer])
    assert tuple(found) == (3, {"kv": 4, "swa": 3}, [3])
    transfer.hit_policy = "all_pages"
    assert tuple(backend.batch_exists_v2(["b", "c", "d"], [transfer])) == (2, {"kv": 3, "swa": 2}, [1, 2])
    assert tuple(backend.batch_exists_v2(["z"], [transfer])) == (0, {}, [])
    room = SimpleNamespace(name="swa", keys=["c", "no"], host_indices=indices_of(8, 9))
    assert backend.batch_get_v2([room]) == {"swa": [True, False]} and side.has(8, "s2")
    unknown = SimpleNamespace(name="mamba", keys=["a"], host_indices=indices_of(1))
    assert backend.batch_get_v2([unknown]) == {"mamba": [False]}
    backend.close()


def test_an_anchor_without_memory(engine: Engine) -> None:
    anchor = SimpleNamespace(layout="page_first", dtype="torch.uint8", page_size=PAGE, kv_buffer=None)
    backend = backend_of(engine, anchor)  # type: ignore[arg-type]
    assert backend.batch_set_v1(["a"], indices_of(0)) == [True] == backend.batch_get_v1(["a"], indices_of(0))
    assert tuple(backend.batch_exists_v2(["a", "b"], [])) == (2, {"kv": 2}, [1, 2])
    backend.close()


def test_a_layout_that_the_pool_does_not_have(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool()
    backend = backend_of(engine, pool)
    pool.get_page_buffer_meta = lambda indices: ([1, 2, 3], [1, 1, 1])  # type: ignore[method-assign]
    assert backend.batch_set_v1(["a"], indices_of(0)) == [False] == backend.batch_get_v1(["a"], indices_of(0))
    assert "a layout that is not known" in caplog.text
    backend.close()


def test_an_engine_that_is_killed(own_engine: Engine, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    engine = own_engine
    backend = backend_of(engine, pool, {"deadline": 1.0})
    assert backend.batch_set_v1(["a"], indices_of(0)) == [True]
    engine.process.kill()
    engine.process.wait()
    begin = time.monotonic()
    for _ in range(20):
        assert backend.batch_get_v1(["a"], indices_of(0)) == [False]
        assert backend.batch_set_v1(["b"], indices_of(1)) == [False]
        assert backend.batch_exists(["a"]) == 0
        backend.clear()
    backend.close()
    assert time.monotonic() - begin < 4.0
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_many_threads_and_closing_under_them(engine: Engine, pool: Pool) -> None:
    backend = backend_of(engine, pool)
    wrong: list[str] = []
    is_over = threading.Event()
    for page in range(8):
        pool.fill(page, f"k{page}")
    assert all(backend.batch_set_v1([f"k{page}" for page in range(8)], indices_of(*range(8))))

    def work(number: int) -> None:
        room = 8 + number
        while not is_over.is_set():
            for page in range(8):
                is_read = backend.batch_get_v1([f"k{page}"], indices_of(room))[0]
                if is_read and not pool.has(room, f"k{page}"):
                    wrong.append(f"k{page}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    backend.close()
    time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not wrong and backend.batch_exists(["k0"]) == 0


def test_settings_are_looked_at() -> None:
    with pytest.raises(ValueError, match="extra-config: Snowskin has no setting 'check_server'"):
        HiCache(config_of({"seeds": "127.0.0.1:1", "check_server": True}), {})


def test_where_sglang_is_not_installed() -> None:
    assert sglang._Host is object or hasattr(sglang._Host, "batch_exists_v2")


def test_sglang_itself(engine: Engine) -> None:
    host_or_skip("sglang", "SNOWSKIN_SGLANG_PYTHON").run(
        "sglang_hicache.py", json.dumps({"seeds": engine.cores, "local_sockets": str(engine.sockets)})
    )
