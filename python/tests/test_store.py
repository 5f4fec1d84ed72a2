"""The blocking store against a real engine."""

from __future__ import annotations

import array
import gc

import numpy as np
import pytest
from conftest import Engine, value_of

import snowskin
from snowskin import BatchError, Miss, Removal, errors

SIZES = [1, 2, 63, 64, 65, 4_095, 4_096, 65_537, 1 << 20, 3_274_752]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_put_comes_back(store: snowskin.Store, size: int) -> None:
    value = value_of(f"size {size}", size)
    assert store.put(f"size {size}", value) is True
    assert store.get(f"size {size}") == value
    room = bytearray(size + 3)
    assert store.get_into(f"size {size}", room) == size
    assert room == value + bytes(3)
    view = store.view(f"size {size}")
    assert view.readonly and view == value and view.obj.is_intact() and len(view.obj) == view.obj.size() == size
    assert store.lookup(f"size {size}") == size


def test_one_key_has_one_answer_and_a_list_a_list(store: snowskin.Store) -> None:
    keys = [f"batch {number}" for number in range(50)]
    values = [value_of(key, 100 + 97 * number) for number, key in enumerate(keys)]
    assert store.put(keys, values) == [True] * 50
    assert store.put(keys[:2], values[:2]) == [False, False]
    assert store.get(keys) == values
    assert store.get(tuple(keys[:3])) == values[:3]
    assert store.get(key for key in keys[:3]) == values[:3]
    assert store.lookup([*keys[:2], "nobody"]) == [100, 197, Miss.NOT_HELD]
    assert store.exists([*keys[:2], "nobody"]) == [True, True, False]
    assert store.exists(keys[0]) is True
    assert store.match_prefix([*keys[:7], "nobody", *keys[7:]]) == 7
    rooms = [bytearray(len(value)) for value in values]
    assert store.get_into(keys, rooms) == [len(value) for value in values]
    assert [bytes(room) for room in rooms] == values
    assert [bytes(view) for view in store.view(keys)] == values
    assert store.get([]) == [] and store.put([], []) == []


def test_the_first_writer_wins_and_a_replacement_replaces(store: snowskin.Store) -> None:
    assert store.put("key", b"first") is True
    assert store.put("key", b"second") is False
    assert store.get("key") == b"first"
    old = store.view("key")
    assert store.put("key", b"third", replace=True) is True
    assert store.get("key") == b"third" and old == b"first", "who reads the old value goes on reading it"


def test_a_miss_says_why_and_is_false(store: snowskin.Store) -> None:
    assert store.get("never") is Miss.NOT_HELD
    assert not Miss.NOT_HELD and Miss.REMOVED.words == "removed"
    store.put("key", b"value")
    assert store.remove("key", force=True) is Removal.REMOVED
    assert store.get("key") is Miss.REMOVED
    assert store.view(["key", "never"]) == [Miss.REMOVED, Miss.NOT_HELD]
    assert store.get_into("key", bytearray(9)) is Miss.REMOVED


def test_removals(store: snowskin.Store) -> None:
    keys = [f"remove {number}" for number in range(5)]
    store.put(keys, [b"value"] * 5)
    store.get(keys[0])
    assert store.remove(keys[0]) is Removal.LEASED and not Removal.LEASED
    assert store.remove([keys[0], "never"], force=True) == [Removal.REMOVED, Removal.MISSING]
    assert store.remove_matching(r"remove [12]$", force=True) == (2, 0)
    assert store.remove_all(force=True).removed == 2
    with pytest.raises(errors.BadPatternError):
        store.remove_matching("(")


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda value: np.frombuffer(value, np.uint8)])
def test_buffers_of_all_kinds(store: snowskin.Store, make: object) -> None:
    value = value_of("kinds", 10_000)
    assert store.put("kinds", make(value)) is True  # type: ignore[operator]
    assert store.get("kinds") == value


def test_arrays_with_a_shape_and_keys_that_are_bytes(store: snowskin.Store) -> None:
    tensor = np.arange(6_000, dtype=np.float16).reshape(2, 30, 100)
    store.put(b"\xff\xfe", tensor)
    again = np.empty_like(tensor)
    assert store.get_into(b"\xff\xfe", again) == tensor.nbytes and (again == tensor).all()
    assert (np.frombuffer(store.view(b"\xff\xfe"), np.float16).reshape(tensor.shape) == tensor).all()
    store.put("schlüssel", array.array("d", [1.5, 2.5]))
    assert store.get("schlüssel".encode()) == store.get("schlüssel")


class Tensor:
    """As torch's, which has no buffer protocol."""

    def __init__(self, values: np.ndarray, device: str = "cpu") -> None:
        self.values, self.device = values, type("Device", (), {"type": device})

    def data_ptr(self) -> int:
        return self.values.ctypes.data

    def is_contiguous(self) -> bool:
        return bool(self.values.flags.c_contiguous)

    def numel(self) -> int:
        return self.values.size

    def element_size(self) -> int:
        return self.values.itemsize


def test_tensors(store: snowskin.Store) -> None:
    store.put("tensor", Tensor(np.arange(100, dtype=np.int32)))
    again = Tensor(np.zeros(100, dtype=np.int32))
    assert store.get_into("tensor", again) == 400 and again.values.sum() == 4_950
    with pytest.raises(ValueError, match="copy it to the CPU first"):
        store.put("other", Tensor(np.zeros(3), device="cuda"))
    with pytest.raises(ValueError, match=r"use tensor.contiguous\(\)"):
        store.put("other", Tensor(np.zeros(10)[::2]))


def test_registered_memory(store: snowskin.Store) -> None:
    pool = np.zeros(1 << 20, dtype=np.uint8)
    start = pool.ctypes.data
    store.register(start, pool.nbytes)
    values = [value_of(f"at {number}", 1_000) for number in range(10)]
    keys = [f"at {number}" for number in range(10)]
    for number, value in enumerate(values):
        pool[number * 1_000 : (number + 1) * 1_000] = np.frombuffer(value, np.uint8)
    addresses = [start + number * 1_000 for number in range(10)]
    assert store.put_from(keys, addresses, [1_000] * 10) == [True] * 10
    pool[:] = 0
    assert store.get_to([*keys, "never"], [*addresses, start + 500_000], [1_000] * 11) == [1_000] * 10 + [Miss.NOT_HELD]
    assert pool[:10_000].tobytes() == b"".join(values)
    with pytest.raises(ValueError, match="overlap memory that is registered already"):
        store.register(start + 5, 10)
    with pytest.raises(errors.BufferNotRegisteredError, match="call register"):
        store.put_from(["x"], [start + pool.nbytes - 10], [11])
    store.unregister(start)
    with pytest.raises(errors.BufferNotRegisteredError, match="call register"):
        store.get_to(keys[:1], addresses[:1], [1_000])
    with pytest.raises(errors.BufferNotRegisteredError, match="no registered memory begins"):
        store.unregister(start)


def test_partial_failure_keeps_what_went_well(store: snowskin.Store) -> None:
    with pytest.raises(BatchError, match="2 of 4 keys failed, the first of them: the key is empty") as caught:
        store.put(["one", "", "two", "nul\0"], [b"1", b"x", b"2", b"x"])
    assert caught.value.outcomes[0] is True and caught.value.outcomes[2] is True
    assert isinstance(caught.value.outcomes[1], errors.InvalidKeyError) and caught.value.code == -400
    assert store.get(["one", "two"]) == [b"1", b"2"]
    with pytest.raises(BatchError) as caught:
        store.get_into(["one", "two"], [bytearray(1), bytearray(0)])
    assert caught.value.outcomes[0] == 1 and caught.value.outcomes[1].needed == 1


def test_options(store: snowskin.Store) -> None:
    keys = [f"chain {number}" for number in range(4)]
    assert store.put(keys, [b"v"] * 4, chain=True, soft_pin=30.0, group="request 7") == [True] * 4
    assert store.put("child", b"v", parents=keys[-1], hard_pin=True) is True
    assert store.put(["a", "b"], [b"v"] * 2, parents=[None, "a"]) == [True, True]
    with pytest.raises(errors.NotDurableError):
        store.put("durable", b"v", durability="ssd")
    with pytest.raises(TypeError, match='put has no option "overwrite": use replace'):
        store.put("a", b"v", overwrite=True)
    for wrong in ({"durability": "disk"}, {"soft_pin": 0.0}, {"soft_pin": float("nan")}, {"parents": ["x"] * 3}):
        with pytest.raises(ValueError):
            store.put(["a", "b"], [b"v"] * 2, **wrong)


def test_views_keep_their_bytes(engine: Engine) -> None:
    value = value_of("kept", 100_000)
    with engine.store(transport="shm") as store:
        store.put("kept", value)
        views = [store.view("kept") for _ in range(3)]
        assert views[-1].obj.is_in_place()
        store.remove("kept", force=True)
    assert all(view == value for view in views), "also when the store is closed"
    with engine.store() as store:
        pinned = sum(core["pinned_bytes"] for core in store.stats()["cores"])
        assert pinned >= 100_000
        del views
        gc.collect()
        store.put("other", b"value")
        assert sum(core["pinned_bytes"] for core in store.stats()["cores"]) < pinned


def test_numbers_of_all(store: snowskin.Store) -> None:
    store.put("key", b"value")
    stats = store.stats()
    assert stats["cores"][0]["objects"] == 1 and stats["client"]["frames_sent"] > 0


def test_keys_are_listed(store: snowskin.Store) -> None:
    keys = [f"listed {number}" for number in range(5_000)]
    store.put(keys, [b"v" * (1 + number % 7) for number in range(5_000)])
    listed = store.list_keys()
    assert sorted(key.decode() for key, _ in listed) == sorted(keys)
    assert all(size == 1 + int(key.split()[1]) % 7 for key, size in listed)
    assert sorted(store.list_keys(r" 12\d$")) == [(f"listed 12{n}".encode(), 1 + (120 + n) % 7) for n in range(10)]
    assert store.list_keys("nobody") == []
    with pytest.raises(errors.BadPatternError):
        store.list_keys("(")
