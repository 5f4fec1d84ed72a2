"""Verbs on tensors of torch: a header of 304 bytes and the elements make one object (:mod:`snowskin.mooncake.tensor_layout`).

A put goes out of the tensor's memory, header and elements in two pieces; a tensor on a device, or not in C order, is copied first. A get copies the
elements once, from where the object lies into a new tensor. The ``_into`` verbs answer tensors that lie in the caller's buffer, behind the header
that was read with them; the ``_from`` verbs put what lies in such a buffer. ``_with_tp`` verbs split a tensor into as many shards as there are
ranks, under ``<key>_tp_<rank>``: a put writes all of them, whichever rank it names; a get reads one, whatever its layout is.

What is no tensor, or of an element type that has no number, is answered with -600; what cannot be read as a tensor with None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from .._snowskin import View
from . import checks, tensor_memory
from .base import log
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .pointers import Numbers, Pointers
from .replicate import DEFAULT, ReplicateConfig, config as checked
from .tensor_layout import HEADER_BYTES, Axis, Header, shard_name, unpack
from .tensor_memory import Source, Tensor


class Tensors(Pointers):
    """See the module's head."""

    def put_tensor(self, key: Key, tensor: Tensor) -> int:
        """Stores a tensor, unless the key is held: then the old one stays, and that is well, too."""
        return self._store_tensors([key], [tensor], DEFAULT, False)[0]

    def pub_tensor(self, key: Key, tensor: Tensor, config: ReplicateConfig = DEFAULT) -> int:
        """``put_tensor`` with a configuration."""
        return self._store_tensors([key], [tensor], checked(config), False)[0]

    def upsert_tensor(self, key: Key, tensor: Tensor) -> int:
        """Stores a tensor, in place of what the key has."""
        return self._store_tensors([key], [tensor], DEFAULT, True)[0]

    def upsert_pub_tensor(self, key: Key, tensor: Tensor, config: ReplicateConfig = DEFAULT) -> int:
        """``upsert_tensor`` with a configuration."""
        return self._store_tensors([key], [tensor], checked(config), True)[0]

    def batch_put_tensor(self, keys: Sequence[Key], tensors_list: list[Tensor]) -> list[int]:
        """Stores tensors: the code of each key."""
        return self._store_tensors(keys, _listed(tensors_list), DEFAULT, False)

    def batch_pub_tensor(
        self, keys: Sequence[Key], tensors_list: list[Tensor], config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """``batch_put_tensor`` with a configuration."""
        return self._store_tensors(keys, _listed(tensors_list), checked(config), False)

    def batch_upsert_tensor(self, keys: Sequence[Key], tensors_list: list[Tensor]) -> list[int]:
        """Stores tensors, in place of what the keys have: the code of each."""
        return self._store_tensors(keys, _listed(tensors_list), DEFAULT, True)

    def batch_upsert_pub_tensor(
        self, keys: Sequence[Key], tensors_list: list[Tensor], config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """``batch_upsert_tensor`` with a configuration."""
        return self._store_tensors(keys, _listed(tensors_list), checked(config), True)

    def get_tensor(self, key: Key) -> Optional[Tensor]:
        """A tensor; None if there is none under the key. A scalar comes back with one dimension, of one."""
        return self.batch_get_tensor([key])[0]

    def batch_get_tensor(self, keys: Sequence[Key]) -> list[Optional[Tensor]]:
        """Tensors; None for each that cannot be had."""
        keys = _checked_keys(keys)
        return [_tensor_of(view) for view in self._tensor_views(keys)]

    def get_tensor_into(self, key: Key, buffer_ptr: int, size: int) -> Optional[Tensor]:
        """Reads header and elements to an address: a tensor that lies there. None also if there is too little room."""
        return self.batch_get_tensor_into([key], [buffer_ptr], [size])[0] if buffer_ptr else None

    def batch_get_tensor_into(self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers) -> list[Any]:
        """Reads tensors to addresses: each, or None. Of lists of different lengths, or with an address of 0, -600 for each key."""
        keys, starts, sizes = _checked_keys(keys), checks.numbers("buffer_ptrs", buffer_ptrs), checks.numbers("sizes", sizes)
        if self._verbs is None or not len(keys) == len(starts) == len(sizes) or 0 in starts:
            return [INVALID_PARAMETERS] * len(keys)
        if tensor_memory.torch() is None or not keys:
            return [None] * len(keys)
        found = self._get(keys, starts, sizes)
        headers = [tensor_memory.header_at(start, size) for start, size in zip(starts, found)]
        return [None if header is None else _lying_at(start, header) for start, header in zip(starts, headers)]

    def get_tensor_into_cuda(self, key: Key, tensor: Tensor) -> int:
        """Answers -600, as there for a store that is not a dummy client: ``get_tensor(key)`` and ``tensor.copy_`` do it."""
        checks.key(key)
        return INVALID_PARAMETERS

    def batch_get_tensor_into_cuda(self, keys: Sequence[Key], tensors_list: list[Tensor]) -> list[int]:
        """Answers -600 for each key, see :meth:`get_tensor_into_cuda`."""
        _listed(tensors_list)
        return [INVALID_PARAMETERS] * len(_checked_keys(keys))

    def put_tensor_from(self, key: Key, buffer_ptr: int, size: int) -> int:
        """Stores what lies at an address, header and elements. The size is exactly that of both."""
        return self._store_objects([key], [buffer_ptr], [size], False)[0]

    def batch_put_tensor_from(self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers) -> list[int]:
        """Stores what lies at addresses: the code of each key. If one is no tensor, nothing is stored."""
        return self._store_objects(keys, buffer_ptrs, sizes, False)

    def upsert_tensor_from(self, key: Key, buffer_ptr: int, size: int) -> int:
        """Stores what lies at an address, in place of what the key has."""
        return self._store_objects([key], [buffer_ptr], [size], True)[0]

    def batch_upsert_tensor_from(self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers) -> list[int]:
        """Stores what lies at addresses, in place of what the keys have: the code of each."""
        return self._store_objects(keys, buffer_ptrs, sizes, True)

    def _tensor_views(self, keys: Sequence[Key]) -> list[Optional[View]]:
        verbs = self._copying_verbs()
        if verbs is None or not keys or tensor_memory.torch() is None:
            return [None] * len(keys)
        return verbs.view(keys)

    def _store_tensors(
        self, keys: Sequence[Key], tensors: list[Tensor], config: ReplicateConfig, replace: bool
    ) -> list[int]:
        keys = _checked_keys(keys)
        if len(keys) != len(tensors):
            return [INVALID_PARAMETERS] * len(keys)
        return self._store_sources(keys, [tensor_memory.source(tensor) for tensor in tensors], config, replace)

    def _store_sources(
        self, keys: Sequence[Key], sources: Sequence[Optional[Source]], config: ReplicateConfig, replace: bool
    ) -> list[int]:
        """Stores those that are there; the others are answered with -600."""
        values = [(key, source.pieces()) for key, source in zip(keys, sources) if source is not None]
        codes = iter(self._store_pieces([key for key, _ in values], [pieces for _, pieces in values], config, replace))
        return [INVALID_PARAMETERS if source is None else next(codes) for source in sources]

    def _store_pieces(
        self, keys: Sequence[Key], values: Sequence[Sequence[Any]], config: ReplicateConfig, replace: bool
    ) -> list[int]:
        verbs = self._copying_verbs()
        refusal = INVALID_PARAMETERS if verbs is None else config._refusal(len(keys), takes_same_node=True)
        if verbs is None or refusal:
            return [refusal] * len(keys)
        return verbs.put_values(keys, values, config._settings(replace)) if keys else []

    def _store_objects(self, keys: Sequence[Key], starts: Numbers, sizes: Numbers, replace: bool) -> list[int]:
        keys, starts, sizes = _checked_keys(keys), checks.numbers("buffer_ptrs", starts), checks.numbers("sizes", sizes)
        if not len(keys) == len(starts) == len(sizes):
            return [INVALID_PARAMETERS] * len(keys)
        if any(self._header_in(start, size) is None for start, size in zip(starts, sizes)):
            return [INVALID_PARAMETERS] * len(keys)
        return self._put(keys, starts, sizes, DEFAULT, replace) if keys else []

    def _header_in(self, start: int, size: int) -> Optional[Header]:
        """The header of an object that lies in registered memory; None: there is none."""
        place = self._place
        if place is None or start == 0 or size == 0:
            return None
        if not place.regions.holds(start, size):
            self._warn_unregistered()
            return None
        return tensor_memory.header_at(start, size)

    def _source_in(self, start: int, size: int) -> Optional[Source]:
        """A tensor that lies in registered memory behind its header, taken as a whole one; None: there is none."""
        header = self._header_in(start, size)
        if header is None or tensor_memory.torch() is None:
            return None
        flat = Header(header.dtype, header.shape, header.shape)
        return Source(flat, tensor_memory.at(start + HEADER_BYTES, header).reshape(header.shape))


class SplitTensors(Tensors):
    """Verbs on tensors in equal shards, one for each rank. A size of 1 or less means that nothing is split."""

    def put_tensor_with_tp(
        self, key: Key, tensor: Tensor, tp_rank: int = 0, tp_size: int = 1, split_dim: int = 0
    ) -> int:
        """Stores all shards of a tensor, whichever rank is named: 0, or the first code of those that could not be."""
        return self._split([key], [tensor_memory.source(tensor)], DEFAULT, tp_size, split_dim)[0]

    def pub_tensor_with_tp(
        self,
        key: Key,
        tensor: Tensor,
        config: ReplicateConfig = DEFAULT,
        tp_rank: int = 0,
        tp_size: int = 1,
        split_dim: int = 0,
    ) -> int:
        """``put_tensor_with_tp`` with a configuration."""
        return self._split([key], [tensor_memory.source(tensor)], checked(config), tp_size, split_dim)[0]

    def batch_put_tensor_with_tp(
        self, base_keys: Sequence[Key], tensors_list: list[Tensor], tp_rank: int = 0, tp_size: int = 1, split_dim: int = 0
    ) -> list[int]:
        """Stores all shards of tensors: the code of each key. If one cannot be split, nothing is stored."""
        sources = [tensor_memory.source(tensor) for tensor in _listed(tensors_list)]
        return self._split(base_keys, sources, DEFAULT, tp_size, split_dim)

    def batch_pub_tensor_with_tp(
        self,
        base_keys: Sequence[Key],
        tensors_list: list[Tensor],
        config: ReplicateConfig = DEFAULT,
        tp_rank: int = 0,
        tp_size: int = 1,
        split_dim: int = 0,
    ) -> list[int]:
        """``batch_put_tensor_with_tp`` with a configuration."""
        sources = [tensor_memory.source(tensor) for tensor in _listed(tensors_list)]
        return self._split(base_keys, sources, checked(config), tp_size, split_dim)

    def get_tensor_with_tp(self, key: Key, tp_rank: int = 0, tp_size: int = 1, split_dim: int = 0) -> Optional[Tensor]:
        """The shard of a rank; None if it cannot be had."""
        return self.batch_get_tensor_with_tp([key], tp_rank, tp_size)[0]

    def batch_get_tensor_with_tp(
        self, base_keys: Sequence[Key], tp_rank: int = 0, tp_size: int = 1
    ) -> list[Optional[Tensor]]:
        """The shards of a rank; None for each that cannot be had."""
        keys = _keys_of_rank(base_keys, tp_rank, tp_size)
        return [None] * len(base_keys) if keys is None else self.batch_get_tensor(keys)

    def get_tensor_with_tp_into(
        self, key: Key, buffer_ptr: int, size: int, tp_rank: int = 0, tp_size: int = 1, split_dim: int = 0
    ) -> Optional[Tensor]:
        """Reads the shard of a rank to an address, see ``get_tensor_into``."""
        keys = _keys_of_rank([key], tp_rank, tp_size)
        return None if keys is None else self.get_tensor_into(keys[0], buffer_ptr, size)

    def batch_get_tensor_with_tp_into(
        self, base_keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers, tp_rank: int = 0, tp_size: int = 1
    ) -> list[Any]:
        """Reads the shards of a rank to addresses, see ``batch_get_tensor_into``."""
        keys = _keys_of_rank(base_keys, tp_rank, tp_size)
        return [None] * len(base_keys) if keys is None else self.batch_get_tensor_into(keys, buffer_ptrs, sizes)

    def put_tensor_with_tp_from(
        self, key: Key, buffer_ptr: int, size: int, tp_rank: int = 0, tp_size: int = 1, split_dim: int = 0
    ) -> int:
        """Stores all shards of a tensor that lies at an address, behind its header."""
        return self.batch_put_tensor_with_tp_from([key], [buffer_ptr], [size], tp_rank, tp_size, split_dim)[0]

    def batch_put_tensor_with_tp_from(
        self,
        base_keys: Sequence[Key],
        buffer_ptrs: Numbers,
        sizes: Numbers,
        tp_rank: int = 0,
        tp_size: int = 1,
        split_dim: int = 0,
    ) -> list[int]:
        """Stores all shards of tensors that lie at addresses, behind their headers: the code of each key."""
        starts, sizes = checks.numbers("buffer_ptrs", buffer_ptrs), checks.numbers("sizes", sizes)
        if tp_size <= 1:
            return self._store_objects(base_keys, starts, sizes, False)
        if len(starts) != len(sizes):
            return [INVALID_PARAMETERS] * len(base_keys)
        sources = [self._source_in(start, size) for start, size in zip(starts, sizes)]
        return self._split(base_keys, sources, DEFAULT, tp_size, split_dim)

    def _split(
        self, keys: Sequence[Key], sources: Sequence[Optional[Source]], config: ReplicateConfig, size: int, split_dim: int
    ) -> list[int]:
        keys = _checked_keys(keys)
        if len(keys) != len(sources):
            return [INVALID_PARAMETERS] * len(keys)
        if size <= 1:
            return self._store_sources(keys, sources, config, False)
        shards = [shards_of(source, size, split_dim) for source in sources]
        if any(own is None for own in shards):
            return [INVALID_PARAMETERS] * len(keys)
        names = [shard_name(checks.name(key), shard.header.axes) for key, own in zip(keys, shards) for shard in own or ()]
        codes = self._store_sources(names, [shard for own in shards for shard in own or ()], config, False)
        return [next((code for code in codes[at : at + size] if code != OK), OK) for at in range(0, len(codes), size)]


def shards_of(source: Optional[Source], size: int, split_dim: int) -> Optional[list[Source]]:
    """The shards of a tensor; None: it cannot be split so."""
    parts = None if source is None else source.split(split_dim, size)
    if source is None or parts is None:
        return None
    shards = []
    for rank, part in enumerate(parts):
        own = part.contiguous()
        axes = (Axis("tp", rank, size, split_dim),)
        shards.append(Source(Header(source.header.dtype, source.header.shape, tuple(own.shape), axes), own))
    return shards


def _keys_of_rank(keys: Sequence[Key], rank: int, size: int) -> Optional[list[Key]]:
    """The keys under which a rank finds its shards; None: there is no such rank."""
    keys = _checked_keys(keys)
    if size <= 1:
        return list(keys)
    return [checks.name(key) + b"_tp_%d" % rank for key in keys] if 0 <= rank < size else None


def _checked_keys(keys: Any) -> Sequence[Key]:
    found = checks.keys(keys)
    for key in found:
        checks.key(key)
    return found


def _listed(tensors: Any) -> list[Tensor]:
    if not isinstance(tensors, list):
        raise TypeError(f"tensors_list is a list, not {type(tensors).__name__}")
    return tensors


def _tensor_of(view: Optional[View]) -> Optional[Tensor]:
    header = None if view is None else header_of(view)
    if view is None or header is None:
        return None
    return tensor_memory.copied(view.ptr() + HEADER_BYTES, header)


def header_of(view: View) -> Optional[Header]:
    """What is said of the tensor in an object; None: there is none, or its bytes are not those that were put."""
    header = unpack(memoryview(view), view.size())
    if header is not None and not view.is_intact():
        log.error("the bytes of a tensor do not match the checksum that was made when it was put: it is not answered")
        return None
    return header


def _lying_at(start: int, header: Header) -> Tensor:
    return tensor_memory.at(start + HEADER_BYTES, header)
