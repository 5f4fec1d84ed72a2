"""LMCache's connector, driven with the calls that LMCache makes; and by LMCache itself, where it is installed."""

from __future__ import annotations

import ctypes
import json
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Engine, value_of
from hosts import host_or_skip

from snowskin.connectors import lmcache
from snowskin.connectors.lmcache import Completion, Connector


def view_of(size: int, value: bytes = b"") -> memoryview:
    """A buffer as LMCache makes them: bytes of C, whose format is '<B'."""
    return memoryview((ctypes.c_ubyte * size).from_buffer(bytearray(value.ljust(size, b"\0"))))


def completions(connector: Connector, count: int = 1) -> list[Completion]:
    """As LMCache's demux thread waits for them."""
    bell = select.poll()
    done: list[Completion] = []
    bell.register(connector.event_fd(), select.POLLIN)
    while len(done) < count:
        assert bell.poll(20_000), "nothing came"
        done += connector.drain_completions()
    assert not bell.poll(0), "the bell rings on: LMCache would spin"
    return done


@pytest.fixture
def connector(engine: Engine) -> Iterator[Connector]:
    connector = Connector(seeds=engine.cores, local_sockets=str(engine.sockets))
    yield connector
    connector.close()


NAMES = ["meta-llama/L3@00000003@1@00ff", "meta-llama/L3@00000003@1@00fe@salt", "käse%@0@0@\0"]


@pytest.mark.parametrize("name", [*NAMES, "%00", "\ud800"])
def test_names_and_keys(name: str) -> None:
    key = lmcache.key_of("lmcache", name)
    assert b"\0" not in key and key.startswith(b"lmcache/")
    assert lmcache.name_of("lmcache", key) == name


def test_a_round(connector: Connector) -> None:
    sizes = [4096, 1 << 20, 777]
    values = [value_of(name, size) for name, size in zip(NAMES, sizes)]
    first = connector.submit_batch_exists(NAMES)
    assert completions(connector) == [(first, True, "", [False] * 3)]
    stored = connector.submit_batch_set(NAMES, [view_of(len(value), value) for value in values])
    assert completions(connector) == [(stored, True, "", None)]
    again = connector.submit_batch_set(NAMES[:1], [view_of(4096, b"another")])
    assert completions(connector) == [(again, True, "", None)]
    held = connector.submit_batch_exists([*NAMES, "no"])
    assert completions(connector) == [(held, True, "", [True, True, True, False])]
    rooms = [view_of(size) for size in sizes]
    read = connector.submit_batch_get([*NAMES, "no"], [*rooms, view_of(8)])
    assert completions(connector) == [(read, True, "", [True, True, True, False])]
    assert [bytes(room) for room in rooms] == values
    assert len({first, stored, again, held, read}) == 5


@pytest.mark.parametrize("size", [1, 4095, 4097, 8192])
def test_a_buffer_of_another_length_is_a_miss(connector: Connector, size: int) -> None:
    connector.submit_batch_set(["key", "other"], [view_of(4096, b"v"), view_of(64, b"w")])
    completions(connector)
    connector.submit_batch_get(["key", "other"], [view_of(size), view_of(64)])
    assert completions(connector)[0][1:] == (True, "", [False, True])


def test_deleting(connector: Connector, engine: Engine) -> None:
    connector.submit_batch_set(["a"], [view_of(64, b"v")])
    completions(connector)
    number = connector.submit_batch_delete(["a", "never"])
    assert completions(connector) == [(number, True, "", [True, True])]
    connector.submit_batch_set(["a"], [view_of(64, b"v")])
    completions(connector)
    connector.submit_batch_exists(["a"])
    completions(connector)
    number = connector.submit_batch_delete(["a"])
    assert completions(connector) == [(number, True, "", [False])], "somebody has just asked for it"


def test_calls_that_cannot_be_made_have_the_words_of_lmcache(connector: Connector) -> None:
    with pytest.raises(RuntimeError, match="keys list is empty"):
        connector.submit_batch_exists([])
    with pytest.raises(RuntimeError, match="size mismatch"):
        connector.submit_batch_set(["a"], [])


def test_keys_that_cannot_be(connector: Connector) -> None:
    number = connector.submit_batch_set(["x" * 5000, "fine"], [view_of(8), view_of(8)])
    (done,) = completions(connector)
    assert done[:2] == (number, False) and "4096" in done[2]
    connector.submit_batch_exists(["x" * 5000, "fine"])
    assert completions(connector)[0][1:] == (True, "", [False, True])


def test_buffers_that_cannot_be(connector: Connector) -> None:
    connector.submit_batch_get(["a"], [memoryview(b"read only")])
    assert completions(connector)[0][1:] == (True, "", [False])
    room = bytearray(8)
    connector.submit_batch_get(["a", "b"], [memoryview(room), memoryview(room)])
    assert completions(connector)[0][1:] == (True, "", [False, False])


def test_many_threads(connector: Connector) -> None:
    """Controllers submit, one thread drains: each number comes once, with its own answer."""
    submitted: dict[int, tuple[str, Any]] = {}
    lock, done = threading.Lock(), []

    def work(number: int) -> None:
        for turn in range(30):
            key, size = f"{number}-{turn % 7}", 1000 * (turn % 7 + 1)
            stored = connector.submit_batch_set([key], [view_of(size, value_of(key, size))])
            room = view_of(size)
            read = connector.submit_batch_get([key, "never"], [room, view_of(1)])
            with lock:
                submitted[stored], submitted[read] = ("set", None), (key, room)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    done += completions(connector, 6 * 30 * 2)
    for thread in threads:
        thread.join()
    assert sorted(number for number, *_ in done) == sorted(submitted)
    for number, is_well, _, hits in done:
        key, room = submitted[number]
        assert is_well and (hits is None) == (key == "set")
        if hits and hits[0]:
            assert bytes(room) == value_of(key, len(room))


def test_an_engine_that_is_killed(own_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine = own_engine
    connector = Connector(seeds=engine.cores, local_sockets=str(engine.sockets), deadline=1.0)
    connector.submit_batch_set(["a"], [view_of(64, b"v")])
    assert completions(connector)[0][1]
    engine.process.kill()
    engine.process.wait()
    begin = time.monotonic()
    connector.submit_batch_get(["a"], [view_of(64)])
    assert completions(connector)[0][1:] == (True, "", [False])
    assert not connector.is_answered()
    for _ in range(50):
        connector.submit_batch_exists(["a"])
        connector.submit_batch_set(["a"], [view_of(64)])
    rest = completions(connector, 100)
    assert {(done[1], done[3] and done[3][0]) for done in rest} == {(True, False), (False, None)}
    assert time.monotonic() - begin < 3.0
    assert len([record for record in caplog.records if record.name == lmcache.__name__]) == 1
    connector.close()


def test_closing_while_calls_are_under_way(engine: Engine) -> None:
    connector = Connector(seeds=engine.cores, local_sockets=str(engine.sockets))
    fd = connector.event_fd()
    assert os.get_blocking(fd) is False
    rooms = [view_of(1 << 20) for _ in range(32)]
    connector.submit_batch_set([f"k{n}" for n in range(32)], rooms)
    connector.submit_batch_get([f"k{n}" for n in range(32)], rooms)
    begin = time.monotonic()
    connector.close()
    connector.close()
    assert time.monotonic() - begin < 6.0
    assert connector.event_fd() == -1 and connector.drain_completions() == []
    with pytest.raises(RuntimeError, match="closed"):
        connector.submit_batch_exists(["k0"])


def test_settings_are_looked_at() -> None:
    with pytest.raises(ValueError, match="LMCache's adapter_params: Snowskin has no setting 'capacity'"):
        Connector(seeds="127.0.0.1:1", capacity=1)


def test_an_embedded_engine() -> None:
    connector = Connector(embedded_memory="64MB", namespace="mine")
    connector.submit_batch_set(["a"], [view_of(64, b"v")])
    assert completions(connector)[0][1]
    connector.close()


def test_lmcache_itself(engine: Engine) -> None:
    host_or_skip("lmcache", "SNOWSKIN_LMCACHE_PYTHON").run(
        "lmcache_l2.py", json.dumps({"seeds": engine.cores, "local_sockets": str(engine.sockets)})
    )
