"""vLLM's tier, driven with the calls that vLLM makes, over a stand-in for its classes; and by vLLM itself, where it is installed."""

from __future__ import annotations

import enum
import json
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest
from conftest import Engine, value_of
from hosts import host_or_skip

import snowskin
from snowskin.connectors import vllm
from snowskin.connectors.vllm import Lookups, SnowskinTier

CHUNK = 4096


class LookupResult(enum.Enum):
    MISS = 1
    HIT = 2
    RETRY = 3


@dataclass
class JobResult:
    job_id: int
    success: bool
    successful_keys: Optional[list[bytes]] = None
    transfer_time: Optional[float] = None
    transfer_bytes: Optional[int] = None


class Bare:
    """What the tier inherits, where vLLM is not installed."""

    def __init__(self, *_: Any) -> None: ...


def tier_of(view: memoryview, **settings: Any) -> Any:
    """A tier, as vLLM makes them."""
    kind = SnowskinTier if vllm._Host is not object else type("SnowskinTier", (SnowskinTier, Bare), {})
    return kind(
        offloading_spec=None, primary_kv_view=view, tier_type="SnowskinTier", **{"namespace": "test", **settings}
    )


@pytest.fixture(autouse=True)
def _classes(monkeypatch: pytest.MonkeyPatch) -> None:
    base: Any = types.ModuleType(vllm._BASE)
    base.JobResult, base.LookupResult, base.RequestOffloadingContext = JobResult, LookupResult, SimpleNamespace
    monkeypatch.setitem(sys.modules, vllm._BASE, base)


@dataclass
class Memory:
    """vLLM's host memory: chunks in rows."""

    rows: np.ndarray[Any, Any]

    @property
    def view(self) -> memoryview:
        return memoryview(self.rows)


@pytest.fixture
def memory() -> Memory:
    return Memory(np.zeros((16, CHUNK), dtype=np.int8))


@pytest.fixture
def tier(engine: Engine, memory: Memory) -> Iterator[Any]:
    tier = tier_of(memory.view, seeds=engine.cores, local_sockets=str(engine.sockets))
    yield tier
    tier.shutdown()


def request_of(name: str) -> Any:
    return SimpleNamespace(req_id=name)


def keys_of(*numbers: int) -> list[bytes]:
    return [bytes([number, 0]) * 16 + bytes(4) for number in numbers]


def job(number: int, keys: list[bytes], chunks: list[int]) -> Any:
    return SimpleNamespace(job_id=number, keys=keys, chunk_ids=np.array(chunks, dtype=np.int32))


def fill(memory: Memory, chunk: int, name: str) -> None:
    memory.rows[chunk] = np.frombuffer(value_of(name, CHUNK), dtype=np.int8)


def verdicts(tier: Any, keys: list[bytes], request: str = "r") -> list[str]:
    """What vLLM's scheduler sees, after as many steps as it takes."""
    end = time.monotonic() + 10
    while True:
        results = [tier.lookup(key, request_of(request)).name for key in keys]
        if "RETRY" not in results or time.monotonic() > end:
            return results
        tier.on_schedule_end(None)


def finished(tier: Any, count: int) -> dict[int, JobResult]:
    results: dict[int, JobResult] = {}
    end = time.monotonic() + 10
    while len(results) < count and time.monotonic() < end:
        for result in tier.get_finished_jobs():
            assert result.job_id not in results, "each job once"
            results[result.job_id] = result
    assert len(results) == count
    return results


def test_a_round(tier: Any, memory: Memory) -> None:
    keys = keys_of(1, 2, 3)
    assert verdicts(tier, keys) == ["MISS"] * 3
    for chunk, name in enumerate(["one", "two"]):
        fill(memory, chunk, name)
    tier.submit_store(job(7, keys[:2], [0, 1]))
    assert tier.has_pending_work()
    stored = finished(tier, 1)[7]
    assert (stored.success, stored.transfer_bytes, stored.successful_keys) == (True, 2 * CHUNK, None)
    assert not tier.has_pending_work()
    tier.on_request_finished(request_of("r"))
    assert verdicts(tier, keys, "later") == ["HIT", "HIT", "MISS"]
    tier.submit_load(job(8, keys[:2], [9, 12]))
    loaded = finished(tier, 1)[8]
    assert loaded.success and loaded.successful_keys == keys[:2]
    assert memory.rows[9].tobytes() == value_of("one", CHUNK) and memory.rows[12].tobytes() == value_of("two", CHUNK)
    tier.submit_store(job(9, keys, [0, 1, 2]))
    assert finished(tier, 1)[9].success, "some of them were held already"


def test_chunks_have_as_many_replicas_as_the_setting_says(memory: Memory) -> None:
    with snowskin.Engine(memory="64MB") as one, snowskin.Engine(memory="64MB", master=one.master) as two:
        tier = tier_of(memory.view, seeds=one.cores, replicas=2)
        tier.submit_store(job(7, keys_of(1, 2), [0, 1]))
        assert finished(tier, 1)[7].success
        with snowskin.Store(two.cores) as store:
            listed = [key for key, _ in store.list_keys()]
            assert [len(found.cores) for found in store.holders(listed)] == [2, 2]
        tier.shutdown()


def test_a_load_of_which_some_are_gone(tier: Any, memory: Memory, engine: Engine) -> None:
    keys = keys_of(1, 2, 3)
    tier.submit_store(job(1, keys, [0, 1, 2]))
    finished(tier, 1)
    assert verdicts(tier, keys) == ["HIT"] * 3
    with engine.store() as store:
        store.remove(b"test/" + keys[1].hex().encode(), force=True)
    tier.submit_load(job(2, keys, [3, 4, 5]))
    loaded = finished(tier, 1)[2]
    assert not loaded.success and loaded.successful_keys == [keys[0], keys[2]]
    assert verdicts(tier, keys) == ["HIT", "MISS", "HIT"], "or the scheduler would try for ever"


def test_a_value_of_another_length_is_a_miss(tier: Any, engine: Engine) -> None:
    keys = keys_of(1, 2)
    with engine.store() as store:
        store.put([b"test/" + key.hex().encode() for key in keys], [bytes(CHUNK + 1), bytes(CHUNK - 1)])
    tier.submit_load(job(1, keys, [0, 1]))
    loaded = finished(tier, 1)[1]
    assert not loaded.success and loaded.successful_keys == []


def test_an_engine_that_is_killed(own_engine: Engine, memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    engine = own_engine
    tier = tier_of(memory.view, seeds=engine.cores, local_sockets=str(engine.sockets), deadline=1.0)
    keys = keys_of(1, 2)
    tier.submit_store(job(1, keys, [0, 1]))
    finished(tier, 1)
    assert verdicts(tier, keys) == ["HIT", "HIT"]
    engine.process.kill()
    engine.process.wait()
    begin = time.monotonic()
    tier.submit_load(job(2, keys, [2, 3]))
    assert not finished(tier, 1)[2].success
    tier.submit_store(job(3, keys_of(4), [4]))
    assert not finished(tier, 1)[3].success
    assert verdicts(tier, keys_of(5, 6), "other") == ["MISS", "MISS"]
    tier.drain_jobs()
    tier.shutdown()
    assert time.monotonic() - begin < 3.0
    assert len([record for record in caplog.records if record.name == vllm.__name__]) == 1


def test_draining_and_ending_while_jobs_are_under_way(engine: Engine, memory: Memory) -> None:
    tier = tier_of(memory.view, seeds=engine.cores, local_sockets=str(engine.sockets))
    for number in range(40):
        tier.submit_store(job(number, keys_of(number), [number % 16]))
    tier.drain_jobs()
    assert sorted(result.job_id for result in tier.get_finished_jobs()) == list(range(40))
    for number in range(40):
        tier.submit_load(job(number, keys_of(number), [number % 16]))
    tier.shutdown()
    tier.shutdown()
    assert {result.job_id for result in tier.get_finished_jobs()} == set(range(40))


def test_lookups_are_forgotten_with_the_requests_that_want_them() -> None:
    lookups = Lookups()
    assert lookups.verdict(b"a", "one") is None and lookups.verdict(b"a", "two") is None
    assert lookups.batch() == [b"a"] and lookups.batch() == []
    lookups.forget("one")
    lookups.forget("two")
    assert lookups.verdict(b"a", "three") is None and lookups.batch() == [], "it is being asked about"
    lookups.answer([b"a"], [True])
    assert lookups.verdict(b"a", "three") is True
    lookups.deny([b"a", b"never asked"])
    assert lookups.verdict(b"a", "three") is False
    lookups.forget("three")
    assert not lookups._verdicts and not lookups._wanted_by and not lookups._of_request
    assert lookups.verdict(b"a", "four") is None and lookups.batch() == [b"a"]


def test_settings_are_looked_at(memory: Memory) -> None:
    with pytest.raises(ValueError, match="vLLM's secondary_tiers: Snowskin has no setting 'io_threads'"):
        tier_of(memory.view, seeds="127.0.0.1:1", io_threads=4)


def test_vllm_itself(engine: Engine) -> None:
    host_or_skip("vllm", "SNOWSKIN_VLLM_PYTHON").run(
        "vllm_tier.py", json.dumps({"seeds": engine.cores, "local_sockets": str(engine.sockets)})
    )
