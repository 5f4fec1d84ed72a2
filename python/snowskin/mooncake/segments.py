"""Verbs on memory that a store lends besides what it was set up with: each segment is an engine of its own in this process."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Optional

from .._snowskin import Engine
from . import checks
from .base import Base, Place
from .codes import INTERNAL, INVALID_PARAMETERS, OK
from .settings import SEGMENT_BYTES_MIN

log = logging.getLogger("mooncake")

#: The longest time that an unmount may give readers.
GRACE_SECONDS_MAX = 3600


class Segments(Base):
    """A segment's id is a text. Sizes of memory are multiples of 16 MB; others are made such."""

    def allocate_and_mount_segment(self, size: int, protocol: str = "tcp", location: str = "") -> dict[str, Any]:
        """Lends so many more bytes: ``ret`` (0 or -1), ``segment_ids``, ``allocated_size``. Where they are, the kernel chooses."""
        size = checks.number("size", size)
        checks.text("protocol", protocol), checks.text("location", location)
        place = self._place
        failed = {"ret": INTERNAL, "segment_ids": [], "allocated_size": 0}
        if place is None or size == 0:
            return failed
        size = -(-size // SEGMENT_BYTES_MIN) * SEGMENT_BYTES_MIN
        name = self._mount(place, place.segments, size)
        return failed if name is None else {"ret": OK, "segment_ids": [name], "allocated_size": size}

    def unmount_and_free_segment(self, segment_ids: Sequence[str], grace_period_seconds: int = 0) -> int:
        """Takes back what was lent: 0, or -1 if some of it was not. Keys whose values lay there are gone."""
        place = self._place
        return self._end_segments(place, {} if place is None else place.segments, segment_ids, grace_period_seconds)

    def mount_segment(
        self, path: str, size: int, offset: int = 0, protocol: str = "tcp", location: str = ""
    ) -> dict[str, Any]:
        """Lends the first bytes of a file that is there and long enough: ``ret`` (0 or a code), ``segment_ids``.

        What these bytes had is gone; the file keeps its length, and nobody may make it shorter until it is unmounted. It is lent once at a time.
        """
        path, size, offset = checks.text("path", path), checks.number("size", size), checks.number("offset", offset)
        checks.text("protocol", protocol), checks.text("location", location)
        place = self._place
        if place is None or size == 0:
            return {"ret": INTERNAL if place is None else OK, "segment_ids": []}
        if offset:
            log.error("%s can be lent from its beginning only, not from offset %d: use a file for each segment", path, offset)
            return {"ret": INVALID_PARAMETERS, "segment_ids": []}
        name = self._mount(place, place.files, size, path)
        return {"ret": INTERNAL, "segment_ids": []} if name is None else {"ret": OK, "segment_ids": [name]}

    def unmount_segment(self, segment_ids: Sequence[str], grace_period_seconds: int = 0) -> int:
        """Takes back files that were lent: 0, or -1 if some of them were not. Keys whose values lay there are gone; the files stay."""
        place = self._place
        return self._end_segments(place, {} if place is None else place.files, segment_ids, grace_period_seconds)

    def unmount_local_disk_segment(self, grace_period_seconds: int = 0) -> int:
        """Nothing to take back: an SSD goes with its engine."""
        checks.number("grace_period_seconds", grace_period_seconds)
        return INTERNAL if self._place is None else OK

    def _mount(
        self, place: Place, mounted: dict[str, Engine], size: int, file: Optional[str] = None
    ) -> Optional[str]:
        """The id of a segment that is lent from now on; None: it cannot be."""
        try:
            engine = self._lend(place, size, file)
        except Exception as error:
            log.error("a segment of %d bytes%s cannot be lent: %s", size, f" of {file}" if file else "", error)
            return None
        name = f"{secrets.randbits(64)}-{secrets.randbits(64)}"
        with place.lock:
            mounted[name] = engine
        return name

    @staticmethod
    def _end_segments(
        place: Optional[Place], mounted: dict[str, Engine], segment_ids: Sequence[str], grace_period_seconds: int
    ) -> int:
        names = checks.texts("segment_ids", segment_ids)
        checks.number("grace_period_seconds", grace_period_seconds)
        if place is None:
            return INTERNAL
        with place.lock:
            engines = [mounted.pop(name, None) for name in names]
        for engine in engines:
            if engine is not None:
                engine.close()
        return OK if None not in engines else INTERNAL

    def _lend(self, place: Place, size: int, file: Optional[str]) -> Engine:
        raise NotImplementedError
