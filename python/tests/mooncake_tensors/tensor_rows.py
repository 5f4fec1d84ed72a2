"""What is asked of a store with tensors, and what it answers; run as a program by an interpreter that has torch, for ours or the real package.

`python tensor_rows.py MODULE SETTINGS-AS-JSON`, answers as JSON. Rows are those of the contract's table. The objects that a put leaves are
compared byte by byte with what release 0.3.13 was measured to leave: that is how each reads what the other has put.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mooncake_contract"))

import table  # noqa: E402
import torch  # noqa: E402
from table import INVALID, SAME, Bench, Raises, Row  # noqa: E402

NAMES = "float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool float16 bfloat16 float8_e4m3fn float8_e5m2".split()
UNREGISTERED = "memory that is not registered is not read or written"
W = torch.arange(32, dtype=torch.float32).reshape(8, 4)
W_BYTES = 304 + 128


def header(dtype: int, shape: tuple[int, ...], data: int, whole: tuple[int, ...] = (), axis: tuple[int, ...] = ()) -> bytes:
    """The header that the real package was seen to write. axis: kind, place, rank, size, split_dim, member, extent."""
    places = [*(whole or shape), *[-1] * (8 - len(shape)), *shape, *[-1] * (8 - len(shape))]
    words = struct.pack("<IHHIIIIQQ16q", 0x4D4F4F4E, 1, 304, dtype, len(shape), 1 if axis else 0, 0, 304, data, *places)
    axes = struct.pack("<IIIIiiiiq", 1, 0, *axis) if axis else b""
    return (words + axes).ljust(304, b"\0")


def of_dtype(name: str) -> torch.Tensor:
    return (torch.arange(48, dtype=torch.uint8) % 2).view(getattr(torch, name)).reshape(2, -1)


def leaves(b: Bench, name: str) -> bool:
    """Whether the object of a tensor has exactly these bytes, and comes back as it was."""
    tensor = of_dtype(name)
    data = bytes(range(2)) * 24
    b.s.put_tensor(name, tensor)
    back = b.s.get_tensor(name)
    whole = header(NAMES.index(name), tuple(tensor.shape), 48) + data
    return bool(b.s.get(name) == whole and back.dtype == tensor.dtype and torch.equal(back.view(torch.uint8), tensor.view(torch.uint8)))


def reads(b: Bench, name: str) -> bool:
    """Whether the bytes that the other package leaves are read as the tensor."""
    tensor = of_dtype(name)
    b.s.put("o" + name, header(NAMES.index(name), tuple(tensor.shape), 48) + bytes(range(2)) * 24)
    back = b.s.get_tensor("o" + name)
    return bool(back.dtype == tensor.dtype and torch.equal(back.view(torch.uint8), tensor.view(torch.uint8)))


def shape(value: Any) -> Any:
    """Shape and some elements of a tensor; of a list, of each."""
    if isinstance(value, list):
        return [shape(own) for own in value]
    return value if value is None or isinstance(value, int) else [list(value.shape), value.flatten()[:2].tolist()]


def broken(b: Bench, offset: int, field: str, value: int) -> list[Any]:
    """What a get, and a put from memory, make of a header with one field changed."""
    data = bytearray(header(0, (8, 4), 128) + bytes(128))
    struct.pack_into(field, data, offset, value)
    name = f"x{offset}.{value}"
    b.s.put(name, bytes(data))
    ctypes.memmove(b.at, bytes(data), len(data))
    return [b.s.get_tensor(name) is not None, b.s.put_tensor_from(name + "f", b.at, len(data))]


FIELDS = {"magic": (0, "<I", 1), "version": (4, "<H", 2), "header bytes": (6, "<H", 300), "dtype without a meaning": (8, "<I", 15)}
FIELDS |= {"dtype of other size": (8, "<I", 1), "too many dimensions": (12, "<I", 9), "too few dimensions": (12, "<I", 1)}
FIELDS |= {"kind": (16, "<I", 7), "start": (24, "<Q", 300), "data bytes": (32, "<Q", 64), "extent": (104, "<q", 16)}
FIELDS |= {"negative extent": (104, "<q", -8), "extent where none is": (120, "<q", 1), "axes of a whole tensor": (168, "<I", 1)}

SAYS_NO = "what is no dense tensor is not stored as one"

BYTES = [
    *[Row(f"object of {name}", lambda b, name=name: leaves(b, name), True) for name in NAMES],
    *[Row(f"read of {name}", lambda b, name=name: reads(b, name), True) for name in NAMES],
    Row("scalar", lambda b: (b.s.put_tensor("s", torch.tensor(5.0)), b.s.get("s") == header(0, (), 4) + struct.pack("<f", 5)), (0, True)),
    Row("scalar back", lambda b: shape(b.s.get_tensor("s")), [[1], [5.0]]),
    Row("empty", lambda b: (b.s.put_tensor("e", torch.empty(0, 3)), b.s.get("e") == header(0, (0, 3), 0)), (0, True)),
    Row("empty back", lambda b: list(b.s.get_tensor("e").shape), [0, 3]),
    Row("transposed", lambda b: (b.s.put_tensor("t", W.t()), b.s.get("t") == header(0, (4, 8), 128) + W.t().contiguous().numpy().tobytes()), (0, True)),
    Row("expanded", lambda b: (b.s.put_tensor("x", torch.ones(1, 3).expand(4, 3)), b.s.get_size("x")), (0, 352)),
    Row("with a gradient", lambda b: (b.s.put_tensor("g", torch.ones(2, requires_grad=True)), shape(b.s.get_tensor("g"))), (0, [[2], [1.0, 1.0]])),
    Row("8 dimensions", lambda b: (b.s.put_tensor("8", torch.zeros([1] * 8)), list(b.s.get_tensor("8").shape)), (0, [1] * 8)),
    Row("9 dimensions", lambda b: (b.s.put_tensor("9", torch.zeros([1] * 9)), b.s.is_exist("9")), (INVALID, 0)),
    Row("negated view", lambda b: (b.s.put_tensor("n", torch._neg_view(torch.ones(2))), shape(b.s.get_tensor("n"))), (0, [[2], [-1.0, -1.0]]), (0, [[2], [1.0, 1.0]]), "the elements, and not what lies in memory for them"),
    Row("a parameter", lambda b: (b.s.put_tensor("p", torch.nn.Parameter(W)), shape(b.s.get_tensor("p"))), (0, [[8, 4], [0.0, 1.0]]), (INVALID, None), "a parameter is a tensor"),
    *[Row(f"header: {what}", lambda b, field=field: broken(b, *field), [False, INVALID]) for what, field in FIELDS.items()],
    Row("header: shape of the whole", lambda b: broken(b, 40, "<q", 16), [True, 0]),
    Row("header: a shard without axes", lambda b: broken(b, 16, "<I", 1), [True, 0]),
    Row("too long", lambda b: (b.s.put("l", header(0, (2,), 8) + bytes(12)), b.s.get_tensor("l")), (0, None)),
    Row("too short", lambda b: (b.s.put("k", header(0, (2,), 8) + bytes(4)), b.s.get_tensor("k")), (0, None)),
    Row("no tensor", lambda b: (b.s.put("r", b"zz"), b.s.get_tensor("r")), (0, None)),
]  # fmt: skip

REFUSED = [
    *[
        Row(f"dtype {name}", lambda b, name=name: b.s.put_tensor("d", torch.zeros(2, dtype=getattr(torch, name))), INVALID)
        for name in ("complex64", "complex128", "float8_e4m3fnuz", "float8_e5m2fnuz")
    ],
    Row("a number", lambda b: (b.s.put_tensor("n", 5), b.s.upsert_tensor("n", 5), b.s.put_tensor("n", None)), (INVALID,) * 3),
    Row("an array", lambda b: b.s.put_tensor("n", W.numpy()), INVALID),
    Row("sparse", lambda b: b.s.put_tensor("n", torch.eye(3).to_sparse()), INVALID),
    Row("on no device", lambda b: b.s.put_tensor("n", torch.empty(3, device="meta")), INVALID),
    Row("empty key", lambda b: (b.s.put_tensor("", W), b.s.batch_put_tensor(["", "z"], [W, W])), (INVALID, [INVALID, 0])),
    Row("key of a wrong type", lambda b: b.s.put_tensor(5, W), Raises(TypeError)),
    Row("tensors in a tuple", lambda b: b.s.batch_put_tensor(["a"], (W,)), Raises(TypeError)),
    Row("no config", lambda b: b.s.pub_tensor("a", W, None), Raises(TypeError)),
    Row("missing", lambda b: (b.s.get_tensor("m"), b.s.batch_get_tensor(["m", "z"])[0], b.s.batch_get_tensor([])), (None, None, [])),
    Row("config without replicas", lambda b: (b.s.pub_tensor("c", W, b.config(replica_num=0)), b.s.batch_pub_tensor(["c", "d"], [W, W], b.config(replica_num=0))), (INVALID, [INVALID] * 2)),
    Row("same node", lambda b: (b.s.pub_tensor("c", W, b.config(prefer_alloc_in_same_node=True)), b.s.upsert_pub_tensor("c", W, b.config(prefer_alloc_in_same_node=True))), (0, 0)),
    Row("groups", lambda b: (b.s.batch_pub_tensor(["g", "h"], [W, W], b.config(group_ids=["g"])), b.s.pub_tensor("g", W, b.config(group_ids=["g"]))), ([INVALID] * 2, 0)),
    Row("not set up", lambda b: (lambda s: (s.put_tensor("k", W), s.get_tensor("k"), s.batch_put_tensor(["k"], [W]), s.pub_tensor("k", W), s.put_tensor_with_tp("k", W, 0, 2), s.get_tensor_with_tp("k", 0, 2), s.batch_get_tensor_into(["k"], [b.at], [500]), s.put_tensor_from("k", b.at, 304)))(b.api.MooncakeDistributedStore()), (INVALID, None, [INVALID], INVALID, INVALID, None, [INVALID], INVALID)),
]  # fmt: skip

VERBS = [
    Row("put of a held key", lambda b: (b.s.put_tensor("t", W), b.s.put_tensor("t", W + 1), shape(b.s.get_tensor("t"))), (0, 0, [[8, 4], [0.0, 1.0]])),
    Row("upsert", lambda b: (b.s.upsert_tensor("t", W + 1), shape(b.s.get_tensor("t"))), (0, [[8, 4], [1.0, 2.0]])),
    Row("pub, upsert_pub", lambda b: (b.s.pub_tensor("u", W), b.s.upsert_pub_tensor("u", W + 2), shape(b.s.get_tensor("u"))), (0, 0, [[8, 4], [2.0, 3.0]])),
    Row("batch", lambda b: (b.s.batch_put_tensor(["b", "c"], [W, W + 1]), shape(b.s.batch_get_tensor(["b", "m", "c"]))), ([0, 0], [[[8, 4], [0.0, 1.0]], None, [[8, 4], [1.0, 2.0]]])),
    Row("batch upserts", lambda b: (b.s.batch_upsert_tensor(["b"], [W + 1]), b.s.batch_upsert_pub_tensor(["c"], [W]), b.s.batch_pub_tensor(["d"], [W])), ([0],) * 3),
    Row("one is none", lambda b: (b.s.batch_put_tensor(["e", "f"], [W, 5]), b.s.batch_is_exist(["e", "f"])), ([0, INVALID], [1, 0])),
    Row("unequal", lambda b: (b.s.batch_put_tensor(["i", "j"], [W]), b.s.batch_put_tensor([], [])), ([INVALID] * 2, [])),
    Row("the copy is the caller's", lambda b: (b.s.put_tensor("o", W), b.s.get_tensor("o").zero_() is None, shape(b.s.get_tensor("o"))), (0, False, [[8, 4], [0.0, 1.0]])),
]  # fmt: skip

BUFFERS = [
    Row("into", lambda b: (b.s.put_tensor("t", W), (lambda g: (shape(g), g.data_ptr() - b.at))(b.s.get_tensor_into("t", b.at, 4096))), (0, ([[8, 4], [0.0, 1.0]], 304))),
    Row("into just enough", lambda b: shape(b.s.get_tensor_into("t", b.at, W_BYTES)), [[8, 4], [0.0, 1.0]]),
    Row("into too little", lambda b: b.s.get_tensor_into("t", b.at, W_BYTES - 1), None),
    Row("into: missing, nowhere", lambda b: (b.s.get_tensor_into("m", b.at, 4096), b.s.get_tensor_into("t", 0, 4096)), (None, None)),
    Row("into: no tensor", lambda b: (b.s.put("r", b"z" * 500), b.s.get_tensor_into("r", b.at, 4096)), (0, None)),
    Row("into: not registered", lambda b: shape(b.s.get_tensor_into("t", b.wild, 4096)), None, [[8, 4], [0.0, 1.0]], UNREGISTERED),
    Row("into: scalar", lambda b: (b.s.put_tensor("s", torch.tensor(5.0)), shape(b.s.get_tensor_into("s", b.at, 308))), (0, [[1], [5.0]])),
    Row("into: empty", lambda b: (b.s.put_tensor("e", torch.empty(0, 3)), list(b.s.get_tensor_into("e", b.at, 304).shape)), (0, [0, 3])),
    Row("batch into", lambda b: shape(b.s.batch_get_tensor_into(["t", "m", "t"], [b.at, b.at + 4096, b.at + 8192], [4096, 4096, 10])), [[[8, 4], [0.0, 1.0]], None, None]),
    Row("batch into: unequal, nowhere", lambda b: (b.s.batch_get_tensor_into(["t", "m"], [b.at], [4096]), b.s.batch_get_tensor_into(["t", "t"], [0, b.at], [4096] * 2), b.s.batch_get_tensor_into([], [], [])), ([INVALID] * 2, [INVALID] * 2, [])),
    Row("on a device", lambda b: (b.s.get_tensor_into_cuda("t", torch.zeros(8, 4)), b.s.batch_get_tensor_into_cuda(["t"], [torch.zeros(8, 4)])), (INVALID, [INVALID])),
    Row("from", lambda b: (b.s.get_tensor_into("t", b.at, 4096) is None, b.s.put_tensor_from("f", b.at, W_BYTES), b.s.get("f") == b.s.get("t")), (False, 0, True)),
    Row("from: other sizes", lambda b: [b.s.put_tensor_from("g", b.at, size) for size in (0, 100, W_BYTES - 1, W_BYTES + 1)], [INVALID] * 4),
    Row("from nowhere", lambda b: b.s.put_tensor_from("g", 0, W_BYTES), INVALID),
    Row("upsert from", lambda b: (b.s.upsert_tensor_from("f", b.at, W_BYTES), b.s.batch_upsert_tensor_from(["f", "h"], [b.at] * 2, [W_BYTES] * 2)), (0, [0, 0])),
    Row("batch from", lambda b: (b.s.batch_put_tensor_from(["i", "j"], [b.at] * 2, [W_BYTES, 9]), b.s.batch_put_tensor_from(["i", "j"], [b.at], [W_BYTES]), b.s.batch_put_tensor_from([], [], [])), ([INVALID] * 2, [INVALID] * 2, [])),
]  # fmt: skip


def shards(b: Bench, key: str, dim: int) -> list[bool]:
    """Whether the shards of W have exactly these bytes."""
    expected = []
    for rank, part in enumerate(W.chunk(2, dim)):
        own = tuple(part.shape)
        head = header(0, own, 64, (8, 4), (1, 0, rank, 2, dim, 0, own[dim]))
        expected.append(b.s.get(f"{key}_tp_{rank}") == head + part.contiguous().numpy().tobytes())
    return expected


SPLIT = [
    Row("of one", lambda b: (b.s.put_tensor_with_tp("w", W), b.s.put_tensor_with_tp("v", W, tp_size=0), b.s.batch_is_exist(["w", "v", "w_tp_0"])), (0, 0, [1, 1, 0])),
    Row("of two", lambda b: (b.s.put_tensor_with_tp("w2", W, tp_rank=0, tp_size=2), b.s.is_exist("w2"), shards(b, "w2", 0)), (0, 0, [True, True])),
    Row("of two, across", lambda b: (b.s.put_tensor_with_tp("w3", W, 7, 2, 1), shards(b, "w3", 1)), (0, [True, True])),
    Row("rank", lambda b: shape(b.s.get_tensor_with_tp("w2", tp_rank=1, tp_size=2)), [[4, 4], [16.0, 17.0]]),
    Row("no such rank", lambda b: [b.s.get_tensor_with_tp("w2", rank, 2) for rank in (-1, 2, 5)], [None] * 3),
    Row("another dimension than it was put with", lambda b: shape(b.s.get_tensor_with_tp("w3", 1, 2, 0)), [[8, 2], [2.0, 3.0]]),
    Row("whole of a split one", lambda b: (b.s.get_tensor_with_tp("w2"), b.s.get_tensor_with_tp("w", 1, 2)), (None, None)),
    Row("cannot be split", lambda b: [b.s.put_tensor_with_tp("n", W, 0, size, dim) for size, dim in ((3, 0), (2, 2), (2, -1))], [INVALID] * 3),
    Row("no tensor", lambda b: (b.s.put_tensor_with_tp("n", 5, 0, 2), b.s.put_tensor_with_tp("n", torch.tensor(5.0), 0, 2)), (INVALID, INVALID)),
    Row("batch", lambda b: (b.s.batch_put_tensor_with_tp(["x", "y"], [W, W], tp_size=2), shape(b.s.batch_get_tensor_with_tp(["x", "m"], 1, 2))), ([0, 0], [[[4, 4], [16.0, 17.0]], None])),
    Row("batch with a bad one", lambda b: (b.s.batch_put_tensor_with_tp(["q", "r"], [W, 5], tp_size=2), b.s.is_exist("q_tp_0"), b.s.batch_put_tensor_with_tp(["q", "r"], [W], tp_size=2)), ([INVALID] * 2, 0, [INVALID] * 2)),
    Row("pub", lambda b: (b.s.pub_tensor_with_tp("p", W, tp_size=2), b.s.batch_pub_tensor_with_tp(["p2"], [W], tp_size=2), b.s.pub_tensor_with_tp("p3", W, b.config(group_ids=["g"]), tp_size=2)), (0, [0], INVALID)),
    Row("into", lambda b: (shape(b.s.get_tensor_with_tp_into("w2", b.at, 4096, 1, 2)), b.s.get_tensor_with_tp_into("w2", b.at, 100, 1, 2), b.s.get_tensor_with_tp_into("w2", b.at, 4096, 2, 2)), ([[4, 4], [16.0, 17.0]], None, None)),
    Row("batch into", lambda b: (shape(b.s.batch_get_tensor_with_tp_into(["x", "y"], [b.at, b.at + 4096], [4096] * 2, 0, 2)), b.s.batch_get_tensor_with_tp_into(["x", "y"], [b.at], [4096], 0, 2), b.s.batch_get_tensor_with_tp_into(["x", "y"], [b.at] * 2, [4096] * 2, 2, 2)), ([[[4, 4], [0.0, 1.0]]] * 2, [INVALID] * 2, [None] * 2)),
    Row("from", lambda b: (b.s.get_tensor_into("w", b.at, 4096) is None, b.s.put_tensor_with_tp_from("f", b.at, W_BYTES, 0, 2, 1), shards(b, "f", 1)), (False, 0, [True, True])),
    Row("from: cannot be split", lambda b: (b.s.put_tensor_with_tp_from("n", b.at, W_BYTES, 0, 3), b.s.put_tensor_with_tp_from("n", b.at, W_BYTES - 1, 0, 2)), (INVALID, INVALID)),
    Row("batch from", lambda b: (b.s.batch_put_tensor_with_tp_from(["g"], [b.at], [W_BYTES], 0, 2), b.s.batch_put_tensor_with_tp_from(["g", "h"], [b.at], [W_BYTES], 0, 2), b.s.put_tensor_with_tp_from("i", b.at, W_BYTES)), ([0], [INVALID] * 2, 0)),
]  # fmt: skip


def spread(b: Bench, *axes: dict[str, Any]) -> Any:
    """A parallelism of these axes."""
    made = []
    for values in axes:
        made.append(b.api.ParallelAxis())
        for name, value in values.items():
            setattr(made[-1], name, value)
    parallelism = b.api.TensorParallelism()
    parallelism.axes = made
    return parallelism


def tp(b: Bench, rank: int, size: int = 2, dim: int = 0) -> Any:
    return spread(b, {"kind": "tp", "rank": rank, "size": size, "split_dim": dim})


def want(b: Bench, mode: str, parallelism: Any = None) -> Any:
    target = b.api.ReadTarget()
    target.mode, target.parallelism = mode, parallelism
    return target


def got(b: Bench, key: str, mode: str, parallelism: Any = None) -> Any:
    return shape(b.s.get_tensor_with_parallelism(key, target=want(b, mode, parallelism)))


MANIFEST = struct.pack("<IHHIIiIQ8q", 0x574D414E, 1, 96, 0, 2, 0, 2, 0, 8, 4, *[-1] * 6)
DP, EP, PP = {"kind": "dp", "rank": 1, "size": 2}, {"kind": "ep", "rank": 1, "size": 2, "expert_id": 2}, {"kind": "pp", "rank": 1, "size": 2, "stage_id": 1}
TP = {"kind": "tp", "rank": 0, "size": 2, "split_dim": 1}
OTHER = "a shard of another layout is not what was asked for"

PARALLEL = [
    Row("two ranks", lambda b: [b.s.put_tensor_with_parallelism("p", W[r * 4 : r * 4 + 4], parallelism=tp(b, r)) for r in (0, 1)], [0, 0]),
    Row("their bytes", lambda b: (shards(b, "p", 0), b.s.get("p__parallelism_manifest") == MANIFEST), ([True, True], True)),
    Row("each", lambda b: [got(b, "p", "shard", tp(b, r)) for r in (0, 1)], [[[4, 4], [0.0, 1.0]], [[4, 4], [16.0, 17.0]]]),
    Row("other shards", lambda b: [got(b, "p", "shard", tp(b, r, n)) for r, n in ((3, 4), (7, 8), (0, 1))], [[[2, 4], [24.0, 25.0]], [[1, 4], [28.0, 29.0]], [[8, 4], [0.0, 1.0]]]),
    Row("all", lambda b: [got(b, "p", "full", tp(b, 0, n)) for n in (2, 8)], [[[8, 4], [0.0, 1.0]]] * 2),
    Row("split across", lambda b: got(b, "p", "shard", tp(b, 1, 2, 1)), None, [[4, 4], [16.0, 17.0]], OTHER),
    Row("no whole extents", lambda b: (got(b, "p", "shard", tp(b, 1, 3)), got(b, "p", "full", tp(b, 0, 3))), (None, None), ([[4, 4], [16.0, 17.0]], None), OTHER),
    Row("no whole tensor", lambda b: [got(b, "p", mode) for mode in ("as_stored", "shard", "full")], [None] * 3),
    Row("no such rank", lambda b: got(b, "p", "shard", tp(b, 5)), None),
    Row("of a whole one", lambda b: (b.s.put_tensor("w", W), [got(b, "w", mode) for mode in ("as_stored", "shard", "full")], got(b, "w", "shard", tp(b, 0)), got(b, "w", "full", tp(b, 0))), (0, [[[8, 4], [0.0, 1.0]], None, [[8, 4], [0.0, 1.0]]], None, None)),
    Row("without", lambda b: (b.s.put_tensor_with_parallelism("v", W), shape(b.s.get_tensor_with_parallelism("v"))), (0, [[8, 4], [0.0, 1.0]])),
    Row("of put_tensor_with_tp", lambda b: (b.s.put_tensor_with_tp("t", W, tp_size=2), got(b, "t", "shard", tp(b, 3, 4)), got(b, "t", "full", tp(b, 0))), (0, [[2, 4], [24.0, 25.0]], [[8, 4], [0.0, 1.0]])),
    Row("a missing shard", lambda b: (b.s.put_tensor_with_parallelism("m", W[:4], parallelism=tp(b, 0)), got(b, "m", "full", tp(b, 0)), got(b, "m", "shard", tp(b, 1))), (0, None, None)),
    Row("other axes", lambda b: [b.s.put_tensor_with_parallelism("a", W, parallelism=spread(b, axis)) for axis in (DP, EP, PP)] + b.s.batch_is_exist(["a__dp_1of2", "a__ep_1of2_eid2", "a__pp_1of2_sid1"]), [0, 0, 0, 1, 1, 1]),
    Row("four axes", lambda b: (b.s.put_tensor_with_parallelism("f", W, parallelism=spread(b, DP, PP, EP, TP)), struct.unpack("<32i", b.s.get("f__dp_1of2__tp_0of2_sd1__ep_1of2_eid2__pp_1of2_sid1")[176:304])), (0, (0, 0, 1, 2, -1, 0, 0, 0, 3, 1, 1, 2, -1, 1, 0, 0, 2, 2, 1, 2, -1, 2, 0, 0, 1, 3, 0, 2, 1, 0, 2, 0))),
    Row("wrong axes", lambda b: [b.s.put_tensor_with_parallelism("x", W, parallelism=spread(b, *axes)) for axes in ([], [DP, DP], [{**DP, "split_dim": 0}], [{"kind": "ep", "size": 2}], [{"kind": "zz"}], [{"kind": "tp", "size": 2}], [{**TP, "rank": 2}], [{**TP, "split_dim": 9}])], [INVALID] * 8),
    Row("a writer each", lambda b: [b.s.put_tensor_with_parallelism("u", W, writer_partition=tp(b, r).axes[0]) for r in (0, 1)] + b.s.batch_is_exist(["u__writer_0of2_sd0", "u__writer_manifest"]), [0, 0, 1, 1]),
    Row("of writers", lambda b: (got(b, "u", "full"), got(b, "u", "shard", tp(b, 1)), b.s.get("u__writer_manifest") == MANIFEST), ([[8, 4], [0.0, 1.0]], [[4, 4], [16.0, 17.0]], True)),
    Row("writer and parallelism", lambda b: b.s.put_tensor_with_parallelism("y", W, parallelism=tp(b, 0), writer_partition=tp(b, 0).axes[0]), INVALID),
    Row("batch", lambda b: (b.s.batch_put_tensor_with_parallelism(["b", "c"], [W, W], parallelisms=[tp(b, 0), None]), b.s.batch_put_tensor_with_parallelism(["d", "e"], [W, W], parallelisms=[tp(b, 0)]), shape(b.s.batch_get_tensor_with_parallelism(["b", "c"], [want(b, "shard", tp(b, 0)), None])), b.s.batch_get_tensor_with_parallelism(["b", "c"], [None])), ([0, 0], [INVALID] * 2, [[[8, 4], [0.0, 1.0]]] * 2, [None, None])),
    Row("into", lambda b: (shape(b.s.get_tensor_with_parallelism_into("p", b.at, W_BYTES, want(b, "full", tp(b, 0)))), b.bytes(0, 304) == header(0, (8, 4), 128), b.s.get_tensor_with_parallelism_into("p", b.at, W_BYTES - 1, want(b, "full", tp(b, 0)))), ([[8, 4], [0.0, 1.0]], True, None)),
    Row("into a part", lambda b: (shape(b.s.get_tensor_with_parallelism_into("p", b.at, 4096, want(b, "shard", tp(b, 3, 4)))), b.bytes(0, 304) == header(0, (2, 4), 32, (8, 4), (1, 0, 3, 4, 0, 0, 2))), ([[2, 4], [24.0, 25.0]], True)),
    Row("from", lambda b: (b.s.get_tensor_into("w", b.at, 4096) is None, b.s.put_tensor_with_parallelism_from("q", b.at, W_BYTES, tp(b, 1)), shards(b, "q", 0), b.s.batch_put_tensor_with_parallelism_from(["r", "s"], [b.at] * 2, [W_BYTES, 1], [tp(b, 0)] * 2)), (False, 0, [True, True], [0, INVALID])),
    Row("wrong types", lambda b: setattr(b.api.ReadTarget(), "mode", "zz"), Raises(RuntimeError)),
]  # fmt: skip


def saved(b: Bench, name: str) -> Any:
    """The file of a tensor, as the package `safetensors` would write it."""
    b.s.put_tensor("k" + name, of_dtype(name))
    code = b.s.save_tensor_to_safetensor("k" + name, FILE)
    data = Path(FILE).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    said = json.loads(data[8 : 8 + length])["k" + name]
    return [code, length % 8, said["dtype"], said["data_offsets"], data[8 + length :] == bytes(range(2)) * 24]


FILE = f"/tmp/snowskin-tensor-{os.getpid()}.safetensors"
WORDS = "F32 F64 I8 U8 I16 U16 I32 U32 I64 U64 BOOL F16 BF16 F8_E4M3 F8_E5M2".split()

FILES = [
    *[Row(f"save {name}", lambda b, name=name: saved(b, name), [0, 0, word, [0, 48], True]) for name, word in zip(NAMES, WORDS)],
    Row("save nothing", lambda b: (b.s.put("r", b"z"), b.s.save_tensor_to_safetensor("m", FILE), b.s.save_tensor_to_safetensor("r", FILE)), (0, -1100, -1100)),
    Row("save nowhere", lambda b: b.s.save_tensor_to_safetensor("kbool", "/nosuch/folder/x"), INVALID),
    Row("load", lambda b: (b.s.put_tensor("t", W), b.s.save_tensor_to_safetensor("t", FILE), b.s.remove("t", True), shape(b.s.load_tensor_from_safetensor("t", FILE)), shape(b.s.get_tensor("t"))), (0, 0, 0, [[8, 4], [0.0, 1.0]], [[8, 4], [0.0, 1.0]])),
    Row("load under another key", lambda b: (shape(b.s.load_tensor_from_safetensor("n", FILE)), b.s.is_exist("n")), ([[8, 4], [0.0, 1.0]], 1)),
    Row("load without a key", lambda b: (shape(b.s.load_tensor_from_safetensor(file_name=FILE)), b.s.is_exist(FILE)), ([[8, 4], [0.0, 1.0]], 1)),
    Row("load nothing", lambda b: (b.s.load_tensor_from_safetensor("z", "/nosuch"), Path(FILE).write_bytes(b"zzzzzzzzzzzz"), b.s.load_tensor_from_safetensor("z", FILE), Path(FILE).unlink()), (None, 12, None, None)),
]  # fmt: skip

GROUPS = {"bytes": BYTES, "refused": REFUSED, "verbs": VERBS, "buffers": BUFFERS, "split": SPLIT, "parallel": PARALLEL, "files": FILES}

if __name__ == "__main__":
    # What the package prints is not for us.
    answers_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, settings = sys.argv[1], json.loads(sys.argv[2])
    bench = table.new_bench(importlib.import_module(module), settings)
    is_real = not module.startswith("snowskin")
    answers = table.run_all(bench, GROUPS, is_real=is_real)
    wanted = {name: {row.label: table.expected(row, is_real) for row in rows} for name, rows in GROUPS.items()}
    unexplained = [row.label for rows in GROUPS.values() for row in rows if (row.theirs is not SAME) != bool(row.why)]
    json.dump({"answers": answers, "wanted": wanted, "unexplained": unexplained}, answers_to)
    answers_to.close()
    bench.s.close()
