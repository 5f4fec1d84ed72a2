"""`BufferPool`: registered memory that is lent and comes back, so that not every buffer is mapped and registered anew.

Memory is taken in regions, each cut into blocks of one class: the least power of two that holds what is asked for. A region of which all blocks
are free makes room for another class where no more may be taken.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Optional

from . import checks
from .base import Base
from .link import Link
from .memory import MooncakeHostMemAllocator

MIN_SIZE_CLASS = 64 << 10
REGION_BYTES = 8 << 20
MEMORY = MooncakeHostMemAllocator()


@dataclass(eq=False)
class Region:
    """A run of registered memory, cut into blocks."""

    start: int
    size: int
    block_bytes: int
    free: list[int] = field(default_factory=list)

    def is_free(self) -> bool:
        """Whether none of its blocks is lent."""
        return len(self.free) == self.size // self.block_bytes


class BufferLease:
    """Memory of a pool until it is released: ``ptr``, ``size``, and ``buffer``, a memoryview of it. Also a context manager."""

    def __init__(self, pool: BufferPool, region: Region, start: int, size: int) -> None:
        self._pool: Optional[BufferPool] = pool
        self._region = region
        self._start = start
        #: The bytes, as long as somebody has a view of them.
        self._bytes: Any = lambda: None
        self.size = size

    @property
    def ptr(self) -> int:
        """Where it begins."""
        self._check()
        return self._start

    @property
    def buffer(self) -> memoryview:
        """Its bytes."""
        self._check()
        found: Any = self._bytes()
        if found is None:
            found = (ctypes.c_ubyte * self.size).from_address(self._start)
            # Whoever has a view of the bytes keeps the lease, and so the pool and its memory.
            found.lease = self
            self._bytes = weakref.ref(found)
        return memoryview(found).cast("B")

    def release(self) -> None:
        """Gives it back to the pool. Raises ``RuntimeError`` as long as something is made of its ``buffer``."""
        pool = self._pool
        if pool is None:
            return
        if self._bytes() is not None:
            raise RuntimeError("something still uses this buffer: let go of what was made of it first")
        self._pool = None
        pool._take_back(self._region, self._start)

    def __enter__(self) -> BufferLease:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.release()

    def __del__(self) -> None:
        # Nobody has a view of the bytes: that would keep this lease.
        if getattr(self, "_pool", None) is not None:
            self.release()

    def _check(self) -> None:
        if self._pool is None:
            raise RuntimeError("this buffer was released: acquire another one")


class BufferPool:
    """Lends memory that is registered with a store. Any number of threads may use it at once.

    ``max_bytes`` and ``max_regions`` say how much it may take in all (0, None: any number). Where that is lent, ``acquire`` waits until some
    comes back, unless it is told not to; after ``timeout`` seconds it raises ``TimeoutError``.
    """

    def __init__(
        self,
        store: Base,
        max_bytes: int = 0,
        min_size_class: int = MIN_SIZE_CLASS,
        max_size_class: Optional[int] = None,
        alignment: int = REGION_BYTES,
        block_on_exhaustion: bool = True,
        default_timeout: Optional[float] = None,
        max_regions: Optional[int] = None,
        prewarm_size: Optional[int] = None,
        prewarm_count: int = 0,
    ) -> None:
        if not isinstance(store, Base) or store._place is None:
            raise RuntimeError("the store is not set up: call setup first")
        if checks.number("min_size_class", min_size_class) == 0 or checks.number("alignment", alignment) == 0:
            raise RuntimeError("min_size_class and alignment are above 0")
        if alignment & (alignment - 1) or alignment < 8:
            raise RuntimeError(f"alignment is {alignment}: it is a power of two, 8 at least")
        self._link = store._place.link
        self._bytes_max = checks.number("max_bytes", max_bytes)
        self._regions_max = max_regions
        self._block_bytes_min = min_size_class
        self._block_bytes_max = max_size_class
        self._region_bytes = alignment
        self._waits = bool(block_on_exhaustion)
        self._timeout = default_timeout
        self._changed = threading.Condition()
        self._regions: list[Region] = []
        self._lent = 0
        self._is_closed = False
        # A pool of which nobody knows any more gives its memory back.
        weakref.finalize(self, _give_back, self._link, self._regions)
        if prewarm_size is not None and prewarm_count:
            self.prewarm(prewarm_size, prewarm_count)

    def acquire(self, size: int, block: Optional[bool] = None, timeout: Optional[float] = None) -> BufferLease:
        """Lends memory of this size. Raises ``RuntimeError`` if there is none and it shall not wait."""
        size = checks.number("size", size)
        block_bytes = self._class_of(size)
        waits = self._waits if block is None else block
        timeout = self._timeout if timeout is None else timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                if self._is_closed:
                    raise RuntimeError("this pool is closed: make another one")
                region = self._region_with(block_bytes)
                if region is not None:
                    self._lent += 1
                    return BufferLease(self, region, region.free.pop(), size)
                if not waits or self._lent == 0:
                    raise RuntimeError(f"no {block_bytes} bytes are left in this pool")
                rest = None if deadline is None else deadline - time.monotonic()
                if rest is not None and rest <= 0:
                    raise TimeoutError(f"no {block_bytes} bytes came back to this pool in {timeout} seconds")
                self._changed.wait(rest)

    def buffer(self, size: int, block: Optional[bool] = None, timeout: Optional[float] = None) -> BufferLease:
        """The same, to be used with ``with``."""
        return self.acquire(size, block, timeout)

    def prewarm(self, size: int, count: int) -> None:
        """Takes memory for so many buffers, and fills it, as far as it may."""
        block_bytes, count = self._class_of(checks.number("size", size)), checks.number("count", count)
        with self._changed:
            while sum(len(region.free) for region in self._regions if region.block_bytes == block_bytes) < count:
                region = self._take_region(block_bytes)
                if region is None:
                    return
                ctypes.memset(region.start, 0, region.size)

    def close(self) -> None:
        """Gives all memory back. Raises ``RuntimeError`` as long as some is lent."""
        with self._changed:
            if self._lent:
                raise RuntimeError(f"{self._lent} buffers of this pool are still lent: release them first")
            self._is_closed = True
            _give_back(self._link, self._regions)
            self._changed.notify_all()

    def _class_of(self, size: int) -> int:
        least = max(size, self._block_bytes_min, 1)
        power = 1 << (least - 1).bit_length()
        # What no class holds has a region of its own.
        return least if self._block_bytes_max is not None and power > self._block_bytes_max else power

    def _region_with(self, block_bytes: int) -> Optional[Region]:
        """One with a free block of this class."""
        for region in self._regions:
            if region.block_bytes == block_bytes and region.free:
                return region
        found = self._take_region(block_bytes)
        while found is None:
            unused = next((region for region in self._regions if region.is_free()), None)
            if unused is None:
                return None
            self._regions.remove(unused)
            _give_back(self._link, [unused])
            found = self._take_region(block_bytes)
        return found

    def _take_region(self, block_bytes: int) -> Optional[Region]:
        """Another one; None: no more may be taken."""
        if self._regions_max and len(self._regions) >= self._regions_max:
            return None
        size = max(block_bytes, self._region_bytes // block_bytes * block_bytes)
        if self._bytes_max:
            left = self._bytes_max - sum(region.size for region in self._regions)
            size = min(size, left // block_bytes * block_bytes)
        if size == 0:
            return None
        start = MEMORY.alloc(size)
        if not self._link.register(start, size):
            MEMORY.free(start)
            raise RuntimeError("memory of this pool cannot be registered: is the store closed?")
        region = Region(start, size, block_bytes, list(range(start, start + size, block_bytes)))
        self._regions.append(region)
        return region

    def _take_back(self, region: Region, start: int) -> None:
        with self._changed:
            region.free.append(start)
            self._lent -= 1
            self._changed.notify_all()


def _give_back(link: Link, regions: list[Region]) -> None:
    """Ends all these regions, of which no block is lent."""
    while regions:
        region = regions.pop()
        link.unregister(region.start)
        MEMORY.free(region.start)


#: Other names of the same.
RegisteredBufferPool = BufferPool
RegisteredBufferLease = BufferLease
