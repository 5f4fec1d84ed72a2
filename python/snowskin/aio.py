"""The asynchronous store: coroutines, no threads of Python's.

    import snowskin

    async with snowskin.AsyncStore("127.0.0.1:7300") as store:
        await store.put(["a", "b"], [first, second])
        values = await store.get(["a", "b"])

Requests go out at once when a coroutine begins, and any number may be under way. The one thread that works for them is the native client's; it
rings an event descriptor, which the event loop watches. A store belongs to the event loop in which it is used first.

A coroutine that is cancelled gives up its answer. What it asked for may happen all the same, and buffers that it lent stay lent until nothing
reads or writes them any more.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Optional, Sequence, Union

from . import _snowskin
from ._snowskin import CodeRequests, Requests
from .errors import ClosedError
from .outcomes import Miss, RemovedCount, Task, TaskInfo

Key = Union[str, bytes]
Seeds = Union[str, Sequence[str]]


class Waiting:
    """Who waits for which answer of requests, in the event loop that makes the first of them."""

    def __init__(self, requests: Union[Requests, CodeRequests]) -> None:
        self._requests = requests
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._is_closed = False

    async def ask(self, submit: Any, *arguments: Any, **keywords: Any) -> Any:
        """Makes a request, and waits for its answer."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("the store belongs to another event loop: make one for each")
        number = submit(*arguments, **keywords)
        if self._loop is None:
            self._loop = loop
            loop.add_reader(self._requests.fileno(), self._drain)
        # It cannot have been drained yet: that is for the loop, and we are in it.
        answer = loop.create_future()
        self._answers[number] = answer
        try:
            return await answer
        finally:
            self._answers.pop(number, None)

    def close(self) -> None:
        """Ends all that is under way: whoever waits for it hears :class:`snowskin.errors.ClosedError`."""
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(ClosedError("the store was closed"))
        self.finish()

    def finish(self) -> None:
        """Takes no more requests. What is under way is answered when it has ended: until then it may read and write memory."""
        self._is_closed = True
        self._requests.close()
        self._leave()

    def _leave(self) -> None:
        if self._is_closed and not self._answers and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._requests.fileno())

    def _drain(self) -> None:
        for number, is_well, answer in self._requests.drain():
            waiting = self._answers.pop(number, None)
            if waiting is None or waiting.done():
                continue
            if is_well:
                waiting.set_result(answer)
            else:
                waiting.set_exception(answer)
        self._leave()


class AsyncStore:
    """A client of a cluster, for one event loop. The methods are those of :class:`snowskin.Store`, as coroutines.

    It connects when it is entered with ``async with``, or with :meth:`connect`.
    """

    def __init__(self, seeds: Seeds, **settings: Any) -> None:
        self._seeds = seeds
        self._settings = settings
        self._take(Requests())

    @classmethod
    def beside(cls, store: _snowskin.Store) -> AsyncStore:
        """One that shares the connections of a blocking store; it is connected already."""
        beside = cls("")
        beside._take(Requests.beside(store))
        return beside

    async def connect(self) -> AsyncStore:
        """Gets to know the cluster. Waits for its first engine until the deadline."""
        await self._ask(self._requests.submit_connect, self._seeds, **self._settings)
        return self

    async def __aenter__(self) -> AsyncStore:
        return await self.connect() if self._seeds else self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all that is under way: whoever waits for it hears :class:`snowskin.errors.ClosedError`."""
        self._waiting.close()

    async def put(self, keys: Any, values: Any, **options: Any) -> Any:
        """Stores values whose keys are not held, see :meth:`snowskin.Store.put`."""
        return await self._ask(self._requests.submit_put, keys, values, **options)

    async def get(self, keys: Any, *, deadline: Optional[float] = None) -> Any:
        """Reads values, see :meth:`snowskin.Store.get`."""
        return await self._ask(self._requests.submit_get, keys, deadline=deadline)

    async def get_into(self, keys: Any, buffers: Any, *, deadline: Optional[float] = None) -> Any:
        """Reads values into buffers, see :meth:`snowskin.Store.get_into`. What a buffer holds means nothing before the answer has come."""
        return await self._ask(self._requests.submit_get_into, keys, buffers, deadline=deadline)

    async def view(self, keys: Any, *, deadline: Optional[float] = None) -> Any:
        """Reads values where they lie, see :meth:`snowskin.Store.view`."""
        return await self._ask(self._requests.submit_view, keys, deadline=deadline)

    async def lookup(self, keys: Any, *, deadline: Optional[float] = None) -> Any:
        """How many bytes the values have, see :meth:`snowskin.Store.lookup`."""
        return await self._ask(self._requests.submit_lookup, keys, deadline=deadline)

    async def exists(self, keys: Any, *, deadline: Optional[float] = None) -> Any:
        """Whether keys are held, see :meth:`snowskin.Store.exists`."""
        return await self._ask(self._requests.submit_exists, keys, deadline=deadline)

    async def match_prefix(self, keys: Any, *, deadline: Optional[float] = None) -> int:
        """How many leading keys are held, see :meth:`snowskin.Store.match_prefix`."""
        held: int = await self._ask(self._requests.submit_match_prefix, keys, deadline=deadline)
        return held

    async def remove(self, keys: Any, *, force: bool = False, deadline: Optional[float] = None) -> Any:
        """Removes keys, see :meth:`snowskin.Store.remove`."""
        return await self._ask(self._requests.submit_remove, keys, force=force, deadline=deadline)

    async def remove_matching(
        self, pattern: str, *, force: bool = False, deadline: Optional[float] = None
    ) -> RemovedCount:
        """Removes all keys in which a regular expression is found."""
        count: RemovedCount = await self._ask(
            self._requests.submit_remove_matching, pattern, force=force, deadline=deadline
        )
        return count

    async def remove_all(self, *, force: bool = False, deadline: Optional[float] = None) -> RemovedCount:
        """Removes all keys of the tenant."""
        return await self.remove_matching("", force=force, deadline=deadline)

    async def list_keys(self, pattern: str = "", *, deadline: Optional[float] = None) -> list[tuple[bytes, int]]:
        """The keys in which a regular expression is found, see :meth:`snowskin.Store.list_keys`."""
        keys: list[tuple[bytes, int]] = await self._ask(self._requests.submit_list_keys, pattern, deadline=deadline)
        return keys

    async def holders(self, keys: Any, *, deadline: Optional[float] = None) -> Any:
        """Who has objects, see :meth:`snowskin.Store.holders`."""
        return await self._ask(self._requests.submit_holders, keys, deadline=deadline)

    async def copy(
        self, key: Key, targets: Union[str, Sequence[str]], *, deadline: Optional[float] = None
    ) -> Union[Task, Miss]:
        """Begins to copy an object, see :meth:`snowskin.Store.copy`."""
        task: Union[Task, Miss] = await self._ask(self._requests.submit_copy, key, targets, None, deadline=deadline)
        return task

    async def move(
        self, key: Key, source: str, target: str, *, deadline: Optional[float] = None
    ) -> Union[Task, Miss]:
        """Begins to move an object, see :meth:`snowskin.Store.move`."""
        task: Union[Task, Miss] = await self._ask(self._requests.submit_copy, key, target, source, deadline=deadline)
        return task

    async def task(self, task: tuple[str, int], *, deadline: Optional[float] = None) -> Optional[TaskInfo]:
        """How far a task is, see :meth:`snowskin.Store.task`."""
        info: Optional[TaskInfo] = await self._ask(self._requests.submit_task, task, deadline=deadline)
        return info

    async def give_up(self, key: Key, core: str, *, deadline: Optional[float] = None) -> Union[bool, Miss]:
        """Has an engine give up an object, see :meth:`snowskin.Store.give_up`."""
        given_up: Union[bool, Miss] = await self._ask(self._requests.submit_give_up, key, core, deadline=deadline)
        return given_up

    async def stats(self, *, deadline: Optional[float] = None) -> dict[str, Any]:
        """Counters of every core, and of this client."""
        counters: dict[str, Any] = await self._ask(self._requests.submit_stats, deadline=deadline)
        return counters

    def _take(self, requests: Requests) -> None:
        self._requests = requests
        self._waiting = Waiting(requests)
        self._ask = self._waiting.ask
