"""Engines within the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Engine as Process
from conftest import binary, value_of

import snowskin
from snowskin import errors


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_one_line_is_enough() -> None:
    with snowskin.Engine(memory="64MB") as engine, snowskin.Store(engine.cores) as store:
        value = value_of("key", 1 << 20)
        assert store.put("key", value) is True and store.get("key") == value
        with store.view("key") as view:
            assert view.obj.is_in_place()
        assert repr(engine).startswith("<snowskin.Engine, cores on 127.0.0.1:")
        assert engine.http is not None and engine.master.startswith("127.0.0.1:")
    assert engine.closed and repr(engine).startswith("<closed snowskin.Engine")
    engine.close()


def test_engines_come_and_go_without_a_trace() -> None:
    before = (0, 0)
    for number in range(6):
        with snowskin.Engine(memory=64 << 20) as engine, snowskin.Store(engine.cores) as store:
            store.put(f"key {number}", b"value")
            assert store.get(f"key {number}") == b"value"
        if number == 0:
            before = (threads(), len(os.listdir("/proc/self/fd")))
    assert threads() <= before[0] and len(os.listdir("/proc/self/fd")) <= before[1]


def test_two_engines_are_a_cluster() -> None:
    with snowskin.Engine(memory="64MB") as one, snowskin.Engine(memory="64MB", master=one.master) as two:
        assert two.http is None and two.master == one.master
        with snowskin.Store(one.cores) as store:
            keys = [f"cluster {number}" for number in range(200)]
            values = [value_of(key, 1_000) for key in keys]
            assert store.put(keys, values) == [True] * 200
            assert store.get(keys) == values
            held = [core["objects"] for core in store.stats()["cores"]]
            assert len(held) == 2 and min(held) > 30 and sum(held) == 200
            two.close()
            left = store.get(keys)
            assert 30 < sum(bool(value) for value in left) < 200, "what only the other one had is gone"
            assert all(value == held for value, held in zip(values, left) if held)


def test_its_memory_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_bytes(bytes(64 << 20))
    with snowskin.Engine(memory=64 << 20, memory_file=file) as engine, snowskin.Store(engine.cores) as store:
        assert store.put("key", b"a value in a file") is True and store.get("key") == b"a value in a file"
        assert b"a value in a file" in file.read_bytes()
        with pytest.raises(errors.EngineError, match="in use"):
            snowskin.Engine(memory=64 << 20, memory_file=file)
    with pytest.raises(errors.EngineError, match="one core, not of 2"):
        snowskin.Engine(memory=64 << 20, cores=2, memory_file=file)


def test_it_joins_engines_that_are_processes() -> None:
    process = Process("--memory", "64MB")
    try:
        with snowskin.Engine(memory="64MB", master=process.master), process.store() as store:
            assert len(store.stats()["cores"]) == 2
    finally:
        process.stop()


def test_a_master_that_goes_first_tells_those_who_stay() -> None:
    with snowskin.Engine(memory="64MB") as first, snowskin.Engine(memory="64MB", master=first.master) as second:
        keys = [f"farewell {number}" for number in range(200)]
        with snowskin.Store(first.cores) as store:
            assert store.put(keys, [b"value"] * 200) == [True] * 200
        first.close()
        with snowskin.Store(second.cores) as store:
            left = store.get(keys)
            assert 30 < sum(bool(value) for value in left) < 200, "what only the first one had is a miss"
            assert store.put("after", b"value") is True


def test_a_master_that_goes_waits_for_nobody_who_does_not_listen() -> None:
    with snowskin.Engine(memory="64MB") as engine:
        command = [binary("snowskin-engine"), "--listen", "127.0.0.1:0", "--cores", "1", "--memory", "64MB"]
        command += ["--master", engine.master, "--local-sockets", "off"]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert other.stdout is not None and "is ready" in other.stdout.readline()
            os.kill(other.pid, signal.SIGSTOP)
            began = time.monotonic()
            engine.close()
            assert time.monotonic() - began < 12
        finally:
            other.kill()
            other.communicate(timeout=20)


def test_an_ssd_keeps_what_was_there(tmp_path: Path) -> None:
    settings = {"memory": "64MB", "ssd": str(tmp_path), "ssd_size": "600MB"}
    value = value_of("durable", 300_000)
    with snowskin.Engine(**settings) as engine, snowskin.Store(engine.cores) as store:
        assert store.put("durable", value, durability="ssd") is True
        where = engine.cores[0]
    with snowskin.Engine(**settings, listen=where) as engine, snowskin.Store(engine.cores) as store:
        assert store.get("durable") == value


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"memory": "64MB", "colour": "blue"}, errors.EngineError, "colour"),
        ({"memory": "lots"}, errors.EngineError, "lots"),
        ({"memory": 1}, errors.EngineError, "memory"),
        ({"memory": 1.5}, TypeError, "4GB"),
        ({"memory": "64MB", "cores": 0}, errors.EngineError, "core"),
        ({"memory": "64MB", "listen": "nowhere:1"}, errors.EngineError, "nowhere"),
        ({"memory": "64MB", "ssd": True}, TypeError, "snowskin-engine --help"),
        ({"memory": "64MB", "ssd": "/nowhere/at/all", "ssd_size": "600MB"}, errors.EngineError, "/nowhere/at/all"),
        ({}, TypeError, "memory"),
    ],
)
def test_wrong_settings(settings: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        snowskin.Engine(**settings)


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", "import snowskin\n" + script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("end", ["", "engine.close()", "1 / 0", "import sys; sys.exit(7)"])
def test_an_interpreter_ends_with_a_live_engine(end: str) -> None:
    done = run(f"engine = snowskin.Engine(memory='64MB')\nstore = snowskin.Store(engine.cores)\nstore.put('a', b'b')\n{end}")
    expected = 1 if "/" in end else 7 if "exit" in end else 0
    assert done.returncode == expected and "panicked" not in done.stderr, done.stderr


def test_an_interrupt_ends_the_wait_for_a_master() -> None:
    begun = time.monotonic()
    done = run(
        "import os, signal, threading\n"
        # Whoever started the tests may ignore interrupts.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try: snowskin.Engine(memory='64MB', master='127.0.0.1:1')\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    assert done.stdout == "interrupted\n" and time.monotonic() - begun < 20, done.stderr


def test_a_forked_process_has_no_part_of_it() -> None:
    done = run(
        "import os\n"
        "engine = snowskin.Engine(memory='64MB')\n"
        "store = snowskin.Store(engine.cores)\n"
        "store.put('a', b'b')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    with snowskin.Store(engine.cores) as mine: assert mine.get('a') == b'b'\n"
        "    engine.close()\n"
        "    raise SystemExit(3)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), store.get('a'))\n"
    )
    assert done.stdout == "3 b'b'\n", done.stderr


def test_an_engine_is_not_pickled() -> None:
    import pickle

    with snowskin.Engine(memory="64MB") as engine, pytest.raises(TypeError, match="one in each process"):
        pickle.dumps(engine)
