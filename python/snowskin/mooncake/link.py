"""The way to a cluster: a client of it, or what stands in for one as long as the cluster has no engine.

Processes of a service start in any order. Whoever only reads and writes may come before the first who lends memory; to him the cluster is empty
and has no room. A thread of this process looks for the first engine meanwhile, and ends when it has found one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence, Sized
from typing import Any, Optional, Union

from .. import errors
from .._snowskin import Codes, View
from .codes import NO_SPACE, OBJECT_NOT_FOUND, OK, TASK_NOT_FOUND
from .regions import Regions

log = logging.getLogger("mooncake")

#: Between two looks for an engine.
PAUSE_SECONDS = 0.2


class EmptyCluster:
    """The verbs of :class:`Codes`, as a cluster without memory answers them."""

    def is_usable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing."""

    def register(self, address: int, size: int) -> int:
        """Is made good when there is a client."""
        return OK

    def unregister(self, address: int) -> int:
        """Nothing."""
        return OK

    def put_values(self, keys: Sized, *_: Any) -> list[int]:
        """No room."""
        return [NO_SPACE] * len(keys)

    put_from = put_pieces = put_values

    def get_to(self, keys: Sized, *_: Any) -> list[int]:
        """Not held."""
        return [OBJECT_NOT_FOUND] * len(keys)

    get_pieces = sizes = get_to

    def get(self, keys: Sized) -> list[bytes]:
        """Not held."""
        return [b""] * len(keys)

    def view(self, keys: Sized) -> list[Optional[View]]:
        """Not held."""
        return [None] * len(keys)

    def exist(self, keys: Sized) -> list[int]:
        """Not held."""
        return [0] * len(keys)

    def begin(self, keys: Sized) -> list[int]:
        """No room."""
        return [NO_SPACE] * len(keys)

    def remove(self, keys: Sized, force: bool) -> list[int]:
        """Not held."""
        return [OBJECT_NOT_FOUND] * len(keys)

    def remove_matching(self, pattern: str, force: bool) -> int:
        """None."""
        return 0

    def holders(self, keys: Sized) -> list[tuple[int, list[str]]]:
        """Nobody."""
        return [(OBJECT_NOT_FOUND, [])] * len(keys)

    def copy(self, *_: Any) -> tuple[int, int, int]:
        """Not held."""
        return 0, 0, OBJECT_NOT_FOUND

    def task(self, high: int, low: int) -> tuple[None, int]:
        """There is none."""
        return None, TASK_NOT_FOUND

    def clear(self, keys: Sized, segment: str) -> list[int]:
        """Not held."""
        return [OBJECT_NOT_FOUND] * len(keys)

    def cores(self) -> list[tuple[str, str]]:
        """None."""
        return []


Verbs = Union[Codes, EmptyCluster]


class Link:
    """A client of a cluster, from the first moment on in which there is an engine to talk to."""

    def __init__(self, seeds: Sequence[str], regions: Regions, settings: dict[str, Any], is_awaited: bool) -> None:
        """Connects. Raises what :class:`Codes` raises, but for a cluster without engines. `is_awaited`: there will be one in a moment."""
        self._seeds = list(seeds)
        self._settings = settings
        self._regions = regions
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.verbs: Verbs
        try:
            self.verbs = (Codes if is_awaited else Codes.connect_now)(self._seeds, **settings)
        except errors.NoEnginesError:
            log.warning("the cluster has no engine yet: it is empty until somebody lends memory")
            self.verbs = EmptyCluster()
            threading.Thread(target=self._look, name="mooncake-link", daemon=True).start()

    def register(self, start: int, size: int) -> bool:
        """Lets the client use memory; False: it cannot be registered."""
        with self._lock:
            if not self._regions.add(start, size):
                return False
            if self.verbs.register(start, size) == OK:
                return True
            self._regions.drop(start)
            return False

    def unregister(self, start: int) -> bool:
        """Forgets it; False: none is registered that begins there."""
        with self._lock:
            self.verbs.unregister(start)
            return self._regions.drop(start)

    def close(self) -> None:
        """Ends the client, and the search for one."""
        self._ended.set()
        with self._lock:
            self.verbs.close()

    def _look(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                found = Codes(self._seeds, **self._settings)
            except errors.SnowskinError as error:
                log.debug("still no engine: %s", error)
                continue
            with self._lock:
                for start, size in self._regions.runs():
                    found.register(start, size)
                if self._ended.is_set():
                    found.close()
                self.verbs = found
            return
