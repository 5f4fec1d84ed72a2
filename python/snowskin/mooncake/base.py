"""What all verbs of a store stand on: where it is set up, and what they answer where it is not."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional

from .. import _snowskin
from .codes import INVALID_PARAMETERS
from .link import Link, Verbs
from .regions import Regions
from .settings import Settings

if TYPE_CHECKING:
    from .memory import Pool
    from .sessions import Staged
    from .web import WebServer

log = logging.getLogger("mooncake")


@dataclass
class Place:
    """A store that is set up: its client, what it lends, and what is under way."""

    settings: Settings
    hostname: str
    regions: Regions
    link: Link
    #: What it lends; closed with it.
    engine: Optional[_snowskin.Engine] = None
    #: Engines of segments that were mounted later, by the segment's id.
    segments: dict[str, _snowskin.Engine] = field(default_factory=dict)
    #: The same of segments that are files.
    files: dict[str, _snowskin.Engine] = field(default_factory=dict)
    #: Memory of a store that lends nothing, see ``setup_dummy``.
    pool: Optional[Pool] = None
    web: Optional[WebServer] = None
    #: Of ``batch_get_session_start``: a value for each key, and whether it was compared with its checksum.
    reads: dict[Any, tuple[_snowskin.View, bool]] = field(default_factory=dict)
    #: Of ``batch_put_session_start``.
    writes: dict[Any, Staged] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: int = field(default_factory=os.getpid)

    @property
    def copies(self) -> bool:
        """Whether verbs may be used that copy values: not with a local buffer of nothing."""
        return self.settings.local_buffer_size > 0

    def is_here(self) -> bool:
        """Whether this process set it up: one that was forked later has no part of it."""
        return self.process == os.getpid()

    def close(self) -> None:
        """Ends all of it. A forked process ends nothing of its parent's."""
        self.link.close()
        if not self.is_here():
            return
        if self.web is not None:
            self.web.close()
        with self.lock:
            self.reads.clear()
            self.writes.clear()
            segments = [*self.segments.values(), *self.files.values()]
            self.segments, self.files = {}, {}
        for engine in [*segments, *([self.engine] if self.engine else [])]:
            engine.close()


class Base:
    """A store, set up or not. No verb of one that is not set up does anything but answer so."""

    def __init__(self) -> None:
        self._place: Optional[Place] = None
        #: Closes it, also if nobody else does.
        self._end: Optional[Callable[[], object]] = None
        self._setting_up = threading.Lock()
        self._has_warned = False

    @property
    def _verbs(self) -> Optional[Verbs]:
        """The client; None: the store is not set up."""
        place = self._place
        return None if place is None else place.link.verbs

    def _copying_verbs(self) -> Optional[Verbs]:
        """The client; None also if values may not be copied."""
        place = self._place
        return place.link.verbs if place is not None and place.copies else None

    def _after(self, results: list[int], starts: Any, sizes: Any) -> list[int]:
        """The results of a call with addresses; says once why some of them may have been refused."""
        if not self._has_warned and INVALID_PARAMETERS in results:
            self._explain(starts, sizes)
        return results

    def _explain(self, starts: Any, sizes: Any) -> None:
        place = self._place
        if place is None:
            return
        try:
            is_well = place.regions.hold_all(starts, sizes)
        except TypeError:
            pairs = [pair for pair in zip(starts, sizes)]
            is_well = all(place.regions.hold_all(*pair) for pair in pairs)
        if not is_well:
            self._warn_unregistered()

    def _warn_unregistered(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "an address lies in no registered memory, and its key was answered with -600: call register_buffer(address, size) "
                "first (this is said once for each store)"
            )
