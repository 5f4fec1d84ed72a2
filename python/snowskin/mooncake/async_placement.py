"""Verbs on replicas and tasks as coroutines: see :mod:`snowskin.mooncake.placement`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from . import checks
from .checks import Key
from .codes import OK
from .loops import Loops
from .placement import Placement, described, response, task_numbers
from .replicas import QueryTaskResponse, ReplicaDescriptor, Uuid


class AsyncPlacement(Loops, Placement):
    """What is not connected answers as its blocking verb does, at once."""

    async def async_get_replica_desc(self, key: Key) -> list[ReplicaDescriptor]:
        """See ``get_replica_desc``."""
        checks.key(key)
        return (await self.async_batch_get_replica_desc([key])).get(key, [])

    async def async_batch_get_replica_desc(self, keys: Sequence[Key]) -> dict[Key, list[ReplicaDescriptor]]:
        """See ``batch_get_replica_desc``."""
        keys, verbs = checks.keys(keys), self._asked()
        if verbs is None:
            return self.batch_get_replica_desc(keys)
        held = [key for key, size in zip(keys, await verbs.sizes(keys)) if size > 0]
        return described(held, await verbs.holders(held))

    async def async_batch_replica_clear(self, keys: Sequence[Key], segment_name: str = "") -> list[Key]:
        """See ``batch_replica_clear``."""
        keys, segment = checks.keys(keys), checks.text("segment_name", segment_name)
        verbs = self._asked()
        if verbs is None:
            return self.batch_replica_clear(keys, segment)
        codes = await (verbs.clear(keys, self._segment(segment)) if segment else verbs.remove(keys, False))
        return [key for key, code in zip(keys, codes) if code == OK]

    async def async_create_copy_task(self, key: Key, targets: Sequence[str]) -> tuple[Uuid, int]:
        """See ``create_copy_task``."""
        checks.key(key)
        targets, verbs = checks.texts("targets", targets), self._asked()
        if verbs is None:
            return self.create_copy_task(key, targets)
        return await verbs.begin_task(key, [self._segment(target) for target in targets], None)

    async def async_create_move_task(self, key: Key, source: str, target: str) -> tuple[Uuid, int]:
        """See ``create_move_task``."""
        checks.key(key)
        source, target = checks.text("source", source), checks.text("target", target)
        verbs = self._asked()
        if verbs is None:
            return self.create_move_task(key, source, target)
        return await verbs.begin_task(key, [self._segment(target)], self._segment(source))

    async def async_query_task(self, task_id: tuple[int, int]) -> tuple[Optional[QueryTaskResponse], int]:
        """See ``query_task``."""
        (high, low), verbs = task_numbers(task_id), self._asked()
        if verbs is None:
            return self.query_task(task_id)
        return response((high, low), *await verbs.task(high, low))
