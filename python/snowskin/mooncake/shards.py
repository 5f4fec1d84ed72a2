"""Tensors of which each rank puts its own shard, and of which each rank gets the shard that it needs, or all.

A put writes the shard, named after its rank, and a manifest that says how the tensor is split. A get that finds the very shard answers it; else,
what it needs is put together from the shards there are, if all extents are whole numbers. A shard of another layout than the one that was asked
for is never answered in its place: Mooncake Store does that where it cannot put a shard together.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace as but
from typing import Any, Optional

from .._snowskin import View
from . import checks, tensor_memory
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .parallelism import axes_of, writer_axis
from .pointers import Numbers
from .replicate import DEFAULT, ReplicateConfig, config as checked
from .tensor_layout import HEADER_BYTES, Axes, Axis, Header, Manifest, manifest_name, shard_name, unpack_manifest, writer_manifest_name, writer_name
from .tensor_memory import Source, Tensor
from .tensors import SplitTensors, header_of, shards_of

#: Pieces of a value, by its key.
Values = list[tuple[bytes, Sequence[Any]]]


class Shards(SplitTensors):
    """See the module's head."""

    def put_tensor_with_parallelism(
        self, key: Key, tensor: Tensor, parallelism: Any = None, config: ReplicateConfig = DEFAULT, writer_partition: Any = None
    ) -> int:
        """Stores the shard of one rank, or of one writer; without either, a whole tensor."""
        source = tensor_memory.source(tensor)
        return self._put_shard(key, source, parallelism, writer_partition, checked(config), False)

    def upsert_tensor_with_parallelism(
        self, key: Key, tensor: Tensor, parallelism: Any = None, config: ReplicateConfig = DEFAULT, writer_partition: Any = None
    ) -> int:
        """The same, in place of what is there."""
        source = tensor_memory.source(tensor)
        return self._put_shard(key, source, parallelism, writer_partition, checked(config), True)

    def batch_put_tensor_with_parallelism(
        self,
        keys: Sequence[Key],
        tensors_list: list[Tensor],
        parallelisms: Any = None,
        config: ReplicateConfig = DEFAULT,
        writer_partitions: Any = None,
    ) -> list[int]:
        """Stores shards: the code of each key."""
        sources = [tensor_memory.source(tensor) for tensor in tensors_list]
        return self._put_shards(keys, sources, parallelisms, writer_partitions, checked(config), False)

    def batch_upsert_tensor_with_parallelism(
        self,
        keys: Sequence[Key],
        tensors_list: list[Tensor],
        parallelisms: Any = None,
        config: ReplicateConfig = DEFAULT,
        writer_partitions: Any = None,
    ) -> list[int]:
        """The same, in place of what is there."""
        sources = [tensor_memory.source(tensor) for tensor in tensors_list]
        return self._put_shards(keys, sources, parallelisms, writer_partitions, checked(config), True)

    def put_tensor_with_parallelism_from(
        self,
        key: Key,
        buffer_ptr: int,
        size: int,
        parallelism: Any = None,
        config: ReplicateConfig = DEFAULT,
        writer_partition: Any = None,
    ) -> int:
        """Stores all shards of the whole tensor that lies at an address behind its header; of a writer, its part."""
        return self._put_from_one(key, buffer_ptr, size, parallelism, writer_partition, checked(config), False)

    def upsert_tensor_with_parallelism_from(
        self,
        key: Key,
        buffer_ptr: int,
        size: int,
        parallelism: Any = None,
        config: ReplicateConfig = DEFAULT,
        writer_partition: Any = None,
    ) -> int:
        """The same, in place of what is there."""
        return self._put_from_one(key, buffer_ptr, size, parallelism, writer_partition, checked(config), True)

    def batch_put_tensor_with_parallelism_from(
        self,
        keys: Sequence[Key],
        buffer_ptrs: Numbers,
        sizes: Numbers,
        parallelisms: Any = None,
        config: ReplicateConfig = DEFAULT,
        writer_partitions: Any = None,
    ) -> list[int]:
        """``put_tensor_with_parallelism_from`` of each key."""
        return self._put_from_each(keys, buffer_ptrs, sizes, parallelisms, writer_partitions, checked(config), False)

    def batch_upsert_tensor_with_parallelism_from(
        self,
        keys: Sequence[Key],
        buffer_ptrs: Numbers,
        sizes: Numbers,
        parallelisms: Any = None,
        config: ReplicateConfig = DEFAULT,
        writer_partitions: Any = None,
    ) -> list[int]:
        """The same, in place of what is there."""
        return self._put_from_each(keys, buffer_ptrs, sizes, parallelisms, writer_partitions, checked(config), True)

    def get_tensor_with_parallelism(self, key: Key, target: Any = None) -> Optional[Tensor]:
        """What a target asks for; None if it cannot be had. Without a target, the object as it is stored."""
        found = self._find(key, target)
        if found is None:
            return None
        header, parts = found
        tensor = tensor_memory.empty(header)
        _fill(tensor, header, parts)
        return tensor

    def batch_get_tensor_with_parallelism(self, keys: Sequence[Key], targets: Any = None) -> list[Optional[Tensor]]:
        """What targets ask for, of each key."""
        wanted = _one_each(keys, targets)
        if wanted is None:
            return [None] * len(keys)
        return [self.get_tensor_with_parallelism(key, target) for key, target in zip(keys, wanted)]

    def get_tensor_with_parallelism_into(self, key: Key, buffer_ptr: int, size: int, target: Any = None) -> Optional[Tensor]:
        """Reads what a target asks for to an address, behind a header: a tensor that lies there."""
        start, size = checks.number("buffer_ptr", buffer_ptr), checks.number("size", size)
        place, found = self._place, self._find(key, target)
        if place is None or found is None or start == 0:
            return None
        header, parts = found
        if header.object_bytes > size:
            return None
        if not place.regions.holds(start, header.object_bytes):
            self._warn_unregistered()
            return None
        ctypes.memmove(start, header.pack(), HEADER_BYTES)
        tensor = tensor_memory.at(start + HEADER_BYTES, header)
        _fill(tensor, header, parts)
        return tensor

    def batch_get_tensor_with_parallelism_into(
        self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers, targets: Any = None
    ) -> list[Optional[Tensor]]:
        """The same, of each key."""
        wanted = _one_each(keys, targets)
        if wanted is None or not len(keys) == len(buffer_ptrs) == len(sizes):
            return [None] * len(keys)
        rows = zip(keys, buffer_ptrs, sizes, wanted)
        return [self.get_tensor_with_parallelism_into(*row) for row in rows]

    def _put_shard(
        self, key: Key, source: Optional[Source], parallelism: Any, writer: Any, config: ReplicateConfig, replace: bool
    ) -> int:
        checks.key(key)
        values = None if source is None else _values_of(checks.name(key), source, parallelism, writer)
        if values is None:
            return INVALID_PARAMETERS
        return self._store_all(values, config, replace)

    def _store_all(self, values: Values, config: ReplicateConfig, replace: bool) -> int:
        codes = self._store_pieces([name for name, _ in values], [pieces for _, pieces in values], config, replace)
        return next((code for code in codes if code != OK), OK)

    def _put_shards(
        self, keys: Sequence[Key], sources: list[Optional[Source]], many: Any, writers: Any, config: ReplicateConfig, replace: bool
    ) -> list[int]:
        parallelisms, partitions = _one_each(keys, many), _one_each(keys, writers)
        if parallelisms is None or partitions is None or len(sources) != len(keys):
            return [INVALID_PARAMETERS] * len(keys)
        rows = zip(keys, sources, parallelisms, partitions)
        return [self._put_shard(*row, config, replace) for row in rows]

    def _put_from_one(
        self, key: Key, start: int, size: int, parallelism: Any, writer: Any, config: ReplicateConfig, replace: bool
    ) -> int:
        checks.key(key)
        source = self._source_in(checks.number("buffer_ptr", start), checks.number("size", size))
        if source is None or parallelism is None or writer is not None:
            return self._put_shard(key, source, parallelism, writer, config, replace)
        axes = axes_of(parallelism)
        split = None if axes is None else _tp(axes)
        if axes is None or split is None or split.split_dim is None:
            return self._put_shard(key, source, parallelism, writer, config, replace)
        shards = shards_of(source, split.size, split.split_dim)
        if shards is None:
            return INVALID_PARAMETERS
        named = [(_with_tp(axes, shard.header.axes[0]), shard) for shard in shards]
        values: Values = [
            (shard_name(checks.name(key), own), shard.as_shard(source.header.shape, own).pieces()) for own, shard in named
        ]
        return self._store_all(values, config, replace)

    def _put_from_each(
        self, keys: Sequence[Key], starts: Numbers, sizes: Numbers, many: Any, writers: Any, config: ReplicateConfig, replace: bool
    ) -> list[int]:
        parallelisms, partitions = _one_each(keys, many), _one_each(keys, writers)
        if parallelisms is None or partitions is None or not len(keys) == len(starts) == len(sizes):
            return [INVALID_PARAMETERS] * len(keys)
        rows = zip(keys, starts, sizes, parallelisms, partitions)
        return [self._put_from_one(*row, config, replace) for row in rows]

    def _find(self, key: Key, target: Any) -> Optional[Found]:
        """What a target asks for: its header, and where its parts lie."""
        checks.key(key)
        name = checks.name(key)
        mode, parallelism = ("as_stored", None) if target is None else (getattr(target, "mode", None), getattr(target, "parallelism", None))
        if parallelism is None:
            return self._whole(name, mode)
        axes = axes_of(parallelism)
        if axes is None or mode not in ("shard", "full"):
            return None
        split = _tp(axes)
        if mode == "shard":
            exact = self._object(shard_name(name, axes))
            if exact is not None and _is_layout(exact[0], axes):
                return exact[0], [(exact[1], exact[0])]
        if split is None or split.split_dim is None:
            return None
        return self._assemble(name, axes, split, mode == "full")

    def _whole(self, name: bytes, mode: Any) -> Optional[Found]:
        found = self._object(name) if mode in ("as_stored", "full") else None
        if found is not None:
            return found[0], [(found[1], found[0])]
        manifest = self._manifest(writer_manifest_name(name)) if mode == "full" else None
        if manifest is None:
            return None
        return self._gather(self._writer_names(name, manifest), manifest, 0, manifest.whole, ())

    def _assemble(self, name: bytes, axes: Axes, wanted: Axis, is_full: bool) -> Optional[Found]:
        """A tensor, or a shard of it, from the shards there are."""
        manifest = self._manifest(manifest_name(name)) or self._manifest_of_first(name, axes)
        names = [] if manifest is None else _shard_names(name, axes, manifest)
        if manifest is None and not is_full and len(axes) == 1:
            manifest = self._manifest(writer_manifest_name(name))
            names = [] if manifest is None else self._writer_names(name, manifest)
        dim = wanted.split_dim
        if manifest is None or dim is None or dim != manifest.split_dim or manifest.whole[dim] % wanted.size:
            return None
        if is_full:
            return self._gather(names, manifest, 0, manifest.whole, ())
        extent = manifest.whole[dim] // wanted.size
        shape = (*manifest.whole[:dim], extent, *manifest.whole[dim + 1 :])
        return self._gather(names, manifest, wanted.rank * extent, shape, axes)

    def _gather(
        self, names: list[bytes], manifest: Manifest, begin: int, shape: tuple[int, ...], axes: Axes
    ) -> Optional[Found]:
        """The parts of a range along the dimension that is split."""
        dim = manifest.split_dim
        if manifest.whole[dim] % manifest.shards:
            return None
        extent = manifest.whole[dim] // manifest.shards
        first, last = (begin // extent, -(-(begin + shape[dim]) // extent)) if extent else (0, 0)
        header, parts = Header(manifest.dtype, manifest.whole, shape, axes), []
        for rank in range(first, last):
            part = self._object(names[rank])
            split = None if part is None else _tp(part[0].axes)
            if part is None or split is None or (split.rank, split.size, split.split_dim) != (rank, manifest.shards, dim):
                return None
            if (part[0].dtype, part[0].whole) != (manifest.dtype, manifest.whole):
                return None
            parts.append((part[1], part[0]))
        return header, parts

    def _object(self, name: bytes) -> Optional[tuple[Header, View]]:
        view = self._tensor_views([name])[0]
        header = None if view is None else header_of(view)
        return None if view is None or header is None else (header, view)

    def _manifest(self, name: bytes) -> Optional[Manifest]:
        view = self._tensor_views([name])[0]
        return None if view is None or not view.is_intact() else unpack_manifest(memoryview(view), view.size())

    def _manifest_of_first(self, name: bytes, axes: Axes) -> Optional[Manifest]:
        """What a manifest would say, from the first of shards that ``put_tensor_with_tp`` has put: it writes none."""
        first = self._object(name + b"_tp_0") if len(axes) == 1 else None
        split = None if first is None else _tp(first[0].axes)
        if first is None or split is None or split.split_dim is None or not 0 <= split.split_dim < len(first[0].shape):
            return None
        return Manifest(first[0].dtype, first[0].whole, split.split_dim, split.size) if split.size > 0 else None

    def _writer_names(self, name: bytes, manifest: Manifest) -> list[bytes]:
        return [writer_name(name, rank, manifest.shards, manifest.split_dim) for rank in range(manifest.shards)]


#: A header, and objects that have its elements, in the order in which they lie along the dimension that is split.
Found = tuple[Header, list[tuple[View, Header]]]


def _values_of(name: bytes, source: Source, parallelism: Any, writer: Any) -> Optional[Values]:
    """What is stored for a shard; None: it is not well."""
    if parallelism is None and writer is None:
        return [(name, source.pieces())]
    if parallelism is not None and writer is not None:
        return None
    split = None if writer is None else writer_axis(writer)
    axes = (split,) if split is not None else axes_of(parallelism)
    if axes is None:
        return None
    split, shape = _tp(axes), source.header.shape
    if split is None or split.split_dim is None:
        return [(shard_name(name, axes), source.as_shard(shape, axes).pieces())]
    dim = split.split_dim
    if not 0 <= dim < len(shape):
        return None
    if writer is not None:
        return _values_of_writer(name, source, split, dim)
    whole = (*shape[:dim], shape[dim] * split.size, *shape[dim + 1 :])
    if len(axes) > 1:
        # With other axes beside it, the tensor is the whole one, of which the rank's part is stored; so it is there.
        parts = shards_of(source, split.size, dim)
        if parts is None:
            return None
        whole, source = shape, parts[split.rank]
    manifest = Manifest(source.header.dtype, whole, dim, split.size)
    return [(shard_name(name, axes), source.as_shard(whole, axes).pieces()), (manifest_name(name), (manifest.pack(),))]


def _values_of_writer(name: bytes, source: Source, split: Axis, dim: int) -> Optional[Values]:
    shards = shards_of(source, split.size, dim)
    if shards is None:
        return None
    manifest = Manifest(source.header.dtype, source.header.shape, dim, split.size)
    own = writer_name(name, split.rank, split.size, dim)
    return [(own, shards[split.rank].pieces()), (writer_manifest_name(name), (manifest.pack(),))]


def _shard_names(name: bytes, axes: Axes, manifest: Manifest) -> list[bytes]:
    ranks = range(manifest.shards)
    stored = (_with_tp(axes, Axis("tp", rank, manifest.shards, manifest.split_dim)) for rank in ranks)
    return [shard_name(name, own) for own in stored]


def _tp(axes: Axes) -> Optional[Axis]:
    return next((axis for axis in axes if axis.kind == "tp"), None)


def _with_tp(axes: Axes, split: Axis) -> Axes:
    """The same axes with another rank and size of the one that splits."""
    rank, size, dim = split.rank, split.size, split.split_dim
    return tuple(but(axis, rank=rank, size=size, split_dim=dim) if axis.kind == "tp" else axis for axis in axes)


def _is_layout(header: Header, axes: Axes) -> bool:
    """Whether a shard was put with these axes."""

    def told(own: Axes) -> set[tuple[Any, ...]]:
        return {(axis.kind, axis.rank, axis.size, axis.split_dim, axis.member) for axis in own}

    return told(header.axes) == told(axes)


def _one_each(keys: Sequence[Any], values: Any) -> Optional[list[Any]]:
    """A value for each key; None: they are not as many, or no list."""
    if values is None:
        return [None] * len(keys)
    return values if isinstance(values, list) and len(values) == len(keys) else None


def _fill(tensor: Tensor, header: Header, parts: list[tuple[View, Header]]) -> None:
    """Copies elements to where a tensor has them: each byte once."""
    if header.data_bytes == 0:
        return
    if len(parts) == 1 and parts[0][1].shape == header.shape:
        ctypes.memmove(tensor.data_ptr(), parts[0][0].ptr() + HEADER_BYTES, header.data_bytes)
        return
    split = _tp(parts[0][1].axes)
    assert split is not None and split.split_dim is not None, "only shards are put together"
    dim = split.split_dim
    wanted = _tp(header.axes)
    begin = 0 if wanted is None else wanted.rank * header.shape[dim]
    end = begin + header.shape[dim]
    for view, own in parts:
        axis = _tp(own.axes)
        assert axis is not None
        offset = axis.rank * own.shape[dim]
        first, last = max(begin, offset), min(end, offset + own.shape[dim])
        piece = tensor_memory.at(view.ptr() + HEADER_BYTES, own).narrow(dim, first - offset, last - first)
        tensor.narrow(dim, first - begin, last - first).copy_(piece)
