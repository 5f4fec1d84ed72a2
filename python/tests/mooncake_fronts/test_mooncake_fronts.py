"""The programs: master, client, metadata server and REST service, as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from front import Front, ask, ask_json

from snowskin.mooncake import client, master_flags
from snowskin.mooncake.flags import WrongFlag
from snowskin.mooncake.store import MooncakeDistributedStore, ReplicateConfig

MASTER_READY = r"frames on ([^\s,]+), http on ([^\s,]+)(?:, metadata on (\S+))?"
MISSING = {"success": False, "error_code": -704, "error_message": "OBJECT_NOT_FOUND"}


@pytest.fixture
def sockets() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="snowskin-") as folder:
        yield folder


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Front]:
    flags = ["--rpc_port=0", "--port", "0", "-metrics_port=0", "--default_kv_lease_ttl=500ms", "--enable_http_metadata_server"]
    front = Front(tmp_path, "snowskin.mooncake.master", *flags, "--http_metadata_server_port=0", "--max_threads=4", ready=MASTER_READY)
    yield front
    front.stop()


def lender(master: Front, sockets: str) -> MooncakeDistributedStore:
    store = MooncakeDistributedStore()
    settings = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "master_server_addr": master.words[1]}
    assert store.setup({**settings, "global_segment_size": "32MB", "ipc_socket_path": sockets}) == 0
    return store


def test_a_master_and_what_it_tells(master: Front, sockets: str) -> None:
    http = f"http://{master.words[2]}"
    assert ask(f"{http}/get_all_segments") == (200, "text/plain; version=0.0.4", b"")
    assert ask(f"{http}/get_all_keys") == (200, "text/plain; version=0.0.4", b"")
    store = lender(master, sockets)
    assert store.put("k1", b"v" * 100) == 0 and store.put("odd ,/é", b"v") == 0
    status, found = ask_json(f"{http}/health")
    assert (status, found["status"], found["role"], found["service_ready"]) == (200, "ok", "leader", True)
    status, kind, body = ask(f"{http}/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4") and b"snowskin_master_members" in body
    (segment,) = ask(f"{http}/get_all_segments")[2].decode().splitlines()
    assert segment.startswith("127.0.0.1:")
    assert ask(f"{http}/query_segment?segment={segment}")[2].decode().splitlines()[2] == f"Capacity(bytes) : {32 << 20}"
    assert ask(f"{http}/query_segment?segment=zz")[0] == 500
    status, found = ask_json(f"{http}/query_key?key=k1")
    place = {"size_": 100, "buffer_address_": 0, "protocol_": "tcp", "transport_endpoint_": segment}
    assert (status, found) == (200, {"success": True, "data": [place]})
    assert ask_json(f"{http}/query_key?key=odd%20,%2F%C3%A9")[0] == 200
    for missing in ("/query_key?key=no", "/query_key", "/query_key?key="):
        assert ask_json(f"{http}{missing}") == (404, MISSING)
    none = {"disk_values": None, "local_disk_values": None, "nof_values": None}
    status, found = ask_json(f"{http}/batch_query_keys?keys=k1,no")
    assert (status, found["success"], found["data"]["k1"]) == (200, True, {"ok": True, "error": None, "values": [place], **none})
    assert found["data"]["no"] == {"ok": False, "error": "OBJECT_NOT_FOUND", "values": None, **none}
    assert ask_json(f"{http}/batch_query_keys")[0] == 400
    assert sorted(ask(f"{http}/get_all_keys")[2].decode().splitlines()) == ["k1", "odd ,/é"]
    assert ask(f"{http}/nosuch")[0] == ask(f"{http}/health", "POST", b"")[0] == 404
    assert store.close() == 0
    assert master.stop() == 0
    assert "--max_threads means nothing here" in master.said()


def test_a_master_tells_of_all_replicas(master: Front, sockets: str) -> None:
    http = f"http://{master.words[2]}"
    one, two = lender(master, sockets), lender(master, sockets)
    config = ReplicateConfig()
    config.replica_num = 2
    assert one.put("k2", b"v" * 100, config) == 0 and one.put("k1", b"v") == 0
    data = ask_json(f"{http}/query_key?key=k2")[1]["data"]
    endpoints = [place["transport_endpoint_"] for place in data]
    assert sorted(endpoints) == sorted(ask(f"{http}/get_all_segments")[2].decode().splitlines()) == sorted([one.get_hostname(), two.get_hostname()])
    assert {place["size_"] for place in data} == {100}
    assert endpoints == [found.get_memory_descriptor().buffer_descriptor.transport_endpoint for found in two.get_replica_desc("k2")]
    data = ask_json(f"{http}/batch_query_keys?keys=k1,k2")[1]["data"]
    assert (len(data["k1"]["values"]), len(data["k2"]["values"])) == (1, 2)
    assert one.close() == two.close() == 0


def test_a_masters_metadata(master: Front) -> None:
    url = f"http://{master.words[3]}/metadata"
    assert ask(url)[0] == 400 and ask(f"{url}?key=a")[0] == 404
    assert ask(f"{url}?key=a", "PUT", b'{"a":1}')[0] == 200
    assert ask(f"{url}?key=a") == (200, "application/json", b'{"a":1}')


def test_a_lease_is_what_the_flag_says(master: Front, sockets: str) -> None:
    store = lender(master, sockets)
    assert store.put("k", b"v") == 0 and store.get("k") == b"v" and store.remove("k") == -706
    time.sleep(0.8)
    assert store.remove("k") == 0
    store.close()


def test_the_child_ends_and_so_does_the_front(master: Front) -> None:
    children = Path(f"/proc/{master.process.pid}/task/{master.process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    assert master.process.wait(20) == 128 + signal.SIGKILL


def test_an_interrupt_ends_both(master: Front) -> None:
    (child,) = Path(f"/proc/{master.process.pid}/task/{master.process.pid}/children").read_text().split()
    master.process.send_signal(signal.SIGINT)
    assert master.process.wait(20) == 0
    assert not Path(f"/proc/{child}").exists()


def test_a_port_that_is_taken(master: Front, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="mooncake_master: snowskin-master was not ready"):
        Front(tmp_path, "snowskin.mooncake.master", "--rpc_port", master.words[1].split(":")[1], "--metrics_port=0", ready=MASTER_READY)
    taken = master.words[2].split(":")[1]
    with pytest.raises(AssertionError, match="in use"):
        Front(tmp_path, "snowskin.mooncake.master", "--port=0", f"--metrics_port={taken}", ready=MASTER_READY)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--nosuch=1"], "no flag --nosuch"),
        (["stray"], "no flag"),
        (["--rpc_port=abc"], "a number"),
        (["--rpc_port"], "needs a value"),
        (["--enable_ha=perhaps"], ""),
        (["--allocation_strategy=cxl"], "random"),
        (["--eviction_ratio=2"], "shares"),
        (["--default_kv_lease_ttl=soon"], "time"),
        (["--enable_http_metadata_server=perhaps"], "true or false"),
        (["--config_path=/nosuch"], "cannot be read"),
    ],
)
def test_wrong_flags(flags: list[str], words: str) -> None:
    if not words:
        assert master_flags.parse(flags).ignored == ["enable_ha"]
        return
    with pytest.raises(WrongFlag, match=words):
        master_flags.command("program", master_flags.parse(flags))


def test_flags_in_all_forms(tmp_path: Path) -> None:
    given = master_flags.parse(["-rpc_port", "5", "--enable_http_metadata_server", "--noenable_ha", "--logtostderr=false", "--undefok=zz", "--zz=1"])
    assert given.number("rpc_port") == 5 and given.is_set("enable_http_metadata_server") and given.ignored == ["enable_ha"]
    flags = tmp_path / "flags"
    flags.write_text("# some\n--rpc_port=7\neviction_ratio=0.1\n")
    assert master_flags.rpc_port(master_flags.parse([f"--flagfile={flags}"])) == 7
    config = tmp_path / "config.json"
    config.write_text('{"rpc_port": 9, "metrics_port": 10, "enable_ha": true}')
    given = master_flags.parse(["--metrics_port=11", f"--config_path={config}"])
    assert (given.number("rpc_port"), given.number("metrics_port"), given.ignored) == (9, 11, ["enable_ha"])
    config.write_text("rpc_port: 9  # frames\nallocation_strategy: \"free_ratio_first\"\n")
    command = master_flags.command("program", master_flags.parse([f"--config_path={config}", "--default_kv_lease_ttl=2m"]))
    assert command == [
        *["program", "--listen", "127.0.0.1:9", "--http", "127.0.0.1:0", "--lease-ms", "120000", "--log", "info"],
        *["--high-watermark", "0.900", "--low-watermark", "0.850", "--allocation-strategy", "free_ratio_first"],
    ]


def test_every_flag_of_theirs_is_known() -> None:
    python = os.environ.get("MOONCAKE_REAL_PYTHON")
    if not python:
        pytest.skip("MOONCAKE_REAL_PYTHON names no interpreter that has the real package")
    asked = [str(Path(python).parent / "mooncake_master"), "--help"]
    described = subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout
    names = re.findall(r"^    -(\w+) \(", described, re.MULTILINE)
    assert len(names) > 100
    for name in names:
        if not name.startswith(("help", "flagfile", "undefok", "config_path")):
            master_flags.parse([f"--{name}=true" if name in master_flags._TRUTHS.split() else f"--{name}=1"])


def test_help_says_where_it_listens() -> None:
    for module in ("master", "client"):
        done = subprocess.run([sys.executable, "-m", f"snowskin.mooncake.{module}", "--help"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "127.0.0.1 unless it is told otherwise" in done.stdout


def test_a_client_lends_memory_and_a_dummy_uses_it(master: Front, tmp_path: Path, sockets: str) -> None:
    flags = ["--port=0", "--global_segment_size=32MB", f"--master_server_address={master.words[1]}", "--metadata_server=P2PHANDSHAKE"]
    front = Front(tmp_path, "snowskin.mooncake.client", *flags, ready=r"cores on ([^\s,]+)", SNOWSKIN_LOCAL_SOCKETS=sockets)
    os.environ["SNOWSKIN_LOCAL_SOCKETS"] = sockets
    try:
        store = MooncakeDistributedStore()
        assert store.setup_dummy(1 << 20, 1 << 20, front.words[1]) == 0
        assert store.health_check() == 0 and store.get_hostname() == ""
        start = store.alloc_from_mem_pool(4096)
        assert start and store.register_buffer(start, 4096) == 0
        assert store.alloc_from_mem_pool(2 << 20) == 0 and store.alloc_from_mem_pool(0) == 0
        assert store.put_from("k", start, 100) == 0 and store.get("k") == bytes(100)
        assert store.get_into("k", start + 1000, 100) == 100
        assert store.unregister_buffer(start) == 0
        assert store.close() == 0 and store.alloc_from_mem_pool(10) == 0
    finally:
        del os.environ["SNOWSKIN_LOCAL_SOCKETS"]
        assert front.stop() == 0
    assert "--metadata_server means nothing here" in front.said()


def test_wrong_flags_of_a_client() -> None:
    for flags in (["--protocol=zz"], ["--global_segment_size=10%"], ["--global_segment_size=1MB"], ["--enable_offload"], ["--nosuch"]):
        with pytest.raises(WrongFlag):
            client.command("program", client.GRAMMAR.parse(flags))


def test_a_metadata_server(tmp_path: Path) -> None:
    front = Front(tmp_path, "snowskin.mooncake.http_metadata_server", "--port", "0", ready=r"on (\S+)")
    url = f"http://{front.words[1]}/metadata"
    assert [ask(url)[0], ask(f"{url}?key=zz")[0], ask(f"{url}?key=zz", "PUT", b"1")[0]] == [400, 404, 200]
    assert ask(f"{url}?key=zz") == (200, "application/json", b"1")
    assert ask(f"{url}?key=xrpc_meta", "PUT", b"1")[0] == 200 and ask(f"{url}?key=xrpc_meta", "PUT", b"1")[0] == 400
    assert ask(f"{url}?key=zz", "POST", b"1")[0] == 405
    assert [ask(f"{url}?key=zz", "DELETE")[0] for _ in range(2)] == [200, 404]
    assert front.stop() == 0


def test_a_rest_service(master: Front, tmp_path: Path, sockets: str) -> None:
    pytest.importorskip("aiohttp")
    variables = {"MOONCAKE_MASTER": master.words[1], "MOONCAKE_GLOBAL_SEGMENT_SIZE": "32mb", "MOONCAKE_LOCAL_BUFFER_SIZE": "16mb"}
    variables |= {"MOONCAKE_LOCAL_HOSTNAME": "127.0.0.1", "SNOWSKIN_LOCAL_SOCKETS": sockets}
    front = Front(tmp_path, "snowskin.mooncake.service", "--port=0", ready=r"on (\S+)", **variables)
    api = f"http://{front.words[1]}/api"
    try:
        well = (200, {"status": "success"})
        assert ask_json(f"{api}/put", "PUT", {"key": "a", "value": "héllo"}) == well
        assert ask_json(f"{api}/put", "PUT", {"key": "a", "value": "other"}) == well
        assert ask(f"{api}/get/a") == (200, "application/octet-stream", "héllo".encode())
        assert [ask_json(f"{api}/exist/{key}")[1] for key in "ab"] == [{"exists": True}, {"exists": False}]
        assert ask_json(f"{api}/get/b")[0] == 404
        assert [ask_json(f"{api}/remove/{key}", "DELETE")[0] for key in "ab"] == [500, 500]
        for body in ({"key": "a"}, {"key": "", "value": "x"}, {"key": "n", "value": 5}, [1]):
            assert ask_json(f"{api}/put", "PUT", body)[0] == 400
        assert ask_json(f"{api}/put", "PUT", {"key": "e", "value": ""})[0] == 500
        assert ask(f"{api}/put", "PUT", b"junk")[0] == 400
        assert ask(f"{api}/put", "POST", b"{}")[0] == 405 and ask(f"{api}/nosuch")[0] == 404
        time.sleep(0.8)
        assert ask_json(f"{api}/remove_all", "DELETE") == (200, {"status": "success removed 1 keys"})
        status, found = ask_json(f"{api}/mount", "POST", {"size": 16 << 20})
        assert (status, found["allocated_size"]) == (200, 16 << 20)
        assert ask_json(f"{api}/unmount", "POST", {"segment_ids": found["segment_ids"]}) == well
        assert ask_json(f"{api}/unmount", "POST", {"segment_ids": found["segment_ids"]})[0] == 500
        for path, body in (("mount", {"size": 0}), ("mount", {"size": "16MB"}), ("unmount", {}), ("mount_shm", {"name": "../x", "size": 1})):
            assert ask_json(f"{api}/{path}", "POST", body)[0] == 400
        assert ask_json(f"{api}/unmount_local_disk", "POST", {}) == well
        assert ask_json(f"{api}/unmount_local_disk", "POST", {"grace_period_seconds": -1})[0] == 400
        assert ask_json(f"{api}/reconfigure", "POST", {"mode": "prefill"}) == (200, {"status": "success", "mode": "prefill"})
        assert ask_json(f"{api}/reconfigure", "POST", {"mode": "decode", "path": "/nosuch", "size": 5})[0] == 500
        lent = Path("/dev/shm") / f"snowskin-test-{os.getpid()}"
        lent.write_bytes(bytes(16 << 20))
        try:
            file = {"name": lent.name, "size": 16 << 20}
            assert ask_json(f"{api}/mount_shm", "POST", {**file, "offset": 4096})[0] == 500
            assert ask_json(f"{api}/mount_shm", "POST", {**file, "offset": -1})[0] == 400
            status, found = ask_json(f"{api}/mount_shm", "POST", file)
            assert status == 200 and ask_json(f"{api}/mount_shm", "POST", file)[0] == 500, "it is lent once"
            assert ask_json(f"{api}/unmount_shm", "POST", {"segment_ids": found["segment_ids"]}) == well
            assert ask_json(f"{api}/unmount_shm", "POST", {"segment_ids": found["segment_ids"]})[0] == 500
            decode = {"mode": "decode", "path": str(lent), "size": 16 << 20}
            for _ in range(2):
                status, found = ask_json(f"{api}/reconfigure", "POST", decode)
                assert (status, found["mode"], len(found["segment_ids"])) == (200, "decode", 1)
            assert ask_json(f"{api}/reconfigure", "POST", {"mode": "prefill"}) == (200, {"status": "success", "mode": "prefill"})
            assert ask_json(f"{api}/unmount_shm", "POST", {"segment_ids": found["segment_ids"]})[0] == 500, "it is taken back"
        finally:
            lent.unlink()
    finally:
        assert front.stop() == 0


def test_a_service_without_a_master(tmp_path: Path) -> None:
    flags = ["-Dlocal_hostname=127.0.0.1", "-Dmetadata_server=P2PHANDSHAKE", "-Dmaster_server_addr=127.0.0.1:1", "--max-wait-time=0"]
    done = subprocess.run([sys.executable, "-m", "snowskin.mooncake.service", *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "cannot be reached" in done.stderr


