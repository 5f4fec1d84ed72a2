"""Sessions as coroutines: see :mod:`snowskin.mooncake.sessions`. Bytes are copied by the client's thread."""

from __future__ import annotations

from collections.abc import Sequence

from . import checks
from .checks import Key
from .codes import INVALID_PARAMETERS
from .loops import LoopVerbs, Loops
from .pointers import NumberLists, Numbers
from .ranges import Copies
from .replicate import DEFAULT, ReplicateConfig, config as checked
from .sessions import Sessions, rows_of


class AsyncSessions(Loops, Sessions):
    """A session may be begun by a coroutine and go on with a blocking verb, and the other way round."""

    async def async_batch_get_session_start(self, keys: Sequence[Key]) -> list[int]:
        """See ``batch_get_session_start``."""
        keys, place, verbs = checks.keys(keys), self._place, self._asked()
        if place is None or verbs is None:
            return self.batch_get_session_start(keys)
        return self._hold(place, keys, await verbs.view(keys))

    async def async_batch_get_into_multi_buffer_ranges(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        all_src_offsets: NumberLists,
    ) -> list[int]:
        """See ``batch_get_into_multi_buffer_ranges``."""
        rows = rows_of(keys, all_buffer_ptrs, all_sizes, "all_src_offsets", all_src_offsets)
        place, verbs = self._place, self._asked()
        if place is None or verbs is None or rows is None:
            return self.batch_get_into_multi_buffer_ranges(keys, all_buffer_ptrs, all_sizes, all_src_offsets)
        views = self._to_compare(place, rows)
        for (name, view), is_intact in zip(views.items(), await verbs.intact(list(views.values()))):
            self._compared(place, name, view, is_intact)
        return await _made(verbs, *self._plan_reads(place, rows))

    async def async_batch_get_session_end(self, keys: Sequence[Key]) -> int:
        """See ``batch_get_session_end``."""
        return self.batch_get_session_end(keys)

    async def async_batch_put_session_start(
        self, keys: Sequence[Key], sizes: Numbers, config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """See ``batch_put_session_start``."""
        keys, sizes, config = list(checks.keys(keys)), checks.numbers("sizes", sizes), checked(config)
        place, verbs = self._place, self._asked()
        refusal = config._refusal(len(keys), takes_same_node=True)
        if place is None or verbs is None or refusal or len(keys) != len(sizes):
            return self.batch_put_session_start(keys, sizes, config)
        return self._begin_all(place, keys, sizes, config, await verbs.exist(keys))

    async def async_batch_put_from_multi_buffer_ranges(
        self,
        keys: Sequence[Key],
        all_buffer_ptrs: NumberLists,
        all_sizes: NumberLists,
        all_dst_offsets: NumberLists,
    ) -> list[int]:
        """See ``batch_put_from_multi_buffer_ranges``."""
        rows = rows_of(keys, all_buffer_ptrs, all_sizes, "all_dst_offsets", all_dst_offsets)
        place, verbs = self._place, self._asked()
        if place is None or verbs is None or rows is None:
            return self.batch_put_from_multi_buffer_ranges(keys, all_buffer_ptrs, all_sizes, all_dst_offsets)
        return await _made(verbs, *self._plan_writes(place, rows))

    async def async_batch_put_session_end(self, keys: Sequence[Key]) -> list[int]:
        """See ``batch_put_session_end``."""
        keys, place, verbs = checks.keys(keys), self._place, self._asked()
        if place is None or verbs is None:
            return self.batch_put_session_end(keys)
        codes, puts = self._end_all(place, keys)
        for put in puts:
            put.take(codes, await verbs.put_values(put.keys, put.values, put.settings))
        return codes

    async def async_batch_put_session_revoke(self, keys: Sequence[Key]) -> list[int]:
        """See ``batch_put_session_revoke``."""
        return self.batch_put_session_revoke(keys)


async def _made(verbs: LoopVerbs, codes: list[int], copies: Copies) -> list[int]:
    return codes if await verbs.copy(copies) else [INVALID_PARAMETERS] * len(codes)
