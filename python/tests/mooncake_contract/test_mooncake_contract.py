"""Ours answers what the table says, and so does the real package where it is: $MOONCAKE_REAL_PYTHON names an interpreter that has it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rows
import table
from conftest import Engine

import snowskin.mooncake.store as ours
from snowskin.mooncake.async_store import MooncakeDistributedStoreAsync

FOLDER = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def leasing_engine() -> Iterator[Engine]:
    engine = Engine("--memory", "256MB", "--lease-ms", str(int(table.LEASE_SECONDS * 1000)))
    yield engine
    engine.stop()


def settings_of(engine: Engine) -> dict[str, Any]:
    return {
        "local_hostname": "127.0.0.1",
        "metadata_server": "P2PHANDSHAKE",
        "global_segment_size": 0,
        "local_buffer_size": "16MB",
        "master_server_addr": engine.master,
        "ipc_socket_path": str(engine.sockets),
    }


@pytest.fixture(scope="module")
def bench(leasing_engine: Engine) -> Iterator[table.Bench]:
    bench = table.new_bench(ours, settings_of(leasing_engine))
    yield bench
    assert bench.s.close() == 0


def differences(group: str, answers: dict[str, Any], is_real: bool) -> list[str]:
    compared = [(row.label, answers[row.label], table.expected(row, is_real)) for row in rows.GROUPS[group] if row.label in answers]
    return [f"{label}: {answer!r} instead of {wanted!r}" for label, answer, wanted in compared if answer != wanted]


@pytest.mark.parametrize("group", rows.GROUPS)
def test_ours(bench: table.Bench, group: str) -> None:
    answers = table.run_all(bench, {group: rows.GROUPS[group]}, is_real=False)[group]
    assert len(answers) == len(rows.GROUPS[group])
    assert not differences(group, answers, False)


class InTurn:
    """An asynchronous store as a blocking one: each verb's coroutine is run to its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: MooncakeDistributedStoreAsync) -> None:
        self._loop = loop
        self._store = store

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, f"async_{name}")
        return lambda *arguments, **named: self._loop.run_until_complete(verb(*arguments, **named))


@pytest.fixture(scope="module")
def asynchronous_bench(leasing_engine: Engine) -> Iterator[table.Bench]:
    store, loop = MooncakeDistributedStoreAsync(), asyncio.new_event_loop()
    assert store.setup(settings_of(leasing_engine)) == 0
    in_turn = InTurn(loop, store)
    names = {name: value for name, value in vars(ours).items() if not name.startswith("_")}
    api = SimpleNamespace(**{**names, "MooncakeDistributedStore": lambda: InTurn(loop, MooncakeDistributedStoreAsync())})
    yield table.Bench(api, in_turn, settings_of(leasing_engine))
    assert in_turn.close() == 0
    loop.close()


@pytest.mark.parametrize("group", [group for group in rows.GROUPS if group != "pools"])
def test_ours_asynchronous(asynchronous_bench: table.Bench, group: str) -> None:
    answers = table.run_all(asynchronous_bench, {group: rows.GROUPS[group]}, is_real=False)[group]
    assert not differences(group, answers, False)


def test_every_difference_has_a_reason() -> None:
    for group in rows.GROUPS.values():
        assert [row.label for row in group if (row.theirs is not table.SAME) != bool(row.why)] == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def real_answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    python = os.environ.get("MOONCAKE_REAL_PYTHON")
    if not python:
        pytest.skip("MOONCAKE_REAL_PYTHON names no interpreter that has the real package")
    rpc, metrics = free_port(), free_port()
    command = [str(Path(python).parent / "mooncake_master"), "--rpc_address=127.0.0.1", f"--rpc_port={rpc}"]
    command += ["--metrics_host=127.0.0.1", f"--metrics_port={metrics}", "--logtostderr"]
    command += [f"--default_kv_lease_ttl={int(table.LEASE_SECONDS * 1000)}"]
    log = open(tmp_path_factory.mktemp("real") / "master.log", "w")
    master = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        settings = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "master_server_addr": f"127.0.0.1:{rpc}"}
        settings |= {"global_segment_size": "64MB", "local_buffer_size": "64MB"}
        time.sleep(2)
        asked = [python, str(FOLDER / "rows.py"), "mooncake.store", json.dumps(settings)]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        yield json.loads(done.stdout)
    finally:
        master.terminate()
        master.wait(20)
        log.close()


@pytest.mark.parametrize("group", rows.GROUPS)
def test_theirs(real_answers: dict[str, dict[str, Any]], group: str) -> None:
    assert not differences(group, real_answers[group], True)
