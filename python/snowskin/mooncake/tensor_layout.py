"""The bytes in front of a tensor's own, and how its shards are named. No torch is needed here.

An object that holds a tensor is a header and the elements, in C order and without gaps. Everything is little endian; unused places of
a shape hold -1. This is the layout of Mooncake Store 0.3.13, so that each reads what the other has put::

    byte    0  u32     0x4D4F4F4E, "NOOM"            byte  168  u32     how many axes, 0 to 4; 0 unless it is a shard
            4  u16     version, 1                            172  u32     0
            6  u16     bytes of the header, 304              176  4 axes of 32 bytes, unused ones all 0:
            8  u32     number of the element type                   +0  u32  kind: dp 0, tp 1, ep 2, pp 3
           12  u32     dimensions, 0 to 8                           +4  u32  its place in the list that the writer gave
           16  u32     0 whole tensor, 1 shard                      +8  i32  rank
           20  u32     0                                           +12  i32  size
           24  u64     where the elements begin, 304               +16  i32  dimension that is split; -1 for none
           32  u64     bytes of the elements                       +20  i32  expert of ep, stage of pp; else 0
           40  i64[8]  shape of the whole tensor                   +24  i64  extent of the shard along that dimension; else 0
          104  i64[8]  shape of what follows

Beside shards there is a manifest, which says how a key was split::

    byte    0  u32 0x574D414E, "NAMW";  u16 version, 1;  u16 bytes, 96
            8  u32 element type;  u32 dimensions;  i32 dimension that is split;  u32 shards;  u64 0
           32  i64[8] shape of the whole tensor
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Optional

#: Their numbers are their places.
DTYPES: Final = (
    "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "float16", "bfloat16",
    "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
ITEM_BYTES: Final = (4, 8, 1, 1, 2, 2, 4, 4, 8, 8, 1, 2, 2, 1, 1)
DIMENSIONS_MAX: Final = 8
AXES_MAX: Final = 4
UNUSED: Final = -1

_HEADER: Final = struct.Struct("<IHHIIIIQQ8q8qII")
_AXIS: Final = struct.Struct("<IIiiiiq")
_MANIFEST: Final = struct.Struct("<IHHIIiIQ8q")
HEADER_BYTES: Final = _HEADER.size + AXES_MAX * _AXIS.size
MANIFEST_BYTES: Final = _MANIFEST.size
assert (HEADER_BYTES, MANIFEST_BYTES) == (304, 96)

_MAGIC: Final = 0x4D4F4F4E
_MANIFEST_MAGIC: Final = 0x574D414E
_VERSION: Final = 1
_WHOLE, _SHARD = 0, 1

#: Their numbers are their places; names of shards have them in this order.
AXIS_KINDS: Final = ("dp", "tp", "ep", "pp")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One way in which a tensor is spread over ranks."""

    kind: str
    rank: int
    size: int
    split_dim: Optional[int] = None
    expert_id: Optional[int] = None
    stage_id: Optional[int] = None

    @property
    def is_well(self) -> bool:
        """Whether it says all that its kind needs, and nothing that its kind cannot have."""
        needed: Any = {"dp": 0, "tp": self.split_dim, "ep": self.expert_id, "pp": self.stage_id}.get(self.kind)
        splits = self.kind == "tp"
        return needed is not None and 0 <= self.rank < self.size and (self.split_dim is not None) == splits

    @property
    def member(self) -> int:
        """The expert, or the stage."""
        return {"ep": self.expert_id, "pp": self.stage_id}.get(self.kind) or 0


Axes = tuple[Axis, ...]


@dataclass(frozen=True)
class Header:
    """What is said of a tensor in front of its elements."""

    dtype: int
    whole: Shape
    shape: Shape
    axes: Axes = ()

    @property
    def data_bytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def object_bytes(self) -> int:
        """Bytes of the object."""
        return HEADER_BYTES + self.data_bytes

    def pack(self) -> bytes:
        """Its bytes."""
        kind = _SHARD if self.axes else _WHOLE
        fixed = (_MAGIC, _VERSION, HEADER_BYTES, self.dtype, len(self.shape), kind, 0, HEADER_BYTES, self.data_bytes)
        head = _HEADER.pack(*fixed, *_places(self.whole), *_places(self.shape), len(self.axes), 0)
        axes = b"".join(self._pack_axis(number, axis) for number, axis in enumerate(self.axes))
        return (head + axes).ljust(HEADER_BYTES, b"\0")

    def _pack_axis(self, number: int, axis: Axis) -> bytes:
        split = UNUSED if axis.split_dim is None else axis.split_dim
        extent = 0 if axis.split_dim is None else self.shape[axis.split_dim]
        return _AXIS.pack(AXIS_KINDS.index(axis.kind), number, axis.rank, axis.size, split, axis.member, extent)


def unpack(data: Any, size: int) -> Optional[Header]:
    """The header of an object of so many bytes; None: it holds no tensor."""
    if size < HEADER_BYTES:
        return None
    fields = _HEADER.unpack_from(data)
    magic, version, header_bytes, dtype, dimensions, kind, _, start, data_bytes = fields[:9]
    whole, shape, axes = fields[9:17], fields[17:25], fields[25]
    if (magic, version, header_bytes, start) != (_MAGIC, _VERSION, HEADER_BYTES, HEADER_BYTES):
        return None
    if dtype >= len(DTYPES) or dimensions > DIMENSIONS_MAX or kind > _SHARD or axes > (AXES_MAX if kind == _SHARD else 0):
        return None
    used = shape[:dimensions]
    if any(extent < 0 for extent in used) or any(extent != UNUSED for extent in shape[dimensions:]):
        return None
    found = Header(dtype, whole[:dimensions], used, _unpack_axes(data, axes))
    return found if (data_bytes, size) == (found.data_bytes, found.object_bytes) else None


def _unpack_axes(data: Any, count: int) -> Axes:
    axes = []
    for number in range(count):
        kind, _, rank, size, split, member, _ = _AXIS.unpack_from(data, _HEADER.size + number * _AXIS.size)
        name = AXIS_KINDS[kind] if kind < len(AXIS_KINDS) else ""
        axis = Axis(name, rank, size, None if split == UNUSED else split)
        axes.append(replace(axis, expert_id=member if name == "ep" else None, stage_id=member if name == "pp" else None))
    return tuple(axes)


@dataclass(frozen=True)
class Manifest:
    """How a tensor was split."""

    dtype: int
    whole: Shape
    split_dim: int
    shards: int

    def pack(self) -> bytes:
        """Its bytes."""
        fixed = (_MANIFEST_MAGIC, _VERSION, MANIFEST_BYTES, self.dtype, len(self.whole), self.split_dim, self.shards, 0)
        return _MANIFEST.pack(*fixed, *_places(self.whole))


def unpack_manifest(data: Any, size: int) -> Optional[Manifest]:
    """A manifest; None: it is none."""
    if size != MANIFEST_BYTES:
        return None
    magic, version, length, dtype, dimensions, split_dim, shards, _, *whole = _MANIFEST.unpack_from(data)
    if (magic, version, length) != (_MANIFEST_MAGIC, _VERSION, MANIFEST_BYTES) or dtype >= len(DTYPES):
        return None
    if not 0 <= split_dim < dimensions <= DIMENSIONS_MAX or shards == 0 or any(extent < 0 for extent in whole[:dimensions]):
        return None
    return Manifest(dtype, tuple(whole[:dimensions]), split_dim, shards)


def shard_name(key: bytes, axes: Sequence[Axis]) -> bytes:
    """The key of a shard."""
    if len(axes) == 1 and axes[0].kind == "tp":
        return key + b"_tp_%d" % axes[0].rank
    parts = [_axis_name(axis) for axis in sorted(axes, key=lambda axis: AXIS_KINDS.index(axis.kind))]
    return key + "".join(parts).encode()


def _axis_name(axis: Axis) -> str:
    marks = (("sd", axis.split_dim), ("eid", axis.expert_id), ("sid", axis.stage_id))
    return f"__{axis.kind}_{axis.rank}of{axis.size}" + "".join(f"_{mark}{value}" for mark, value in marks if value is not None)


def manifest_name(key: bytes) -> bytes:
    """The key of the manifest of shards."""
    return key + b"__parallelism_manifest"


def writer_name(key: bytes, rank: int, size: int, split_dim: int) -> bytes:
    """The key of what one of several writers has put."""
    return key + b"__writer_%dof%d_sd%d" % (rank, size, split_dim)


def writer_manifest_name(key: bytes) -> bytes:
    """The key of the manifest of writers."""
    return key + b"__writer_manifest"


def _places(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape, *[UNUSED] * (DIMENSIONS_MAX - len(shape)))
