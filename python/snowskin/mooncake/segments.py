"""Verbs on memory that a store lends besides what it was set up with: each segment is an engine of its own in this process."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any

from . import checks
from .base import Base, Place
from .codes import INTERNAL, OK
from .settings import SEGMENT_BYTES_MIN

log = logging.getLogger("mooncake")

#: The longest time that an unmount may give readers.
GRACE_SECONDS_MAX = 3600


class Segments(Base):
    """Sizes are multiples of 16 MB; others are made such. A segment's id is a text."""

    def allocate_and_mount_segment(self, size: int, protocol: str = "tcp", location: str = "") -> dict[str, Any]:
        """Lends so many more bytes: ``ret`` (0 or -1), ``segment_ids``, ``allocated_size``. Where they are, the kernel chooses."""
        size = checks.number("size", size)
        checks.text("protocol", protocol), checks.text("location", location)
        place = self._place
        failed = {"ret": INTERNAL, "segment_ids": [], "allocated_size": 0}
        if place is None or size == 0:
            return failed
        size = -(-size // SEGMENT_BYTES_MIN) * SEGMENT_BYTES_MIN
        try:
            engine = self._lend(place, size)
        except Exception as error:
            log.error("a segment of %d bytes cannot be lent: %s", size, error)
            return failed
        name = f"{secrets.randbits(64)}-{secrets.randbits(64)}"
        with place.lock:
            place.segments[name] = engine
        return {"ret": OK, "segment_ids": [name], "allocated_size": size}

    def unmount_and_free_segment(self, segment_ids: Sequence[str], grace_period_seconds: int = 0) -> int:
        """Takes back what was lent: 0, or -1 if some of it was not. Keys whose values lay there are gone."""
        return self._end_segments(segment_ids, grace_period_seconds)

    def mount_segment(
        self, path: str, size: int, offset: int = 0, protocol: str = "tcp", location: str = ""
    ) -> dict[str, Any]:
        """Refused: a file is not lent from here. ``snowskin-ctl mount --path`` gives one to an engine."""
        checks.text("path", path), checks.text("protocol", protocol), checks.text("location", location)
        size, offset = checks.number("size", size), checks.number("offset", offset)
        if self._place is not None and size:
            log.error("%s cannot be lent from here: use snowskin-ctl mount --path, or allocate_and_mount_segment", path)
        return {"ret": INTERNAL if self._place is None or size else OK, "segment_ids": []}

    def unmount_segment(self, segment_ids: Sequence[str], grace_period_seconds: int = 0) -> int:
        """Takes back files that were lent: there are none, so 0 only for an empty list."""
        names = checks.texts("segment_ids", segment_ids)
        checks.number("grace_period_seconds", grace_period_seconds)
        return OK if self._place is not None and not names else INTERNAL

    def unmount_local_disk_segment(self, grace_period_seconds: int = 0) -> int:
        """Nothing to take back: an SSD goes with its engine."""
        checks.number("grace_period_seconds", grace_period_seconds)
        return INTERNAL if self._place is None else OK

    def _end_segments(self, segment_ids: Sequence[str], grace_period_seconds: int) -> int:
        names = checks.texts("segment_ids", segment_ids)
        checks.number("grace_period_seconds", grace_period_seconds)
        place = self._place
        if place is None:
            return INTERNAL
        with place.lock:
            engines = [place.segments.pop(name, None) for name in names]
        for engine in engines:
            if engine is not None:
                engine.close()
        return OK if None not in engines else INTERNAL

    def _lend(self, place: Place, size: int) -> Any:
        raise NotImplementedError
