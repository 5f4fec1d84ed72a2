"""What calls answer when nothing went wrong."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Miss(enum.Enum):
    """Why a key has no bytes to give. False, so that ``if value := store.get(key)`` reads as it should."""

    NOT_HELD = 1
    EVICTED = 2
    REMOVED = 3
    OWNER_LOST = 4
    CORRUPT = 5

    def __bool__(self) -> bool:
        return False

    @property
    def words(self) -> str:
        """A few words for people."""
        return _WORDS[self]


_WORDS = {
    Miss.NOT_HELD: "not held",
    Miss.EVICTED: "evicted",
    Miss.REMOVED: "removed",
    Miss.OWNER_LOST: "owner lost",
    Miss.CORRUPT: "corrupt and dropped",
}


class Removal(enum.Enum):
    """What became of a key to remove. True if it was removed."""

    REMOVED = 1
    #: It was not there.
    MISSING = 2
    #: A lease protects it: somebody has just read it. Wait, or force.
    LEASED = 3

    def __bool__(self) -> bool:
        return self is Removal.REMOVED


class RemovedCount(NamedTuple):
    """What a removal by pattern did."""

    #: Keys removed.
    removed: int
    #: Keys that matched and that a lease protects.
    leased: int
