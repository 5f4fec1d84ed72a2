"""`mooncake.async_store`: the store's verbs as coroutines, ``async_<name>`` of each.

What puts, reads, looks up and removes whole values is asynchronous down to the socket: no thread of Python's waits for it, and any number may be
under way (:class:`snowskin.AsyncStore`). Each event loop has a connection of its own, made when it is first used. Values in parts are joined
first, which is a copy.

The rest runs in a thread of the loop's default executor, as a blocking call does: setting up and closing, registering memory, verbs with several buffers
for a value, ranges, sessions, replicas, tasks and segments.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Callable, Optional, cast

from .. import errors
from .._snowskin import View
from ..aio import AsyncStore
from ..outcomes import Miss, Removal
from . import checks
from .base import Place
from .checks import Key
from .codes import INVALID_PARAMETERS, OBJECT_NOT_FOUND, OK
from .lifecycle import client_settings
from .link import EmptyCluster
from .replicate import DEFAULT, ReplicateConfig, config as checked
from .store import MooncakeDistributedStore
from .values import piece_of

LEASED = -706
_PREFIX = "async_"
#: Wrong arguments, in the numbers of this API.
_ARGUMENT_ERRORS = (errors.BufferTooSmallError, errors.InvalidKeyError, errors.EmptyValueError)


class MooncakeDistributedStoreAsync(MooncakeDistributedStore):
    """A store with ``async_<name>`` for each of its verbs; see the module's head for how each runs. The blocking ones are there, too."""

    def __init__(self) -> None:
        super().__init__()
        self._loops: dict[asyncio.AbstractEventLoop, tuple[Place, asyncio.Future[AsyncStore]]] = {}

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A coroutine function of a verb that has no asynchronous one of its own."""
        verb = getattr(type(self), name[len(_PREFIX) :], None) if name.startswith(_PREFIX) else None
        if not callable(verb) or name.startswith(_PREFIX + "_"):
            raise AttributeError(f"a store has no {name}")

        @functools.wraps(verb)
        async def in_thread(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(verb, self, *arguments, **named)

        return in_thread

    def close(self) -> int:
        """Leaves the cluster; whoever waits for an answer hears that the store is closed."""
        loops, self._loops = self._loops, {}
        for loop, (_, connecting) in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_end, connecting)
        return super().close()

    async def async_is_exist(self, key: Key) -> int:
        """See ``is_exist``."""
        checks.key(key)
        return (await self.async_batch_is_exist([key]))[0]

    async def async_batch_is_exist(self, keys: Sequence[Key]) -> list[int]:
        """See ``batch_is_exist``."""
        keys = checks.keys(keys)
        store = await self._asked()
        if store is None:
            return self.batch_is_exist(keys)
        return [_exist(outcome) for outcome in await _outcomes(store.exists(keys), len(keys))]

    async def async_get_size(self, key: Key) -> int:
        """See ``get_size``."""
        checks.key(key)
        store = await self._asked()
        if store is None:
            return self.get_size(key)
        (outcome,) = await _outcomes(store.lookup([key]), 1)
        return self._unless_under_way(key, _size(outcome))

    async def async_get(self, key: Key) -> bytes:
        """See ``get``."""
        checks.key(key)
        return (await self.async_get_batch([key]))[0]

    async def async_get_batch(self, keys: Sequence[Key]) -> list[bytes]:
        """See ``get_batch``."""
        keys = checks.keys(keys)
        store = await self._asked(copies=True)
        if store is None:
            return self.get_batch(keys)
        return [value if isinstance(value, bytes) else b"" for value in await _outcomes(store.get(keys), len(keys))]

    async def async_get_buffer(self, key: Key) -> Optional[View]:
        """See ``get_buffer``."""
        checks.key(key)
        return (await self.async_batch_get_buffer([key]))[0]

    async def async_batch_get_buffer(self, keys: Sequence[Key]) -> list[Optional[View]]:
        """See ``batch_get_buffer``."""
        keys = checks.keys(keys)
        store = await self._asked(copies=True)
        if store is None:
            return self.batch_get_buffer(keys)
        found = await _outcomes(store.view(keys), len(keys))
        return [cast(View, view.obj) if isinstance(view, memoryview) else None for view in found]

    async def async_put(self, key: Key, value: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``put``."""
        checks.key(key)
        return await self._put_value(key, piece_of(value), checked(config), False)

    async def async_upsert(self, key: Key, value: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``upsert``."""
        checks.key(key)
        return await self._put_value(key, piece_of(value), checked(config), True)

    async def async_put_parts(self, key: Key, *parts: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``put_parts``."""
        return await self._put_joined(key, parts, checked(config), False)

    async def async_upsert_parts(self, key: Key, *parts: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``upsert_parts``."""
        return await self._put_joined(key, parts, checked(config), True)

    async def async_put_batch(self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig = DEFAULT) -> int:
        """See ``put_batch``."""
        return await self._put_values(keys, values, checked(config), False)

    async def async_upsert_batch(
        self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig = DEFAULT
    ) -> int:
        """See ``upsert_batch``."""
        return await self._put_values(keys, values, checked(config), True)

    async def async_put_from(self, key: Key, buffer_ptr: int, size: int, config: ReplicateConfig = DEFAULT) -> int:
        """See ``put_from``."""
        checks.key(key)
        if size == 0 and self._verbs is not None:
            return OK
        return (await self._put_from([key], [buffer_ptr], [size], checked(config), False))[0]

    async def async_upsert_from(self, key: Key, buffer_ptr: int, size: int, config: ReplicateConfig = DEFAULT) -> int:
        """See ``upsert_from``."""
        checks.key(key)
        if size == 0 and self._verbs is not None:
            return OK
        return (await self._put_from([key], [buffer_ptr], [size], checked(config), True))[0]

    async def async_batch_put_from(
        self, keys: Sequence[Key], buffer_ptrs: Sequence[int], sizes: Sequence[int], config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """See ``batch_put_from``."""
        return await self._put_from(keys, buffer_ptrs, sizes, checked(config), False)

    async def async_batch_upsert_from(
        self, keys: Sequence[Key], buffer_ptrs: Sequence[int], sizes: Sequence[int], config: ReplicateConfig = DEFAULT
    ) -> list[int]:
        """See ``batch_upsert_from``."""
        return await self._put_from(keys, buffer_ptrs, sizes, checked(config), True)

    async def async_get_into(self, key: Key, buffer_ptr: int, size: int) -> int:
        """See ``get_into``."""
        checks.key(key)
        return (await self.async_batch_get_into([key], [buffer_ptr], [size]))[0]

    async def async_batch_get_into(
        self, keys: Sequence[Key], buffer_ptrs: Sequence[int], sizes: Sequence[int]
    ) -> list[int]:
        """See ``batch_get_into``."""
        keys = checks.keys(keys)
        store = await self._asked()
        if store is None:
            return self.batch_get_into(keys, buffer_ptrs, sizes)
        codes, numbers, rooms = self._rooms(keys, buffer_ptrs, sizes)
        wanted = [keys[number] for number in numbers]
        try:
            found = await _outcomes(store.get_into(wanted, rooms), len(wanted)) if wanted else []
        except ValueError:
            # Two values into one place: the last one stays.
            found = [(await _outcomes(store.get_into([key], [room]), 1))[0] for key, room in zip(wanted, rooms)]
        for number, outcome in zip(numbers, found):
            codes[number] = _size(outcome)
        return codes

    async def async_remove(self, key: Key, force: bool = False) -> int:
        """See ``remove``."""
        checks.key(key)
        return self._unless_under_way(key, (await self.async_batch_remove([key], force))[0])

    async def async_batch_remove(self, keys: Sequence[Key], force: bool = False) -> list[int]:
        """See ``batch_remove``."""
        keys = checks.keys(keys)
        store = await self._asked()
        if store is None:
            return self.batch_remove(keys, force)
        return [_removed(outcome) for outcome in await _outcomes(store.remove(keys, force=bool(force)), len(keys))]

    async def async_remove_by_regex(self, regex_pattern: str, force: bool = False) -> int:
        """See ``remove_by_regex``."""
        pattern = checks.text("regex_pattern", regex_pattern)
        store = await self._asked()
        if store is None:
            return self.remove_by_regex(pattern, force)
        try:
            return (await store.remove_matching(pattern, force=bool(force))).removed
        except errors.SnowskinError as error:
            return _code(error)

    async def async_remove_all(self, force: bool = False) -> int:
        """See ``remove_all``."""
        return await self.async_remove_by_regex("", force)

    async def _asked(self, copies: bool = False) -> Optional[AsyncStore]:
        """The asynchronous client of this loop; None: the blocking verb answers at once."""
        place = self._place
        if place is None or isinstance(place.link.verbs, EmptyCluster) or not place.is_here():
            return None
        if copies and not place.copies:
            return None
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None or known[0] is not place:
            store = AsyncStore(place.settings.master_server_addr, **client_settings(place.settings))
            known = self._loops[loop] = (place, asyncio.ensure_future(store.connect()))
        try:
            return await asyncio.shield(known[1])
        except errors.SnowskinError:
            # The next call tries again; this one has the blocking verb's answer.
            self._loops.pop(loop, None)
            return None

    async def _put_value(self, key: Key, piece: Optional[memoryview], config: ReplicateConfig, replace: bool) -> int:
        store = await self._asked(copies=True)
        if store is None:
            return self._store_one(key, (piece,), config, replace)
        refusal = config._refusal(1, takes_same_node=False)
        if refusal or piece is None:
            return refusal or INVALID_PARAMETERS
        return (await _put(store, [key], [piece], config, replace))[0]

    async def _put_joined(self, key: Key, parts: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        checks.key(key)
        pieces = [piece_of(part) for part in parts]
        if self._verbs is None:
            return INVALID_PARAMETERS
        if None in pieces:
            return INVALID_PARAMETERS
        joined = b"".join(piece for piece in pieces if piece is not None)
        return await self._put_value(key, memoryview(joined), config, replace) if joined else OK

    async def _put_values(
        self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig, replace: bool
    ) -> int:
        keys, values = checks.keys(keys), checks.sequence("values", values)
        store = await self._asked(copies=True)
        if store is None:
            return self._store_batch(keys, values, config, replace)
        pieces = [piece for value in values if (piece := piece_of(value)) is not None and piece.nbytes]
        refusal = config._refusal(len(keys), takes_same_node=False)
        if refusal or not len(keys) == len(values) == len(pieces):
            return refusal or INVALID_PARAMETERS
        return next((code for code in await _put(store, keys, pieces, config, replace) if code != OK), OK)

    async def _put_from(
        self, keys: Sequence[Key], starts: Sequence[int], sizes: Sequence[int], config: ReplicateConfig, replace: bool
    ) -> list[int]:
        keys = checks.keys(keys)
        store = await self._asked()
        if store is None:
            return self._put(keys, starts, sizes, config, replace)
        refusal = config._refusal(len(keys), takes_same_node=False)
        if refusal:
            return [refusal] * len(keys)
        codes, numbers, rooms = self._rooms(keys, starts, sizes)
        results = await _put(store, [keys[number] for number in numbers], rooms, config, replace, numbers)
        for number, code in zip(numbers, results):
            codes[number] = code
        return codes

    def _rooms(
        self, keys: Sequence[Key], starts: Sequence[int], sizes: Sequence[int]
    ) -> tuple[list[int], list[int], list[Any]]:
        """A code for each key, wrong ones at first; and the memory of those keys, by number, whose addresses may be used."""
        starts, sizes = checks.numbers("buffer_ptrs", starts), checks.numbers("sizes", sizes)
        codes = [INVALID_PARAMETERS] * len(keys)
        place = self._place
        if place is None or not len(keys) == len(starts) == len(sizes):
            return codes, [], []
        numbers, rooms = [], []
        for number, (start, size) in enumerate(zip(starts, sizes)):
            if size and place.regions.holds(start, size):
                numbers.append(number)
                rooms.append((ctypes.c_ubyte * size).from_address(start))
        if len(numbers) < len(keys):
            self._explain(starts, sizes)
        return codes, numbers, rooms


def _end(connecting: asyncio.Future[AsyncStore]) -> None:
    if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
    else:
        connecting.cancel()


async def _put(
    store: AsyncStore,
    keys: Sequence[Key],
    values: Sequence[Any],
    config: ReplicateConfig,
    replace: bool,
    numbers: Optional[list[int]] = None,
) -> list[int]:
    """Puts values, in one request for each group; `numbers` are the places of the keys in the call."""
    soft_pin_ms, hard_pin = config._pins()
    options: dict[str, Any] = {"replace": replace, "hard_pin": hard_pin}
    if soft_pin_ms:
        options["soft_pin"] = soft_pin_ms / 1000
    groups = config.group_ids
    members: dict[str, list[int]] = {}
    for row in range(len(keys)):
        group = "" if groups is None else groups[row if numbers is None else numbers[row]]
        members.setdefault(group, []).append(row)
    codes = [INVALID_PARAMETERS] * len(keys)

    async def of_group(group: str, rows: list[int]) -> None:
        own = {**options, "group": group} if group else options
        asked = store.put([keys[row] for row in rows], [values[row] for row in rows], **own)
        for row, outcome in zip(rows, await _outcomes(asked, len(rows))):
            codes[row] = _code(outcome) if isinstance(outcome, Exception) else OK

    await asyncio.gather(*(of_group(group, rows) for group, rows in members.items()))
    return codes


async def _outcomes(asked: Awaitable[Any], count: int) -> list[Any]:
    """The outcome of each key; what went wrong with all of them is each one's."""
    try:
        found: list[Any] = await asked
        return found
    except errors.BatchError as error:
        return error.outcomes
    except errors.SnowskinError as error:
        return [error] * count


def _code(outcome: Any) -> int:
    if isinstance(outcome, _ARGUMENT_ERRORS):
        return INVALID_PARAMETERS
    return outcome.code if isinstance(outcome, errors.SnowskinError) else INVALID_PARAMETERS


def _size(outcome: Any) -> int:
    if isinstance(outcome, (Miss, errors.InvalidKeyError)):
        return OBJECT_NOT_FOUND
    return _code(outcome) if isinstance(outcome, Exception) else int(outcome)


def _exist(outcome: Any) -> int:
    if isinstance(outcome, errors.InvalidKeyError):
        return 0
    return _code(outcome) if isinstance(outcome, Exception) else int(outcome)


def _removed(outcome: Any) -> int:
    if isinstance(outcome, Removal):
        return {Removal.REMOVED: OK, Removal.MISSING: OBJECT_NOT_FOUND, Removal.LEASED: LEASED}[outcome]
    return OBJECT_NOT_FOUND if isinstance(outcome, errors.InvalidKeyError) else _code(outcome)
