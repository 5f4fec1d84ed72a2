"""One side of the comparison: does what it is told on standard input with whatever `mooncake` its interpreter has, and says how long it took.

It knows nothing of either implementation. Started by compare.py.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
import time
from typing import Any, Callable

BATCH = 32
LOOKED_UP = 64


class Side:
    """A store, and memory for values."""

    def __init__(self, master: str, segment_bytes: int, host: str, room_bytes: int) -> None:
        from mooncake.store import MooncakeDistributedStore, ReplicateConfig

        self.twice: Any = ReplicateConfig()
        self.twice.replica_num = 2
        self.store: Any = MooncakeDistributedStore()
        code = self.store.setup(host, "P2PHANDSHAKE", segment_bytes, 64 << 20, "tcp", "", master)
        assert code == 0, f"setup answers {code}"
        self.maps = [mmap.mmap(-1, room_bytes) for _ in range(2)]
        self.source, self.target = (ctypes.addressof(ctypes.c_char.from_buffer(room)) for room in self.maps)
        for start in (self.source, self.target):
            ctypes.memset(start, 7, room_bytes)
            assert self.store.register_buffer(start, room_bytes) == 0
        self.room_bytes = room_bytes
        self.names = 0

    def fresh(self, count: int) -> list[str]:
        self.names += count
        return [f"compare/{number}" for number in range(self.names - count, self.names)]

    def run(self, what: str, size: int, seconds: float) -> dict[str, float]:
        """How long calls take, the mean over as many as fit into so many seconds."""
        prepare: Callable[[int, float], tuple[int, float]] = getattr(self, what)
        calls, took = prepare(size, seconds)
        self.store.remove_all(True)
        return {"calls": calls, "seconds": took / calls}

    def timed(self, seconds: float, call: Callable[[int], None], most: int = 1 << 30) -> tuple[int, float]:
        call(0)
        begun, calls = time.perf_counter(), 0
        while calls < most and (calls == 0 or time.perf_counter() - begun < seconds):
            calls += 1
            call(calls)
        return calls, time.perf_counter() - begun

    def memcpy(self, size: int, seconds: float) -> tuple[int, float]:
        places = max(1, self.room_bytes // size)
        return self.timed(
            seconds, lambda n: void(ctypes.memmove(self.target + n % places * size, self.source + n % places * size, size))
        )

    def put_from(self, size: int, seconds: float) -> tuple[int, float]:
        # No more than fits without eviction.
        most = min(20_000, (256 << 20) // size)
        keys = self.fresh(most + 1)
        return self.timed(seconds, lambda n: expect(self.store.put_from(keys[n], self.source, size), 0), most)

    def put_twice(self, size: int, seconds: float) -> tuple[int, float]:
        most = min(5_000, (256 << 20) // size)
        keys = self.fresh(most + 1)
        done = self.timed(seconds, lambda n: expect(self.store.put_from(keys[n], self.source, size, self.twice), 0), most)
        expect(len(self.store.get_replica_desc(keys[done[0]])), 2)
        return done

    def get_into(self, size: int, seconds: float) -> tuple[int, float]:
        keys = self.filled(size, 16)
        places = max(1, self.room_bytes // size)
        return self.timed(
            seconds,
            lambda n: expect(self.store.get_into(keys[n % 16], self.target + n % places * size, size), size),
        )

    def put_32(self, size: int, seconds: float) -> tuple[int, float]:
        most = max(1, min(500, (256 << 20) // (size * BATCH)))
        keys = [self.fresh(BATCH) for _ in range(most + 1)]
        starts, sizes = self.places(self.source, size), [size] * BATCH
        return self.timed(
            seconds, lambda n: expect(self.store.batch_put_from(keys[n], starts, sizes), [0] * BATCH), most
        )

    def get_32(self, size: int, seconds: float) -> tuple[int, float]:
        keys = self.filled(size, BATCH)
        starts, sizes = self.places(self.target, size), [size] * BATCH
        return self.timed(seconds, lambda n: expect(self.store.batch_get_into(keys, starts, sizes), sizes))

    def is_exist(self, size: int, seconds: float) -> tuple[int, float]:
        keys = self.filled(size, 16)
        return self.timed(seconds, lambda n: expect(self.store.is_exist(keys[n % 16]), 1))

    def exist_64(self, size: int, seconds: float) -> tuple[int, float]:
        keys = self.filled(size, LOOKED_UP)
        return self.timed(seconds, lambda n: expect(self.store.batch_is_exist(keys), [1] * LOOKED_UP))

    def filled(self, size: int, count: int) -> list[str]:
        """Keys that are held; who asks for those of large values is given the same few values again."""
        keys = self.fresh(count)
        for key in keys:
            expect(self.store.put_from(key, self.source, size), 0)
        return keys

    def places(self, start: int, size: int) -> list[int]:
        assert size * BATCH <= self.room_bytes
        return [start + number * size for number in range(BATCH)]


def expect(got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"{got} instead of {wanted}")


def void(_: object) -> None:
    pass


def main() -> None:
    settings = json.loads(sys.argv[1])
    side = Side(settings["master"], settings["segment_bytes"], settings["host"], settings["room_bytes"])
    say = sys.stdout
    # Libraries that write to standard output are not part of the conversation.
    sys.stdout = sys.stderr
    print(json.dumps({"ready": True}), file=say, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer: dict[str, object] = dict(side.run(task["what"], task["size"], task["seconds"]))
        except Exception as error:  # told to whoever asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=say, flush=True)
    side.store.close()


if __name__ == "__main__":
    main()
