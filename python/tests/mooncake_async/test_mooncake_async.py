"""The asynchronous store beside its table of answers (mooncake_contract): many at once, several loops, its end."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Engine

from snowskin import _snowskin, errors
from snowskin.mooncake.async_store import MooncakeDistributedStoreAsync
from snowskin.mooncake.loops import LoopVerbs
from snowskin.mooncake.store import MooncakeDistributedStore, ReplicateConfig, SoftPinAction

#: Verbs whose coroutines wait in threads of Python's, or for nobody.
NOT_OWN = {
    *("setup", "setup_dummy", "close", "health_check", "mount_segment", "unmount_segment", "allocate_and_mount_segment", "unmount_and_free_segment"),
    *("unmount_local_disk_segment", "get_offload_rpc_read_count", "register_buffer", "unregister_buffer", "get_hostname", "alloc_from_mem_pool"),
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
    own = {name for name in verbs if inspect.getattr_static(MooncakeDistributedStoreAsync, f"async_{name}", None)}
    assert {name for name in verbs if "tensor" not in name} - own == NOT_OWN
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


def sockets() -> int:
    """How many this process has."""
    folder = "/proc/self/fd"
    found = 0
    for descriptor in os.listdir(folder):
        try:
            found += os.readlink(f"{folder}/{descriptor}").startswith("socket:")
        except OSError:
            continue
    return found


def test_all_loops_use_the_connections_of_the_store(engine: Engine) -> None:
    store = MooncakeDistributedStoreAsync()
    assert store.setup(settings_of(engine)) == 0
    counted: list[tuple[int, int]] = []

    async def work() -> None:
        keys = [f"k{number}" for number in range(10)]
        assert await store.async_put_batch(keys, [b"v"] * 10) == 0 and await store.async_get_batch(keys) == [b"v"] * 10
        counted.append((sockets(), threading.active_count()))

    for _ in range(4):
        asyncio.run(work())
    assert len(set(counted)) == 1, counted
    assert store.close() == 0


def test_addresses_ranges_and_sessions_without_threads(store: MooncakeDistributedStoreAsync) -> None:
    size, count = 1 << 12, 100
    memory = ctypes.create_string_buffer(2 * size * count)
    start = ctypes.addressof(memory)

    async def one(number: int) -> None:
        key, own, value = f"k{number}", start + 2 * number * size, bytes([number]) * size
        halves = [[own, own + size // 2]], [[size // 2, size // 2]]
        ctypes.memmove(own, value, size)
        assert await store.async_batch_put_from_multi_buffers([key], *halves) == [0]
        ctypes.memset(own, 0, size)
        assert await store.async_batch_get_into_multi_buffers([key], *halves) == [size]
        assert ctypes.string_at(own, size) == value
        assert await store.async_put_from_with_metadata(key + "m", own, own, size, 8) == 0
        assert await store.async_get_into(key + "m", own, 2 * size) == size + 8
        assert await store.async_get_into_ranges([own], [[key, "no"]], [[[5], [0]]], [[[1], [0]]], [[[7], [1]]]) == [[[7], [-704]]]
        assert await store.async_batch_put_session_start([key + "s"], [size]) == [0]
        assert await store.async_batch_put_from_multi_buffer_ranges([key + "s"], [[own]], [[size]], [[0]]) == [size]
        assert await store.async_get_size(key + "s") == -703
        assert await store.async_batch_put_session_end([key + "s"]) == [0]
        assert await store.async_batch_get_session_start([key + "s", "no"]) == [0, -704]
        assert await store.async_batch_get_into_multi_buffer_ranges([key + "s"], [[own + size]], [[9]], [[size - 9]]) == [9]
        assert await store.async_batch_get_session_end([key + "s"]) == 0
        assert ctypes.string_at(own + size, 9) == value[:9]

    async def work() -> None:
        assert await store.async_register_buffer(start, len(memory)) == 0
        await one(0)
        before = threading.active_count()
        await asyncio.gather(*(one(number) for number in range(1, count)))
        assert threading.active_count() == before

    asyncio.run(work())


def test_what_overlaps(store: MooncakeDistributedStoreAsync) -> None:
    memory = ctypes.create_string_buffer(100)
    start = ctypes.addressof(memory)

    async def work() -> None:
        assert await store.async_register_buffer(start, 100) == 0
        assert await store.async_put_batch(["a", "b"], [b"a" * 10, b"b" * 10]) == 0
        assert await store.async_batch_get_into(["a", "b"], [start, start + 5], [10, 10]) == [10, 10]
        assert memory.raw[:15] == b"aaaaabbbbbbbbbb", "the last one stays"
        pieces = [[start, start + 2], [start + 50, start + 55]], [[5, 5], [5, 5]]
        assert await store.async_batch_get_into_multi_buffers(["a", "b"], *pieces) == [-600, 10]
        with pytest.raises(TypeError):
            await store.async_batch_get_into(["a"], [-1], [10])
        with pytest.raises(TypeError):
            await store.async_batch_put_from_multi_buffers(["a"], [[1 << 64]], [[10]])

    asyncio.run(work())


def test_large_copies_take_turns(store: MooncakeDistributedStoreAsync) -> None:
    size = 40 << 20
    memory = ctypes.create_string_buffer(size)
    start = ctypes.addressof(memory)
    ctypes.memset(start, 7, size)

    async def work() -> None:
        assert await store.async_register_buffer(start, size) == 0
        assert await store.async_put("small", b"v") == 0
        assert await store.async_batch_put_session_start(["large"], [size]) == [0]
        writing = asyncio.ensure_future(store.async_batch_put_from_multi_buffer_ranges(["large"], [[start]], [[size]], [[0]]))
        assert await store.async_get("small") == b"v"
        assert await writing == [size] and await store.async_batch_put_session_end(["large"]) == [0]
        ctypes.memset(start, 0, size)
        assert await store.async_get_into_ranges([start], [["large"]], [[[0, size - 1]]], [[[0, size - 1]]], [[[size - 1, 1]]]) == [[[size - 1, 1]]]
        assert memory.raw.count(7) == size

    asyncio.run(work())


def test_closed_while_ranges_are_copied(engine: Engine) -> None:
    size = 32 << 20
    memory = ctypes.create_string_buffer(size)
    start = ctypes.addressof(memory)

    async def work() -> None:
        store = MooncakeDistributedStoreAsync()
        assert await store.async_setup(settings_of(engine)) == 0 and await store.async_register_buffer(start, size) == 0
        assert await store.async_batch_put_session_start(["s"], [size]) == [0] and await store.async_put("k", b"0123456789") == 0
        asked: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(store.async_batch_put_from_multi_buffer_ranges(["s"], [[start]], [[size]], [[0]])) for _ in range(5)
        ]
        asked += [asyncio.ensure_future(store.async_get_into_ranges([start], [["k"]], [[[0]]], [[[0]]], [[[5]]])) for _ in range(5)]
        asked.append(asyncio.ensure_future(store.async_remove_by_regex("x")))
        await asyncio.sleep(0)
        assert await store.async_close() == 0
        answers = await asyncio.wait_for(asyncio.gather(*asked), 30)
        assert all(answer in ([size], [-600]) for answer in answers[:5])
        assert all(answer in ([[[5]]], [[[-600]]], [[[-704]]]) for answer in answers[5:10]) and answers[10] in (0, -600)

    asyncio.run(work())


def test_the_native_calls_refuse_what_does_not_fit(store: MooncakeDistributedStoreAsync) -> None:
    codes = store._verbs
    assert isinstance(codes, _snowskin.Codes)
    requests, verbs = _snowskin.CodeRequests(codes), LoopVerbs(codes)
    with pytest.raises(ValueError, match="as many"):
        requests.submit_copy([1], [1, 2], [1], None)
    with pytest.raises(ValueError, match="as many"):
        requests.submit_copy([1], [(1 << 64) - 1], [2], None)

    async def work() -> None:
        assert await verbs.intact([_snowskin.View()]) == [False], "a view without a value"
        assert await verbs.put_from(["a"], [], [], _snowskin.PutSettings()) == await verbs.get_to(["a"], [1, 2], [3]) == [-600]
        assert await verbs.put_values(["a"], [], _snowskin.PutSettings()) == [-600]
        verbs.close()
        assert await verbs.exist(["a"]) == [-600] and await verbs.get(["a"]) == [b""] and await verbs.view(["a"]) == [None]

    asyncio.run(work())
    requests.close()
    with pytest.raises(errors.ClosedError):
        requests.submit_exist(["a"])
