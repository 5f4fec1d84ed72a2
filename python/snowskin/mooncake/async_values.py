"""Verbs on keys and values as coroutines: see :mod:`snowskin.mooncake.values`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from .._snowskin import View
from . import checks
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .loops import Loops
from .replicate import DEFAULT, ReplicateConfig, config as checked
from .values import Values, piece_of


class AsyncValues(Loops, Values):
    """What is not connected, or may not copy values, answers as its blocking verb does, at once."""

    async def async_is_exist(self, key: Key) -> int:
        """See ``is_exist``."""
        checks.key(key)
        return (await self.async_batch_is_exist([key]))[0]

    async def async_batch_is_exist(self, keys: Sequence[Key]) -> list[int]:
        """See ``batch_is_exist``."""
        keys, verbs = checks.keys(keys), self._asked()
        return self.batch_is_exist(keys) if verbs is None else await verbs.exist(keys)

    async def async_get_size(self, key: Key) -> int:
        """See ``get_size``."""
        checks.key(key)
        verbs = self._asked()
        return self.get_size(key) if verbs is None else self._unless_under_way(key, (await verbs.sizes([key]))[0])

    async def async_get(self, key: Key) -> bytes:
        """See ``get``."""
        checks.key(key)
        return (await self.async_get_batch([key]))[0]

    async def async_get_batch(self, keys: Sequence[Key]) -> list[bytes]:
        """See ``get_batch``."""
        keys, verbs = checks.keys(keys), self._asked(copies=True)
        return self.get_batch(keys) if verbs is None else await verbs.get(keys)

    async def async_get_buffer(self, key: Key) -> Optional[View]:
        """See ``get_buffer``."""
        checks.key(key)
        return (await self.async_batch_get_buffer([key]))[0]

    async def async_batch_get_buffer(self, keys: Sequence[Key]) -> list[Optional[View]]:
        """See ``batch_get_buffer``."""
        keys, verbs = checks.keys(keys), self._asked(copies=True)
        return self.batch_get_buffer(keys) if verbs is None else await verbs.view(keys)

    async def async_put(self, key: Key, value: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``put``."""
        checks.key(key)
        return await self._put_one_value(key, (piece_of(value),), checked(config), False)

    async def async_upsert(self, key: Key, value: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``upsert``."""
        checks.key(key)
        return await self._put_one_value(key, (piece_of(value),), checked(config), True)

    async def async_put_parts(self, key: Key, *parts: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``put_parts``."""
        return await self._put_parts(key, parts, checked(config), False)

    async def async_upsert_parts(self, key: Key, *parts: Any, config: ReplicateConfig = DEFAULT) -> int:
        """See ``upsert_parts``."""
        return await self._put_parts(key, parts, checked(config), True)

    async def async_put_batch(self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig = DEFAULT) -> int:
        """See ``put_batch``."""
        return await self._put_batch(keys, values, checked(config), False)

    async def async_upsert_batch(
        self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig = DEFAULT
    ) -> int:
        """See ``upsert_batch``."""
        return await self._put_batch(keys, values, checked(config), True)

    async def async_remove(self, key: Key, force: bool = False) -> int:
        """See ``remove``."""
        checks.key(key)
        return self._unless_under_way(key, (await self.async_batch_remove([key], force))[0])

    async def async_batch_remove(self, keys: Sequence[Key], force: bool = False) -> list[int]:
        """See ``batch_remove``."""
        keys, verbs = checks.keys(keys), self._asked()
        return self.batch_remove(keys, force) if verbs is None else await verbs.remove(keys, bool(force))

    async def async_remove_by_regex(self, regex_pattern: str, force: bool = False) -> int:
        """See ``remove_by_regex``."""
        pattern, verbs = checks.text("regex_pattern", regex_pattern), self._asked()
        return self.remove_by_regex(pattern, force) if verbs is None else await verbs.remove_matching(pattern, bool(force))

    async def async_remove_all(self, force: bool = False) -> int:
        """See ``remove_all``."""
        return await self.async_remove_by_regex("", force)

    async def _put_one_value(self, key: Key, pieces: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        verbs = self._asked(copies=True)
        if verbs is None or None in pieces:
            return self._store_one(key, pieces, config, replace)
        refusal = config._refusal(1, takes_same_node=False)
        return refusal or (await verbs.put_values([key], [pieces], config._settings(replace)))[0]

    async def _put_parts(self, key: Key, parts: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        checks.key(key)
        pieces = [piece_of(part) for part in parts]
        if self._verbs is not None and not any(piece is None or piece.nbytes for piece in pieces):
            return OK
        return await self._put_one_value(key, pieces, config, replace)

    async def _put_batch(self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        keys, values, verbs = checks.keys(keys), checks.sequence("values", values), self._asked(copies=True)
        if verbs is None:
            return self._store_batch(keys, values, config, replace)
        pieces = [(piece,) for value in values if (piece := piece_of(value)) is not None and piece.nbytes]
        refusal = config._refusal(len(keys), takes_same_node=False)
        if refusal or not len(keys) == len(values) == len(pieces):
            return refusal or INVALID_PARAMETERS
        codes = await verbs.put_values(keys, pieces, config._settings(replace))
        return next((code for code in codes if code != OK), OK)
