"""More rows: replicas and tasks, patterns, segments, and what a store is told and answers with."""

from __future__ import annotations

from table import CRASHES, INVALID, MB, MISSING, REAL_TYPE, Raises, Row

NO_TASK = (0, 0)


def _set(b, name, value):
    config = b.api.ReplicateConfig()
    setattr(config, name, value)
    return getattr(config, name)


def _descriptor(b, key):
    (replica,) = b.s.get_replica_desc(key)
    return replica


REPLICAS = [
    Row("put", lambda b: b.s.put_batch(["r1", "r2"], [b"v" * 10, b"w"]), 0),
    Row("status", lambda b: str(_descriptor(b, "r1").status), "ReplicaStatus.COMPLETE"),
    Row("where", lambda b: (_descriptor(b, "r1").is_memory_replica(), _descriptor(b, "r1").is_disk_replica(), _descriptor(b, "r1").is_local_disk_replica()), (True, False, False)),
    Row("size", lambda b: _descriptor(b, "r1").get_memory_descriptor().buffer_descriptor.size, 10),
    Row("endpoint", lambda b: ":" in _descriptor(b, "r1").get_memory_descriptor().buffer_descriptor.transport_endpoint, True),
    Row("no disk", lambda b: _descriptor(b, "r1").get_disk_descriptor(), Raises(RuntimeError)),
    Row("batch", lambda b: sorted(b.s.batch_get_replica_desc(["r1", "no", "r2"])), ["r1", "r2"]),
    Row("clear what is leased", lambda b: (b.s.is_exist("r1"), b.s.batch_replica_clear(["r1"])), (1, [])),
    Row("clear elsewhere", lambda b: (b.after_lease(), b.s.batch_replica_clear(["r1"], "nosuch"))[1], []),
    Row("clear", lambda b: (b.s.batch_replica_clear(["r1", "no"]), b.s.is_exist("r1")), (["r1"], 0)),
    Row("copy a miss", lambda b: b.s.create_copy_task("no", ["nosuch"]), (NO_TASK, MISSING)),
    Row("copy nowhere", lambda b: b.s.create_copy_task("r2", []), (NO_TASK, INVALID)),
    Row("copy to no segment", lambda b: b.s.create_copy_task("r2", ["nosuch"]), (NO_TASK, INVALID)),
    Row("move a miss", lambda b: b.s.create_move_task("no", "a", "b"), (NO_TASK, MISSING)),
    Row("move to no segment", lambda b: b.s.create_move_task("r2", "nosuch", "no"), (NO_TASK, INVALID)),
    Row("query no task", lambda b: b.s.query_task((1, 2)), (None, -1400)),
    Row("query a text", lambda b: b.s.query_task("x"), REAL_TYPE),
    Row("query a number", lambda b: b.s.query_task(5), REAL_TYPE),
    Row("offload reads", lambda b: b.s.get_offload_rpc_read_count(), 0),
]

PATTERNS = [
    Row("put", lambda b: b.s.put_batch(["aa1", "aa2", "baa3", "bb"], [b"v"] * 4), 0),
    Row("no pattern", lambda b: (b.s.remove_by_regex("["), b.s.remove_by_regex("*")), (INVALID, INVALID)),
    Row("found anywhere", lambda b: (b.s.remove_by_regex("aa"), b.s.batch_is_exist(["aa1", "baa3", "bb"])), (3, [0, 0, 1])),
    Row("a lease protects", lambda b: (b.s.remove_by_regex(""), b.s.remove_by_regex("", True)), (0, 1)),
    Row("none", lambda b: b.s.remove_by_regex("^zz"), 0),
    Row("digits", lambda b: (b.s.put("X1", b"1"), b.s.remove_by_regex("^X\\d$")), (0, 1)),
    Row("look-ahead", lambda b: b.s.remove_by_regex("^X(?=1)"), INVALID, 0, "these patterns take a time that is linear"),
    Row("by name", lambda b: b.s.remove_by_regex(regex_pattern="^X1", force=True), 0),
]

SEGMENTS = [
    Row("none of it", lambda b: b.s.allocate_and_mount_segment(0), {"ret": -1, "segment_ids": [], "allocated_size": 0}),
    Row("unknown", lambda b: (b.s.unmount_and_free_segment(["zz"]), b.s.unmount_segment(["zz"])), (-1, -1)),
    Row("none", lambda b: (b.s.unmount_and_free_segment([]), b.s.unmount_segment([])), (0, 0)),
    Row("a text", lambda b: b.s.unmount_segment("zz"), REAL_TYPE),
    Row("no file", lambda b: b.s.mount_segment("/dev/shm/nosuch", 16 * MB), {"ret": -1, "segment_ids": []}),
    Row("nothing of a file", lambda b: b.s.mount_segment("/dev/null", 0), {"ret": 0, "segment_ids": []}),
    Row("no disk", lambda b: b.s.unmount_local_disk_segment(), 0),
]

CONFIG = [
    Row("defaults", lambda b: [getattr(b.config(), n) for n in ("replica_num", "nof_replica_num", "dfs_replica_num", "soft_pin_ttl_ms", "with_hard_pin", "preferred_segments", "preferred_segment", "prefer_alloc_in_same_node", "group_ids")], [1, 0, 0, None, False, [], "", False, None]),
    Row("in words", lambda b: str(b.config()), "ReplicateConfig: { replica_num: 1, nof_replica_num: 0, dfs_replica_num: 0, soft_pin_action: PRESERVE, soft_pin_ttl_ms: default, with_hard_pin: 0, preferred_segments: [], preferred_nof_segments: [], prefer_alloc_in_same_node: 0, data_type: UNKNOWN }"),
    Row("in more words", lambda b: str(b.config(soft_pin_action=b.api.SoftPinAction.ENABLE, with_hard_pin=True, preferred_segments=["a", "b"], preferred_segment="s", data_type=b.api.ObjectDataType.KVCACHE)), "ReplicateConfig: { replica_num: 1, nof_replica_num: 0, dfs_replica_num: 0, soft_pin_action: ENABLE, soft_pin_ttl_ms: default, with_hard_pin: 1, preferred_segments: [a, b], preferred_segment (deprecated): s, preferred_nof_segments: [], prefer_alloc_in_same_node: 0, data_type: KVCACHE }"),
    Row("largest", lambda b: _set(b, "replica_num", 2**64 - 1), 2**64 - 1),
    Row("below 0", lambda b: _set(b, "replica_num", -1), REAL_TYPE),
    Row("text for a number", lambda b: _set(b, "replica_num", "1"), REAL_TYPE),
    Row("fraction", lambda b: _set(b, "replica_num", 1.5), REAL_TYPE),
    Row("truth for a number", lambda b: _set(b, "replica_num", True), 1),
    Row("number for an action", lambda b: _set(b, "soft_pin_action", 1), REAL_TYPE),
    Row("text for an action", lambda b: _set(b, "soft_pin_action", "ENABLE"), REAL_TYPE),
    Row("a time", lambda b: (_set(b, "soft_pin_ttl_ms", 5), _set(b, "soft_pin_ttl_ms", None)), (5, None)),
    Row("a time below 0", lambda b: _set(b, "soft_pin_ttl_ms", -1), REAL_TYPE),
    Row("a fraction of a time", lambda b: _set(b, "soft_pin_ttl_ms", 1.0), REAL_TYPE),
    Row("number for a truth", lambda b: (_set(b, "with_hard_pin", 1), _set(b, "with_hard_pin", None)), (True, False)),
    Row("tuple of texts", lambda b: _set(b, "preferred_segments", ("a", "b")), ["a", "b"]),
    Row("text for texts", lambda b: _set(b, "preferred_segments", "ab"), REAL_TYPE),
    Row("none for texts", lambda b: _set(b, "preferred_segments", None), REAL_TYPE),
    Row("bytes for a text", lambda b: _set(b, "preferred_segment", b"x"), "x"),
    Row("none for a text", lambda b: _set(b, "preferred_segment", None), REAL_TYPE),
    Row("number for a kind", lambda b: _set(b, "data_type", 1), REAL_TYPE),
    Row("groups", lambda b: [_set(b, "group_ids", value) for value in (["g"], [], None)], [["g"], [], None]),
    Row("unknown", lambda b: _set(b, "nosuch", 1), Raises(AttributeError)),
    Row("no arguments", lambda b: b.api.ReplicateConfig(replica_num=2), REAL_TYPE),
    Row("a list is a copy", lambda b: (c := b.config(), c.preferred_segments.append("z"), c.preferred_segments)[2], []),
    Row("no equals", lambda b: b.config() == b.config(), False),
]


def _kind(member):
    return repr(member), str(member), member.name, member.value, int(member), member == int(member), hash(member)


KINDS = [
    Row("action", lambda b: _kind(b.api.SoftPinAction.ENABLE), ("<SoftPinAction.ENABLE: 1>", "SoftPinAction.ENABLE", "ENABLE", 1, 1, False, 1)),
    Row("members", lambda b: [[m, int(v)] for e in ("SoftPinAction", "ReplicaStatus", "TaskStatus", "TaskType", "ObjectDataType") for m, v in sorted(getattr(b.api, e).__members__.items())],
        [["DISABLE", 2], ["ENABLE", 1], ["PRESERVE", 0],
         ["COMPLETE", 3], ["FAILED", 5], ["INITIALIZED", 1], ["PROCESSING", 2], ["REMOVED", 4], ["UNDEFINED", 0],
         ["FAILED", 2], ["PENDING", 0], ["PROCESSING", 1], ["SUCCESS", 3],
         ["REPLICA_COPY", 0], ["REPLICA_MOVE", 1],
         ["ACTIVATION", 5], ["GENERAL", 9], ["GRADIENT", 6], ["KVCACHE", 1], ["METADATA", 8], ["OPTIMIZER_STATE", 7], ["SAMPLE", 4], ["TENSOR", 2], ["UNKNOWN", 0], ["WEIGHT", 3]]),
    Row("by number", lambda b: str(b.api.TaskStatus(3)), "TaskStatus.SUCCESS"),
    Row("in the module", lambda b: [str(getattr(b.api, n)) for n in ("FAILED", "PROCESSING", "COMPLETE", "KVCACHE", "REPLICA_MOVE", "INITIALIZED", "SUCCESS")],
        ["TaskStatus.FAILED", "TaskStatus.PROCESSING", "ReplicaStatus.COMPLETE", "ObjectDataType.KVCACHE", "TaskType.REPLICA_MOVE", "ReplicaStatus.INITIALIZED", "TaskStatus.SUCCESS"]),
    Row("task", lambda b: repr(b.api.QueryTaskResponse()), 'QueryTaskResponse(id=0-0, type=0, status=0, created_at=0, last_updated_at=0, assigned_client=0-0, message="")'),
    Row("task is read only", lambda b: setattr(b.api.QueryTaskResponse(), "message", "x"), Raises(AttributeError)),
    Row("descriptor", lambda b: repr(b.api.Descriptor()), "<Descriptor size=0 buffer_address=0 transport_endpoint=>"),
    Row("no memory descriptor", lambda b: b.api.MemoryDescriptor(), REAL_TYPE),
    Row("allocator", lambda b: (a := b.api.MooncakeHostMemAllocator(), p := a.alloc(4096), p % 4096, a.free(p), a.free(p))[2:], (0, 0, -1)),
    Row("allocates nothing", lambda b: b.api.MooncakeHostMemAllocator().alloc(0), Raises(RuntimeError)),
    Row("allocates below 0", lambda b: b.api.MooncakeHostMemAllocator().alloc(-1), REAL_TYPE),
    Row("no node", lambda b: (b.api.bind_to_numa_node(-1), b.api.bind_to_numa_node(999)), (None, None)),
    Row("a node of text", lambda b: b.api.bind_to_numa_node("a"), REAL_TYPE),
]

POOL = [
    Row("lease", lambda b: (l := b.api.BufferPool(b.s).acquire(100), (l.size, len(l.buffer), l.buffer.readonly, l.buffer.format))[1], (100, 100, False, "B")),
    Row("use", lambda b: (l := b.api.BufferPool(b.s).acquire(100), b.s.put_from("pp", l.ptr, l.size))[1], 0),
    Row("release", lambda b: (l := b.api.BufferPool(b.s).acquire(9), l.release(), l.release())[1:], (None, None)),
    Row("after release", lambda b: (l := b.api.BufferPool(b.s).acquire(9), l.release(), l.ptr), Raises(RuntimeError)),
    Row("with", lambda b: b.api.BufferPool(b.s).buffer(65537).__enter__().size, 65537),
    Row("with a view", lambda b: (l := b.api.BufferPool(b.s).acquire(9), v := l.buffer, l.release()), Raises(RuntimeError)),
    Row("close with a lease", lambda b: (p := b.api.BufferPool(b.s), l := p.acquire(9), p.close()), Raises(RuntimeError)),
    Row("close", lambda b: (p := b.api.BufferPool(b.s), p.close(), p.close())[1:], (None, None)),
    Row("after close", lambda b: (p := b.api.BufferPool(b.s), p.close(), p.acquire(9)), Raises(RuntimeError)),
    Row("prewarm", lambda b: b.api.BufferPool(b.s, prewarm_size=1000, prewarm_count=2).prewarm(100, 3), None),
    Row("no alignment", lambda b: b.api.BufferPool(b.s, alignment=3), Raises(RuntimeError)),
    Row("no class", lambda b: b.api.BufferPool(b.s, min_size_class=0), Raises(RuntimeError)),
    Row("below 0", lambda b: b.api.BufferPool(b.s, max_bytes=-1), REAL_TYPE),
    Row("no store", lambda b: b.api.BufferPool(None), Raises(RuntimeError)),
    Row("a store that is not set up", lambda b: b.api.BufferPool(b.api.MooncakeDistributedStore()), Raises(RuntimeError)),
]

UNSET = "theirs ends the process"
FRESH = [
    Row("health_check", lambda b: _fresh(b).health_check(), 1),
    Row("close", lambda b: (_fresh(b).close(), _fresh(b).close()), (0, 0)),
    Row("get", lambda b: _fresh(b).get("k"), b""),
    Row("get_batch", lambda b: _fresh(b).get_batch(["k", "l"]), [b"", b""], [b""], "as many answers as keys"),
    Row("put_from", lambda b: _fresh(b).put_from("k", b.at, 9), INVALID),
    Row("put", lambda b: _fresh(b).put("k", b"v"), INVALID, CRASHES, UNSET),
    Row("put_parts", lambda b: _fresh(b).put_parts("k", b"v"), INVALID, CRASHES, UNSET),
    Row("put_batch", lambda b: _fresh(b).put_batch(["k"], [b"v"]), INVALID, CRASHES, UNSET),
    Row("upserts", lambda b: (_fresh(b).upsert("k", b"v"), _fresh(b).upsert_parts("k", b"v"), _fresh(b).upsert_batch(["k"], [b"v"])), (INVALID,) * 3),
    Row("upserts from", lambda b: (_fresh(b).upsert_from("k", b.at, 9), _fresh(b).batch_upsert_from(["k"], [b.at], [9])), (INVALID, [INVALID])),
    Row("metadata", lambda b: _fresh(b).put_from_with_metadata("k", b.at, b.at, 9, 9), INVALID),
    Row("batches", lambda b: (_fresh(b).batch_put_from(["k"], [b.at], [9]), _fresh(b).batch_get_into(["k"], [b.at], [9])), ([INVALID], [INVALID]), CRASHES, UNSET),
    Row("multi put", lambda b: _fresh(b).batch_put_from_multi_buffers(["k"], [[b.at]], [[9]]), []),
    Row("multi get", lambda b: _fresh(b).batch_get_into_multi_buffers(["k"], [[b.at]], [[9]]), [INVALID], CRASHES, UNSET),
    Row("get_into", lambda b: _fresh(b).get_into("k", b.at, 9), INVALID, CRASHES, UNSET),
    Row("ranges", lambda b: _fresh(b).get_into_ranges([b.at], [["k"]], [[[0]]], [[[0]]], [[[9]]]), [[[INVALID]]], CRASHES, UNSET),
    Row("buffers", lambda b: (_fresh(b).get_buffer("k"), _fresh(b).batch_get_buffer(["k"])), (None, [None]), CRASHES, UNSET),
    Row("exist", lambda b: (_fresh(b).is_exist("k"), _fresh(b).batch_is_exist(["k"]), _fresh(b).get_size("k")), (INVALID, [INVALID], INVALID), CRASHES, UNSET),
    Row("remove", lambda b: (_fresh(b).remove("k"), _fresh(b).batch_remove(["k"]), _fresh(b).remove_by_regex("k"), _fresh(b).remove_all()), (INVALID, [INVALID], INVALID, INVALID), CRASHES, UNSET),
    Row("register", lambda b: (_fresh(b).register_buffer(b.at, 9), _fresh(b).unregister_buffer(b.at)), (INVALID, INVALID), CRASHES, UNSET),
    Row("hostname", lambda b: _fresh(b).get_hostname(), "", CRASHES, UNSET),
    Row("sessions", lambda b: (_fresh(b).batch_get_session_start(["k"]), _fresh(b).batch_get_into_multi_buffer_ranges(["k"], [[b.at]], [[9]], [[0]]), _fresh(b).batch_get_session_end(["k"])), ([], [], -1)),
    Row("put sessions", lambda b: (_fresh(b).batch_put_session_start(["k"], [9]), _fresh(b).batch_put_session_end(["k"]), _fresh(b).batch_put_session_revoke(["k"])), ([], [], [])),
    Row("replicas", lambda b: (_fresh(b).get_replica_desc("k"), _fresh(b).batch_get_replica_desc(["k"])), ([], {}), CRASHES, UNSET),
    Row("clear", lambda b: _fresh(b).batch_replica_clear(["k"]), []),
    Row("tasks", lambda b: (_fresh(b).create_copy_task("k", ["s"]), _fresh(b).create_move_task("k", "a", "b"), _fresh(b).query_task((1, 2))), ((NO_TASK, INVALID), (NO_TASK, INVALID), (None, INVALID)), CRASHES, UNSET),
    Row("segments", lambda b: (_fresh(b).mount_segment("/dev/shm/zz", MB), _fresh(b).unmount_segment(["a"]), _fresh(b).unmount_and_free_segment(["a"]), _fresh(b).unmount_local_disk_segment()), ({"ret": -1, "segment_ids": []}, -1, -1, -1)),
    Row("allocate", lambda b: _fresh(b).allocate_and_mount_segment(MB), {"ret": -1, "segment_ids": [], "allocated_size": 0}),
    Row("pool", lambda b: _fresh(b).alloc_from_mem_pool(9), 0, CRASHES, UNSET),
]


def _fresh(b):
    return b.api.MooncakeDistributedStore()


GROUPS = {
    "replicas": REPLICAS,
    "patterns": PATTERNS,
    "segments": SEGMENTS,
    "config": CONFIG,
    "kinds": KINDS,
    "pools": POOL,
    "not set up": FRESH,
}
