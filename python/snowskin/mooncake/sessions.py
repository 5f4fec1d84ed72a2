"""Sessions: values that are read, or written, range by range in several calls.

A session of reads holds its values where they lie: they stay as they were when it began, whatever becomes of their keys. A session of writes
collects each value in memory of its own, of the size that was said, and puts it when it ends; until then nobody sees anything of it, and
nothing of it lies in the cluster. So a value for which there is no room is refused at the end and not at the beginning, and a key that somebody
else has put meanwhile keeps what he put.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from .._snowskin import PutSettings
from . import checks
from .base import Base, Place
from .checks import Key
from .codes import CHECKSUM_MISMATCH, INTERNAL, INVALID_PARAMETERS, OBJECT_EXISTS, OBJECT_NOT_FOUND, OK
from .pointers import NumberLists, Numbers
from .ranges import copy
from .replicate import DEFAULT, ReplicateConfig, config as checked


@dataclass
class Staged:
    """A value that is being written, and how it is put when it is whole."""

    memory: bytearray
    soft_pin_ms: int
    hard_pin: bool
    #: "" for none.
    group: str


class Sessions(Base):
    """See the module's head."""

    def batch_get_session_start(self, keys: Sequence[Key]) -> list[int]:
        """Takes hold of values: 0 for each, or the code of it."""
        keys = checks.keys(keys)
        place = self._place
        if place is None:
            return []
        views = place.link.verbs.view(keys)
        with place.lock:
            for key, view in zip(keys, views):
                if view is not None:
                    place.reads[checks.name(key)] = view, False
        return [OBJECT_NOT_FOUND if view is None else OK for view in views]

    def batch_get_into_multi_buffer_ranges(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        all_src_offsets: NumberLists,
    ) -> list[int]:
        """Copies ranges of values of the session to addresses: for each key how many bytes in all, or a code."""
        offsets = checks.number_lists("all_src_offsets", all_src_offsets)
        return self._each(keys, all_buffer_ptrs, all_sizes, offsets, self._read_ranges)

    def _each(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        offsets: list[list[int]],
        move: Callable[[Place, bytes, list[int], list[int], list[int]], int],
    ) -> list[int]:
        keys = checks.keys(keys)
        starts = checks.number_lists("all_buffer_ptrs", all_buffer_ptrs)
        sizes = checks.number_lists("all_sizes", all_sizes)
        place = self._place
        if place is None:
            return []
        if not len(keys) == len(starts) == len(sizes) == len(offsets):
            return [INVALID_PARAMETERS] * len(keys)
        rows = zip(keys, starts, sizes, offsets)
        return [move(place, checks.name(key), *row) for key, *row in rows]

    def batch_get_session_end(self, keys: Sequence[Key]) -> int:
        """Lets go of values."""
        keys = checks.keys(keys)
        place = self._place
        if place is None:
            return INTERNAL
        with place.lock:
            for key in keys:
                place.reads.pop(checks.name(key), None)
        return OK

    def batch_put_session_start(self, keys: Sequence[Key], sizes: Numbers, config: ReplicateConfig = DEFAULT) -> list[int]:
        """Begins values of these sizes: 0 for each, -705 for a key that is held, -600 for one that this store has begun already."""
        keys, sizes, config = list(checks.keys(keys)), checks.numbers("sizes", sizes), checked(config)
        place = self._place
        if place is None:
            return []
        refusal = config._refusal(len(keys), takes_same_node=True)
        if refusal or len(keys) != len(sizes):
            return [refusal or INVALID_PARAMETERS] * len(keys)
        held = place.link.verbs.exist(keys)
        soft_pin_ms, hard_pin = config._pins()
        groups = config.group_ids or [""] * len(keys)
        begun: set[bytes] = set()
        codes = []
        with place.lock:
            for key, size, is_held, group in zip(keys, sizes, held, groups):
                name = checks.name(key)
                code = OBJECT_EXISTS if name in begun else self._begin(place, name, size, is_held)
                if code == OK:
                    begun.add(name)
                    place.writes[name] = Staged(bytearray(size), soft_pin_ms, hard_pin, group)
                codes.append(code)
        return codes

    def batch_put_from_multi_buffer_ranges(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        all_dst_offsets: NumberLists,
    ) -> list[int]:
        """Copies what lies at addresses into values of the session: for each key how many bytes in all, or a code."""
        offsets = checks.number_lists("all_dst_offsets", all_dst_offsets)
        return self._each(keys, all_buffer_ptrs, all_sizes, offsets, self._write_ranges)

    def batch_put_session_end(self, keys: Sequence[Key]) -> list[int]:
        """Puts values of the session as they are: the code of each."""
        keys = checks.keys(keys)
        place = self._place
        if place is None:
            return []
        with place.lock:
            staged = [place.writes.pop(checks.name(key), None) for key in keys]
        codes = [INVALID_PARAMETERS] * len(keys)
        # One call for all that are pinned in one way.
        calls: dict[tuple[int, bool], list[int]] = {}
        for number, value in enumerate(staged):
            if value is not None:
                calls.setdefault((value.soft_pin_ms, value.hard_pin), []).append(number)
        for (soft_pin_ms, hard_pin), numbers in calls.items():
            values = [value for number in numbers if (value := staged[number]) is not None]
            groups = [value.group for value in values]
            settings = PutSettings(soft_pin_ms=soft_pin_ms, hard_pin=hard_pin, groups=groups if any(groups) else None)
            results = place.link.verbs.put_values(
                [keys[number] for number in numbers], [(value.memory,) for value in values], settings
            )
            for number, code in zip(numbers, results):
                codes[number] = code
        return codes

    def batch_put_session_revoke(self, keys: Sequence[Key]) -> list[int]:
        """Throws values of the session away: 0 for each, -600 for one that is not in it."""
        keys = checks.keys(keys)
        place = self._place
        if place is None:
            return []
        with place.lock:
            return [
                INVALID_PARAMETERS if place.writes.pop(checks.name(key), None) is None else OK for key in keys
            ]

    @staticmethod
    def _begin(place: Place, name: bytes, size: int, is_held: int) -> int:
        if not name or size == 0 or name in place.writes:
            return INVALID_PARAMETERS
        if is_held:
            return OBJECT_EXISTS if is_held == 1 else is_held
        return OK

    def _read_ranges(self, place: Place, name: bytes, starts: list[int], sizes: list[int], offsets: list[int]) -> int:
        with place.lock:
            found = place.reads.get(name)
        if found is None or not len(starts) == len(sizes) == len(offsets):
            return INVALID_PARAMETERS
        view, was_compared = found
        if not was_compared:
            if not view.is_intact():
                return CHECKSUM_MISMATCH
            with place.lock:
                if name in place.reads:
                    place.reads[name] = view, True
        if any(offset + size > view.size() for offset, size in zip(offsets, sizes)):
            return INVALID_PARAMETERS
        if not self._are_registered(place, starts, sizes):
            return INVALID_PARAMETERS
        for start, size, offset in zip(starts, sizes, offsets):
            copy(start, view.ptr() + offset, size)
        return sum(sizes)

    def _write_ranges(self, place: Place, name: bytes, starts: list[int], sizes: list[int], offsets: list[int]) -> int:
        with place.lock:
            staged = place.writes.get(name)
        if staged is None or not len(starts) == len(sizes) == len(offsets):
            return INVALID_PARAMETERS
        memory = staged.memory
        if any(offset + size > len(memory) for offset, size in zip(offsets, sizes)):
            return INVALID_PARAMETERS
        if not self._are_registered(place, starts, sizes):
            return INVALID_PARAMETERS
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for start, size, offset in zip(starts, sizes, offsets):
            copy(base + offset, start, size)
        return sum(sizes)

    def _are_registered(self, place: Place, starts: list[int], sizes: list[int]) -> bool:
        is_well = all(size == 0 or place.regions.holds(start, size) for start, size in zip(starts, sizes))
        if not is_well:
            self._warn_unregistered()
        return is_well
