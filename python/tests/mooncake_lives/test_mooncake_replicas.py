"""Stores that have objects together: names of segments, replicas when a store leaves, tasks that fail."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from masters import MB, Master, until

from snowskin.mooncake.store import MooncakeDistributedStore, ReplicateConfig, TaskStatus


@pytest.fixture
def master() -> Iterator[Master]:
    master = Master()
    yield master
    master.stop()


def test_names_of_segments(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    one, two = master.store(local_hostname=f"localhost:{port}"), master.store(local_hostname=f"localhost:{port}")
    client = master.store(global_segment_size=0)
    assert one.get_hostname() == two.get_hostname() == f"localhost:{port}"
    (own,) = {address for _, address in client._verbs.cores()} - {f"127.0.0.1:{port}"}  # type: ignore[union-attr]
    assert client.put("a", b"value", replicas(2)) == 0 and len(client.get_replica_desc("a")) == 2
    time.sleep(0.8)
    assert client.batch_replica_clear(["a"], client.get_hostname()) == [], "a store that lends nothing is no segment"
    assert client.batch_replica_clear(["a"], f"localhost:{port}") == ["a"], "the first one listens there"
    assert endpoints(client, "a") == [own]
    assert ended(client, two.create_copy_task("a", [f"127.0.0.1:{port}"])) == "done"
    assert sorted(endpoints(client, "a")) == sorted([own, f"127.0.0.1:{port}"])
    time.sleep(0.8)
    assert two.batch_replica_clear(["a"], two.get_hostname()) == ["a"], "by its own name a store is itself"
    assert endpoints(client, "a") == [f"127.0.0.1:{port}"]
    for name in ("nosuch", ":1", "h:port", "no.such.host.invalid:1", "localhost:70000", f"[::1]:{port}"):
        assert client.create_copy_task("a", [name]) == client.create_move_task("a", name, own) == ((0, 0), -600), name
        assert client.create_copy_task("no", [name]) == ((0, 0), -704)
        assert client.batch_replica_clear(["a"], name) == [], name
    for store in (client, two, one):
        assert store.close() == 0
    assert one.create_copy_task("a", [own]) == ((0, 0), -600) and one.query_task((1, 1)) == (None, -600)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def replicas(number: int) -> ReplicateConfig:
    config = ReplicateConfig()
    config.replica_num = number
    return config


def endpoints(store: MooncakeDistributedStore, key: str) -> list[str]:
    return [found.get_memory_descriptor().buffer_descriptor.transport_endpoint for found in store.get_replica_desc(key)]


def ended(store: MooncakeDistributedStore, begun: tuple[tuple[int, int], int]) -> str:
    """What came of a task."""
    task, code = begun
    assert code == 0
    until(lambda: store.query_task(task)[0].status in (TaskStatus.SUCCESS, TaskStatus.FAILED))  # type: ignore[union-attr]
    found, code = store.query_task(task)
    assert found is not None and code == 0 and found.assigned_client[0] == task[0]
    return found.message


def test_what_was_put_twice_outlives_a_lender(master: Master) -> None:
    one, two, client = master.store(), master.store(), master.store(global_segment_size=0)
    keys = [f"k{number}" for number in range(60)]
    assert client.put_batch(keys, [key.encode() * 100 for key in keys], replicas(2)) == 0
    assert one.close() == 0
    assert client.get_batch(keys) == [key.encode() * 100 for key in keys]
    until(lambda: {len(found) for found in client.batch_get_replica_desc(keys).values()} == {1})
    assert two.close() == client.close() == 0


def test_a_copy_without_room_fails(master: Master) -> None:
    one, two = master.store(), master.store()
    hard = replicas(1)
    hard.with_hard_pin = True
    assert one.put("a", bytes(5 * MB), hard) == 0
    codes = {one.put(f"filler {number}", bytes(4 * MB), hard) for number in range(60)}
    assert codes == {0, -200}
    (home,) = endpoints(one, "a")
    (other,) = {one.get_hostname(), two.get_hostname()} - {home}
    assert "no room" in ended(one, one.create_copy_task("a", [other]))
    assert endpoints(one, "a") == [home]
    assert one.close() == two.close() == 0
