"""Copies between ranges of values and ranges of memory that callers name by addresses.

Nothing is copied to or from an address before it is known that all bytes of the range are registered, and within the value.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Callable, Optional

from .._snowskin import View
from .checks import Key
from .codes import CHECKSUM_MISMATCH, INVALID_PARAMETERS, OBJECT_NOT_FOUND, OK
from .regions import Regions

if TYPE_CHECKING:
    from .base import Place

Ranges = list[list[list[int]]]


def get_into(
    place: Optional[Place],
    starts: list[int],
    all_keys: list[list[Key]],
    to: Ranges,
    at: Ranges,
    sizes: Ranges,
    warn: Callable[[], None],
) -> Ranges:
    """See ``get_into_ranges``. Reads each value once, and compares it with its checksum once."""
    is_well = place is not None and len(starts) == len(all_keys) == len(to) == len(at) == len(sizes)
    if place is None or not is_well:
        return _refused(starts, all_keys, to)
    for number, keys in enumerate(all_keys):
        if not len(keys) == len(to[number]) == len(at[number]) == len(sizes[number]):
            return _refused(starts, all_keys, to)
    values = _values(place, [key for keys in all_keys for key in keys])
    return [
        [
            _copy_ranges(place.regions, values[key], start, to[number][row], at[number][row], sizes[number][row], warn)
            for row, key in enumerate(all_keys[number])
        ]
        for number, start in enumerate(starts)
    ]


def _refused(starts: list[int], all_keys: list[list[Key]], to: Ranges) -> Ranges:
    """The shape of an answer, as far as it can be told, and the code of wrong arguments in all its places."""

    def of_key(number: int, row: int) -> list[int]:
        is_there = number < len(to) and row < len(to[number])
        return [INVALID_PARAMETERS] * (len(to[number][row]) if is_there else 1)

    return [
        [of_key(number, row) for row in range(len(all_keys[number]) if number < len(all_keys) else 1)]
        for number in range(len(starts))
    ]


#: A value, or the code that says why there is none.
Found = tuple[Optional[View], int]


def _values(place: Place, keys: list[Key]) -> dict[Key, Found]:
    once = list(dict.fromkeys(keys))
    return {key: _intact(view) for key, view in zip(once, place.link.verbs.view(once))}


def _intact(view: Optional[View]) -> Found:
    if view is None:
        return None, OBJECT_NOT_FOUND
    return (view, OK) if view.is_intact() else (None, CHECKSUM_MISMATCH)


def _copy_ranges(
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
            copy(start + offset, view.ptr() + source, size)
            codes.append(size)
    return codes


def copy(to: int, source: int, size: int) -> None:
    """Copies bytes that are known to be there; other threads run meanwhile."""
    if size:
        ctypes.memmove(to, source, size)
