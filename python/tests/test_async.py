"""The asynchronous store against a real engine."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from conftest import Engine, value_of

import snowskin
from snowskin import BatchError, Miss, Removal, errors


@pytest.fixture(params=["shm", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def store_of(engine: Engine, **settings: object) -> snowskin.AsyncStore:
    return snowskin.AsyncStore(engine.cores, local_sockets=str(engine.sockets), **settings)


def test_the_verbs(engine: Engine, transport: str) -> None:
    async def work() -> None:
        async with store_of(engine, transport=transport) as store:
            keys = [f"verb {number}" for number in range(20)]
            values = [value_of(key, 1 + 5_000 * number) for number, key in enumerate(keys)]
            assert await store.put(keys, values) == [True] * 20
            assert await store.put(keys[0], b"other") is False
            assert await store.get(keys) == values
            assert await store.get("never") is Miss.NOT_HELD
            assert [bytes(view) for view in await store.view(keys)] == values
            assert await store.lookup(keys[1]) == 5_001
            assert await store.exists([keys[0], "never"]) == [True, False]
            assert await store.match_prefix([*keys[:3], "never"]) == 3
            rooms = [bytearray(len(value) + 1) for value in values]
            assert await store.get_into(keys, rooms) == [len(value) for value in values]
            assert [bytes(room[:-1]) for room in rooms] == values
            assert await store.remove(keys[0], force=True) is Removal.REMOVED
            assert (await store.remove_matching("verb 1", force=True)).removed == 11
            assert (await store.remove_all(force=True)).removed == 8
            await store.put("listed", b"value")
            assert await store.list_keys("^list") == [(b"listed", 5)]
            assert (await store.stats())["client"]["frames_sent"] > 0

    asyncio.run(work())


def test_many_at_once(engine: Engine, transport: str) -> None:
    async def one(store: snowskin.AsyncStore, number: int) -> None:
        key = f"at once {number}"
        value = value_of(key, 100 + 331 * number % 20_000)
        await store.put(key, value)
        assert await store.get(key) == value
        room = bytearray(len(value))
        assert await store.get_into(key, room) == len(value) and room == value

    async def work() -> None:
        async with store_of(engine, transport=transport) as store:
            await asyncio.gather(*(one(store, number) for number in range(300)))

    asyncio.run(work())


def test_no_thread_of_pythons(engine: Engine) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    async def work() -> None:
        before = threads()
        async with store_of(engine) as store:
            await asyncio.gather(*(store.put(f"thread {number}", b"value") for number in range(50)))
            assert threading.active_count() == 1 and threads() <= before + 1

    asyncio.run(work())


def test_errors_are_those_of_the_blocking_store(engine: Engine) -> None:
    async def work() -> None:
        async with store_of(engine) as store:
            with pytest.raises(errors.InvalidKeyError):
                await store.put("", b"value")
            with pytest.raises(BatchError) as caught:
                await store.put(["one", ""], [b"1", b"2"])
            assert caught.value.outcomes[0] is True
            with pytest.raises(TypeError):
                await store.put(3, b"value")
            with pytest.raises(ValueError, match="above 0"):
                await store.get("one", deadline=0)
            with pytest.raises(errors.BufferTooSmallError):
                await store.put("long", b"value" * 9)
                await store.get_into("long", bytearray(3))
        with pytest.raises(errors.ClosedError):
            await store.get("one")
        with pytest.raises(TypeError, match="there is no setting \"tennant\""):
            await store_of(engine, tennant="x").connect()
        with pytest.raises(errors.UnreachableError):
            await snowskin.AsyncStore("127.0.0.1:1", deadline=2.0).connect()

    asyncio.run(work())


def test_who_is_cancelled_gives_its_buffers_back_later(engine: Engine) -> None:
    async def work() -> None:
        async with store_of(engine, transport="tcp") as store:
            value = value_of("cancelled", 8 << 20)
            await store.put("cancelled", value)
            room = bytearray(len(value))
            reading = asyncio.ensure_future(store.get_into("cancelled", room))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            # The room is lent as long as something may write into it, so it cannot be resized; then it can be.
            for _ in range(500):
                try:
                    room.append(0)
                    break
                except BufferError:
                    await asyncio.sleep(0.01)
            else:
                raise AssertionError("the buffer was never given back")
            assert await store.get("cancelled") == value

    asyncio.run(work())


def test_closing_ends_who_waits(engine: Engine) -> None:
    async def work() -> None:
        store = await store_of(engine, transport="tcp").connect()
        await store.put("closing", value_of("closing", 16 << 20))
        reading = [asyncio.ensure_future(store.get("closing")) for _ in range(5)]
        await asyncio.sleep(0)
        store.close()
        store.close()
        ended = await asyncio.gather(*reading, return_exceptions=True)
        assert all(isinstance(answer, errors.ClosedError) for answer in ended), ended

    asyncio.run(work())


def test_a_store_belongs_to_one_loop(engine: Engine) -> None:
    store = store_of(engine)
    asyncio.run(store.connect())

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await store.get("key")

    asyncio.run(elsewhere())
    store.close()


def test_beside_a_blocking_store(engine: Engine) -> None:
    with engine.store() as blocking:
        blocking.put("beside", b"value")

        async def work() -> None:
            async with snowskin.AsyncStore.beside(blocking) as store:
                assert await store.get("beside") == b"value"

        asyncio.run(work())
        assert blocking.get("beside") == b"value"
