"""What goes wrong, as hosts should notice it: a line in the log now and then, and a pause while nobody answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import BatchError, BrokenError, DeadlineError, NoEnginesError, SnowskinError, UnreachableError

#: Between two lines of the log.
LOG_SECONDS = 30.0
#: How long nobody is asked after nobody has answered: a host loses a deadline once in so many seconds, and not with every call.
PAUSE_SECONDS = 5.0
#: Of these kinds is what callers hear when nobody answers.
_SILENCE = (BrokenError, DeadlineError, NoEnginesError, UnreachableError)


class PausedError(SnowskinError):
    """Nobody has answered a moment ago: nobody is asked yet."""

    code = -900


class Troubles:
    """Any number of threads may tell it."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = logging.getLogger(name)
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until = float("-inf")
        self._unsaid = 0
        self._paused_until = float("-inf")

    def tell(self, what: str, error: BaseException) -> None:
        """Logs that something went wrong, unless something was logged a moment ago; it is counted then."""
        with self._lock:
            if self._clock() < self._quiet_until:
                self._unsaid += 1
                return
            self._quiet_until = self._clock() + LOG_SECONDS
            unsaid, self._unsaid = self._unsaid, 0
        more = f" ({unsaid} more since the last such line)" if unsaid else ""
        self._log.warning("Snowskin: %s: %s%s", what, error, more)

    def is_pause(self) -> bool:
        """Whether nobody is to be asked."""
        return self._clock() < self._paused_until

    def pause(self) -> None:
        """Nobody is asked for a while."""
        self._paused_until = self._clock() + PAUSE_SECONDS

    def answers(self, what: str, answer: Any, count: int) -> list[Any]:
        """The answers of a batch of so many keys, given what a call answered or raised: an exception for each key that failed."""
        if not isinstance(answer, BaseException):
            return list(answer)
        outcomes: Sequence[Any] = answer.outcomes if isinstance(answer, BatchError) else [answer] * count
        if not isinstance(answer, PausedError):
            self.tell(what, answer)
            if outcomes and all(isinstance(outcome, _SILENCE) for outcome in outcomes):
                self.pause()
        return list(outcomes)
