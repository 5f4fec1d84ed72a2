"""Verbs on keys and values: put, get, look up, remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

from .._snowskin import View
from . import checks
from .base import Base
from .checks import Key
from .codes import INVALID_PARAMETERS, OBJECT_NOT_FOUND, OK, REPLICA_NOT_READY
from .replicate import DEFAULT, ReplicateConfig, config as checked

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Values(Base):
    """Values are anything with contiguous memory: ``bytes``, ``bytearray``, ``memoryview``, numpy arrays."""

    def put(self, key: Key, value: Buffer, config: ReplicateConfig = DEFAULT) -> int:
        """Stores a value, unless the key is held: then the old one stays, and that is well, too."""
        checks.key(key)
        return self._store_one(key, (piece_of(value),), checked(config), False)

    def put_parts(self, key: Key, *parts: Buffer, config: ReplicateConfig = DEFAULT) -> int:
        """Stores one value of several parts. Of nothing it stores nothing, and that is well."""
        return self._store_parts(key, parts, checked(config), False)

    def put_batch(self, keys: Sequence[Key], values: Sequence[Buffer], config: ReplicateConfig = DEFAULT) -> int:
        """Stores values: 0, or the first code of those that could not be. An empty value, and nothing is stored."""
        return self._store_batch(keys, values, checked(config), False)

    def upsert(self, key: Key, value: Buffer, config: ReplicateConfig = DEFAULT) -> int:
        """Stores a value, in place of what the key has."""
        checks.key(key)
        return self._store_one(key, (piece_of(value),), checked(config), True)

    def upsert_parts(self, key: Key, *parts: Buffer, config: ReplicateConfig = DEFAULT) -> int:
        """Stores one value of several parts, in place of what the key has."""
        return self._store_parts(key, parts, checked(config), True)

    def upsert_batch(self, keys: Sequence[Key], values: Sequence[Buffer], config: ReplicateConfig = DEFAULT) -> int:
        """Stores values, in place of what their keys have: 0, or the first code of those that could not be."""
        return self._store_batch(keys, values, checked(config), True)

    def get(self, key: Key) -> bytes:
        """A value; ``b""`` if it cannot be had."""
        checks.key(key)
        verbs = self._copying_verbs()
        return b"" if verbs is None else verbs.get([key])[0]

    def get_batch(self, keys: Sequence[Key]) -> list[bytes]:
        """Values; ``b""`` for each that cannot be had."""
        keys = checks.keys(keys)
        verbs = self._copying_verbs()
        return [b""] * len(keys) if verbs is None else verbs.get(keys)

    def get_buffer(self, key: Key) -> Optional[View]:
        """A value where it lies, read only; None if it cannot be had. The bytes stay as long as the answer, or a memoryview of it."""
        checks.key(key)
        verbs = self._copying_verbs()
        return None if verbs is None else verbs.view([key])[0]

    def batch_get_buffer(self, keys: Sequence[Key]) -> list[Optional[View]]:
        """Values where they lie; None for each that cannot be had."""
        keys = checks.keys(keys)
        verbs = self._copying_verbs()
        return [None] * len(keys) if verbs is None else verbs.view(keys)

    def get_size(self, key: Key) -> int:
        """Bytes of a value, or a code."""
        checks.key(key)
        verbs = self._verbs
        return INVALID_PARAMETERS if verbs is None else self._unless_under_way(key, verbs.sizes([key])[0])

    def is_exist(self, key: Key) -> int:
        """1: held; 0: not. What is held is not evicted for a while."""
        checks.key(key)
        verbs = self._verbs
        return INVALID_PARAMETERS if verbs is None else verbs.exist([key])[0]

    def batch_is_exist(self, keys: Sequence[Key]) -> list[int]:
        """1 for each that is held, 0 for each that is not."""
        keys = checks.keys(keys)
        verbs = self._verbs
        return [INVALID_PARAMETERS] * len(keys) if verbs is None else verbs.exist(keys)

    def remove(self, key: Key, force: bool = False) -> int:
        """Removes a key; with ``force`` also one that somebody has just read."""
        checks.key(key)
        verbs = self._verbs
        return INVALID_PARAMETERS if verbs is None else self._unless_under_way(key, verbs.remove([key], bool(force))[0])

    def batch_remove(self, keys: Sequence[Key], force: bool = False) -> list[int]:
        """Removes keys: the code of each."""
        keys = checks.keys(keys)
        verbs = self._verbs
        return [INVALID_PARAMETERS] * len(keys) if verbs is None else verbs.remove(keys, bool(force))

    def remove_by_regex(self, regex_pattern: str, force: bool = False) -> int:
        """Removes the keys in which a regular expression is found: how many they were."""
        pattern = checks.text("regex_pattern", regex_pattern)
        verbs = self._verbs
        return INVALID_PARAMETERS if verbs is None else verbs.remove_matching(pattern, bool(force))

    def remove_all(self, force: bool = False) -> int:
        """Removes all keys of the tenant: how many they were."""
        return self.remove_by_regex("", force)

    def _store_one(self, key: Key, pieces: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        verbs = self._copying_verbs()
        if verbs is None or None in pieces:
            return INVALID_PARAMETERS
        if config is not DEFAULT and (refusal := config._refusal(1, takes_same_node=False)):
            return refusal
        return verbs.put_values([key], [pieces], config._settings(replace))[0]

    def _store_parts(self, key: Key, parts: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        checks.key(key)
        pieces = [piece_of(part) for part in parts]
        if self._verbs is not None and not any(piece is None or piece.nbytes for piece in pieces):
            return OK
        return self._store_one(key, pieces, config, replace)

    def _store_batch(self, keys: Sequence[Key], values: Sequence[Any], config: ReplicateConfig, replace: bool) -> int:
        keys = checks.keys(keys)
        given = checks.sequence("values", values)
        pieces = [(piece,) for value in given if (piece := piece_of(value)) is not None and piece.nbytes]
        verbs = self._copying_verbs()
        if verbs is None or len(pieces) != len(given) or len(pieces) != len(keys):
            return INVALID_PARAMETERS
        if config is not DEFAULT and (refusal := config._refusal(len(keys), takes_same_node=False)):
            return refusal
        codes = verbs.put_values(keys, pieces, config._settings(replace))
        return next((code for code in codes if code != OK), OK)

    def _unless_under_way(self, key: Key, code: int) -> int:
        """What a key answers that is not held, but being written by a session of this store."""
        place = self._place
        if code == OBJECT_NOT_FOUND and place is not None and place.writes and checks.name(key) in place.writes:
            return REPLICA_NOT_READY
        return code


def piece_of(value: Any) -> Optional[memoryview]:
    """The memory of a value; None if it is not one run of bytes."""
    view = memoryview(value)
    return view if view.c_contiguous else None
