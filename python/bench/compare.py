"""The same calls on Mooncake Store and on Snowskin, in turns: how many times as fast each is here.

    python python/bench/compare.py --theirs /path/to/python --their-master /path/to/mooncake_master

`--theirs` is an interpreter with the real `mooncake` package, `--ours` one with ours (this one, if nothing is said, after
`python -m snowskin.mooncake install`). Every figure is a ratio of the same call on the same sizes, measured in alternating rounds; median
(lowest … highest) of the rounds. One process: the caller lends the memory that values go to. Two: another process lends it. Three: two
others do, and each value goes to both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORKER = str(Path(__file__).with_name("worker.py"))
SIZES = [4 << 10, 64 << 10, 1 << 20, 16 << 20]
CALLS = ["put_from", "get_into", "put_32", "get_32"]
QUESTIONS = ["is_exist", "exist_64"]
#: With two that lend memory.
TWICE = ["put_twice"]
WORDS = {
    "put_from": "put_from",
    "put_twice": "put_from, replica_num=2",
    "get_into": "get_into",
    "put_32": "batch_put_from of 32",
    "get_32": "batch_get_into of 32",
    "is_exist": "is_exist",
    "exist_64": "batch_is_exist of 64",
}
SEGMENT_BYTES = 2 << 30
ROOM_BYTES = 512 << 20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Worker:
    """A process with a store."""

    def __init__(self, python: str, master: str, segment_bytes: int, log: Path, environment: dict[str, str]) -> None:
        settings = {
            "master": master,
            "segment_bytes": segment_bytes,
            "host": f"127.0.0.1:{free_port()}",
            "room_bytes": ROOM_BYTES,
        }
        self.log = open(log, "w")
        self.process = subprocess.Popen(
            [python, WORKER, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        assert self.hear().get("ready"), f"see {log}"

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended; its last words:\n{Path(self.log.name).read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line) if line.startswith("{") else self.hear()
        return answer

    def run(self, what: str, size: int, seconds: float) -> float:
        """Seconds of a call."""
        assert self.process.stdin is not None
        print(json.dumps({"what": what, "size": size, "seconds": seconds}), file=self.process.stdin, flush=True)
        answer = self.hear()
        if "error" in answer:
            raise SystemExit(f"{what} of {size} bytes: {answer['error']}; see {self.log.name}")
        took: float = answer["seconds"]
        return took

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Cluster:
    """A master, a caller, and in between perhaps processes that lend memory."""

    def __init__(self, name: str, python: str, master: list[str], processes: int, folder: Path, library: str) -> None:
        self.environment = dict(os.environ, MC_LOG_LEVEL="ERROR")
        if library:
            self.environment["LD_LIBRARY_PATH"] = library
        port, metrics = free_port(), free_port()
        command = [*master, f"--rpc_port={port}", f"--metrics_port={metrics}", "--rpc_address=127.0.0.1"]
        self.log = open(folder / f"{name}-master.log", "w")
        self.master = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=self.environment)
        await_port(port, self.master)
        address = f"127.0.0.1:{port}"
        self.holders = [
            Worker(python, address, SEGMENT_BYTES, folder / f"{name}-holder-{number}.log", self.environment)
            for number in range(processes - 1)
        ]
        mine = SEGMENT_BYTES if processes == 1 else 0
        self.caller = Worker(python, address, mine, folder / f"{name}-caller.log", self.environment)

    def stop(self) -> None:
        self.caller.stop()
        for holder in self.holders:
            holder.stop()
        self.master.terminate()
        try:
            self.master.wait(20)
        except subprocess.TimeoutExpired:
            self.master.kill()
            self.master.wait()
        self.log.close()


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"the master ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the master does not listen")


def spread(numbers: list[float], digits: int = 1) -> str:
    low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
    return f"{middle:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def size_words(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def tasks_of(processes: int) -> list[tuple[str, int]]:
    if processes == 3:
        return [(what, size) for what in TWICE for size in SIZES]
    return [(what, size) for what in CALLS for size in SIZES] + [(what, 4 << 10) for what in QUESTIONS]


def measure(
    ours: Cluster, theirs: Cluster, tasks: list[tuple[str, int]], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    rows = []
    for number, (what, size) in enumerate(tasks):
        print(f"\r{number}/{len(tasks)} {what} {size_words(size)}      ", end="", file=sys.stderr, flush=True)
        times: dict[str, list[float]] = {"ours": [], "theirs": [], "memcpy": []}
        for turn in range(rounds):
            sides = [("ours", ours), ("theirs", theirs)]
            for side, cluster in sides if turn % 2 else reversed(sides):
                times[side].append(cluster.caller.run(what, size, seconds))
            times["memcpy"].append(ours.caller.run("memcpy", size, seconds / 4))
        rows.append({"what": what, "size": size, **times})
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return rows


def report(processes: int, rows: list[dict[str, Any]]) -> None:
    where = ["one process", "two processes", "three processes"][processes - 1]
    print(f"\n{where:<24}{'size':>8}{'ours':>12}{'theirs':>12}   times as fast         of memcpy, ours / theirs")
    for row in rows:
        ours, theirs, memcpy = row["ours"], row["theirs"], row["memcpy"]
        values = {"put_32": 32, "get_32": 32}.get(row["what"], 1)
        faster = spread([b / a for a, b in zip(ours, theirs)])
        line = f"{WORDS[row['what']]:<24}{size_words(row['size']):>8}"
        line += f"{statistics.median(ours) * 1e6:>9.1f} µs{statistics.median(theirs) * 1e6:>9.1f} µs   {faster:<22}"
        if row["what"] not in QUESTIONS:
            shares = [statistics.median([values * m / t for m, t in zip(memcpy, side)]) for side in (ours, theirs)]
            line += f"{shares[0]:.2f} / {shares[1]:.2f}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default=sys.executable, help="an interpreter with our mooncake package")
    parser.add_argument("--our-master", default=shutil.which("mooncake_master"), help="our mooncake_master")
    parser.add_argument("--theirs", required=True, help="an interpreter with the real mooncake package")
    parser.add_argument("--their-master", required=True, help="the real mooncake_master")
    parser.add_argument("--their-libraries", default="", help="LD_LIBRARY_PATH for theirs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one measurement")
    parser.add_argument("--processes", type=int, choices=[1, 2, 3], action="append", help="all, if nothing is said")
    parser.add_argument("--json", help="a file for all times")
    arguments = parser.parse_args()
    if not arguments.our_master:
        raise SystemExit("our mooncake_master is not on the path: python -m snowskin.mooncake install, or --our-master")
    everything = []
    for processes in arguments.processes or [1, 2, 3]:
        with tempfile.TemporaryDirectory(prefix="snowskin-compare-") as folder:
            logs = Path(folder)
            ours = Cluster("ours", arguments.ours, [arguments.our_master], processes, logs, "")
            theirs = Cluster(
                "theirs", arguments.theirs, [arguments.their_master], processes, logs, arguments.their_libraries
            )
            try:
                rows = measure(ours, theirs, tasks_of(processes), arguments.rounds, arguments.seconds)
            finally:
                ours.stop()
                theirs.stop()
        report(processes, rows)
        everything.append({"processes": processes, "rows": rows})
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
