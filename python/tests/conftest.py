"""Real engines for the tests: processes of their own, on loopback, with their sockets in a folder of the test's."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import snowskin

ROOT = Path(__file__).resolve().parents[2]


def binary(name: str) -> str:
    """A program of the project: where SNOWSKIN_BINARIES says, or where cargo builds it."""
    folder = Path(os.environ.get("SNOWSKIN_BINARIES", ROOT / "target" / "debug"))
    path = folder / name
    assert path.exists(), f"{path} is missing: build it (cargo build --bins), or name its folder in SNOWSKIN_BINARIES"
    return str(path)


class Engine:
    """A process that holds data."""

    READY = re.compile(r"cores on (.*), master on (\S+)")

    def __init__(self, *flags: str) -> None:
        # A socket's path is short.
        self.folder = tempfile.TemporaryDirectory(prefix="snowskin-")
        self.sockets = Path(self.folder.name)
        self.log = open(self.sockets / "log", "w+")
        command = [binary("snowskin-engine"), "--listen", "127.0.0.1:0", "--cores", "1"]
        command += ["--master-http", "127.0.0.1:0", "--local-sockets", str(self.sockets), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        ready = self.READY.search(self.process.stdout.readline())
        assert ready, Path(self.log.name).read_text()
        self.cores = ready[1].split(", ")
        self.master = ready[2]

    def store(self, **settings: object) -> snowskin.Store:
        settings.setdefault("local_sockets", str(self.sockets))
        return snowskin.Store(self.cores, **settings)

    def freeze(self) -> None:
        """Stops all its threads where they are; each of them is asked, since a signal takes its time."""
        os.kill(self.process.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        for _ in range(500):
            states = [(task / "stat").read_text().rsplit(")", 1)[1].split()[0] for task in tasks.iterdir()]
            if set(states) == {"T"}:
                return
            time.sleep(0.01)
        raise AssertionError(f"the engine is not frozen: {states}")

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        finally:
            self.log.close()
            self.folder.cleanup()


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Engine]:
    engine = Engine("--memory", "256MB")
    yield engine
    engine.stop()


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """The engine of all tests, empty afterwards."""
    yield shared_engine
    with shared_engine.store() as store:
        store.remove_all(force=True)


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """An engine of this test's, which may kill it."""
    engine = Engine("--memory", "64MB")
    yield engine
    engine.process.kill()
    engine.stop()


@pytest.fixture(params=["shm", "tcp"])
def store(request: pytest.FixtureRequest, engine: Engine) -> Iterator[snowskin.Store]:
    """A store, by shared memory and by TCP."""
    with engine.store(transport=request.param) as store:
        yield store


def value_of(key: str, size: int) -> bytes:
    """The value of a key: any byte of it tells whose it is and where it belongs."""
    seed = hashlib.blake2b(key.encode(), digest_size=64).digest()
    block = b"".join(hashlib.blake2b(seed, digest_size=64, salt=n.to_bytes(8, "little")).digest() for n in range(16))
    numbered = (n.to_bytes(8, "little") + block[:1016] for n in range(-(-size // 1024)))
    return b"".join(numbered)[:size]
