"""What can go wrong. A key that is not held is no error: see :class:`snowskin.Miss`.

Every exception of this package is a :class:`SnowskinError` with a sentence that says what to do, and a ``code``: the number that callers of
Mooncake Store's API know. Calls on one key raise what went wrong. Calls on a batch raise :class:`BatchError` if any key failed; its
``outcomes`` has the answers of all keys, with exceptions in the places of those that failed.
"""

from __future__ import annotations

from typing import Any


class SnowskinError(Exception):
    """Something went wrong."""

    code: int = -1


class InvalidKeyError(SnowskinError, ValueError):
    """A key has 1 to 4,096 bytes, none of them NUL."""

    code = -400


class EmptyValueError(SnowskinError, ValueError):
    """A value has at least one byte."""

    code = -600


class NoSpaceError(SnowskinError):
    """No memory for the value, even after eviction."""

    code = -200


class TooLargeError(SnowskinError):
    """The value is larger than what one core can hold."""

    code = -200


class NotDurableError(SnowskinError):
    """A value that was to be durable is held, in memory alone."""

    code = -600


class BufferTooSmallError(SnowskinError, ValueError):
    """The buffer is smaller than the value; what is in it now means nothing."""

    code = -10
    #: Bytes of the value.
    needed: int = 0


class BufferNotRegisteredError(SnowskinError, ValueError):
    """An address is not in memory that was registered with ``Store.register``."""

    code = -600


class ChecksumError(SnowskinError):
    """The bytes that arrived do not match their checksum; what is in the buffer now means nothing."""

    code = -801


class DeadlineError(SnowskinError, TimeoutError):
    """No answer within the deadline. A put may have happened or not."""

    code = -901


class UnreachableError(SnowskinError, ConnectionError):
    """A peer cannot be reached."""

    code = -900


class BrokenError(SnowskinError, ConnectionError):
    """The connection broke while bytes were moving. A put may have happened or not."""

    code = -800


class NoEnginesError(SnowskinError):
    """The cluster has no engine yet."""

    code = -1010


class NoSuchCoreError(SnowskinError):
    """The cluster has no such core."""

    code = -600


class RefusedError(SnowskinError):
    """A peer refused the request."""

    code = -900


class OverloadedError(SnowskinError):
    """Too much is under way: wait for some answers before asking for more."""

    code = -1010


class BadPatternError(SnowskinError, ValueError):
    """The pattern is not a regular expression that can be used."""

    code = -600


class RangeBeyondEndError(SnowskinError, ValueError):
    """A range of a value that was asked for lies beyond its end."""

    code = -600


class KeysMovedError(SnowskinError):
    """Slots have changed hands while keys were listed: begin anew."""

    code = -1010


class ClosedError(SnowskinError):
    """The store was closed."""

    code = -600


class ForkedError(SnowskinError):
    """The store was made before this process was forked from another: make one here."""

    code = -600


class EngineError(SnowskinError):
    """An embedded engine cannot be started, or did not end well."""


class BatchError(SnowskinError):
    """Some keys of a batch failed."""

    #: The answers of all keys, in order: an exception for each that failed.
    outcomes: list[Any]

    def __init__(self, sentence: str, outcomes: list[Any]) -> None:
        super().__init__(sentence)
        self.outcomes = outcomes
        self.code = next((outcome.code for outcome in outcomes if isinstance(outcome, SnowskinError)), -1)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.outcomes)
