"""Ours answers what the table says, and so does the real package where it is.

torch is in this interpreter, or in the one that $SNOWSKIN_TORCH_PYTHON names; $MOONCAKE_REAL_PYTHON names one with the real package and torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Engine

FOLDER = Path(__file__).resolve().parent
GROUPS = ["bytes", "refused", "verbs", "buffers", "split", "parallel", "files"]


def torch_python() -> str:
    if interpreter := os.environ.get("SNOWSKIN_TORCH_PYTHON"):
        return interpreter
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed here: SNOWSKIN_TORCH_PYTHON names an interpreter that has it")
    return sys.executable


def ask(interpreter: str, script: str, *arguments: str) -> Any:
    path = os.pathsep.join([str(FOLDER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [interpreter, "-X", "faulthandler", str(FOLDER / script), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert ran.returncode == 0, f"{ran.returncode}\n{ran.stderr[-6000:]}"
    return json.loads(ran.stdout)


def differences(found: dict[str, Any], group: str) -> list[str]:
    answers, wanted = found["answers"][group], found["wanted"][group]
    return [f"{label}: {answer!r} instead of {wanted[label]!r}" for label, answer in answers.items() if answer != wanted[label]]


def settings_of(engine: Engine) -> dict[str, Any]:
    settings = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "global_segment_size": 0}
    return settings | {"local_buffer_size": "16MB", "master_server_addr": engine.master, "ipc_socket_path": str(engine.sockets)}


@pytest.fixture(scope="module")
def ours(shared_engine: Engine) -> dict[str, Any]:
    found: dict[str, Any] = ask(torch_python(), "tensor_rows.py", "snowskin.mooncake.store", json.dumps(settings_of(shared_engine)))
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_ours(ours: dict[str, Any], group: str) -> None:
    assert set(ours["answers"]) == set(GROUPS)
    assert len(ours["answers"][group]) == len(ours["wanted"][group])
    assert not differences(ours, group)


def test_every_difference_has_a_reason(ours: dict[str, Any]) -> None:
    assert ours["unexplained"] == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    python = os.environ.get("MOONCAKE_REAL_PYTHON")
    if not python or subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
        pytest.skip("MOONCAKE_REAL_PYTHON names no interpreter that has the real package and torch")
    rpc, metrics = free_port(), free_port()
    command = [str(Path(python).parent / "mooncake_master"), "--rpc_address=127.0.0.1", f"--rpc_port={rpc}"]
    command += ["--metrics_host=127.0.0.1", f"--metrics_port={metrics}", "--logtostderr", "--default_kv_lease_ttl=500"]
    log = open(tmp_path_factory.mktemp("real") / "master.log", "w")
    master = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        time.sleep(2)
        settings = {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "master_server_addr": f"127.0.0.1:{rpc}"}
        settings |= {"global_segment_size": "64MB", "local_buffer_size": "64MB"}
        yield ask(python, "tensor_rows.py", "mooncake.store", json.dumps(settings))
    finally:
        master.terminate()
        master.wait(20)
        log.close()


@pytest.mark.parametrize("group", GROUPS)
def test_theirs(theirs: dict[str, Any], group: str) -> None:
    assert not differences(theirs, group)
