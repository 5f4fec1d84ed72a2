"""More rows: verbs on addresses, buffers, sessions and ranges."""

from __future__ import annotations

from table import CRASHES, EXISTS, INVALID, LEASED, MB, MISSING, NOT_READY, REAL_TYPE, UNREGISTERED, Row

REGISTER = [
    Row("null", lambda b: b.s.register_buffer(0, 4096), INVALID),
    Row("of nothing", lambda b: b.s.register_buffer(b.wild, 0), INVALID),
    Row("twice", lambda b: b.s.register_buffer(b.at, 4 * MB), INVALID),
    Row("within", lambda b: b.s.register_buffer(b.at + 4096, 4096), INVALID),
    Row("beyond", lambda b: b.s.register_buffer(b.end - 4096, 8192), INVALID),
    Row("unregister within", lambda b: b.s.unregister_buffer(b.at + 4096), INVALID),
    Row("unregister another", lambda b: b.s.unregister_buffer(b.wild), INVALID),
    Row("unregister null", lambda b: b.s.unregister_buffer(0), INVALID),
    Row("a region of its own", lambda b: (b.s.register_buffer(buffer_ptr=b.wild, size=4096), b.s.unregister_buffer(b.wild)), (0, 0)),
    Row("unregister again", lambda b: b.s.unregister_buffer(b.wild), INVALID),
    Row("below 0", lambda b: b.s.register_buffer(-1, 5), REAL_TYPE),
    Row("size below 0", lambda b: b.s.register_buffer(b.wild, -5), REAL_TYPE),
    Row("a fraction", lambda b: b.s.register_buffer(float(b.wild), 5), REAL_TYPE),
]

ADDRESSES = [
    Row("put_from", lambda b: (b.s.put_from("a", b.at, 100), b.s.get("a") == b.bytes(0, 100)), (0, True)),
    Row("held", lambda b: (b.s.put_from("a", b.at, 50), b.s.get_size("a")), (0, 100)),
    Row("within a region", lambda b: (b.s.put_from("a2", b.at + 10, 20), b.s.get("a2")[:3]), (0, b"\n\x0b\x0c")),
    Row("unregistered", lambda b: (b.s.put_from("u", b.wild, 9), b.s.is_exist("u")), (INVALID, 0), (0, 1), UNREGISTERED),
    Row("null", lambda b: (b.s.put_from("n", 0, 9), b.s.is_exist("n")), (INVALID, 0), CRASHES, UNREGISTERED),
    Row("beyond a region", lambda b: (b.s.put_from("y", b.end - 5, 9), b.s.is_exist("y")), (INVALID, 0), CRASHES, UNREGISTERED),
    Row("of nothing", lambda b: (b.s.put_from("z", b.at, 0), b.s.is_exist("z")), (0, 0)),
    Row("empty key", lambda b: b.s.put_from("", b.at, 10), INVALID),
    Row("empty key, of nothing", lambda b: b.s.put_from("", b.at, 0), 0),
    Row("by name", lambda b: b.s.put_from(key="kw", buffer_ptr=b.at, size=10, config=b.config()), 0),
    Row("another name", lambda b: b.s.put_from(key="kw", buffer=b.at, size=10), REAL_TYPE),
    Row("get_into", lambda b: (b.s.get_into("a", b.at + 1000, 100), b.bytes(1000, 3)), (100, b"\0\1\2")),
    Row("a larger buffer", lambda b: b.s.get_into("a", b.at + 1000, 4096), 100),
    Row("a smaller buffer", lambda b: b.s.get_into("a", b.at + 1000, 99), INVALID),
    Row("a buffer of nothing", lambda b: b.s.get_into("a", b.at, 0), INVALID),
    Row("get_into unregistered", lambda b: b.s.get_into("a", b.wild, 100), INVALID, 100, UNREGISTERED),
    Row("get_into null", lambda b: b.s.get_into("a", 0, 100), INVALID, CRASHES, UNREGISTERED),
    Row("get_into beyond", lambda b: b.s.get_into("a", b.end - 5, 100), INVALID, CRASHES, UNREGISTERED),
    Row("get_into by name", lambda b: b.s.get_into(key="a", buffer_ptr=b.at + 1000, size=100), 100),
    Row("below 0", lambda b: b.s.get_into("a", -1, 100), REAL_TYPE),
]

ADDRESS_BATCHES = [
    Row("put", lambda b: b.s.batch_put_from(["q1", "q2"], [b.at, b.at + 100], [100, 200]), [0, 0]),
    Row("one is held", lambda b: (b.s.batch_put_from(["q1", "q3"], [b.at] * 2, [10, 20]), b.s.get_size("q1")), ([0, 0], 100)),
    Row("too few addresses", lambda b: b.s.batch_put_from(["r1", "r2"], [b.at], [9, 9]), [INVALID] * 2),
    Row("too few sizes", lambda b: b.s.batch_put_from(["r1", "r2"], [b.at] * 2, [9]), [INVALID] * 2),
    Row("a key twice", lambda b: (b.s.batch_put_from(["du", "du"], [b.at] * 2, [9, 9]), b.s.get_size("du")), ([0, 0], 9)),
    Row("of nothing", lambda b: (b.s.batch_put_from(["z1", "z2"], [b.at] * 2, [0, 9]), b.s.batch_is_exist(["z1", "z2"])), ([INVALID, 0], [0, 1])),
    Row("an empty key", lambda b: (b.s.batch_put_from(["", "z3"], [b.at] * 2, [9, 9]), b.s.is_exist("z3")), ([INVALID, 0], 1)),
    Row("unregistered", lambda b: b.s.batch_put_from(["n1", "n2"], [b.wild, b.at], [9, 9]), [INVALID, 0], [0, 0], UNREGISTERED),
    Row("tuples", lambda b: b.s.batch_put_from(("t",), (b.at,), (9,)), [0]),
    Row("by name", lambda b: b.s.batch_put_from(keys=["kw"], buffer_ptrs=[b.at], sizes=[9], config=b.config()), [0]),
    Row("below 0", lambda b: b.s.batch_put_from(["x"], [-5], [9]), REAL_TYPE),
    Row("texts", lambda b: b.s.batch_put_from(["x"], ["5"], [9]), REAL_TYPE),
    Row("get", lambda b: b.s.batch_get_into(["q1", "no", "q2"], [b.at, b.at + 1000, b.at + 2000], [100, 100, 500]), [100, MISSING, 200]),
    Row("too small", lambda b: b.s.batch_get_into(["q1", "q2"], [b.at, b.at + 1000], [99, 200]), [INVALID, 200]),
    Row("get, too few addresses", lambda b: b.s.batch_get_into(["q1", "q2"], [b.at], [100, 200]), [INVALID] * 2),
    Row("get, too few sizes", lambda b: b.s.batch_get_into(["q1", "q2"], [b.at] * 2, [100]), [INVALID] * 2),
    Row("get a key twice", lambda b: b.s.batch_get_into(["q1", "q1"], [b.at, b.at + 1000], [100, 100]), [100, 100]),
    Row("get two into one place", lambda b: b.s.batch_get_into(["q1", "q2"], [b.at + 1000] * 2, [200, 200]), [100, 200]),
    Row("get unregistered", lambda b: b.s.batch_get_into(["q1", "q2"], [b.wild, b.at], [100, 200]), [INVALID, 200], [100, 200], UNREGISTERED),
    Row("get an empty key", lambda b: b.s.batch_get_into(["", "q2"], [b.at] * 2, [100, 200]), [MISSING, 200]),
]

PIECES = [
    Row("put", lambda b: b.s.batch_put_from_multi_buffers(["m1", "m2"], [[b.at, b.at + 100], [b.at + 200]], [[10, 20], [30]]), [0, 0]),
    Row("one value", lambda b: b.s.get("m1") == b.bytes(0, 10) + b.bytes(100, 20), True),
    Row("held", lambda b: b.s.batch_put_from_multi_buffers(["m1"], [[b.at]], [[5]]), [0]),
    Row("too few keys", lambda b: b.s.batch_put_from_multi_buffers(["m3", "m4"], [[b.at]], [[5]]), [INVALID] * 2),
    Row("too few sizes", lambda b: b.s.batch_put_from_multi_buffers(["m3", "m4"], [[b.at] * 2, [b.at]], [[5], [5]]), [INVALID] * 2),
    Row("no pieces", lambda b: b.s.batch_put_from_multi_buffers(["m5", "m6"], [[], [b.at]], [[], [5]]), [INVALID, 0]),
    Row("a piece of nothing", lambda b: (b.s.batch_put_from_multi_buffers(["m7"], [[b.at, b.at + 10]], [[0, 10]]), b.s.get_size("m7")), ([0], 10)),
    Row("pieces of nothing", lambda b: b.s.batch_put_from_multi_buffers(["m8"], [[b.at]], [[0]]), [INVALID]),
    Row("unregistered", lambda b: b.s.batch_put_from_multi_buffers(["m9"], [[b.wild]], [[9]]), [INVALID], [0], UNREGISTERED),
    Row("config None", lambda b: b.s.batch_put_from_multi_buffers(["m8"], [[b.at]], [[9]], None), REAL_TYPE),
    Row("get", lambda b: b.s.batch_get_into_multi_buffers(["m1", "no", "m2"], [[b.at + 5000, b.at + 6000], [b.at], [b.at + 7000]], [[10, 20], [5], [30]]), [30, MISSING, 30]),
    Row("into both", lambda b: b.bytes(5000, 10) + b.bytes(6000, 20) == b.bytes(0, 10) + b.bytes(100, 20), True),
    Row("get otherwise", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[b.at + 5000, b.at + 6000, b.at + 7000]], [[1, 2, 27]]), [30]),
    Row("get too small", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[b.at + 5000, b.at + 6000]], [[10, 19]]), [INVALID]),
    Row("get larger", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[b.at + 5000, b.at + 6000]], [[10, 200]]), [30], [-800], "a buffer may be larger than a value, as in batch_get_into"),
    Row("get, too few keys", lambda b: b.s.batch_get_into_multi_buffers(["m1", "m2"], [[b.at]], [[30]]), [INVALID] * 2),
    Row("get, too few sizes", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[b.at] * 2], [[30]]), [INVALID], [30], "wrong arguments are refused"),
    Row("get, no pieces", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[]], [[]]), [INVALID]),
    Row("same node", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[b.at + 5000]], [[30]], prefer_alloc_in_same_node=True), [30]),
    Row("get unregistered", lambda b: b.s.batch_get_into_multi_buffers(["m1"], [[b.wild]], [[30]]), [INVALID], [30], UNREGISTERED),
    Row("metadata", lambda b: (b.s.put_from_with_metadata("w", b.at, b.at + 100, 10, 5), b.s.get("w") == b.bytes(100, 5) + b.bytes(0, 10)), (0, True)),
    Row("no metadata", lambda b: (b.s.put_from_with_metadata("w1", b.at, 0, 10, 0), b.s.get_size("w1")), (0, 10)),
    Row("no data", lambda b: (b.s.put_from_with_metadata("w2", b.at, b.at, 0, 10), b.s.is_exist("w2")), (0, 0)),
    Row("neither", lambda b: (b.s.put_from_with_metadata("w3", b.at, b.at, 0, 0), b.s.is_exist("w3")), (0, 0)),
    Row("metadata, empty key", lambda b: b.s.put_from_with_metadata("", b.at, b.at, 5, 5), INVALID, 600, "theirs forgets the sign"),
    Row("metadata, unregistered", lambda b: b.s.put_from_with_metadata("w4", b.wild, b.at, 1, 1), INVALID, 0, UNREGISTERED),
]


def _buffer(b, key):
    return b.s.get_buffer(key)


BUFFERS = [
    Row("put", lambda b: b.s.put("h", bytes(range(100))), 0),
    Row("size", lambda b: (_buffer(b, "h").size(), len(_buffer(b, "h")), _buffer(b, "h").ptr() > 0), (100, 100, True)),
    Row("bytes", lambda b: bytes(_buffer(b, "h"))[:4], b"\0\1\2\3"),
    Row("memoryview", lambda b: (memoryview(_buffer(b, "h")).nbytes, memoryview(_buffer(b, "h")).itemsize), (100, 1)),
    Row("format", lambda b: memoryview(_buffer(b, "h")).format, "B", "b", "numpy makes uint8 of it, as of all bytes"),
    Row("read only", lambda b: memoryview(_buffer(b, "h")).readonly, True, False, "it is the engine's memory, and not a copy"),
    Row("no places", lambda b: _buffer(b, "h")[0], REAL_TYPE),
    Row("batch", lambda b: [None if h is None else h.size() for h in b.s.batch_get_buffer(["h", "no"])], [100, None]),
    Row("outlives the key", lambda b: (h := _buffer(b, "h"), b.s.remove("h", True), bytes(h)[:4])[1:], (0, b"\0\1\2\3")),
    Row("no class to call", lambda b: b.api.ReplicaDescriptor(), REAL_TYPE),
]

GET_SESSION = [
    Row("put", lambda b: b.s.batch_put_from(["a", "b"], [b.at, b.at + 100], [100, 50]), [0, 0]),
    Row("start", lambda b: b.s.batch_get_session_start(["a", "no", "b"]), [0, MISSING, 0]),
    Row("ranges", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a", "b"], [[b.at + 1000, b.at + 2000], [b.at + 3000]], [[10, 5], [50]], [[0, 90], [0]]), [15, 50]),
    Row("bytes", lambda b: (b.bytes(1000, 3), b.bytes(2000, 3), b.bytes(3000, 3)), (b"\0\1\2", b"Z[\\", b"def")),
    Row("of a miss", lambda b: b.s.batch_get_into_multi_buffer_ranges(["no"], [[b.at]], [[9]], [[0]]), [INVALID]),
    Row("of no member", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a", "zz"], [[b.at + 1000]] * 2, [[9]] * 2, [[0]] * 2), [9, INVALID]),
    Row("past the end", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a"], [[b.at]], [[10]], [[95]]), [INVALID]),
    Row("of nothing", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a"], [[b.at]], [[0]], [[0]]), [0]),
    Row("no ranges", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a"], [[]], [[]], [[]]), [0]),
    Row("too few keys", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a", "b"], [[b.at]], [[9]], [[0]]), [INVALID] * 2),
    Row("too few addresses", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a"], [[b.at]], [[9, 9]], [[0]]), [INVALID]),
    Row("unregistered", lambda b: b.s.batch_get_into_multi_buffer_ranges(["a"], [[b.wild]], [[9]], [[0]]), [INVALID], CRASHES, UNREGISTERED),
    Row("start again", lambda b: b.s.batch_get_session_start(["a", "a", ""]), [0, 0, MISSING]),
    Row("a session protects", lambda b: b.s.remove("a"), LEASED),
    Row("and keeps", lambda b: (b.s.remove("a", True), b.s.batch_get_into_multi_buffer_ranges(["a"], [[b.at + 1000]], [[9]], [[0]])), (0, [9])),
    Row("end", lambda b: (b.s.batch_get_session_end(["a", "no", "b"]), b.s.batch_get_session_end(["a"])), (0, 0)),
    Row("after the end", lambda b: b.s.batch_get_into_multi_buffer_ranges(["b"], [[b.at]], [[9]], [[0]]), [INVALID]),
]

PUT_SESSION = [
    Row("start", lambda b: b.s.batch_put_session_start(["p1", "p2"], [100, 50]), [0, 0]),
    Row("nobody sees it", lambda b: (b.s.batch_is_exist(["p1", "p2"]), b.s.get("p1")), ([0, 0], b"")),
    Row("under way", lambda b: (b.s.get_size("p1"), b.s.remove("p1")), (NOT_READY, NOT_READY)),
    Row("ranges", lambda b: b.s.batch_put_from_multi_buffer_ranges(["p1", "p2"], [[b.at, b.at + 50], [b.at]], [[50, 50], [50]], [[0, 50], [0]]), [100, 50]),
    Row("past the end", lambda b: b.s.batch_put_from_multi_buffer_ranges(["p1"], [[b.at]], [[50]], [[51]]), [INVALID]),
    Row("of no member", lambda b: b.s.batch_put_from_multi_buffer_ranges(["zz"], [[b.at]], [[50]], [[0]]), [INVALID]),
    Row("too few sizes", lambda b: b.s.batch_put_from_multi_buffer_ranges(["p1"], [[b.at] * 2], [[50]], [[0]]), [INVALID]),
    Row("too few keys", lambda b: b.s.batch_put_from_multi_buffer_ranges(["p1", "p2"], [[b.at]], [[50]], [[0]]), [INVALID] * 2),
    Row("null", lambda b: b.s.batch_put_from_multi_buffer_ranges(["p1"], [[0]], [[50]], [[0]]), [INVALID]),
    Row("end", lambda b: b.s.batch_put_session_end(["p1", "nosuch"]), [0, INVALID]),
    Row("end again", lambda b: b.s.batch_put_session_end(["p1"]), [INVALID]),
    Row("it is there", lambda b: (b.s.get("p1") == b.bytes(0, 100), b.s.is_exist("p2")), (True, 0)),
    Row("revoke", lambda b: b.s.batch_put_session_revoke(["p2", "nosuch"]), [0, INVALID]),
    Row("revoke again", lambda b: b.s.batch_put_session_revoke(["p2", "p1"]), [INVALID] * 2),
    Row("of a held key", lambda b: (b.s.batch_put_session_start(["p1"], [10]), b.s.batch_put_session_end(["p1"]), b.s.get_size("p1")), ([EXISTS], [INVALID], 100)),
    Row("of nothing", lambda b: b.s.batch_put_session_start(["z0"], [0]), [INVALID]),
    Row("empty key", lambda b: b.s.batch_put_session_start([""], [10]), [INVALID]),
    Row("too few sizes at start", lambda b: b.s.batch_put_session_start(["z1", "z2"], [10]), [INVALID] * 2),
    Row("a key twice", lambda b: b.s.batch_put_session_start(["dd", "dd"], [10, 10]), [0, EXISTS]),
    Row("begun already", lambda b: b.s.batch_put_session_start(["dd"], [10]), [INVALID]),
    Row("nothing written", lambda b: (b.s.batch_put_session_end(["dd"]), b.s.is_exist("dd")), ([0], 1)),
    Row("same node", lambda b: (b.s.batch_put_session_start(["sn"], [10], b.config(prefer_alloc_in_same_node=True)), b.s.batch_put_session_revoke(["sn"])), ([0], [0])),
    Row("two replicas", lambda b: (b.s.batch_put_session_start(["cc"], [10], b.config(replica_num=2)), b.s.batch_put_session_end(["cc"])), ([0], [0])),
    Row("by name", lambda b: (b.s.batch_put_session_start(keys=["kz"], sizes=[5], config=b.config()), b.s.batch_put_session_revoke(keys=["kz"])), ([0], [0])),
]


def _ranges(b, *arguments):
    return b.s.get_into_ranges(*arguments)


RANGES = [
    Row("put", lambda b: b.s.batch_put_from(["p1", "b"], [b.at, b.at + 100], [100, 50]), [0, 0]),
    Row("one buffer", lambda b: _ranges(b, [b.at + 10000], [["p1", "b"]], [[[0, 20], [100]]], [[[0, 50], [10]]], [[[10, 10], [20]]]), [[[10, 10], [20]]]),
    Row("bytes", lambda b: (b.bytes(10000, 3), b.bytes(10020, 3), b.bytes(10100, 3)), (b"\0\1\2", b"234", b"nop")),
    Row("two buffers", lambda b: _ranges(b, [b.at + 10000, b.at + 20000], [["p1"], ["b"]], [[[0]], [[0]]], [[[0]], [[0]]], [[[100]], [[50]]]), [[[100]], [[50]]]),
    Row("a miss", lambda b: _ranges(b, [b.at], [["no", "b"]], [[[0], [0]]], [[[0], [0]]], [[[10], [10]]]), [[[MISSING], [10]]]),
    Row("past the end", lambda b: _ranges(b, [b.at], [["b"]], [[[0, 0]]], [[[45, 0]]], [[[10, 5]]]), [[[INVALID, 5]]]),
    Row("of nothing", lambda b: _ranges(b, [b.at], [["b"]], [[[0]]], [[[0]]], [[[0]]]), [[[0]]]),
    Row("too few buffers", lambda b: _ranges(b, [b.at], [["b"], ["b"]], [[[0]]], [[[0]]], [[[5]]]), [[[INVALID]]]),
    Row("too few offsets", lambda b: _ranges(b, [b.at], [["b", "p1"]], [[[0]]], [[[0]]], [[[5]]]), [[[INVALID], [INVALID]]]),
    Row("too few sizes", lambda b: _ranges(b, [b.at], [["b"]], [[[0, 1]]], [[[0]]], [[[5]]]), [[[INVALID, INVALID]]]),
    Row("no keys", lambda b: _ranges(b, [b.at], [[]], [[]], [[]], [[]]), [[]]),
    Row("no ranges", lambda b: _ranges(b, [b.at], [["b"]], [[[]]], [[[]]], [[[]]]), [[[]]]),
    Row("unregistered", lambda b: _ranges(b, [b.wild], [["b"]], [[[0]]], [[[0]]], [[[5]]]), [[[INVALID]]]),
    Row("past a region", lambda b: _ranges(b, [b.end - 10], [["b"]], [[[0]]], [[[0]]], [[[20]]]), [[[INVALID]]]),
    Row("null", lambda b: _ranges(b, [0], [["b"]], [[[0]]], [[[0]]], [[[20]]]), [[[INVALID]]]),
    Row("a key twice", lambda b: _ranges(b, [b.at], [["b", "b"]], [[[0], [9]]], [[[0], [1]]], [[[5], [6]]]), [[[5], [6]]]),
    Row("by name", lambda b: b.s.get_into_ranges(buffer_ptrs=[b.at], all_keys=[["b"]], all_dst_offsets=[[[0]]], all_src_offsets=[[[0]]], all_sizes=[[[5]]]), [[[5]]]),
]

GROUPS = {
    "registering": REGISTER,
    "addresses": ADDRESSES,
    "batches of addresses": ADDRESS_BATCHES,
    "pieces": PIECES,
    "buffers": BUFFERS,
    "a session of reads": GET_SESSION,
    "a session of writes": PUT_SESSION,
    "ranges": RANGES,
}
