"""Verbs in event loops: what a store has connected to and registered is used by its coroutines, too.

Each event loop has a queue of answers of its own, and a bell that it watches; the client behind them is the store's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Sized
from typing import Any, Callable, Optional

from .. import errors
from .._snowskin import CodeRequests, Codes, PutSettings, View
from ..aio import Waiting
from .base import Base
from .checks import Key
from .codes import INVALID_PARAMETERS
from .placement import NO_TASK, Held, Progress
from .ranges import Copies
from .replicas import Uuid

_GONE = (errors.ClosedError, errors.ForkedError)


class LoopVerbs:
    """The verbs of :class:`Codes`, as coroutines of one event loop. Once the store is closed, they answer as a closed one does."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes
        self._requests = CodeRequests(codes)
        self._waiting = Waiting(self._requests)

    def close(self) -> None:
        """Takes no more calls. Those that are under way go on to their end: they use memory of their callers until then."""
        self._waiting.finish()

    async def put_values(self, keys: Sequence[Key], values: Sequence[Sequence[Any]], settings: PutSettings) -> list[int]:
        """Puts values of objects, each in pieces."""
        return await self._numbers(keys, self._requests.submit_put_values, values, settings)

    async def put_from(self, keys: Sequence[Key], starts: Any, sizes: Any, settings: PutSettings) -> list[int]:
        """Puts values that lie at addresses."""
        return await self._numbers(keys, self._requests.submit_put_from, starts, sizes, settings)

    async def put_pieces(self, keys: Sequence[Key], starts: Any, sizes: Any, settings: PutSettings) -> list[int]:
        """Puts values that lie in pieces at addresses."""
        return await self._numbers(keys, self._requests.submit_put_pieces, starts, sizes, settings)

    async def get_to(self, keys: Sequence[Key], starts: Any, sizes: Any) -> list[int]:
        """Reads values to addresses."""
        return await self._numbers(keys, self._requests.submit_get_to, starts, sizes)

    async def get_pieces(self, keys: Sequence[Key], starts: Any, sizes: Any) -> list[int]:
        """Reads values into pieces at addresses."""
        return await self._numbers(keys, self._requests.submit_get_pieces, starts, sizes)

    async def get(self, keys: Sequence[Key]) -> list[bytes]:
        """Values; those that cannot be had are empty."""
        found: list[bytes] = await self._ask([b""] * len(keys), self._requests.submit_get, keys)
        return found

    async def view(self, keys: Sequence[Key]) -> list[Optional[View]]:
        """Values where they lie."""
        found: list[Optional[View]] = await self._ask([None] * len(keys), self._requests.submit_view, keys)
        return found

    async def sizes(self, keys: Sequence[Key]) -> list[int]:
        """How many bytes the values have."""
        return await self._numbers(keys, self._requests.submit_sizes)

    async def exist(self, keys: Sequence[Key]) -> list[int]:
        """1 for each key that is held, 0 for each that is not."""
        return await self._numbers(keys, self._requests.submit_exist)

    async def remove(self, keys: Sequence[Key], force: bool) -> list[int]:
        """Removes keys."""
        return await self._numbers(keys, self._requests.submit_remove, force)

    async def holders(self, keys: Sequence[Key]) -> list[Held]:
        """Who has objects."""
        closed: Held = (INVALID_PARAMETERS, [])
        found: list[Held] = await self._ask([closed] * len(keys), self._requests.submit_holders, keys)
        return found

    async def begin_task(self, key: Key, targets: Sequence[str], source: Optional[str]) -> tuple[Uuid, int]:
        """Has an object copied to segments; with a source, moved from there."""
        asked = self._requests.submit_copy_object, key, targets, source
        high, low, code = await self._ask((*NO_TASK, INVALID_PARAMETERS), *asked)
        return (high, low), code

    async def task(self, high: int, low: int) -> tuple[Optional[Progress], int]:
        """How far a task is."""
        closed = None, INVALID_PARAMETERS
        found: tuple[Optional[Progress], int] = await self._ask(closed, self._requests.submit_task, high, low)
        return found

    async def clear(self, keys: Sequence[Key], segment: str) -> list[int]:
        """Has a segment give up objects."""
        return await self._numbers(keys, self._requests.submit_clear, segment)

    async def remove_matching(self, pattern: str, force: bool) -> int:
        """Removes the keys in which a regular expression is found."""
        found: int = await self._ask(INVALID_PARAMETERS, self._requests.submit_remove_matching, pattern, force)
        return found

    async def intact(self, views: Sequence[View]) -> list[bool]:
        """Of each, whether its bytes match its checksum."""
        found: list[bool] = await self._ask([False] * len(views), self._requests.submit_intact, views)
        return found

    async def copy(self, copies: Copies) -> bool:
        """Makes copies; False: the store is closed."""
        asked = self._requests.submit_copy, copies.to, copies.source, copies.sizes, copies.kept
        made: bool = await self._ask(False, *asked)
        return made

    async def _numbers(self, keys: Sized, submit: Callable[..., int], *arguments: Any) -> list[int]:
        found: list[int] = await self._ask([INVALID_PARAMETERS] * len(keys), submit, keys, *arguments)
        return found

    async def _ask(self, closed: Any, submit: Callable[..., int], *arguments: Any) -> Any:
        try:
            return await self._waiting.ask(submit, *arguments)
        except _GONE:
            return closed
        except OverflowError:
            raise TypeError("addresses and sizes are integers from 0 to 64 bits") from None


class Loops(Base):
    """A store that is used in event loops."""

    def __init__(self) -> None:
        super().__init__()
        self._loops: dict[asyncio.AbstractEventLoop, LoopVerbs] = {}

    def _asked(self, copies: bool = False) -> Optional[LoopVerbs]:
        """The verbs of this loop. None: the blocking verb answers, and at once: no client is there, or values may not be copied."""
        place = self._place
        verbs = None if place is None else place.link.verbs
        if place is None or not isinstance(verbs, Codes) or (copies and not place.copies):
            return None
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None or known.codes is not verbs:
            self._forget_closed_loops()
            try:
                fresh = LoopVerbs(verbs)
            except _GONE:
                return None
            if known is not None:
                known.close()
            known = self._loops[loop] = fresh
        return known

    def _leave_loops(self) -> None:
        loops, self._loops = self._loops, {}
        for loop, verbs in loops.items():
            _end_in(loop, verbs)

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in list(self._loops) if loop.is_closed()]:
            known = self._loops.pop(loop, None)
            if known is not None:
                known.close()


def _end_in(loop: asyncio.AbstractEventLoop, verbs: LoopVerbs) -> None:
    if loop.is_closed():
        verbs.close()
        return
    try:
        loop.call_soon_threadsafe(verbs.close)
    except RuntimeError:
        # It was closed just now.
        verbs.close()
