"""Memory of this process: pages for buffers, and the node of the machine on which they are."""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import mmap
import os
import threading
from typing import Optional

from . import checks

log = logging.getLogger("mooncake")

ALIGNMENT = 64
_MPOL_PREFERRED = 1
_NODES_MAX = 1024


def address_of(pages: mmap.mmap) -> int:
    """Where pages begin."""
    return ctypes.addressof(ctypes.c_char.from_buffer(pages))


_lock = threading.Lock()
#: What allocators have given out, by its address: callers have no other hold of it.
_given: dict[int, mmap.mmap] = {}


class MooncakeHostMemAllocator:
    """Gives out page-aligned memory of this process, filled with zeros. It stays until it is freed."""

    def alloc(self, size: int) -> int:
        """The address of so many bytes. Raises ``RuntimeError`` if there are none."""
        size = checks.number("size", size)
        if size == 0:
            raise RuntimeError("0 bytes have no address: ask for at least one")
        try:
            pages = mmap.mmap(-1, size)
        except (OSError, OverflowError, ValueError) as error:
            raise RuntimeError(f"{size} bytes cannot be mapped: {error}") from error
        start = address_of(pages)
        with _lock:
            _given[start] = pages
        return start

    def free(self, ptr: int) -> int:
        """Gives memory back: 0, or -1 if none begins there."""
        with _lock:
            pages = _given.pop(checks.number("ptr", ptr), None)
        if pages is None:
            return -1
        pages.close()
        return 0


class Pool:
    """One run of pages, given out from its beginning on and given back as a whole."""

    def __init__(self, size: int) -> None:
        self._pages = mmap.mmap(-1, max(size, 1))
        self.start = address_of(self._pages)
        self.size = size
        self._lock = threading.Lock()
        self._used = 0

    def take(self, size: int) -> int:
        """The address of so many bytes; 0: there are none left."""
        with self._lock:
            if size == 0 or self._used + size > self.size:
                return 0
            start = self.start + self._used
            self._used += -(-size // ALIGNMENT) * ALIGNMENT
            return start

    def holds(self, start: int, size: int) -> bool:
        """Whether all these bytes are in it."""
        return self.start <= start and start + size <= self.start + self.size


def bind_to_numa_node(node: int) -> None:
    """From now on, this thread runs on the processors of a NUMA node and takes memory there, as far as there is any."""
    if isinstance(node, bool) or not isinstance(node, int):
        raise TypeError(f"node is an integer, not {type(node).__name__}")
    processors = _processors(node)
    if not processors:
        log.warning("there is no NUMA node %d with processors: nothing is bound", node)
        return
    try:
        os.sched_setaffinity(0, processors)
    except OSError as error:
        log.warning("this thread cannot be bound to NUMA node %d: %s", node, error)
        return
    library = ctypes.util.find_library("numa")
    if library is None:
        log.info("libnuma is not installed: memory is taken where the thread runs, as the kernel does by itself")
        return
    mask = (ctypes.c_ulong * (_NODES_MAX // 64))()
    mask[node // 64] = 1 << (node % 64)
    if ctypes.CDLL(library, use_errno=True).set_mempolicy(_MPOL_PREFERRED, mask, _NODES_MAX) != 0:
        log.warning("memory cannot be preferred on NUMA node %d: %s", node, os.strerror(ctypes.get_errno()))


def _processors(node: int) -> Optional[set[int]]:
    """The processors of a node; None: there is no such node."""
    if not 0 <= node < _NODES_MAX:
        return None
    try:
        with open(f"/sys/devices/system/node/node{node}/cpulist", encoding="ascii") as file:
            ranges = [part.split("-") for part in file.read().strip().split(",") if part]
    except OSError:
        return None
    return {processor for ends in ranges for processor in range(int(ends[0]), int(ends[-1]) + 1)}
