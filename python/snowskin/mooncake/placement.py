"""Verbs on replicas and tasks.

A segment goes by where a core listens, "host:port", and stands for its engine. A store that lends memory has a hostname which is that of its segment, where
that can be; and what it was set up with goes by its hostname in its own verbs in any case.
"""

from __future__ import annotations

import operator
import socket
from collections.abc import Sequence
from typing import Optional

from . import checks, sizes
from .base import Base
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .kinds import TaskStatus, TaskType
from .replicas import Descriptor, MemoryDescriptor, QueryTaskResponse, ReplicaDescriptor, Uuid

NO_TASK: Uuid = (0, 0)
#: Bits of a task's number in its core, in the second number of its id.
NUMBER_BITS = 48

#: Of an object: bytes of its value or a code, and where those listen who have it.
Held = tuple[int, list[str]]
#: How far a task is: whether it moves the object, its state, when it was asked for and when it changed last, what came of it.
Progress = tuple[bool, int, int, int, str]


class Placement(Base):
    """See the module's head."""

    def get_replica_desc(self, key: Key) -> list[ReplicaDescriptor]:
        """Where the replicas of an object are; empty if it is not held. First the one that readers are sent to."""
        checks.key(key)
        return self.batch_get_replica_desc([key]).get(key, [])

    def batch_get_replica_desc(self, keys: Sequence[Key]) -> dict[Key, list[ReplicaDescriptor]]:
        """Where the replicas of objects are, of those that are held. Protects them for a while, as reads do."""
        keys = checks.keys(keys)
        verbs = self._verbs
        if verbs is None:
            return {}
        held = [key for key, size in zip(keys, verbs.sizes(keys)) if size > 0]
        return described(held, verbs.holders(held))

    def batch_replica_clear(self, keys: Sequence[Key], segment_name: str = "") -> list[Key]:
        """Removes objects whose lease is over; with a segment, its replicas, if there are others of an object: the keys of what was removed."""
        keys, segment = checks.keys(keys), self._segment(checks.text("segment_name", segment_name))
        verbs = self._verbs
        if verbs is None or not keys:
            return []
        codes = verbs.clear(keys, segment) if segment else verbs.remove(keys, False)
        return [key for key, code in zip(keys, codes) if code == OK]

    def create_copy_task(self, key: Key, targets: Sequence[str]) -> tuple[Uuid, int]:
        """Has an object copied to segments: the task's id and 0; or a code. Where it is already, nothing is copied."""
        checks.key(key)
        return self._begin(key, checks.texts("targets", targets), None)

    def create_move_task(self, key: Key, source: str, target: str) -> tuple[Uuid, int]:
        """Has an object moved from one segment to another: the task's id and 0; or a code."""
        checks.key(key)
        source, target = checks.text("source", source), checks.text("target", target)
        return self._begin(key, [target], source)

    def query_task(self, task_id: tuple[int, int]) -> tuple[Optional[QueryTaskResponse], int]:
        """How far a task is, and 0; or a code."""
        high, low = task_numbers(task_id)
        verbs = self._verbs
        if verbs is None:
            return None, INVALID_PARAMETERS
        return response((high, low), *verbs.task(high, low))

    def get_offload_rpc_read_count(self) -> int:
        """How many reads went to another client's disk: none ever does."""
        return 0

    def _begin(self, key: Key, targets: Sequence[str], source: Optional[str]) -> tuple[Uuid, int]:
        verbs = self._verbs
        if verbs is None:
            return NO_TASK, INVALID_PARAMETERS
        named = [self._segment(target) for target in targets]
        high, low, code = verbs.copy(key, named, None if source is None else self._segment(source))
        return (high, low), code

    def _segment(self, name: str) -> str:
        """Where a core of the segment listens."""
        place = self._place
        if place is not None and place.engine is not None and name == place.hostname and not place.engine.closed:
            return place.engine.cores[0]
        return address_of(name)


def address_of(name: str) -> str:
    """A segment's name with the address of its host, as engines say where they listen."""
    host, port = sizes.split_address(name)
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM) if host else []
    except (OSError, ValueError, OverflowError):
        return name
    return sizes.join_address(str(min(found)[4][0]), int(port)) if found else name


def described(keys: Sequence[Key], held: Sequence[Held]) -> dict[Key, list[ReplicaDescriptor]]:
    """The replicas of what is held."""
    return {
        key: [ReplicaDescriptor(MemoryDescriptor(Descriptor(size, 0, endpoint))) for endpoint in endpoints]
        for key, (size, endpoints) in zip(keys, held)
        if size > 0
    }


def task_numbers(task_id: tuple[int, int]) -> tuple[int, int]:
    """The two numbers of an id."""
    if not isinstance(task_id, (tuple, list)) or len(task_id) != 2:
        raise TypeError(f"a task's id is a pair of integers, not {task_id!r}")
    high, low = (checks.number("a number of a task's id", operator.index(part)) for part in task_id)
    return high, low


def response(task_id: Uuid, found: Optional[Progress], code: int) -> tuple[Optional[QueryTaskResponse], int]:
    """What a query answers. Who is assigned is the core that carries the task out: its engine and its number there."""
    if found is None:
        return None, code
    is_move, state, created, updated, message = found
    kind = TaskType.REPLICA_MOVE if is_move else TaskType.REPLICA_COPY
    assigned = (task_id[0], task_id[1] >> NUMBER_BITS)
    return QueryTaskResponse(task_id, kind, TaskStatus(state), created, updated, assigned, message), code
