"""Objects that several engines have: puts that ask for replicas, copies, moves, and what is left when an engine goes."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import binary, value_of

import snowskin
from snowskin import Miss, TaskState, errors

#: More than it takes to declare an engine dead (10 s), with everything that follows.
LOST_SECONDS = 40.0


class Pair:
    """Two engines in this process, a store, and the names of their cores."""

    def __init__(self, one: snowskin.Engine, two: snowskin.Engine, store: snowskin.Store) -> None:
        self.one, self.two, self.store = one, two, store
        names = {core["address"]: core["core"] for core in store.stats()["cores"]}
        self.names = names[one.cores[0]], names[two.cores[0]]

    def key_at(self, name: str) -> str:
        """A key whose object lies at that core alone."""
        for number in range(64):
            key = f"at {name}, try {number}"
            assert self.store.put(key, value_of(key, 5_000)) is True
            if self.store.holders(key) == (5_000, [name]):
                return key
        raise AssertionError(f"no key of 64 lies at {name}")

    def end_of(self, task: object) -> snowskin.TaskInfo:
        assert isinstance(task, snowskin.Task), task
        until(lambda: self.store.task(task).state is not TaskState.RUNNING)
        info = self.store.task(task)
        assert info is not None
        return info


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never holds"
        time.sleep(0.05)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with snowskin.Engine(memory="64MB") as one, snowskin.Engine(memory="64MB", master=one.master) as two:
        with snowskin.Store(one.cores) as store:
            until(lambda: len(store.stats()["cores"]) == 2)
            yield Pair(one, two, store)


def test_a_put_makes_as_many_replicas_as_there_can_be(pair: Pair) -> None:
    keys = [f"replicas {number}" for number in range(30)]
    values = [value_of(key, 10_000) for key in keys]
    assert pair.store.put(keys, values, replicas=2) == [True] * 30
    held = pair.store.holders(keys)
    assert all(size == 10_000 and sorted(cores) == sorted(pair.names) for size, cores in held)
    assert pair.store.get(keys) == values
    assert pair.store.put("more", b"value", replicas=16) is True
    assert len(pair.store.holders("more").cores) == 2, "there are no more engines"
    assert pair.store.put("one", b"value", replicas=1) is True
    assert len(pair.store.holders("one").cores) == 1
    assert pair.store.put("one", b"other", replace=True, replicas=2) is True
    assert pair.store.holders("one").value_bytes == 5 and len(pair.store.holders("one").cores) == 2
    assert pair.store.holders(["one", "never"])[1] is Miss.NOT_HELD
    for wrong in (0, 17, -1):
        with pytest.raises(ValueError, match=f"1 to 16, not {wrong}"):
            pair.store.put("other", b"value", replicas=wrong)
    assert pair.store.exists("other") is False


def test_objects_are_copied_and_moved_and_given_up(pair: Pair) -> None:
    here, there = pair.names
    key = pair.key_at(here)
    value = value_of(key, 5_000)
    began = time.time()
    done = pair.end_of(pair.store.copy(key, there))
    assert (done.state, done.is_move) == (TaskState.DONE, False)
    assert began - 1 < done.created <= done.updated < time.time() + 1
    assert sorted(pair.store.holders(key).cores) == sorted(pair.names)
    assert pair.store.give_up(key, here) is True and pair.store.holders(key).cores == [there]
    assert pair.store.give_up(key, there) is False, "nobody else has it"
    assert pair.store.give_up(key, here) is False, "it has given it up already"
    assert pair.store.get(key) == value
    moved = pair.end_of(pair.store.move(key, there, pair.one.cores[0]))
    assert (moved.state, moved.is_move) == (TaskState.DONE, True)
    assert pair.store.holders(key).cores == [here] and pair.store.get(key) == value


def test_tasks_that_cannot_be(pair: Pair) -> None:
    here, there = pair.names
    key = pair.key_at(here)
    store = pair.store
    assert store.copy("never", [there]) is store.move("never", here, there) is store.give_up("never", here) is Miss.NOT_HELD
    for ask in (lambda: store.copy(key, "nowhere/0"), lambda: store.move(key, "nowhere/0", there), lambda: store.give_up(key, "nowhere/0")):
        with pytest.raises(errors.NoSuchCoreError, match='"nowhere/0" is no core of this cluster'):
            ask()
    with pytest.raises(errors.RefusedError, match="does not have it"):
        store.move(key, there, here)
    with pytest.raises(errors.RefusedError, match="to where it comes from"):
        store.move(key, here, here)
    with pytest.raises(errors.RefusedError, match="name a core at least"):
        store.copy(key, [])
    with pytest.raises(TypeError, match="cores are a str, or a list"):
        store.copy(key, 5)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidKeyError):
        store.copy("", there)
    assert store.task(snowskin.Task(here, 10**6)) is None, "no such task"
    assert store.task(("nowhere/0", 1)) is None, "its core is gone"
    store.close()
    with pytest.raises(errors.ClosedError):
        store.holders(key)


def test_a_copy_for_which_there_is_no_room_fails_with_a_sentence(pair: Pair) -> None:
    here, there = pair.names
    key = pair.key_at(here)
    assert pair.store.put(key, bytes(5 << 20), replace=True, hard_pin=True) is True
    # What is not evicted leaves no gap that is large enough.
    refused = 0
    for number in range(200):
        try:
            pair.store.put(f"filler {number}", bytes(4 << 20), hard_pin=True)
        except errors.NoSpaceError:
            refused += 1
    free = {core["core"]: core["free_bytes"] for core in pair.store.stats()["cores"]}
    assert refused and free[there] < 5 << 20, free
    failed = pair.end_of(pair.store.copy(key, there))
    assert failed.state is TaskState.FAILED and "no room" in failed.message


def test_the_same_without_waiting(pair: Pair) -> None:
    here, there = pair.names
    key = pair.key_at(here)

    async def end_of(store: snowskin.AsyncStore, task: object) -> TaskState:
        assert isinstance(task, snowskin.Task)
        for _ in range(400):
            info = await store.task(task)
            assert info is not None
            if info.state is not TaskState.RUNNING:
                break
            await asyncio.sleep(0.05)
        return info.state

    async def work() -> None:
        store = snowskin.AsyncStore.beside(pair.store)
        assert await store.put(["a", "b"], [b"1", b"22"], replicas=2) == [True, True]
        held = await store.holders(["a", "b", "never"])
        assert [len(found.cores) for found in held[:2]] == [2, 2] and held[2] is Miss.NOT_HELD
        assert await end_of(store, await store.copy(key, [there])) is TaskState.DONE
        assert len((await store.holders(key)).cores) == 2
        assert await store.give_up(key, there) is True
        assert await end_of(store, await store.move(key, here, there)) is TaskState.DONE
        assert (await store.holders(key)).cores == [there]
        assert await store.task((there, 10**6)) is None
        with pytest.raises(errors.NoSuchCoreError):
            await store.copy(key, "nowhere/0")
        with pytest.raises(ValueError, match="1 to 16"):
            await store.put("c", b"3", replicas=17)
        store.close()

    asyncio.run(work())


@pytest.mark.parametrize("first", [True, False], ids=["the one with the master", "the other one"])
def test_no_key_is_lost_with_an_engine_that_ends(pair: Pair, first: bool) -> None:
    keys = [f"kept {number}" for number in range(100)]
    values = [value_of(key, 3_000) for key in keys]
    assert pair.store.put(keys, values, replicas=2) == [True] * 100
    gone, left = (pair.one, pair.two) if first else (pair.two, pair.one)
    gone.close()
    with snowskin.Store(left.cores) as store:
        until(lambda: len(store.stats()["cores"]) == 1)
        assert store.get(keys) == values
        assert {len(found.cores) for found in store.holders(keys)} == {1}


def test_no_key_is_lost_with_a_process_that_dies(pair: Pair) -> None:
    command = [binary("snowskin-engine"), "--listen", "127.0.0.1:0", "--cores", "1", "--memory", "64MB"]
    command += ["--master", pair.one.master, "--local-sockets", "off"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    store = pair.store
    try:
        assert other.stdout is not None and "is ready" in other.stdout.readline()
        until(lambda: len(store.stats()["cores"]) == 3)
        keys = [f"survives {number}" for number in range(150)]
        values = [value_of(key, 3_000) for key in keys]
        assert store.put(keys, values, replicas=2) == [True] * 150
        held = store.holders(keys)
        assert 0 < sum(not set(found.cores) <= set(pair.names) for found in held) < 150, "the process has some"
        alone = [f"alone {number}" for number in range(150)]
        assert store.put(alone, values) == [True] * 150
        other.kill()
        until(lambda: len(store.stats()["cores"]) == 2, LOST_SECONDS)
        assert store.get(keys, deadline=LOST_SECONDS) == values
        assert all(set(found.cores) <= set(pair.names) for found in store.holders(keys))
        assert 0 < sum(bool(found) for found in store.get(alone)) < 150, "what it alone had is lost"
    finally:
        other.kill()
        other.communicate(timeout=20)
