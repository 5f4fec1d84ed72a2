"""Calls that do not wait, for hosts that watch an event descriptor.

```text
  host's threads: begin(context, …) ──► the native client's thread ──► bell ──► host's poller: ended() ──► (context, answer)
```

Whatever goes wrong with a call, also when it begins, is its answer. Connecting is one more call that does not wait; it is tried again, not more
often than :data:`_troubles.PAUSE_SECONDS` says, as long as it fails.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Optional, TypeVar

from .._snowskin import Requests
from ..errors import ClosedError
from ._settings import Cluster, Settings
from ._troubles import PausedError, Troubles

Context = TypeVar("Context")
#: What is asked: it submits one request and answers its number.
Submit = Callable[[Requests], int]

#: Longer than the deadline, within which all calls end.
_GRACE_SECONDS = 1.0


class Calls(Generic[Context]):
    """Any number of threads may begin calls and take what has ended. A context is the host's: whose call it was."""

    def __init__(self, settings: Settings, troubles: Troubles) -> None:
        self._cluster = Cluster(settings)
        self._troubles = troubles
        self._requests = Requests()
        self._lock = threading.Lock()
        self._under_way: dict[int, Context] = {}
        #: Calls that could not begin.
        self._failed: list[tuple[Context, Any]] = []
        self._connecting: Optional[int] = None
        self._is_connected = False
        self._is_closed = False
        try:
            self._connect()
        except BaseException:
            self._cluster.close()
            raise
        # That the cluster is there when the host begins is worth a moment; that it is not is no reason not to begin.
        self._wait(lambda: self._connecting is None)

    def fileno(self) -> int:
        """Readable while there is something for :meth:`ended`. -1 when it is closed."""
        return -1 if self._is_closed else self._requests.fileno()

    def begin(self, context: Context, submit: Submit) -> None:
        """Begins a call. Its answer, if only that it could not begin, comes with :meth:`ended`."""
        with self._lock:
            try:
                self._under_way[self._number_of(submit)] = context
            # Also what a wrong argument raises: the host's call is a miss, and it hears no other way.
            except Exception as error:
                self._failed.append((context, error))
                if not self._is_closed:
                    os.write(self._requests.fileno(), (1).to_bytes(8, "little"))

    def ended(self) -> list[tuple[Context, Any]]:
        """What has ended since the last time: the context of each call, and its answer or exception. Never waits."""
        with self._lock:
            return self._take()

    def under_way(self) -> int:
        """Calls that have not ended."""
        with self._lock:
            return len(self._under_way) + len(self._failed)

    def close(self) -> list[tuple[Context, Any]]:
        """Waits until nothing reads or writes the host's memory any more, at most about a deadline, and ends; the answers that came."""
        with self._lock:
            if self._is_closed:
                return []
            self._is_closed = True
        left: list[tuple[Context, Any]] = []
        self._wait(lambda: not self._under_way, left)
        with self._lock:
            self._requests.close()
            left += self._take()
            left += [(context, ClosedError("the connector was closed")) for context in self._under_way.values()]
            self._under_way.clear()
        self._cluster.close()
        return left

    def wait(self, seconds: float) -> None:
        """Waits until something has ended, at most for so long."""
        bell = select.poll()
        bell.register(self._requests.fileno(), select.POLLIN)
        bell.poll(max(0, int(seconds * 1000)))

    def _number_of(self, submit: Submit) -> int:
        if self._is_closed:
            raise ClosedError("the connector was closed")
        if self._troubles.is_pause():
            raise PausedError("nobody has answered a moment ago")
        if not self._is_connected and self._connecting is None:
            self._connect()
        return submit(self._requests)

    def _connect(self) -> None:
        self._connecting = self._requests.submit_connect(self._cluster.seeds, **self._cluster.client)

    def _take(self) -> list[tuple[Context, Any]]:
        ended, self._failed = self._failed, []
        for number, is_well, answer in self._requests.drain():
            if number == self._connecting:
                self._connecting, self._is_connected = None, is_well
                if not is_well:
                    self._troubles.tell("cannot connect, all is a miss until that works", answer)
                    self._troubles.pause()
            else:
                ended.append((self._under_way.pop(number), answer))
        return ended

    def _wait(self, is_over: Callable[[], bool], ended: Optional[list[tuple[Context, Any]]] = None) -> None:
        end = time.monotonic() + self._cluster.deadline + _GRACE_SECONDS
        while not is_over() and time.monotonic() < end:
            self.wait(end - time.monotonic())
            taken = self.ended()
            if ended is not None:
                ended += taken
