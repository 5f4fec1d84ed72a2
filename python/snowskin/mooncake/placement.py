"""Verbs on replicas and tasks. An object has one copy here, at the home of its key, and nobody moves it: tasks are refused."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Optional

from . import checks
from .base import Base
from .checks import Key
from .codes import INVALID_PARAMETERS, NOT_SUPPORTED, OBJECT_NOT_FOUND, OK, TASK_NOT_FOUND
from .link import Verbs
from .replicas import Descriptor, MemoryDescriptor, QueryTaskResponse, ReplicaDescriptor, Uuid

NO_TASK: Uuid = (0, 0)


class Placement(Base):
    """Segments go by the names of cores: where they listen, "host:port"."""

    def get_replica_desc(self, key: Key) -> list[ReplicaDescriptor]:
        """Where the copy of an object is; empty if it is not held."""
        checks.key(key)
        return self.batch_get_replica_desc([key]).get(key, [])

    def batch_get_replica_desc(self, keys: Sequence[Key]) -> dict[Key, list[ReplicaDescriptor]]:
        """Where the copies of objects are, of those that are held."""
        keys = checks.keys(keys)
        verbs = self._verbs
        if verbs is None:
            return {}
        sizes = verbs.sizes(keys)
        found = homes(verbs, keys) if any(size > 0 for size in sizes) else []
        return {
            key: [ReplicaDescriptor(MemoryDescriptor(Descriptor(size, 0, home)))]
            for key, size, home in zip(keys, sizes, found)
            if size > 0
        }

    def batch_replica_clear(self, keys: Sequence[Key], segment_name: str = "") -> list[Key]:
        """Removes copies, of one segment or of all: the keys of which there was one, and whose lease was over."""
        keys, segment = checks.keys(keys), checks.text("segment_name", segment_name)
        verbs = self._verbs
        if verbs is None or not keys:
            return []
        if segment:
            keys = [key for key, home in zip(keys, homes(verbs, keys)) if home == segment]
        return [key for key, code in zip(keys, verbs.remove(keys, False)) if code == OK]

    def create_copy_task(self, key: Key, targets: Sequence[str]) -> tuple[Uuid, int]:
        """Refused: -1012 if the object and all targets are there."""
        checks.key(key)
        return self._refuse_task(key, None, checks.texts("targets", targets))

    def create_move_task(self, key: Key, source: str, target: str) -> tuple[Uuid, int]:
        """Refused: -1012 if the object, its source and another target are there."""
        checks.key(key)
        source, target = checks.text("source", source), checks.text("target", target)
        return self._refuse_task(key, source, [target])

    def query_task(self, task_id: tuple[int, int]) -> tuple[Optional[QueryTaskResponse], int]:
        """There is none."""
        if not isinstance(task_id, (tuple, list)) or len(task_id) != 2:
            raise TypeError(f"a task's id is a pair of integers, not {task_id!r}")
        for part in task_id:
            operator.index(part)
        return None, INVALID_PARAMETERS if self._verbs is None else TASK_NOT_FOUND

    def get_offload_rpc_read_count(self) -> int:
        """How many reads went to another client's disk: none ever does."""
        return 0

    def _refuse_task(self, key: Key, source: Optional[str], targets: list[str]) -> tuple[Uuid, int]:
        verbs = self._verbs
        if verbs is None:
            return NO_TASK, INVALID_PARAMETERS
        if verbs.sizes([key])[0] <= 0:
            return NO_TASK, OBJECT_NOT_FOUND
        (home,) = homes(verbs, [key])
        known = {address for _, address in verbs.cores()}
        is_right = source in (None, home) and source not in targets and targets and known.issuperset(targets)
        return NO_TASK, NOT_SUPPORTED if is_right else INVALID_PARAMETERS


def homes(verbs: Verbs, keys: Sequence[Key]) -> list[str]:
    """Where the home of each key listens; "" of what is no key."""
    return [home or "" for home in verbs.homes(keys)]
