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


class Holders(NamedTuple):
    """Who has an object."""

    #: Bytes of its value.
    value_bytes: int
    #: The names of cores, as ``Store.stats`` has them, as far as the object's home knows; first the one that readers are sent to.
    cores: list[str]


class Task(NamedTuple):
    """A task of the cluster: the core that carries it out, and its number there."""

    core: str
    number: int


class TaskState(enum.Enum):
    """How far a task is."""

    RUNNING = 1
    #: All of it was done.
    DONE = 2
    #: Not all of it could be.
    FAILED = 3


class TaskInfo(NamedTuple):
    """What has come of a task."""

    state: TaskState
    #: Whether the object is moved; else it is copied.
    is_move: bool
    #: When it was asked for: seconds of the Unix epoch.
    created: float
    #: When that has changed last.
    updated: float
    #: For people.
    message: str
