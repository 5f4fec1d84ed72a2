"""Memory that callers have registered: what verbs that copy by themselves may read from and write to."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterable


class Regions:
    """Runs of memory by their start; no two overlap. Any number of threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, size: int) -> bool:
        """Takes in a run; False: it is nothing, or a part of it is there already."""
        end = start + size
        if start == 0 or size == 0 or end > 1 << 64:
            return False
        with self._lock:
            place = bisect.bisect_left(self._starts, end)
            if place > 0 and self._ends[place - 1] > start:
                return False
            self._starts.insert(place, start)
            self._ends.insert(place, end)
            return True

    def drop(self, start: int) -> bool:
        """Forgets the run that begins there; False: none does."""
        with self._lock:
            place = bisect.bisect_left(self._starts, start)
            if place == len(self._starts) or self._starts[place] != start:
                return False
            del self._starts[place], self._ends[place]
            return True

    def holds(self, start: int, size: int) -> bool:
        """Whether all these bytes are in one run."""
        with self._lock:
            place = bisect.bisect_right(self._starts, start) - 1
            return place >= 0 and start + size <= self._ends[place]

    def hold_all(self, starts: Iterable[int], sizes: Iterable[int]) -> bool:
        """Whether this is so of each."""
        return all(self.holds(start, size) for start, size in zip(starts, sizes))

    def runs(self) -> list[tuple[int, int]]:
        """Start and size of each."""
        with self._lock:
            return [(start, end - start) for start, end in zip(self._starts, self._ends)]
