"""The asynchronous store beside its table of answers (mooncake_contract): many at once, several loops, its end."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Engine

from snowskin.mooncake.async_store import MooncakeDistributedStoreAsync
from snowskin.mooncake.store import MooncakeDistributedStore, ReplicateConfig, SoftPinAction

OWN = {
    *("is_exist", "batch_is_exist", "get_size", "get", "get_batch", "get_buffer", "batch_get_buffer", "put", "upsert", "put_parts", "upsert_parts"),
    *("put_batch", "upsert_batch", "put_from", "upsert_from", "batch_put_from", "batch_upsert_from", "get_into", "batch_get_into", "remove"),
    *("batch_remove", "remove_by_regex", "remove_all"),
}


def settings_of(engine: Engine) -> dict[str, Any]:
    given = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "master_server_addr": engine.master}
    return {**given, "global_segment_size": 0, "ipc_socket_path": str(engine.sockets)}


@pytest.fixture
def store(engine: Engine) -> Iterator[MooncakeDistributedStoreAsync]:
    store = MooncakeDistributedStoreAsync()
    assert store.setup(settings_of(engine)) == 0
    yield store
    assert store.close() == 0


def test_every_verb_has_a_coroutine(store: MooncakeDistributedStoreAsync) -> None:
    verbs = [name for name in dir(MooncakeDistributedStore) if not name.startswith("_")]
    for name in verbs:
        coroutine = getattr(store, f"async_{name}")
        assert inspect.iscoroutinefunction(coroutine), name
        parameters = list(inspect.signature(coroutine).parameters)
        wanted = list(inspect.signature(getattr(store, name)).parameters)
        assert parameters in (wanted, ["self", *wanted]), name
    assert {name for name in verbs if f"async_{name}" in vars(MooncakeDistributedStoreAsync)} == OWN
    for name in ("async_nosuch", "nosuch", "async_", "async___init__"):
        with pytest.raises(AttributeError):
            getattr(store, name)


def test_many_at_once_without_threads(store: MooncakeDistributedStoreAsync) -> None:
    async def work() -> None:
        assert await store.async_put("first", b"v") == 0
        before = threading.active_count()
        values = {f"k{number}": bytes([number % 256]) * 1000 for number in range(500)}
        codes = await asyncio.gather(*(store.async_put(key, value) for key, value in values.items()))
        assert set(codes) == {0}
        found = await asyncio.gather(*(store.async_get(key) for key in values))
        assert found == list(values.values()) == store.get_batch(list(values))
        assert await store.async_batch_is_exist(["k0", "no"]) == [1, 0]
        assert threading.active_count() == before
        assert await store.async_remove_all(True) == 501

    asyncio.run(work())


def test_groups_and_pins(store: MooncakeDistributedStoreAsync) -> None:
    async def work() -> None:
        config = ReplicateConfig()
        config.soft_pin_action, config.soft_pin_ttl_ms, config.group_ids = SoftPinAction.ENABLE, 1000, ["x", "y", ""]
        assert await store.async_put_batch(["a", "b", "c"], [b"1", b"2", b"3"], config) == 0
        assert await store.async_get_batch(["a", "b", "c"]) == [b"1", b"2", b"3"]
        memory = ctypes.create_string_buffer(b"0123456789")
        start = ctypes.addressof(memory)
        assert await store.async_register_buffer(start, 10) == 0
        assert await store.async_batch_put_from(["d", "e", "f"], [start, 5, start], [10, 10, 5], config) == [0, -600, 0]
        assert await store.async_batch_get_into(["f", "d"], [start, start + 5], [5, 5]) == [5, -600]
        assert await store.async_unregister_buffer(start) == 0

    asyncio.run(work())


def test_wrong_types_are_told_at_once(store: MooncakeDistributedStoreAsync) -> None:
    async def work() -> None:
        wrong = [lambda: store.async_put("k", 5), lambda: store.async_put(5, b"v"), lambda: store.async_put("k", b"v", None)]  # type: ignore[arg-type]
        wrong += [lambda: store.async_batch_is_exist("k"), lambda: store.async_get_into("k", "x", 5)]  # type: ignore[arg-type]
        for call in wrong:
            with pytest.raises(TypeError):
                await call()

    asyncio.run(work())


def test_several_loops(store: MooncakeDistributedStoreAsync) -> None:
    found: list[bytes] = []

    async def work(number: int) -> None:
        for turn in range(20):
            assert await store.async_put(f"{number}/{turn}", b"v") == 0
        found.append(await store.async_get(f"{number}/19"))

    threads = [threading.Thread(target=lambda number=number: asyncio.run(work(number))) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [b"v"] * 4
    asyncio.run(work(9))


def test_setup_and_close_in_a_loop(engine: Engine) -> None:
    async def work() -> None:
        store = MooncakeDistributedStoreAsync()
        assert await store.async_put("k", b"v") == -600 and await store.async_get("k") == b""
        for _ in range(2):
            assert await store.async_setup(settings_of(engine)) == 0
            assert await store.async_upsert("k", b"v") == 0 and await store.async_get("k") == b"v"
            assert await store.async_health_check() == 0
            assert await store.async_close() == 0
        assert await store.async_get("k") == b"" and await store.async_is_exist("k") == -600

    asyncio.run(work())


def test_closed_while_asked(engine: Engine) -> None:
    async def work() -> None:
        store = MooncakeDistributedStoreAsync()
        assert await store.async_setup(settings_of(engine)) == 0
        assert await store.async_put("k", bytes(1 << 20)) == 0
        asked = [asyncio.ensure_future(store.async_get("k")) for _ in range(50)]
        await asyncio.sleep(0)
        assert await store.async_close() == 0
        answers = await asyncio.wait_for(asyncio.gather(*asked), 30)
        assert set(answers) <= {b"", bytes(1 << 20)}

    asyncio.run(work())
