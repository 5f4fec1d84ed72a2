"""Verbs on memory that callers name by addresses. It has to be registered; what is not is refused, and nothing is read or written there.

Each value may be in several pieces: of these a put makes one value, and a get fills one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from . import checks
from .base import Base
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .ranges import Asked, found
from .replicate import DEFAULT, ReplicateConfig, config as checked

Numbers = Sequence[int]
NumberLists = Sequence[Sequence[int]]


class Pointers(Base):
    """Addresses and sizes are plain integers."""

    def put_from(self, key: Key, buffer_ptr: int, size: int, config: ReplicateConfig = DEFAULT) -> int:
        """Stores what lies at an address. Of nothing it stores nothing, and that is well."""
        return self._put_one(key, buffer_ptr, size, checked(config), False)

    def upsert_from(self, key: Key, buffer_ptr: int, size: int, config: ReplicateConfig = DEFAULT) -> int:
        """Stores what lies at an address, in place of what the key has."""
        return self._put_one(key, buffer_ptr, size, checked(config), True)

    def put_from_with_metadata(
        self,
        key: Key,
        buffer_ptr: int,
        metadata_buffer_ptr: int,
        size: int,
        metadata_size: int,
        config: ReplicateConfig = DEFAULT,
    ) -> int:
        """Stores one value: metadata, and what it describes behind it. Of metadata alone it stores nothing, and that is well."""
        checks.key(key)
        starts = [checks.number("metadata_buffer_ptr", metadata_buffer_ptr), checks.number("buffer_ptr", buffer_ptr)]
        sizes = [checks.number("metadata_size", metadata_size), checks.number("size", size)]
        if self._verbs is not None and size == 0:
            return OK
        return self._put_pieces([key], [starts], [sizes], checked(config), False)[0]

    def get_into(self, key: Key, buffer_ptr: int, size: int) -> int:
        """Reads a value to an address: how many bytes it has, or a code."""
        checks.key(key)
        return self._get([key], [checks.number("buffer_ptr", buffer_ptr)], [checks.number("size", size)])[0]

    def batch_put_from(
        self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers, config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """Stores what lies at addresses: the code of each key."""
        return self._put(keys, buffer_ptrs, sizes, checked(config), False)

    def batch_upsert_from(
        self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers, config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """Stores what lies at addresses, in place of what the keys have: the code of each."""
        return self._put(keys, buffer_ptrs, sizes, checked(config), True)

    def batch_get_into(self, keys: Sequence[Key], buffer_ptrs: Numbers, sizes: Numbers) -> list[int]:
        """Reads values to addresses: for each key how many bytes its value has, or a code."""
        keys = checks.keys(keys)
        return self._get(keys, checks.sequence("buffer_ptrs", buffer_ptrs), checks.sequence("sizes", sizes))

    def batch_put_from_multi_buffers(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        config: ReplicateConfig = DEFAULT,
    ) -> list[int]:
        """Stores values that lie in pieces: the code of each key."""
        keys, starts, sizes = checks.keys(keys), lists("all_buffer_ptrs", all_buffer_ptrs), lists("all_sizes", all_sizes)
        if self._verbs is None:
            checked(config)
            return []
        if [len(own) for own in starts] != [len(own) for own in sizes]:
            return [INVALID_PARAMETERS] * len(keys)
        return self._put_pieces(keys, starts, sizes, checked(config), True)

    def batch_get_into_multi_buffers(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        prefer_alloc_in_same_node: bool = False,
    ) -> list[int]:
        """Reads values into pieces: for each key how many bytes its value has, or a code. What is preferred is not heard."""
        keys, starts, sizes = checks.keys(keys), lists("all_buffer_ptrs", all_buffer_ptrs), lists("all_sizes", all_sizes)
        verbs = self._verbs
        if verbs is None:
            return [INVALID_PARAMETERS] * len(keys)
        return self._after(_ask(verbs.get_pieces, keys, starts, sizes), starts, sizes)

    def get_into_ranges(
        self,
        buffer_ptrs: Numbers,
        all_keys: Sequence[Sequence[Key]],
        all_dst_offsets: Sequence[NumberLists],
        all_src_offsets: Sequence[NumberLists],
        all_sizes: Sequence[NumberLists],
    ) -> list[list[list[int]]]:
        """Copies ranges of values into buffers.

        For each buffer there is a list of keys, for each of these a list of ranges: where a range begins in the buffer, where in the value, and
        how many bytes it has. The answer has the same shape: bytes copied, or a code.
        """
        asked = Asked.of(buffer_ptrs, all_keys, all_dst_offsets, all_src_offsets, all_sizes)
        place = self._place
        if place is None or not asked.fits():
            return asked.refused()
        keys = asked.once()
        views = place.link.verbs.view(keys)
        values = found(keys, views, [view.is_intact() for view in views if view is not None])
        answer, copies = asked.plan(values, place.regions, self._warn_unregistered)
        copies.make()
        return answer

    def _put_one(self, key: Key, start: int, size: int, config: ReplicateConfig, replace: bool) -> int:
        checks.key(key)
        start, size = checks.number("buffer_ptr", start), checks.number("size", size)
        if size == 0 and self._verbs is not None:
            return OK
        return self._put([key], [start], [size], config, replace)[0]

    def _put(
        self, keys: Sequence[Key], starts: Numbers, sizes: Numbers, config: ReplicateConfig, replace: bool
    ) -> list[int]:
        keys = checks.keys(keys)
        starts, sizes = checks.sequence("buffer_ptrs", starts), checks.sequence("sizes", sizes)
        verbs = self._verbs
        refusal = INVALID_PARAMETERS if verbs is None else OK
        if verbs is None or (config is not DEFAULT and (refusal := config._refusal(len(keys), takes_same_node=False))):
            return [refusal] * len(keys)
        settings = config._settings(replace)
        return self._after(_ask(verbs.put_from, keys, starts, sizes, settings), starts, sizes)

    def _put_pieces(
        self,
        keys: Sequence[Key],
        starts: NumberLists,
        sizes: NumberLists,
        config: ReplicateConfig,
        takes_same_node: bool,
    ) -> list[int]:
        verbs = self._verbs
        refusal = INVALID_PARAMETERS if verbs is None else config._refusal(len(keys), takes_same_node)
        if verbs is None or refusal:
            return [refusal] * len(keys)
        return self._after(_ask(verbs.put_pieces, keys, starts, sizes, config._settings(False)), starts, sizes)

    def _get(self, keys: Sequence[Key], starts: Numbers, sizes: Numbers) -> list[int]:
        verbs = self._verbs
        if verbs is None:
            return [INVALID_PARAMETERS] * len(keys)
        return self._after(_ask(verbs.get_to, keys, starts, sizes), starts, sizes)


def _ask(verb: Callable[..., list[int]], *arguments: object) -> list[int]:
    """Calls the native module, which looks at each number."""
    try:
        return verb(*arguments)
    except OverflowError:
        raise TypeError("addresses and sizes are integers from 0 to 64 bits") from None


def lists(what: str, values: Optional[object]) -> list[list[int]]:
    """A list of lists, whose numbers the native module looks at."""
    return [checks.sequence(what, own) for own in checks.sequence(what, values)]
