"""A prefix cache as an inference engine uses it, with an engine inside this process. Needs numpy and nothing else:

    python python/examples/prefix_cache.py

Blocks of 64 tokens are named by a hash of all tokens up to their end, so two requests that begin alike have the same names for what they have
in common. A request asks how many of its leading blocks are held, loads those, computes the rest, and puts what it has computed.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np

import snowskin

BLOCK_TOKENS = 64
#: Of a small model: 8 layers, keys and values, 8 heads of 64, in 16 bits.
BLOCK_SHAPE = (8, 2, BLOCK_TOKENS, 8, 64)


def names(tokens: list[int]) -> list[bytes]:
    """The names of a request's whole blocks."""
    digest, found = hashlib.blake2b(digest_size=16), []
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        digest.update(np.array(tokens[end - BLOCK_TOKENS : end], dtype=np.int32).tobytes())
        found.append(b"toy-model/" + digest.hexdigest().encode())
    return found


def compute(tokens: list[int]) -> np.ndarray:
    """Stands for the prefill of one block: 10 ms, and keys and values that depend on the tokens."""
    time.sleep(0.01)
    return np.random.default_rng(tokens).standard_normal(BLOCK_SHAPE, dtype=np.float32).astype(np.float16)


def serve(store: snowskin.Store, tokens: list[int]) -> tuple[np.ndarray, int]:
    """Keys and values of a request's blocks, and how many of them were loaded."""
    keys = names(tokens)
    blocks = np.empty((len(keys), *BLOCK_SHAPE), dtype=np.float16)
    held = store.match_prefix(keys)
    loaded = store.get_into(keys[:held], list(blocks[:held]))
    # What has gone since it was matched is computed like the rest.
    held = next((number for number, size in enumerate(loaded) if not size), held)
    for number in range(held, len(keys)):
        blocks[number] = compute(tokens[number * BLOCK_TOKENS : (number + 1) * BLOCK_TOKENS])
    store.put(keys[held:], list(blocks[held:]), chain=True, parents=keys[held - 1] if held else None)
    return blocks, held


def main() -> None:
    system_prompt = list(range(1_000, 1_000 + 20 * BLOCK_TOKENS))
    questions = [list(range(seed, seed + 3 * BLOCK_TOKENS)) for seed in (1, 2, 1)]
    with snowskin.Engine(memory="256MB") as engine, snowskin.Store(engine.cores) as store:
        for number, question in enumerate(questions):
            begun = time.perf_counter()
            blocks, held = serve(store, system_prompt + question)
            took = (time.perf_counter() - begun) * 1_000
            print(f"request {number}: {held} of {len(blocks)} blocks were held, {took:.0f} ms")
        again, _ = serve(store, system_prompt + questions[0])
        assert (again == serve(store, system_prompt + questions[2])[0]).all(), "the same tokens have the same keys and values"


if __name__ == "__main__":
    main()
