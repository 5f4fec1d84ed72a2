"""What is asked of a store, and what it answers: rows that run against ours and against the real package alike.

A row is a call and its answer. Where the real package (0.3.13) answers otherwise, the row says what, and why ours does not. This file imports neither of
them, and nothing else that the real one's interpreter may lack.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Callable, NamedTuple

MB = 1 << 20
LEASE_SECONDS = 0.5
INVALID, MISSING, EXISTS, LEASED, NOT_READY = -600, -704, -705, -706, -703
SAME = object()
#: It ends the process, or may: the row is not tried there.
CRASHES = object()


class Row(NamedTuple):
    label: str
    call: Callable[[Any], Any]
    answer: Any
    #: Of the real package.
    theirs: Any = SAME
    why: str = ""


class Raises(NamedTuple):
    kind: type[BaseException]


class Bench:
    """A store, and memory to try it with: `at` is registered, `wild` is not."""

    def __init__(self, api: Any, store: Any, settings: dict[str, Any]) -> None:
        self.api, self.s, self._settings = api, store, settings
        #: What rows of a group keep for later ones.
        self.kept: dict[str, Any] = {}
        self._registered, self._wild = ctypes.create_string_buffer(4 * MB), ctypes.create_string_buffer(MB)
        self.at, self.wild = ctypes.addressof(self._registered), ctypes.addressof(self._wild)
        self.end = self.at + 4 * MB
        assert store.register_buffer(self.at, 4 * MB) == 0

    def bytes(self, offset: int, size: int) -> bytes:
        return ctypes.string_at(self.at + offset, size)

    def config(self, **values: Any) -> Any:
        config = self.api.ReplicateConfig()
        for name, value in values.items():
            setattr(config, name, value)
        return config

    def another(self, **settings: Any) -> Any:
        """One more store of the cluster."""
        store = self.api.MooncakeDistributedStore()
        assert store.setup({**self._settings, **settings}) == 0
        return store

    def after_lease(self) -> None:
        time.sleep(LEASE_SECONDS * 1.5)

    def run(self, row: Row) -> Any:
        try:
            return plain(row.call(self))
        except (TypeError, AttributeError, RuntimeError) as error:
            kinds = (TypeError, AttributeError, RuntimeError)
            return plain(Raises(next(kind for kind in kinds if isinstance(error, kind))))

    def clear(self) -> None:
        self.s.remove_all(True)
        ctypes.memmove(self.at, bytes(range(256)), 256)


def plain(value: Any) -> Any:
    """An answer as JSON can carry it."""
    if isinstance(value, Raises):
        return f"raises {value.kind.__name__}"
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


UNREGISTERED = "memory that is not registered is not read or written"
REAL_TYPE = Raises(TypeError)

MISSES = [
    Row("is_exist", lambda b: b.s.is_exist("m"), 0),
    Row("batch_is_exist", lambda b: b.s.batch_is_exist(["m", "n"]), [0, 0]),
    Row("get", lambda b: b.s.get("m"), b""),
    Row("get_batch", lambda b: b.s.get_batch(["m", "n"]), [b"", b""]),
    Row("get_size", lambda b: b.s.get_size("m"), MISSING),
    Row("get_buffer", lambda b: b.s.get_buffer("m"), None),
    Row("batch_get_buffer", lambda b: b.s.batch_get_buffer(["m", "n"]), [None, None]),
    Row("remove", lambda b: b.s.remove("m"), MISSING),
    Row("remove by force", lambda b: b.s.remove("m", True), MISSING),
    Row("batch_remove", lambda b: b.s.batch_remove(["m", "n"]), [MISSING, MISSING]),
    Row("get_replica_desc", lambda b: b.s.get_replica_desc("m"), []),
    Row("batch_get_replica_desc", lambda b: b.s.batch_get_replica_desc(["m", "n"]), {}),
    Row("batch_replica_clear", lambda b: b.s.batch_replica_clear(["m"]), []),
    Row("get_into", lambda b: b.s.get_into("m", b.at, 100), MISSING),
    Row("empty key", lambda b: (b.s.is_exist(""), b.s.get(""), b.s.get_size(""), b.s.remove("", True)), (0, b"", MISSING, MISSING)),
    Row("get_buffer of an empty key", lambda b: b.s.get_buffer(""), None),
    Row("get_into of an empty key", lambda b: b.s.get_into("", b.at, 10), MISSING),
]

EMPTY_LISTS = [
    Row("batch_is_exist", lambda b: b.s.batch_is_exist([]), []),
    Row("get_batch", lambda b: b.s.get_batch([]), [], [b""], "as many answers as keys"),
    Row("batch_get_buffer", lambda b: b.s.batch_get_buffer([]), []),
    Row("batch_remove", lambda b: b.s.batch_remove([]), []),
    Row("put_batch", lambda b: b.s.put_batch([], []), 0),
    Row("upsert_batch", lambda b: b.s.upsert_batch([], []), 0),
    Row("batch_put_from", lambda b: b.s.batch_put_from([], [], []), []),
    Row("batch_upsert_from", lambda b: b.s.batch_upsert_from([], [], []), []),
    Row("batch_get_into", lambda b: b.s.batch_get_into([], [], []), []),
    Row("multi put", lambda b: b.s.batch_put_from_multi_buffers([], [], []), []),
    Row("multi get", lambda b: b.s.batch_get_into_multi_buffers([], [], []), []),
    Row("ranges", lambda b: b.s.get_into_ranges([], [], [], [], []), []),
    Row("get session", lambda b: (b.s.batch_get_session_start([]), b.s.batch_get_session_end([])), ([], 0)),
    Row("put session", lambda b: (b.s.batch_put_session_start([], []), b.s.batch_put_session_end([])), ([], [])),
    Row("batch_get_replica_desc", lambda b: b.s.batch_get_replica_desc([]), {}),
    Row("batch_replica_clear", lambda b: b.s.batch_replica_clear([]), []),
]

VALUES = [
    Row("put", lambda b: b.s.put("a", b"hello"), 0),
    Row("put of a held key", lambda b: b.s.put("a", b"HELLOHELLO"), 0),
    Row("the old one stays", lambda b: b.s.get("a"), b"hello"),
    Row("get_size", lambda b: b.s.get_size("a"), 5),
    Row("is_exist", lambda b: b.s.is_exist("a"), 1),
    Row("a lease protects", lambda b: b.s.remove("a"), LEASED),
    Row("each of a batch", lambda b: b.s.batch_remove(["a", "m"]), [LEASED, MISSING]),
    Row("remove_all counts none", lambda b: b.s.remove_all(), 0),
    Row("force", lambda b: b.s.remove("a", force=True), 0),
    Row("nobody has read it", lambda b: (b.s.put("a", b"hello"), b.s.remove("a")), (0, 0)),
    Row("an exist protects", lambda b: (b.s.put("a", b"1"), b.s.is_exist("a"), b.s.remove("a")), (0, 1, LEASED)),
    Row("for a while", lambda b: (b.after_lease(), b.s.remove("a"))[1], 0),
    Row("remove_all by force", lambda b: (b.s.put("a", b"1"), b.s.get("a"), b.s.remove_all(True)), (0, b"1", 1)),
    Row("empty value", lambda b: (b.s.put("e", b""), b.s.is_exist("e")), (INVALID, 0)),
    Row("empty key", lambda b: b.s.put("", b"v"), INVALID),
    Row("bytearray", lambda b: (b.s.put("v1", bytearray(b"ba")), b.s.get("v1")), (0, b"ba")),
    Row("memoryview", lambda b: (b.s.put("v2", memoryview(b"mv")), b.s.get("v2")), (0, b"mv")),
    Row("ctypes", lambda b: (b.s.put("v3", (ctypes.c_uint16 * 2)(1, 2)), len(b.s.get("v3"))), (0, 4), (0, 2), "theirs stores one byte an item"),
    Row("not contiguous", lambda b: (b.s.put("v4", memoryview(b"abcdef")[::2]), b.s.get("v4")), (INVALID, b""), (0, b"abc"), "theirs stores other bytes than the caller's"),
    Row("text", lambda b: b.s.put("v5", "text"), REAL_TYPE),
    Row("number", lambda b: b.s.put("v5", 5), REAL_TYPE),
    Row("none", lambda b: b.s.put("v5", None), REAL_TYPE),
    Row("key of bytes is the same key", lambda b: (b.s.put(b"kb", b"v"), b.s.get("kb")), (0, b"v")),
    Row("key of 300", lambda b: (b.s.put("k" * 300, b"v"), b.s.get("k" * 300)), (0, b"v")),
    Row("key of 5000", lambda b: (b.s.put("k" * 5000, b"v"), b.s.is_exist("k" * 5000)), (INVALID, 0), (0, 1), "a key has 4096 bytes at most"),
    Row("key with NUL", lambda b: (b.s.put("\0z", b"v"), b.s.is_exist("\0z")), (INVALID, 0), (0, 1), "NUL divides tenants"),
    Row("odd keys", lambda b: [(b.s.put(k, b"v"), b.s.get(k)) for k in ("a b", "ü", "a/b", "a\nb")], [(0, b"v")] * 4),
    Row("key of another type", lambda b: b.s.put(5, b"v"), REAL_TYPE),
    Row("no key", lambda b: b.s.get(None), REAL_TYPE),
    Row("by name", lambda b: (b.s.put(key="kw", value=b"v", config=b.config()), b.s.remove(key="kw", force=True)), (0, 0)),
    Row("config of another type", lambda b: b.s.put("c", b"v", None), REAL_TYPE),
]

PARTS = [
    Row("put_parts", lambda b: (b.s.put_parts("p1", b"ab", b"cd", b"ef"), b.s.get("p1")), (0, b"abcdef")),
    Row("held", lambda b: (b.s.put_parts("p1", b"zz"), b.s.get("p1")), (0, b"abcdef")),
    Row("no parts", lambda b: (b.s.put_parts("p2"), b.s.is_exist("p2")), (0, 0)),
    Row("empty parts", lambda b: (b.s.put_parts("p3", b"", b""), b.s.is_exist("p3")), (0, 0)),
    Row("some empty", lambda b: (b.s.put_parts("p4", b"", b"a", b""), b.s.get("p4")), (0, b"a")),
    Row("of many kinds", lambda b: (b.s.put_parts("p5", bytearray(b"zz"), memoryview(b"q")), b.s.get("p5")), (0, b"zzq")),
    Row("empty key", lambda b: b.s.put_parts("", b"a"), INVALID),
    Row("empty key, no parts", lambda b: b.s.put_parts(""), 0),
    Row("a list", lambda b: b.s.put_parts("p6", [b"a"]), REAL_TYPE),
    Row("text", lambda b: b.s.put_parts("p6", "a"), REAL_TYPE),
    Row("config by position", lambda b: b.s.put_parts("p6", b"a", b.config()), REAL_TYPE),
    Row("config", lambda b: b.s.put_parts("p6", b"a", config=b.config()), 0),
    Row("config None", lambda b: b.s.put_parts("p7", b"a", config=None), REAL_TYPE),
    Row("upsert_parts", lambda b: (b.s.upsert_parts("p1", b"a", b"bc"), b.s.get("p1")), (0, b"abc")),
    Row("upsert_parts of none", lambda b: (b.s.upsert_parts("p1"), b.s.get("p1")), (0, b"abc")),
]

BATCHES = [
    Row("put_batch", lambda b: b.s.put_batch(["b1", "b2"], [b"1", b"22"]), 0),
    Row("get_batch", lambda b: b.s.get_batch(["b1", "no", "b2"]), [b"1", b"", b"22"]),
    Row("one is held", lambda b: (b.s.put_batch(["b1", "b3"], [b"X", b"3"]), b.s.get_batch(["b1", "b3"])), (0, [b"1", b"3"])),
    Row("too few values", lambda b: (b.s.put_batch(["u1", "u2"], [b"1"]), b.s.batch_is_exist(["u1", "u2"])), (INVALID, [0, 0])),
    Row("an empty value", lambda b: (b.s.put_batch(["e1", "e2"], [b"", b"2"]), b.s.batch_is_exist(["e1", "e2"])), (INVALID, [0, 0])),
    Row("an empty key", lambda b: (b.s.put_batch(["", "ek"], [b"1", b"2"]), b.s.is_exist("ek")), (INVALID, 1)),
    Row("a key twice", lambda b: (b.s.put_batch(["d", "d"], [b"1", b"2"]), b.s.get("d")), (0, b"1")),
    Row("tuples", lambda b: b.s.put_batch(("tk",), (b"1",)), 0),
    Row("a value of another type", lambda b: b.s.put_batch(["w1"], ["text"]), REAL_TYPE),
    Row("a text of keys", lambda b: b.s.put_batch("ab", [b"1", b"2"]), REAL_TYPE),
    Row("exist", lambda b: b.s.batch_is_exist(["", "b1", "b1"]), [0, 1, 1]),
    Row("exist of a text", lambda b: b.s.batch_is_exist("b1"), REAL_TYPE),
    Row("exist of a tuple", lambda b: b.s.batch_is_exist(("b1",)), [1]),
    Row("exist of a set", lambda b: b.s.batch_is_exist({"b1"}), REAL_TYPE),
    Row("exist of a generator", lambda b: b.s.batch_is_exist(k for k in ["b1"]), REAL_TYPE),
    Row("exist of numbers", lambda b: b.s.batch_is_exist([5]), REAL_TYPE),
    Row("remove", lambda b: b.s.batch_remove(["b1", "zz", "b2"], True), [0, MISSING, 0]),
    Row("remove twice", lambda b: b.s.batch_remove(["b3", "b3"], True), [0, MISSING]),
]


def _with(b: Bench, **values: Any) -> Any:
    config = b.config(**values)
    key = f"c{sorted(values)}{values}"
    put = b.s.put(key, b"v" * 100, config)
    return put, b.s.is_exist(key), b.s.upsert(key, b"w" * 100, config), b.s.get(key)[:1]


WELL = (0, 1, 0, b"w")


def _refused(code: int) -> Any:
    return (code, 0, code, b"")


CONFIGS = [
    Row("none", lambda b: _with(b), WELL),
    Row("no replica", lambda b: _with(b, replica_num=0), _refused(INVALID)),
    Row("two", lambda b: _with(b, replica_num=2), WELL),
    Row("a thousand", lambda b: _with(b, replica_num=1000), WELL),
    Row("over fabrics", lambda b: _with(b, nof_replica_num=1), _refused(INVALID)),
    Row("in a file system", lambda b: _with(b, dfs_replica_num=1), _refused(-1601)),
    Row("a time without a pin", lambda b: _with(b, soft_pin_ttl_ms=5), _refused(INVALID)),
    Row("a pin", lambda b: _with(b, soft_pin_action=b.api.SoftPinAction.ENABLE), WELL),
    Row("a pin of 0", lambda b: _with(b, soft_pin_action=b.api.SoftPinAction.ENABLE, soft_pin_ttl_ms=0), WELL),
    Row("a pin of a second", lambda b: _with(b, soft_pin_action=b.api.SoftPinAction.ENABLE, soft_pin_ttl_ms=1000), WELL),
    Row("a pin of years", lambda b: _with(b, soft_pin_action=b.api.SoftPinAction.ENABLE, soft_pin_ttl_ms=10**12), _refused(INVALID)),
    Row("no pin", lambda b: _with(b, soft_pin_action=b.api.SoftPinAction.DISABLE), WELL),
    Row("a hard pin", lambda b: _with(b, with_hard_pin=True), WELL),
    Row("a place", lambda b: _with(b, preferred_segment="nosuch"), WELL),
    Row("places", lambda b: _with(b, preferred_segments=["nosuch", "no"]), WELL),
    Row("a group", lambda b: _with(b, group_ids=["g1"]), WELL),
    Row("an unnamed group", lambda b: _with(b, group_ids=[""]), WELL),
    Row("two groups", lambda b: _with(b, group_ids=["g1", "g2"]), _refused(INVALID)),
    Row("no groups", lambda b: _with(b, group_ids=[]), _refused(INVALID)),
    Row("same node", lambda b: _with(b, prefer_alloc_in_same_node=True), _refused(INVALID)),
    Row("a kind", lambda b: _with(b, data_type=b.api.ObjectDataType.KVCACHE), WELL),
    Row("groups of a batch", lambda b: b.s.put_batch(["g1", "g2"], [b"v", b"w"], b.config(group_ids=["x", "y"])), 0),
    Row("groups of addresses", lambda b: b.s.batch_put_from(["g3", "g4"], [b.at] * 2, [9, 9], b.config(group_ids=["x", "y"])), [0, 0]),
    Row("too many groups", lambda b: b.s.batch_put_from(["g5"], [b.at], [9], b.config(group_ids=["x", "y"])), [INVALID]),
    Row("same node, multi", lambda b: b.s.batch_put_from_multi_buffers(["n1"], [[b.at]], [[9]], b.config(prefer_alloc_in_same_node=True)), [0]),
    Row("same node, batch", lambda b: b.s.batch_put_from(["n2"], [b.at], [9], b.config(prefer_alloc_in_same_node=True)), [INVALID]),
    Row("same node, values", lambda b: b.s.put_batch(["n3"], [b"v"], b.config(prefer_alloc_in_same_node=True)), INVALID),
]

UPSERTS = [
    Row("new", lambda b: b.s.upsert("up", b"one"), 0),
    Row("longer", lambda b: (b.s.upsert("up", b"three"), b.s.get("up")), (0, b"three")),
    Row("leased", lambda b: (b.s.upsert("up", b"four!"), b.s.get("up")), (0, b"four!")),
    Row("empty", lambda b: (b.s.upsert("up", b""), b.s.get("up")), (INVALID, b"four!")),
    Row("empty key", lambda b: b.s.upsert("", b"x"), INVALID),
    Row("from an address", lambda b: (b.s.upsert_from("up", b.at, 10), b.s.get_size("up")), (0, 10)),
    Row("of nothing", lambda b: (b.s.upsert_from("us", b.at, 0), b.s.is_exist("us")), (0, 0)),
    Row("from an address, empty key", lambda b: b.s.upsert_from("", b.at, 4), INVALID),
    Row("unregistered", lambda b: (b.s.upsert_from("up", b.wild, 9), b.s.get_size("up")), (INVALID, 10), (0, 9), UNREGISTERED),
    Row("null", lambda b: (b.s.upsert_from("up", 0, 8), b.s.get_size("up")), (INVALID, 10), CRASHES, UNREGISTERED),
    Row("batch", lambda b: (b.s.upsert_batch(["up", "u2"], [b"x", b"yy"]), b.s.get_batch(["up", "u2"])), (0, [b"x", b"yy"])),
    Row("batch, too few", lambda b: b.s.upsert_batch(["up"], []), INVALID),
    Row("batch, an empty value", lambda b: (b.s.upsert_batch(["up", "u3"], [b"1", b""]), b.s.get_batch(["up", "u3"])), (INVALID, [b"x", b""])),
    Row("batch from addresses", lambda b: (b.s.batch_upsert_from(["up", "u4"], [b.at] * 2, [7, 8]), b.s.get_size("up")), ([0, 0], 7)),
    Row("batch from addresses, too few", lambda b: b.s.batch_upsert_from(["up"], [b.at], []), [INVALID]),
    Row("batch from addresses, of nothing", lambda b: b.s.batch_upsert_from(["up"], [b.at], [0]), [INVALID]),
    Row("a key twice", lambda b: (b.s.batch_upsert_from(["ud", "ud"], [b.at] * 2, [5, 6]), b.s.get_size("ud")), ([0, 0], 6)),
]

GROUPS: dict[str, list[Row]] = {
    "misses": MISSES,
    "empty lists": EMPTY_LISTS,
    "values": VALUES,
    "parts": PARTS,
    "batches": BATCHES,
    "configs": CONFIGS,
    "upserts": UPSERTS,
}


def new_bench(api: Any, settings: dict[str, Any]) -> Bench:
    """A store that is set up so, with memory to try it with."""
    store = api.MooncakeDistributedStore()
    code = store.setup(settings)
    assert code == 0, f"setup answers {code}"
    return Bench(api, store, settings)


def run_all(bench: Bench, groups: dict[str, list[Row]], is_real: bool) -> dict[str, dict[str, Any]]:
    """The answers of all rows."""
    answers: dict[str, dict[str, Any]] = {}
    for name, rows in groups.items():
        bench.clear()
        own = answers[name] = {}
        for row in rows:
            if not (is_real and row.theirs is CRASHES):
                own[row.label] = bench.run(row)
    return answers


def expected(row: Row, is_real: bool) -> Any:
    """What a row shall answer."""
    return plain(row.theirs if is_real and row.theirs is not SAME else row.answer)
