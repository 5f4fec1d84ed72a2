"""Verbs on memory that callers name by addresses, as coroutines: see :mod:`snowskin.mooncake.pointers`.

The memory is the store's until the answer has come, also if nobody waits for it any more: it may be unregistered, or freed, behind that.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import checks
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .loops import Loops
from .pointers import NumberLists, Numbers, Pointers, lists
from .ranges import Asked, Ranges, found
from .replicate import DEFAULT, ReplicateConfig, config as checked


class AsyncPointers(Loops, Pointers):
    """Addresses and sizes are plain integers."""

    async def async_put_from(self, key: Key, buffer_ptr: int, size: int, config: ReplicateConfig = DEFAULT) -> int:
        """See ``put_from``."""
        return await self._put_one_from(key, buffer_ptr, size, checked(config), False)

    async def async_upsert_from(self, key: Key, buffer_ptr: int, size: int, config: ReplicateConfig = DEFAULT) -> int:
        """See ``upsert_from``."""
        return await self._put_one_from(key, buffer_ptr, size, checked(config), True)

    async def async_put_from_with_metadata(
        self,
        key: Key,
        buffer_ptr: int,
        metadata_buffer_ptr: int,
        size: int,
        metadata_size: int,
        config: ReplicateConfig = DEFAULT,
    ) -> int:
        """See ``put_from_with_metadata``."""
        checks.key(key)
        starts = [checks.number("metadata_buffer_ptr", metadata_buffer_ptr), checks.number("buffer_ptr", buffer_ptr)]
        sizes = [checks.number("metadata_size", metadata_size), checks.number("size", size)]
        if self._verbs is not None and size == 0:
            return OK
        return (await self._put_pieces_from([key], [starts], [sizes], checked(config), False))[0]

    async def async_batch_put_from(
        self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers, config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """See ``batch_put_from``."""
        return await self._put_from(keys, buffer_ptrs, sizes, checked(config), False)

    async def async_batch_upsert_from(
        self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers, config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """See ``batch_upsert_from``."""
        return await self._put_from(keys, buffer_ptrs, sizes, checked(config), True)

    async def async_batch_put_from_multi_buffers(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        config: ReplicateConfig = DEFAULT,
    ) -> list[int]:
        """See ``batch_put_from_multi_buffers``."""
        keys, starts, sizes = checks.keys(keys), lists("all_buffer_ptrs", all_buffer_ptrs), lists("all_sizes", all_sizes)
        if self._verbs is None:
            return self.batch_put_from_multi_buffers(keys, starts, sizes, config)
        if [len(own) for own in starts] != [len(own) for own in sizes]:
            return [INVALID_PARAMETERS] * len(keys)
        return await self._put_pieces_from(keys, starts, sizes, checked(config), True)

    async def async_get_into(self, key: Key, buffer_ptr: int, size: int) -> int:
        """See ``get_into``."""
        checks.key(key)
        starts, sizes = [checks.number("buffer_ptr", buffer_ptr)], [checks.number("size", size)]
        return (await self.async_batch_get_into([key], starts, sizes))[0]

    async def async_batch_get_into(self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers) -> list[int]:
        """See ``batch_get_into``."""
        keys, verbs = checks.keys(keys), self._asked()
        starts, sizes = checks.sequence("buffer_ptrs", buffer_ptrs), checks.sequence("sizes", sizes)
        if verbs is None:
            return self._get(keys, starts, sizes)
        return self._after(await verbs.get_to(keys, starts, sizes), starts, sizes)

    async def async_batch_get_into_multi_buffers(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        prefer_alloc_in_same_node: bool = False,
    ) -> list[int]:
        """See ``batch_get_into_multi_buffers``."""
        keys, starts, sizes = checks.keys(keys), lists("all_buffer_ptrs", all_buffer_ptrs), lists("all_sizes", all_sizes)
        verbs = self._asked()
        if verbs is None:
            return self.batch_get_into_multi_buffers(keys, starts, sizes)
        return self._after(await verbs.get_pieces(keys, starts, sizes), starts, sizes)

    async def async_get_into_ranges(
        self,
        buffer_ptrs: Numbers,
        all_keys: Sequence[Sequence[Key]],
        all_dst_offsets: Sequence[NumberLists],
        all_src_offsets: Sequence[NumberLists],
        all_sizes: Sequence[NumberLists],
    ) -> Ranges:
        """See ``get_into_ranges``."""
        asked = Asked.of(buffer_ptrs, all_keys, all_dst_offsets, all_src_offsets, all_sizes)
        place, verbs = self._place, self._asked()
        if place is None or verbs is None or not asked.fits():
            return self.get_into_ranges(buffer_ptrs, all_keys, all_dst_offsets, all_src_offsets, all_sizes)
        keys = asked.once()
        views = await verbs.view(keys)
        values = found(keys, views, await verbs.intact([view for view in views if view is not None]))
        answer, copies = asked.plan(values, place.regions, self._warn_unregistered)
        return answer if await verbs.copy(copies) else asked.refused()

    async def _put_one_from(self, key: Key, start: int, size: int, config: ReplicateConfig, replace: bool) -> int:
        checks.key(key)
        start, size = checks.number("buffer_ptr", start), checks.number("size", size)
        if size == 0 and self._verbs is not None:
            return OK
        return (await self._put_from([key], [start], [size], config, replace))[0]

    async def _put_from(
        self, keys: Sequence[Key], starts: Numbers, sizes: Numbers, config: ReplicateConfig, replace: bool
    ) -> list[int]:
        keys, verbs = checks.keys(keys), self._asked()
        starts, sizes = checks.sequence("buffer_ptrs", starts), checks.sequence("sizes", sizes)
        refusal = config._refusal(len(keys), takes_same_node=False)
        if verbs is None or refusal:
            return self._put(keys, starts, sizes, config, replace)
        return self._after(await verbs.put_from(keys, starts, sizes, config._settings(replace)), starts, sizes)

    async def _put_pieces_from(
        self,
        keys: Sequence[Key],
        starts: NumberLists,
        sizes: NumberLists,
        config: ReplicateConfig,
        takes_same_node: bool,
    ) -> list[int]:
        verbs, refusal = self._asked(), config._refusal(len(keys), takes_same_node)
        if verbs is None or refusal:
            return self._put_pieces(keys, starts, sizes, config, takes_same_node)
        return self._after(await verbs.put_pieces(keys, starts, sizes, config._settings(False)), starts, sizes)
