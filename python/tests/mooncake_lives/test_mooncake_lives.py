"""Stores from their set-up to their end: settings, segments, threads, forks, and what comes too late."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine
from masters import MB, Master, until

from snowskin.mooncake.async_store import MooncakeDistributedStoreAsync
from snowskin.mooncake.mooncake_config import MooncakeConfig
from snowskin.mooncake.store import BufferPool, MooncakeDistributedStore, ReplicateConfig


@pytest.fixture
def master() -> Iterator[Master]:
    master = Master()
    yield master
    master.stop()


@pytest.fixture
def store(engine: Engine) -> Iterator[MooncakeDistributedStore]:
    """A client of the engine of all tests."""
    store = MooncakeDistributedStore()
    assert store.setup(settings_of(engine)) == 0
    yield store
    assert store.close() == 0


def settings_of(engine: Engine, **others: Any) -> dict[str, Any]:
    given = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "master_server_addr": engine.master}
    return {**given, "global_segment_size": 0, "ipc_socket_path": str(engine.sockets), **others}


def test_all_forms_of_setup(engine: Engine) -> None:
    os.environ["SNOWSKIN_LOCAL_SOCKETS"] = str(engine.sockets)
    try:
        seven = ["127.0.0.1", "P2PHANDSHAKE", 0, 16 * MB, "tcp", "", engine.master]
        names = ["local_hostname", "metadata_server", "global_segment_size", "local_buffer_size", "protocol", "rdma_devices", "master_server_addr"]
        named = dict(zip(names, seven))
        store = MooncakeDistributedStore()
        for arguments, keywords in ((seven, {}), ([], named), (seven[:3], dict(list(named.items())[3:])), ([named], {}), ([], {"config": named})):
            assert store.setup(*arguments, **keywords) == 0
            assert store.put("a", b"v") == 0 and store.health_check() == 0
            host, port = store.get_hostname().split(":")
            assert host == "127.0.0.1" and 12300 <= int(port) <= 14300
        assert store.setup({**named, "local_hostname": "host:12777"}) == 0 and store.get_hostname() == "host:12777"
        assert store.close() == store.close() == 0
        assert store.health_check() == 1 and store.get("a") == b"" and store.put("a", b"v") == -600
        assert store.setup(*seven) == 0 and store.get("a") == b"v"
        assert store.setup(*seven[:6], "127.0.0.1:1") == -1 and store.health_check() == 1, "a set-up that fails leaves nothing set up"
    finally:
        del os.environ["SNOWSKIN_LOCAL_SOCKETS"]


@pytest.mark.parametrize(
    "change, code",
    [
        ({"local_hostname": ""}, -600),
        ({"local_hostname": None}, -600),
        ({"metadata_server": None}, -600),
        ({"global_segment_size": "1MB"}, -600),
        ({"global_segment_size": 100}, -600),
        ({"global_segment_size": "10%"}, -600),
        ({"global_segment_size": "16MiB"}, -600),
        ({"global_segment_size": "-1"}, -600),
        ({"global_segment_size": -1}, -600),
        ({"global_segment_size": True}, -600),
        ({"global_segment_size": None}, -600),
        ({"local_buffer_size": "abc"}, -600),
        ({"enable_ssd_offload": True}, -600),
        ({"enable_ssd_offload": "perhaps"}, -600),
        ({"client_http_port": "x"}, -600),
        ({"protocol": "TCP"}, -1),
        ({"protocol": "zz"}, -1),
        ({"master_server_addr": "127.0.0.1"}, -1),
        ({"master_server_addr": "etcd://127.0.0.1:2379"}, -1),
        ({"master_server_addr": "127.0.0.1:1"}, -1),
        ({"master_server_addr": "no.such.host.invalid:1"}, -1),
    ],
)
def test_settings_that_cannot_be(engine: Engine, change: dict[str, Any], code: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOONCAKE_OFFLOAD_FILE_STORAGE_PATH", raising=False)
    store = MooncakeDistributedStore()
    began = time.monotonic()
    settings = settings_of(engine, global_segment_size="32MB") if "enable_ssd_offload" in change else settings_of(engine)
    assert store.setup({**settings, **change}) == code
    assert "not set up" in caplog.text and time.monotonic() - began < 10
    assert store.health_check() == 1 and store.close() == 0


def test_types_that_are_none() -> None:
    store = MooncakeDistributedStore()
    wrong: list[tuple[list[Any], dict[str, Any]]] = [
        (["h", "m", 0, 0, "tcp", ""], {}),
        (["h", "m", "16MB", 0, "tcp", "", "a:1"], {}),
        (["h", "m", -1, 0, "tcp", "", "a:1"], {}),
        (["h", "m", 1.5, 0, "tcp", "", "a:1"], {}),
        (["h", None, 0, 0, "tcp", "", "a:1"], {}),
        (["h", "m", 0, 0, "tcp", "", "a:1"], {"nosuch": 1}),
        (["h", "m", 0, 0, "tcp", "", "a:1"], {"protocol": "tcp"}),
        ([5], {}),
        ([], {}),
        (["h", "m", 0, 0, "tcp", "", "a:1"] + [None] * 7, {}),
    ]
    for arguments, keywords in wrong:
        with pytest.raises(TypeError):
            store.setup(*arguments, **keywords)
    with pytest.raises(TypeError):
        store.setup_dummy("16MB", 0, "a:1")  # type: ignore[arg-type]
    assert store.setup({}) == -600 and store.setup_dummy(MB, MB, "127.0.0.1:1") == -1


def test_what_means_nothing_is_said_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mooncake")
    store = MooncakeDistributedStore()
    assert store.setup(settings_of(engine, metadata_server="etcd://h:1", protocol="rdma", rdma_devices="mlx5_0", unknown=1)) == 0
    assert [caplog.text.count(word) for word in ("etcd://h:1", "mlx5_0", "protocol rdma")] == [1, 1, 1]
    store.close()


def test_no_local_buffer_no_copies(engine: Engine, store: MooncakeDistributedStore) -> None:
    bare = MooncakeDistributedStore()
    assert bare.setup(settings_of(engine, local_buffer_size=0)) == 0
    memory = ctypes.create_string_buffer(b"0123456789")
    start = ctypes.addressof(memory)
    assert bare.register_buffer(start, 10) == 0
    assert [bare.put("a", b"v"), bare.put_batch(["a"], [b"v"]), bare.put_parts("a", b"v"), bare.upsert("a", b"v")] == [-600] * 4
    assert store.is_exist("a") == 0
    assert bare.put_from("b", start, 10) == 0 and bare.get_into("b", start, 10) == 10
    assert bare.get("b") == b"" and bare.get_buffer("b") is None and bare.get_batch(["b"]) == [b""] and bare.batch_get_buffer(["b"]) == [None]
    assert store.get("b") == b"0123456789"
    bare.close()


def test_tenants_do_not_see_each_other(engine: Engine, store: MooncakeDistributedStore) -> None:
    other = MooncakeDistributedStore()
    assert other.setup(settings_of(engine, tenant_id="t1")) == 0
    assert other.put("a", b"theirs") == 0 and store.is_exist("a") == 0
    assert store.put("a", b"ours") == 0 and other.get("a") == b"theirs"
    assert other.remove_all(True) == 1 and store.get("a") == b"ours"
    other.close()


def test_segments_come_and_go(master: Master) -> None:
    one, two = master.store(), master.store(local_hostname="localhost")
    assert one.put("a", b"hello") == 0 and two.get("a") == b"hello"
    cores = {address for _, address in two._verbs.cores()}  # type: ignore[union-attr]
    (replica,) = two.get_replica_desc("a")
    home = replica.get_memory_descriptor().buffer_descriptor.transport_endpoint
    (other,) = cores - {home}
    assert cores == {one.get_hostname(), two.get_hostname().replace("localhost", "127.0.0.1")}, "a hostname is a segment's"
    assert two.create_move_task("a", other, home) == two.create_move_task("a", home, home) == ((0, 0), -600)
    time.sleep(0.8)
    assert two.batch_replica_clear(["a"], other) == [] and two.batch_replica_clear(["a"], home) == ["a"]
    more = two.allocate_and_mount_segment(20 * MB)
    assert more["ret"] == 0 and more["allocated_size"] == 32 * MB and len(more["segment_ids"]) == 1
    assert two.unmount_segment(more["segment_ids"]) == -1, "it is no file"
    assert two.unmount_and_free_segment(more["segment_ids"]) == 0
    assert two.unmount_and_free_segment(more["segment_ids"]) == -1
    keys = [f"k{number}" for number in range(100)]
    assert one.put_batch(keys, [b"v" * 1000] * 100) == 0
    assert one.close() == 0
    assert two.health_check() == 0 and two.put("after", b"v") == 0 and two.get("after") == b"v"
    assert two.close() == 0


@pytest.fixture
def file() -> Iterator[Path]:
    """A file of memory."""
    path = Path("/dev/shm") / f"snowskin-test-{os.getpid()}"
    path.write_bytes(b"x" * (32 * MB))
    yield path
    path.unlink()


def test_a_file_is_lent(master: Master, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = master.store(global_segment_size=0)
    assert store.put("a", b"v") == -200
    lent = store.mount_segment(str(file), 16 * MB)
    assert lent["ret"] == 0 and len(lent["segment_ids"]) == 1
    until(lambda: store.put("a", bytes(range(256)) * 4000) == 0)
    assert store.get("a") == bytes(range(256)) * 4000
    now = file.read_bytes()
    assert bytes(range(256)) * 4000 in now[: 16 * MB] and now[16 * MB :] == b"x" * (16 * MB), "the value lies in what was lent"
    for wrong, code, words in (
        ((str(file), 16 * MB), -1, "in use"),
        ((str(file), 16 * MB, 4096), -600, "offset 4096"),
        ((str(file) + "no", 16 * MB), -1, "No such file"),
        (("/dev/null", 16 * MB), -1, "regular file"),
        ((str(file), 1000), -1, "1000"),
    ):
        assert store.mount_segment(*wrong) == {"ret": code, "segment_ids": []}
        assert words in caplog.records[-1].getMessage(), caplog.text
    assert store.unmount_and_free_segment(lent["segment_ids"]) == -1, "it is a file"
    assert store.unmount_segment(lent["segment_ids"]) == 0 and store.unmount_segment(lent["segment_ids"]) == -1
    assert store.mount_segment(str(file), 64 * MB) == {"ret": -1, "segment_ids": []}
    assert "has 32 MiB, and 64 MiB were asked for" in caplog.text
    assert store.mount_segment(str(file), 32 * MB)["ret"] == 0, "again, and it goes with the store"
    assert store.close() == 0 and file.stat().st_size == 32 * MB


def test_damaged_values_are_not_handed_out(master: Master, file: Path) -> None:
    store = MooncakeDistributedStoreAsync()
    assert store.setup(master.settings(global_segment_size=0)) == 0
    assert store.mount_segment(str(file), 32 * MB)["ret"] == 0
    values = {key: os.urandom(5000) for key in ("ranges", "session", "later", "sound")}
    until(lambda: store.put_batch(list(values), list(values.values())) == 0)
    with file.open("r+b") as memory:
        for key in ("ranges", "session", "later"):
            memory.seek(file.read_bytes().index(values[key]) + 2500)
            memory.write(bytes([values[key][2500] ^ 1]))
    room = ctypes.create_string_buffer(10)
    start = ctypes.addressof(room)
    assert store.register_buffer(start, 10) == 0
    ranges = [start], [["ranges", "sound"]], [[[0], [5]]], [[[0], [0]]], [[[5], [5]]]
    session = ["session", "sound"], [[start], [start]], [[5], [5]], [[0], [0]]

    async def work() -> None:
        assert await store.async_get_into_ranges(*ranges) == [[[-801], [5]]]
        assert await store.async_batch_get_session_start(["session", "sound"]) == [0, 0]
        assert await store.async_batch_get_into_multi_buffer_ranges(*session) == [-801, 5]

    asyncio.run(work())
    assert store.get_into_ranges(*ranges) == [[[-801], [5]]]
    assert store.batch_get_into_multi_buffer_ranges(*session) == [-801, 5]
    assert bytes(room) == values["sound"][:5] * 2, "nothing of a damaged value"
    assert store.get_batch(["later", "sound"]) == [b"", values["sound"]]
    assert store.close() == 0


def test_no_space(master: Master) -> None:
    store = master.store()
    assert store.put("large", bytes(60 * MB)) == -200 and store.is_exist("large") == 0
    memory = ctypes.create_string_buffer(8 * MB)
    start = ctypes.addressof(memory)
    assert store.register_buffer(start, 8 * MB) == 0
    config = ReplicateConfig()
    config.with_hard_pin = True
    codes = store.batch_put_from([f"k{n}" for n in range(6)], [start] * 6, [8 * MB] * 6, config)
    assert set(codes) == {0, -200} and codes == sorted(codes, reverse=True)
    assert store.batch_is_exist([f"k{n}" for n in range(6)]) == [int(code == 0) for code in codes]
    store.close()


def test_who_comes_before_the_first_memory_waits_for_it(master: Master) -> None:
    began = time.monotonic()
    early = master.store(global_segment_size=0)
    assert time.monotonic() - began < 1
    memory = ctypes.create_string_buffer(b"0123456789")
    start = ctypes.addressof(memory)
    assert early.register_buffer(start, 10) == 0 and early.health_check() == 0
    assert early.put("a", b"v") == -200 and early.get("a") == b"" and early.is_exist("a") == 0 and early.get_size("a") == -704
    assert early.put_from("a", start, 10) == -200 and early.batch_get_into(["a"], [start], [10]) == [-704]
    assert early.put_batch(["a", "b"], [b"v", b"w"]) == early.put_parts("a", b"v") == early.upsert("a", b"v") == -200
    assert early.batch_put_from(["a"], [start], [10]) == early.batch_put_from_multi_buffers(["a"], [[start]], [[10]]) == [-200]
    assert early.get_batch(["a"]) == [b""] and early.get_buffer("a") is None and early.get_into("a", start, 10) == -704
    assert early.remove("a") == -704 and early.remove_by_regex("a") == early.remove_all() == 0 and early.batch_is_exist(["a"]) == [0]
    assert early.batch_get_session_start(["a"]) == [-704] and early.batch_put_session_start(["a"], [10]) == [-200]
    assert early.get_replica_desc("a") == early.batch_replica_clear(["a"]) == [] and early.create_copy_task("a", ["x"]) == ((0, 0), -704)
    assert time.monotonic() - began < 2
    lender = master.store()
    deadline = time.monotonic() + 20
    while early.put_from("a", start, 10) != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert lender.get("a") == b"0123456789"
    assert early.close() == 0 and lender.close() == 0


def test_the_master_is_out_of_reach() -> None:
    master = Master()
    store = master.store()
    assert store.health_check() == 0
    master.stop()
    assert store.health_check() == 2
    assert store.put("a", b"v") == 0 and store.get("a") == b"v", "no byte passes the master"
    assert cores(store) == 1, "others know, too"
    assert store.close() == 0


def test_an_ssd(master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONCAKE_OFFLOAD_TOTAL_SIZE_LIMIT_BYTES", "600MB")
    store = master.store(enable_ssd_offload="true", ssd_offload_path=str(tmp_path / "made"))
    assert store.put("a", b"v" * 1000) == 0 and any((tmp_path / "made").iterdir())
    assert store.close() == 0


def test_health_by_http(engine: Engine) -> None:
    import socket
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = MooncakeDistributedStore()
    assert store.setup(settings_of(engine, enable_client_http_server="true", client_http_port=port)) == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
        assert answer.read() == b'{"status":"healthy","code":0}'
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"mooncake_client_healthy 1" in answer.read()
    assert store.close() == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10)


def test_unregistered_memory_is_told_of_once(store: MooncakeDistributedStore, caplog: pytest.LogCaptureFixture) -> None:
    memory = ctypes.create_string_buffer(100)
    start = ctypes.addressof(memory)
    assert store.put("a", b"v" * 100) == 0
    assert store.put_from("b", start, 100) == -600 and store.get_into("a", start, 100) == -600 and store.get_into("a", 0, 100) == -600
    assert store.batch_put_from_multi_buffers(["c"], [[start]], [[100]]) == [-600]
    assert caplog.text.count("register_buffer(address, size)") == 1 and bytes(memory) == bytes(100)


def test_a_buffer_outlives_key_and_store(engine: Engine) -> None:
    store = MooncakeDistributedStore()
    assert store.setup(settings_of(engine)) == 0
    assert store.put("a", bytes(range(256)) * 100) == 0
    buffer = store.get_buffer("a")
    assert store.remove("a", True) == 0 and store.close() == 0
    assert bytes(buffer)[:256] == bytes(range(256))


def test_many_threads(store: MooncakeDistributedStore) -> None:
    wrong: list[object] = []
    memory = ctypes.create_string_buffer(8 * 4096)
    start = ctypes.addressof(memory)
    assert store.register_buffer(start, 8 * 4096) == 0

    def work(number: int) -> None:
        own, value = start + number * 4096, bytes([number]) * 4096
        for turn in range(50):
            key = f"t{number}/{turn}"
            ok = [store.put(key, value) == 0, store.get(key) == value, store.get_into(key, own, 4096) == 4096]
            ok += [ctypes.string_at(own, 4096) == value, store.put_from(key + "f", own, 4096) == 0]
            ok += [store.batch_put_session_start([key + "s"], [4096]) == [0]]
            ok += [store.batch_put_from_multi_buffer_ranges([key + "s"], [[own]], [[4096]], [[0]]) == [4096]]
            ok += [store.batch_put_session_end([key + "s"]) == [0], store.batch_get_session_start([key + "s"]) == [0]]
            ok += [store.batch_get_into_multi_buffer_ranges([key + "s"], [[own]], [[4096]], [[0]]) == [4096]]
            ok += [store.batch_get_session_end([key + "s"]) == 0, ctypes.string_at(own, 4096) == value]
            if not all(ok):
                wrong.append((key, ok))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_closed_while_others_work(engine: Engine) -> None:
    store = MooncakeDistributedStore()
    assert store.setup(settings_of(engine)) == 0
    ended = threading.Event()
    raised: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not ended.is_set():
                store.put(f"k{number}", b"v" * 1000)
                store.batch_is_exist([f"k{number}"] * 10)
                store.get(f"k{number}")
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert store.close() == 0
    ended.set()
    for thread in threads:
        thread.join(30)
    assert not raised and store.put("k", b"v") == -600


def test_a_forked_process_has_no_part_of_it(master: Master) -> None:
    store = master.store()
    assert store.put("a", b"v") == 0 and store.batch_get_session_start(["a"]) == [0]
    child = os.fork()
    if child == 0:
        answers = [store.get("a") == b"", store.put("b", b"v") == -600, store.is_exist("a") == -600, store.health_check() == 1]
        answers += [store.get_buffer("a") is None, store.close() == 0, store.close() == 0]
        os._exit(0 if all(answers) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert store.get("a") == b"v" and store.put("c", b"v") == 0
    assert store.close() == 0


@pytest.mark.parametrize("ending", ["", "store.close()", "del store", "sys.exit(0)", "raise SystemExit(0)"])
def test_the_interpreter_ends_with_a_store(master: Master, ending: str) -> None:
    code = f"""
import sys
from snowskin.mooncake.store import MooncakeDistributedStore
store = MooncakeDistributedStore()
assert store.setup({master.settings()!r}) == 0
assert store.put("a", b"v") == 0
kept = store.get_buffer("a")
print("ready", flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "ready\n", done.stderr


def cores(store: MooncakeDistributedStore) -> int:
    """How many cores a store finds."""
    return len(store._verbs.cores())  # type: ignore[union-attr]


def test_a_store_that_nobody_knows_of_lends_nothing(master: Master) -> None:
    one, two, watching = master.store(), master.store(), master.store(global_segment_size=0)
    assert one.put("a", b"v") == 0 and cores(watching) == 2
    del one
    gc.collect()
    # It asks who is there now; the master says so a moment after a core has left.
    until(lambda: cores(watching) == 1)
    assert two.put("b", b"v") == 0 and two.close() == 0
    until(lambda: cores(watching) == 0)
    assert watching.close() == 0


def test_a_pool_waits_for_what_comes_back(store: MooncakeDistributedStore) -> None:
    pool = BufferPool(store, max_bytes=64 << 10, alignment=64 << 10)
    lease = pool.acquire(100)
    with pytest.raises(RuntimeError):
        pool.acquire(100, block=False)
    with pytest.raises(TimeoutError):
        pool.acquire(100, timeout=0.05)
    threading.Timer(0.2, lease.release).start()
    with pool.buffer(100, timeout=20) as other:
        assert other.ptr
    view = pool.acquire(10).buffer
    view[:3] = b"abc"
    gc.collect()
    assert bytes(view[:3]) == b"abc", "who has a view keeps the lease"
    del view, other
    gc.collect()
    pool.close()


def test_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MOONCAKE_"):
            monkeypatch.delenv(name)
    with pytest.raises(ValueError, match="MOONCAKE_MASTER"):
        MooncakeConfig.load_from_env()
    monkeypatch.setenv("MOONCAKE_MASTER", "h:1")
    config = MooncakeConfig.load_from_env()
    assert (config.master_server_address, config.global_segment_size, config.local_buffer_size) == ("h:1", 3355443200, 1 << 30)
    assert (config.local_hostname, config.metadata_server, config.protocol, config.tenant_id) == ("localhost", "P2PHANDSHAKE", "tcp", "default")
    monkeypatch.setenv("MOONCAKE_GLOBAL_SEGMENT_SIZE", "0")
    monkeypatch.setenv("MOONCAKE_PROTOCOL", "RDMA")
    monkeypatch.setenv("MOONCAKE_DEVICE", "mlx5_0")
    config = MooncakeConfig.load_from_env()
    assert (config.global_segment_size, config.protocol, config.device_name) == (0, "rdma", "mlx5_0")
    path = tmp_path / "config.json"
    path.write_text('{"local_hostname": "a", "metadata_server": "b", "master_server_address": "c:1", "global_segment_size": "2 GB", "tenant_id": null}')
    monkeypatch.setenv("MOONCAKE_CONFIG_PATH", str(path))
    config = MooncakeConfig.load_from_env()
    assert (config.local_hostname, config.global_segment_size, config.tenant_id) == ("a", 2 << 30, "default")
    for wrong in ("[]", "{}", '{"local_hostname": "a", "metadata_server": "b", "master_server_address": ""}'):
        path.write_text(wrong)
        with pytest.raises(ValueError):
            MooncakeConfig.from_file(str(path))


def test_numpy(store: MooncakeDistributedStore) -> None:
    numpy = pytest.importorskip("numpy")
    given, room = numpy.arange(1000, dtype=numpy.int32), numpy.zeros(1000, dtype=numpy.int32)
    assert store.put("a", given) == 0 and (numpy.frombuffer(store.get("a"), numpy.int32) == given).all()
    assert (numpy.frombuffer(store.get_buffer("a"), numpy.int32) == given).all()
    assert store.put("odd", given[::2]) == -600 and store.put("turned", given.reshape(10, 100).T) == -600
    start = numpy.uint64(room.ctypes.data)
    assert store.register_buffer(start, numpy.int64(4000)) == 0
    starts, sizes = numpy.array([start, start + numpy.uint64(2000)]), numpy.array([2000, 2000])
    assert store.batch_get_into(["a"], starts[:1], numpy.array([4000])) == [4000] and (room == given).all()
    assert store.batch_put_from(["b", "c"], starts, sizes) == [0, 0]
    assert store.get("b") + store.get("c") == given.tobytes()
    assert store.unregister_buffer(start) == 0
