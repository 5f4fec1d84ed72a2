"""Blocks that are loaded while others are worked on, with asyncio and no threads:

    python python/examples/prefetch.py                       # with an engine inside this process
    python python/examples/prefetch.py 127.0.0.1:7300        # or with a cluster
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import snowskin

BLOCKS, BLOCK_BYTES = 48, 1 << 20


async def in_order(store: snowskin.AsyncStore, keys: list[str], ahead: int) -> AsyncIterator[memoryview]:
    """The values of keys, of which so many are being loaded at any time."""
    loading = [asyncio.ensure_future(store.view(key)) for key in keys[:ahead]]
    for number in range(len(keys)):
        value = await loading[number]
        if number + ahead < len(keys):
            loading.append(asyncio.ensure_future(store.view(keys[number + ahead])))
        if not value:
            raise LookupError(f"{keys[number]}: {value.words}")
        yield value


async def work(seeds: list[str]) -> None:
    keys = [f"prefetch/{number}" for number in range(BLOCKS)]
    async with snowskin.AsyncStore(seeds) as store:
        await store.put(keys, [bytes([number]) * BLOCK_BYTES for number in range(BLOCKS)])
        for ahead in (1, 8):
            begun, number = time.perf_counter(), 0
            async for value in in_order(store, keys, ahead):
                assert value[-1] == number
                number += 1
                await asyncio.sleep(0.001)  # stands for the work on a block
            print(f"{ahead} ahead: {number} blocks in {(time.perf_counter() - begun) * 1_000:.0f} ms")
        await store.remove_matching("^prefetch/", force=True)


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(work(sys.argv[1:]))
    else:
        with snowskin.Engine(memory="256MB") as engine:
            asyncio.run(work(engine.cores))


if __name__ == "__main__":
    main()
