"""Copies between ranges of values and ranges of memory that callers name by addresses.

Nothing is copied to or from an address before it is known that all bytes of the range are registered, and within the value.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .._snowskin import View
from . import checks
from .checks import Key
from .codes import CHECKSUM_MISMATCH, INVALID_PARAMETERS, OBJECT_NOT_FOUND
from .regions import Regions

Ranges = list[list[list[int]]]


@dataclass
class Copies:
    """Copies that are to be made: where to, from where, and how many bytes each."""

    to: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    #: What has the memory that nobody has registered.
    kept: list[object] = field(default_factory=list)

    def add(self, to: int, source: int, size: int) -> None:
        """One more."""
        if size:
            self.to.append(to)
            self.source.append(source)
            self.sizes.append(size)

    def make(self) -> None:
        """Makes them all, here and now; other threads run meanwhile."""
        for to, source, size in zip(self.to, self.source, self.sizes):
            ctypes.memmove(to, source, size)


@dataclass
class Asked:
    """What ``get_into_ranges`` is asked for."""

    starts: list[int]
    keys: list[list[Key]]
    to: Ranges
    at: Ranges
    sizes: Ranges

    @classmethod
    def of(cls, starts: Any, keys: Any, to: Any, at: Any, sizes: Any) -> Asked:
        """Arguments of the right types."""

        def ranges(what: str, values: Any) -> Ranges:
            return [checks.number_lists(what, own) for own in checks.sequence(what, values)]

        listed = [list(checks.keys(own)) for own in checks.sequence("all_keys", keys)]
        to, at = ranges("all_dst_offsets", to), ranges("all_src_offsets", at)
        return cls(checks.numbers("buffer_ptrs", starts), listed, to, at, ranges("all_sizes", sizes))

    def fits(self) -> bool:
        """Whether there are as many of each as of all others."""
        if not len(self.starts) == len(self.keys) == len(self.to) == len(self.at) == len(self.sizes):
            return False
        rows = zip(self.keys, self.to, self.at, self.sizes)
        return all(len(keys) == len(to) == len(at) == len(sizes) for keys, to, at, sizes in rows)

    def refused(self) -> Ranges:
        """The shape of an answer, as far as it can be told, and the code of wrong arguments in all its places."""

        def of_key(number: int, row: int) -> list[int]:
            is_there = number < len(self.to) and row < len(self.to[number])
            return [INVALID_PARAMETERS] * (len(self.to[number][row]) if is_there else 1)

        return [
            [of_key(number, row) for row in range(len(self.keys[number]) if number < len(self.keys) else 1)]
            for number in range(len(self.starts))
        ]

    def once(self) -> list[Key]:
        """Each key once."""
        return list(dict.fromkeys(key for keys in self.keys for key in keys))

    def plan(
        self, values: dict[Key, Found], regions: Regions, warn: Callable[[], None]
    ) -> tuple[Ranges, Copies]:
        """The answer, if all that is to be copied is."""
        copies = Copies(kept=[view for view, _ in values.values()])
        answer = [
            [
                _plan_ranges(copies, regions, values[key], start, self.to[n][row], self.at[n][row], self.sizes[n][row], warn)
                for row, key in enumerate(self.keys[n])
            ]
            for n, start in enumerate(self.starts)
        ]
        return answer, copies


#: A value, or the code that says why there is none.
Found = tuple[Optional[View], int]


def found(keys: Sequence[Key], views: Sequence[Optional[View]], intact: Sequence[bool]) -> dict[Key, Found]:
    """The value of each; `intact` tells of those that are there whether they match their checksum."""
    matches = iter(intact)
    values: dict[Key, Found] = {}
    for key, view in zip(keys, views):
        if view is None:
            values[key] = None, OBJECT_NOT_FOUND
        else:
            values[key] = (view, 0) if next(matches) else (None, CHECKSUM_MISMATCH)
    return values


def _plan_ranges(
    copies: Copies,
    regions: Regions,
    value: Found,
    start: int,
    to: list[int],
    at: list[int],
    sizes: list[int],
    warn: Callable[[], None],
) -> list[int]:
    if not len(to) == len(at) == len(sizes):
        return [INVALID_PARAMETERS] * len(to)
    view, code = value
    if view is None:
        return [code] * len(to)
    codes = []
    for offset, source, size in zip(to, at, sizes):
        if source + size > view.size():
            codes.append(INVALID_PARAMETERS)
        elif start == 0 or not regions.holds(start + offset, size):
            warn()
            codes.append(INVALID_PARAMETERS)
        else:
            copies.add(start + offset, view.ptr() + source, size)
            codes.append(size)
    return codes

