"""Pages of a host's memory, stored and read where they lie, by calls that wait (a deadline at most) and never raise what went wrong.

A page is one or several pieces of memory that was registered. Pages of one piece go by `Store`, which knows which page continues which; those of
several by `Codes`, a client that gathers and scatters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional

from .._snowskin import Codes, PutSettings, Store
from ..errors import ClosedError, SnowskinError
from ._settings import Cluster, Settings
from ._troubles import PausedError, Troubles

#: What `Codes` says of a key that is not held.
_NOT_HELD = -704

#: Keys, and for each the addresses and the sizes of the pieces of its page.
Keys = Sequence[str]
Pieces = Sequence[Sequence[int]]


class _CodeError(SnowskinError):
    """What `Codes` says in numbers."""

    def __init__(self, code: int) -> None:
        super().__init__(f"error {code}")
        self.code = code


class Pages:
    """Any number of threads may use it. Until a cluster answers, and after :meth:`close`, everything is a miss."""

    def __init__(self, settings: Settings, troubles: Troubles) -> None:
        self._cluster = Cluster(settings)
        self._replicas = settings.replicas
        self._troubles = troubles
        self._connecting = threading.Lock()
        self._store: Optional[Store] = None
        self._codes: Optional[Codes] = None
        self._regions: dict[int, int] = {}
        self._is_closed = False
        try:
            self._connected()
        except SnowskinError as error:
            # A cluster that is not there yet is no reason for the host not to begin.
            self._troubles.tell("cannot connect, all is a miss until that works", error)
            self._troubles.pause()
        except BaseException:
            self._cluster.close()
            raise

    def register(self, address: int, size: int) -> None:
        """From now on pages may lie there. A region is registered once, however often the host names it, or a part of it."""
        with self._connecting:
            known = self._regions.items()
            if size == 0 or any(start <= address and address + size <= start + bytes for start, bytes in known):
                return
            if any(start < address + size and address < start + bytes for start, bytes in known):
                error = ValueError("it overlaps another region: pages in it are misses")
                self._troubles.tell("memory that cannot be registered", error)
                return
            self._regions[address] = size
            if self._store is not None:
                self._store.register(address, size)
            if self._codes is not None:
                self._codes.register(address, size)

    def put(self, keys: Keys, addresses: Pieces, sizes: Pieces, parents: Sequence[Optional[str]]) -> list[bool]:
        """Stores pages whose keys are not held; whether each is held now. A page is evicted before the one it continues, its parent."""
        what = f"put of {len(keys)} pages"
        if _are_whole(addresses):
            starts, lengths = _first_of_each(addresses), _first_of_each(sizes)
            answers = self._ask(
                what, len(keys), lambda store: store.put_from(keys, starts, lengths, parents=parents, replicas=self._replicas)
            )
            return [isinstance(answer, bool) for answer in answers]
        settings = PutSettings(replicas=self._replicas)
        answers = self._ask_codes(what, len(keys), lambda codes: codes.put_pieces(keys, addresses, sizes, settings))
        return [answer == 0 for answer in answers]

    def get(self, keys: Keys, addresses: Pieces, sizes: Pieces) -> list[bool]:
        """Reads pages; whether each was read, and had exactly the length of its pieces."""
        what = f"get of {len(keys)} pages"
        if _are_whole(addresses):
            starts, lengths = _first_of_each(addresses), _first_of_each(sizes)
            answers = self._ask(what, len(keys), lambda store: store.get_to(keys, starts, lengths))
        else:
            answers = self._ask_codes(what, len(keys), lambda codes: codes.get_pieces(keys, addresses, sizes))
        return [answer == sum(lengths) for answer, lengths in zip(answers, sizes)]

    def put_values(self, keys: Keys, values: Sequence[Any], parents: Sequence[Optional[str]]) -> list[bool]:
        """The same of objects with memory of their own, such as tensors."""
        what = f"put of {len(keys)} pages"
        answers = self._ask(what, len(keys), lambda store: store.put(keys, values, parents=parents, replicas=self._replicas))
        return [isinstance(answer, bool) for answer in answers]

    def get_values(self, keys: Keys, rooms: Sequence[Any], sizes: Sequence[int]) -> list[bool]:
        """The same into objects with memory of their own."""
        answers = self._ask(f"get of {len(keys)} pages", len(keys), lambda store: store.get_into(keys, rooms))
        return [answer == size for answer, size in zip(answers, sizes)]

    def held(self, keys: Keys) -> list[bool]:
        """Whether each key is held. Those that are stay for a while."""
        answers = self._ask(f"lookup of {len(keys)} pages", len(keys), lambda store: store.exists(keys))
        return [answer is True for answer in answers]

    def clear(self, pattern: str) -> bool:
        """Removes all keys in which a regular expression is found, and that nobody has just read."""
        return bool(self._ask("clear", 1, lambda store: [store.remove_matching(pattern)])[0])

    def close(self) -> None:
        """Everything is a miss from now on. Calls of other threads go on to their end."""
        with self._connecting:
            self._is_closed = True
            if self._store is not None:
                self._store.close()
            if self._codes is not None:
                self._codes.close()
        self._cluster.close()

    def _ask(self, what: str, count: int, call: Callable[[Store], Any]) -> list[Any]:
        answer: Any
        try:
            answer = call(self._connected())
        # Also what wrong arguments raise: the host's page is a miss, and it hears no other way.
        except Exception as error:
            answer = error
        return self._troubles.answers(what, answer, count)

    def _ask_codes(self, what: str, count: int, call: Callable[[Codes], list[int]]) -> list[Any]:
        def ask(_: Store) -> list[int]:
            return call(self._gathering())

        answers = self._ask(what, count, ask)
        codes = [answer for answer in answers if isinstance(answer, int)]
        failed = next((code for code in codes if code < 0 and code != _NOT_HELD), None)
        if failed is not None:
            self._troubles.tell(what, _CodeError(failed))
        return answers

    def _connected(self) -> Store:
        if self._is_closed:
            raise ClosedError("the connector was closed")
        if self._troubles.is_pause():
            raise PausedError("nobody has answered a moment ago")
        if self._store is not None:
            return self._store
        # One tries; the others have a miss.
        if not self._connecting.acquire(blocking=False):
            raise PausedError("it is being connected")
        try:
            if self._store is None:
                store = Store(self._cluster.seeds, **self._cluster.client)
                for address, size in self._regions.items():
                    store.register(address, size)
                self._store = store
            return self._store
        finally:
            self._connecting.release()

    def _gathering(self) -> Codes:
        with self._connecting:
            if self._is_closed:
                raise ClosedError("the connector was closed")
            if self._codes is None:
                codes = Codes(self._cluster.seeds, **self._cluster.client)
                for address, size in self._regions.items():
                    codes.register(address, size)
                self._codes = codes
            return self._codes


def _are_whole(pieces: Pieces) -> bool:
    return all(len(own) == 1 for own in pieces)


def _first_of_each(pieces: Pieces) -> list[int]:
    return [own[0] for own in pieces]
