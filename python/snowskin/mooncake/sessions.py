"""Sessions: values that are read, or written, range by range in several calls.

A session of reads holds its values where they lie: they stay as they were when it began, whatever becomes of their keys. A session of writes
collects each value in memory of its own, of the size that was said, and puts it when it ends; until then nobody sees anything of it, and
nothing of it lies in the cluster. So a value for which there is no room is refused at the end and not at the beginning, and a key that somebody
else has put meanwhile keeps what he put.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from .._snowskin import PutSettings, View
from . import checks
from .base import Base, Place
from .checks import Key
from .codes import CHECKSUM_MISMATCH, INTERNAL, INVALID_PARAMETERS, OBJECT_EXISTS, OBJECT_NOT_FOUND, OK
from .link import EmptyCluster
from .pointers import NumberLists, Numbers
from .ranges import Copies
from .replicate import DEFAULT, Keeping, ReplicateConfig, config as checked


@dataclass
class Staged:
    """A value that is being written, and how it is put when it is whole."""

    memory: bytearray
    keeping: Keeping
    #: "" for none.
    group: str


@dataclass
class Put:
    """Values that are put in one call; `numbers` are their places in the caller's."""

    numbers: list[int]
    keys: list[Key]
    values: list[tuple[bytearray]]
    settings: PutSettings

    def take(self, codes: list[int], results: Sequence[int]) -> None:
        """Writes results where they belong."""
        for number, code in zip(self.numbers, results):
            codes[number] = code


@dataclass
class Row:
    """What is moved of one value: from or to addresses, to or from offsets in the value."""

    name: bytes
    starts: list[int]
    sizes: list[int]
    offsets: list[int]

    def fits(self) -> bool:
        """Whether there are as many of each."""
        return len(self.starts) == len(self.sizes) == len(self.offsets)

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """Address, bytes and offset of each."""
        return zip(self.starts, self.sizes, self.offsets)


def rows_of(
    keys: Sequence[Key], all_buffer_ptrs: NumberLists, all_sizes: NumberLists, what: str, all_offsets: NumberLists
) -> Optional[list[Row]]:
    """What is moved of each value. None: not one list of each for each key."""
    keys, offsets = checks.keys(keys), checks.number_lists(what, all_offsets)
    starts = checks.number_lists("all_buffer_ptrs", all_buffer_ptrs)
    sizes = checks.number_lists("all_sizes", all_sizes)
    if not len(keys) == len(starts) == len(sizes) == len(offsets):
        return None
    return [Row(checks.name(key), *row) for key, *row in zip(keys, starts, sizes, offsets)]


class Sessions(Base):
    """See the module's head."""

    def batch_get_session_start(self, keys: Sequence[Key]) -> list[int]:
        """Takes hold of values: 0 for each, or the code of it."""
        keys = checks.keys(keys)
        place = self._place
        if place is None:
            return []
        return self._hold(place, keys, place.link.verbs.view(keys))

    def batch_get_into_multi_buffer_ranges(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        all_src_offsets: NumberLists,
    ) -> list[int]:
        """Copies ranges of values of the session to addresses: for each key how many bytes in all, or a code."""
        place, rows = self._place, rows_of(keys, all_buffer_ptrs, all_sizes, "all_src_offsets", all_src_offsets)
        if place is None or rows is None:
            return [] if place is None else [INVALID_PARAMETERS] * len(keys)
        for name, view in self._to_compare(place, rows).items():
            self._compared(place, name, view, view.is_intact())
        codes, copies = self._plan_reads(place, rows)
        copies.make()
        return codes

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
        verbs = place.link.verbs
        held = verbs.begin(keys) if isinstance(verbs, EmptyCluster) else verbs.exist(keys)
        return self._begin_all(place, keys, sizes, config, held)

    def batch_put_from_multi_buffer_ranges(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        all_dst_offsets: NumberLists,
    ) -> list[int]:
        """Copies what lies at addresses into values of the session: for each key how many bytes in all, or a code."""
        place, rows = self._place, rows_of(keys, all_buffer_ptrs, all_sizes, "all_dst_offsets", all_dst_offsets)
        if place is None or rows is None:
            return [] if place is None else [INVALID_PARAMETERS] * len(keys)
        codes, copies = self._plan_writes(place, rows)
        copies.make()
        return codes

    def batch_put_session_end(self, keys: Sequence[Key]) -> list[int]:
        """Puts values of the session as they are: the code of each."""
        keys = checks.keys(keys)
        place = self._place
        if place is None:
            return []
        codes, puts = self._end_all(place, keys)
        for put in puts:
            put.take(codes, place.link.verbs.put_values(put.keys, put.values, put.settings))
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
    def _hold(place: Place, keys: Sequence[Key], views: Sequence[Optional[View]]) -> list[int]:
        with place.lock:
            for key, view in zip(keys, views):
                if view is not None:
                    place.reads[checks.name(key)] = view, False
        return [OBJECT_NOT_FOUND if view is None else OK for view in views]

    @staticmethod
    def _begin_all(
        place: Place, keys: Sequence[Key], sizes: list[int], config: ReplicateConfig, held: Sequence[int]
    ) -> list[int]:
        """Begins values of which it is known whether their keys are held."""
        keeping = config._keeping()
        groups = config.group_ids or [""] * len(keys)
        begun: set[bytes] = set()
        codes = []
        with place.lock:
            for key, size, is_held, group in zip(keys, sizes, held, groups):
                name = checks.name(key)
                code = OBJECT_EXISTS if name in begun else _refusal_to_begin(place, name, size, is_held)
                if code == OK:
                    begun.add(name)
                    place.writes[name] = Staged(bytearray(size), keeping, group)
                codes.append(code)
        return codes

    @staticmethod
    def _end_all(place: Place, keys: Sequence[Key]) -> tuple[list[int], list[Put]]:
        """Takes values out of the session: codes for those that were not in it, and a put for all that are kept in one way."""
        with place.lock:
            staged = [place.writes.pop(checks.name(key), None) for key in keys]
        calls: dict[Keeping, list[int]] = {}
        for number, value in enumerate(staged):
            if value is not None:
                calls.setdefault(value.keeping, []).append(number)
        puts = []
        for keeping, numbers in calls.items():
            values = [value for number in numbers if (value := staged[number]) is not None]
            groups = [value.group for value in values]
            settings = PutSettings(**keeping._asdict(), groups=groups if any(groups) else None)
            puts.append(Put(numbers, [keys[number] for number in numbers], [(value.memory,) for value in values], settings))
        return [INVALID_PARAMETERS] * len(keys), puts

    @staticmethod
    def _to_compare(place: Place, rows: list[Row]) -> dict[bytes, View]:
        """Values of the session that nobody has compared with their checksum yet."""
        with place.lock:
            found = {row.name: place.reads[row.name] for row in rows if row.name in place.reads and row.fits()}
        return {name: view for name, (view, was_compared) in found.items() if not was_compared}

    @staticmethod
    def _compared(place: Place, name: bytes, view: View, is_intact: bool) -> None:
        """Remembers that it was compared, if it is the session's still and is what was put."""
        with place.lock:
            if is_intact and name in place.reads and place.reads[name][0] is view:
                place.reads[name] = view, True

    def _plan_reads(self, place: Place, rows: list[Row]) -> tuple[list[int], Copies]:
        """The answers, if all that is to be copied is: of values that were compared with their checksums."""
        copies, codes = Copies(), []
        for row in rows:
            with place.lock:
                found = place.reads.get(row.name)
            if found is None or not row.fits():
                codes.append(INVALID_PARAMETERS)
                continue
            view, was_compared = found
            # Another session may have begun meanwhile with another value.
            is_intact = was_compared or view.is_intact()
            code = self._refusal_to_copy(place, row, view.size()) if is_intact else CHECKSUM_MISMATCH
            if code == OK:
                copies.kept.append(view)
                for start, size, offset in row.ranges():
                    copies.add(start, view.ptr() + offset, size)
            codes.append(code or sum(row.sizes))
        return codes, copies

    def _plan_writes(self, place: Place, rows: list[Row]) -> tuple[list[int], Copies]:
        """The same for what is written."""
        copies, codes = Copies(), []
        for row in rows:
            with place.lock:
                staged = place.writes.get(row.name)
            if staged is None or not row.fits():
                codes.append(INVALID_PARAMETERS)
                continue
            code = self._refusal_to_copy(place, row, len(staged.memory))
            if code == OK:
                first = ctypes.c_char.from_buffer(staged.memory)
                copies.kept.append(first)
                for start, size, offset in row.ranges():
                    copies.add(ctypes.addressof(first) + offset, start, size)
            codes.append(code or sum(row.sizes))
        return codes, copies

    def _refusal_to_copy(self, place: Place, row: Row, bytes_of_value: int) -> int:
        if any(offset + size > bytes_of_value for _, size, offset in row.ranges()):
            return INVALID_PARAMETERS
        if all(size == 0 or place.regions.holds(start, size) for start, size, _ in row.ranges()):
            return OK
        self._warn_unregistered()
        return INVALID_PARAMETERS


def _refusal_to_begin(place: Place, name: bytes, size: int, is_held: int) -> int:
    if not name or size == 0 or name in place.writes:
        return INVALID_PARAMETERS
    if is_held:
        return OBJECT_EXISTS if is_held == 1 else is_held
    return OK
