"""`mooncake.async_store`: the store's verbs as coroutines, ``async_<name>`` of each.

What puts, reads, looks up, copies and removes is asynchronous down to the socket: values, memory by addresses, several buffers for a value, ranges and
sessions. No thread of Python's waits for it, and any number may be under way. The store's own client does it, for coroutines of all event loops and for
blocking verbs, with the same connections; its one thread copies, too. What asks nobody anything (registering memory, ends of sessions) is done at
once.

Threads of the loop's default executor have what is rare and waits for engines to start or end, or for a master: setting up, closing, health, mounting and
unmounting segments; and the tensor verbs, which take and make tensors with torch.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from typing import Any, Callable

from .async_placement import AsyncPlacement
from .async_pointers import AsyncPointers
from .async_sessions import AsyncSessions
from .async_values import AsyncValues
from .store import MooncakeDistributedStore

_PREFIX = "async_"
#: Verbs that wait for nobody.
_AT_ONCE = ("register_buffer", "unregister_buffer", "get_hostname", "alloc_from_mem_pool")


class MooncakeDistributedStoreAsync(AsyncValues, AsyncPointers, AsyncSessions, AsyncPlacement, MooncakeDistributedStore):
    """A store with ``async_<name>`` for each of its verbs; see the module's head for how each runs. The blocking ones are there, too."""

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A coroutine function of a verb that has no asynchronous one of its own."""
        verb = getattr(type(self), name[len(_PREFIX) :], None) if name.startswith(_PREFIX) else None
        if not callable(verb) or name.startswith(_PREFIX + "_"):
            raise AttributeError(f"a store has no {name}")

        @functools.wraps(verb)
        async def at_once(*arguments: Any, **named: Any) -> Any:
            return verb(self, *arguments, **named)

        @functools.wraps(verb)
        async def in_thread(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(verb, self, *arguments, **named)

        return at_once if verb.__name__ in _AT_ONCE else in_thread

    def _take_down(self) -> None:
        """Coroutines that are under way go on to their end."""
        self._leave_loops()
        super()._take_down()
