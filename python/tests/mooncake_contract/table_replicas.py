"""Rows of objects that several stores have: two stores lend memory besides what is there."""

from __future__ import annotations

import time

from table import INVALID, MISSING, Row

NO_TASK = (0, 0)
#: More than either package needs for a task.
TASK_SECONDS = 20.0
KEYS_MAX = 100


def _lend(b):
    b.kept = {"one": b.another(global_segment_size="64MB"), "two": b.another(global_segment_size="64MB")}
    return [store.get_hostname().rpartition(":")[0] for store in b.kept.values()]


def _names(b):
    return b.kept["one"].get_hostname(), b.kept["two"].get_hostname()


def _end(b, begun):
    """How a task ended: type, status, and whether its times and its id are those of a task that has ended."""
    task, code = begun
    deadline = time.monotonic() + TASK_SECONDS
    found = None
    while code == 0 and time.monotonic() < deadline:
        found, code = b.s.query_task(task)
        if str(found.status) in ("TaskStatus.SUCCESS", "TaskStatus.FAILED"):
            break
        time.sleep(0.05)
    if found is None:
        return code
    times = 0 < found.created_at_ms_epoch <= found.last_updated_at_ms_epoch
    return str(found.type), str(found.status), times, tuple(found.id) == tuple(task), found.message != ""


def _ended(kind):
    return f"TaskType.{kind}", "TaskStatus.SUCCESS", True, True, True


def _endpoints(b, key):
    return [replica.get_memory_descriptor().buffer_descriptor.transport_endpoint for replica in b.s.get_replica_desc(key)]


def _held(b, key):
    """How many replicas there are, and at how many places."""
    endpoints = _endpoints(b, key)
    return len(endpoints), len(set(endpoints))


def _move(b):
    """Moves a key from the first store to the second: one that lies there can be moved away."""
    one, two = _names(b)
    for number in range(KEYS_MAX):
        b.kept["key"] = key = f"moved {number}"
        assert b.kept["one"].put(key, key.encode() * 100) == 0
        begun = b.s.create_move_task(key, one, two)
        if begun[1] == 0:
            return _end(b, begun)
    return "no key lies at the first store"


def _key(b):
    return b.kept["key"]


def _clear(b, *segments):
    """Clears by the store that has put the key: in the real package nobody else can."""
    b.after_lease()
    key = _key(b)
    return [cleared == [key] for cleared in (b.kept["one"].batch_replica_clear([key], segment) for segment in segments)]


def _put(b, key, number):
    put = b.s.put(key, key.encode(), b.config(replica_num=number))
    return put, b.s.get(key) == key.encode(), *_held(b, key)


def _close(b):
    codes = b.kept["one"].close(), b.kept["two"].close()
    b.kept = {}
    return codes


TWO_LENDERS = [
    Row("lend", _lend, ["127.0.0.1", "127.0.0.1"]),
    Row("two", lambda b: _put(b, "two", 2), (0, True, 2, 2)),
    Row("three", lambda b: _put(b, "three", 3), (0, True, 3, 3)),
    Row("as many as there can be", lambda b: _put(b, "many", 1000), (0, True, 3, 3)),
    Row("one", lambda b: _put(b, "single", 1), (0, True, 1, 1)),
    Row("a held key gets no more", lambda b: _put(b, "single", 3), (0, True, 1, 1)),
    Row("upsert", lambda b: (b.s.upsert("single", b"new", b.config(replica_num=2)), b.s.get("single"), *_held(b, "single")), (0, b"new", 2, 2)),
    Row("batch", lambda b: (b.s.put_batch(["b1", "b2"], [b"1", b"2"], b.config(replica_num=2)), _held(b, "b1"), _held(b, "b2")), (0, (2, 2), (2, 2))),
    Row("addresses", lambda b: (b.s.batch_put_from(["a1", "a2"], [b.at] * 2, [9, 9], b.config(replica_num=2)), _held(b, "a1"), _held(b, "a2")), ([0, 0], (2, 2), (2, 2))),
    Row("session", lambda b: (b.s.batch_put_session_start(["s1"], [9], b.config(replica_num=2)), b.s.batch_put_session_end(["s1"]), _held(b, "s1")), ([0], [0], (2, 2))),
    Row("described", lambda b: {key: len(found) for key, found in b.s.batch_get_replica_desc(["two", "no", "three"]).items()}, {"two": 2, "three": 3}),
    Row("each is complete", lambda b: {(str(found.status), found.get_memory_descriptor().buffer_descriptor.size) for found in b.s.get_replica_desc("two")} == {("ReplicaStatus.COMPLETE", 3)}, True),
    Row("move", _move, _ended("REPLICA_MOVE")),
    Row("it is at one place", lambda b: (_held(b, _key(b)), b.s.get(_key(b)) == _key(b).encode() * 100), ((1, 1), True)),
    Row("from where it is not", lambda b: b.s.create_move_task(_key(b), *_names(b)), (NO_TASK, INVALID)),
    Row("to where it is", lambda b: b.s.create_move_task(_key(b), _names(b)[1], _names(b)[1]), (NO_TASK, INVALID)),
    Row("copy", lambda b: _end(b, b.s.create_copy_task(_key(b), [_names(b)[0]])), _ended("REPLICA_COPY")),
    Row("it is at two places", lambda b: _held(b, _key(b)), (2, 2)),
    Row("copy to where it is", lambda b: _end(b, b.s.create_copy_task(_key(b), list(_names(b)))), _ended("REPLICA_COPY")),
    Row("that changed nothing", lambda b: _held(b, _key(b)), (2, 2)),
    Row("copy to an unknown place", lambda b: b.s.create_copy_task(_key(b), [_names(b)[0], "nosuch"]), (NO_TASK, INVALID)),
    Row("copy of a miss", lambda b: b.s.create_copy_task("no", list(_names(b))), (NO_TASK, MISSING)),
    Row("move of a miss", lambda b: b.s.create_move_task("no", *_names(b)), (NO_TASK, MISSING)),
    Row("move to where another is", lambda b: (_end(b, b.s.create_move_task(_key(b), *_names(b))), _held(b, _key(b))), (_ended("REPLICA_MOVE"), (1, 1))),
    Row("clear where it is not", lambda b: (_clear(b, _names(b)[0], "nosuch"), _held(b, _key(b))), ([False, False], (1, 1))),
    Row("clear a leased one of two", lambda b: (_end(b, b.s.create_copy_task(_key(b), [_names(b)[0]])), b.s.is_exist(_key(b)), b.kept["one"].batch_replica_clear([_key(b)], _names(b)[0]) == [_key(b)]), (_ended("REPLICA_COPY"), 1, True), (_ended("REPLICA_COPY"), 1, False), "the lease protects the object, which is at another place, too"),
    Row("clear one of two", lambda b: (_end(b, b.s.create_copy_task(_key(b), [_names(b)[0]])), _clear(b, _names(b)[0]), _held(b, _key(b))), (_ended("REPLICA_COPY"), [True], (1, 1))),
    Row("clear a leased last one", lambda b: (b.s.is_exist(_key(b)), b.kept["one"].batch_replica_clear([_key(b)], _names(b)[1])), (1, [])),
    Row("clear the last one", lambda b: (_clear(b, _names(b)[1]), b.s.is_exist(_key(b))), ([True], 0)),
    Row("close", _close, (0, 0)),
]

GROUPS = {"two lenders": TWO_LENDERS}
