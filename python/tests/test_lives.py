"""Stores in processes that fork, have many threads, are interrupted, or end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Engine, value_of

import snowskin
from snowskin import errors

HERE = str(Path(__file__).parent)


def run(engine: Engine, script: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, which finds `cores` and `sockets`."""
    head = f"import sys; sys.path.insert(0, {HERE!r})\nimport snowskin\n"
    head += f"cores, sockets = {engine.cores!r}, {str(engine.sockets)!r}\n"
    command = [sys.executable, "-X", "faulthandler", "-c", head + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def test_threads_share_a_store(store: snowskin.Store) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for round in range(40):
            key = f"thread {number} {round % 5}"
            value = value_of(key, 1 + 777 * (number + 1) * (round % 5))
            store.put(key, value)
            if store.get(key) != value:
                wrong.append(key)
            room = bytearray(len(value))
            if store.get_into([key, "never"], [room, bytearray(1)])[0] != len(value) or room != value:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong


def test_closing_while_others_read(engine: Engine) -> None:
    store = engine.store()
    store.put("key", value_of("key", 1 << 20))
    ended: list[BaseException] = []

    def read() -> None:
        try:
            while True:
                store.get("key")
        except errors.ClosedError as error:
            ended.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    store.close()
    for thread in threads:
        thread.join(30)
    assert len(ended) == 4


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_a_forked_process_makes_a_store_of_its_own(engine: Engine, transport: str) -> None:
    script = f"""
import os, gc
from conftest import value_of
store = snowskin.Store(cores, local_sockets=sockets, transport={transport!r})
value = value_of("forked", 500_000)
store.put("forked", value)
view = store.view("forked")
child = os.fork()
if child == 0:
    try:
        store.get("forked")
        os._exit(1)
    except snowskin.errors.ForkedError as error:
        assert "make one here" in str(error)
    mine = snowskin.Store(cores, local_sockets=sockets, transport={transport!r})
    assert mine.get("forked") == value
    try:
        store.get("forked")
        os._exit(2)
    except snowskin.errors.ForkedError:
        pass
    del view, store
    gc.collect()
    mine.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert view == value and store.get("forked") == value
print("well")
"""
    done = run(engine, script)
    assert done.stdout == "well\n" and done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", ["", "store.close()", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "1 / 0"])
def test_an_interpreter_ends_with_a_live_store(engine: Engine, end: str) -> None:
    script = f"""
import asyncio, threading
store = snowskin.Store(cores, local_sockets=sockets)
store.put("end", b"value" * 100_000)
view = store.view("end")
beside = snowskin.AsyncStore.beside(store)
asyncio.run(beside.get("end"))
thread = threading.Thread(target=lambda: [store.get("end") for _ in range(10**9)], daemon=True)
thread.start()
print("here", flush=True)
{end}
"""
    done = run(engine, script)
    expected = {"": 0, "store.close()": 0, "1 / 0": 1}.get(end, -signal.SIGTERM)
    assert done.stdout == "here\n" and done.returncode == expected, done.stderr
    assert "Fatal" not in done.stderr and "panicked" not in done.stderr, done.stderr


def test_an_interrupt_ends_a_long_batch(engine: Engine) -> None:
    script = """
import os, signal, threading, time
# Whoever started the tests may ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
store = snowskin.Store(cores, local_sockets=sockets, transport="tcp", deadline=60.0)
value = bytes(range(256)) * 4096
store.put("long", value)
room = [bytearray(len(value)) for _ in range(4_000)]
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begun = time.monotonic()
try:
    for _ in range(1000):
        store.get_into(["long"] * 4_000, room)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begun < 20.0, store.get("long") == value)
"""
    done = run(engine, script)
    assert done.stdout == "interrupted True True\n", done.stderr


def test_a_silent_engine_does_not_hang_anybody() -> None:
    engine = Engine("--memory", "64MB")
    try:
        with engine.store(deadline=1.0) as store:
            store.put("key", b"value")
            engine.freeze()
            begun = time.monotonic()
            with pytest.raises(errors.SnowskinError) as caught:
                store.put("other", b"value")
            assert time.monotonic() - begun < 5.0
            assert isinstance(caught.value, TimeoutError) and caught.value.code == -901
            engine.thaw()
            assert store.get("key") == b"value"
    finally:
        engine.thaw()
        engine.stop()


def test_an_engine_that_is_gone() -> None:
    engine = Engine("--memory", "64MB")
    store = engine.store(deadline=2.0)
    store.put("key", b"value" * 50_000)
    view = store.view("key")
    engine.stop()
    with pytest.raises(errors.SnowskinError):
        store.get("key")
    assert bytes(view) == b"value" * 50_000, "what was read where it lies stays readable"
    store.close()
    with pytest.raises(errors.ClosedError, match="make another one"):
        store.get("key")
    with pytest.raises(errors.UnreachableError, match="is the engine running there"):
        snowskin.Store(engine.cores, deadline=1.0)


@pytest.mark.parametrize(
    ("seeds", "settings", "error", "words"),
    [
        ("", {}, ValueError, "no address"),
        ([], {}, ValueError, "no seeds"),
        ("nonsense", {}, ValueError, "no address such as"),
        (17, {}, TypeError, "host:port"),
        ("127.0.0.1:1", {"transport": "rdma"}, ValueError, "use auto, shm or tcp"),
        ("127.0.0.1:1", {"deadline": -1.0}, ValueError, "above 0"),
        ("127.0.0.1:1", {"spin": -1.0}, ValueError, "seconds"),
        ("127.0.0.1:1", {"memory": 1}, TypeError, 'there is no setting "memory"'),
    ],
)
def test_wrong_settings(seeds: object, settings: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        snowskin.Store(seeds, **settings)


def test_a_store_is_not_pickled(store: snowskin.Store) -> None:
    import pickle

    with pytest.raises(TypeError, match="one in each process"):
        pickle.dumps(store)
    again = pickle.loads(pickle.dumps(snowskin.BatchError("words", [errors.DeadlineError("late")])))
    assert isinstance(again.outcomes[0], errors.DeadlineError)
