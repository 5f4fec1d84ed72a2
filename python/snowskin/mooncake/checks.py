"""What arguments may be: wrong types are a ``TypeError``, as callers of Mooncake Store's API know it; wrong values are for the verbs to answer."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Union

Key = Union[str, bytes]

ADDRESS_END = 1 << 64


def key(value: object) -> None:
    """A key is text, or the bytes of one."""
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"a key is a str or bytes, not {type(value).__name__}")


def keys(values: Any) -> Sequence[Key]:
    """A list of keys. Whether each is one, the native module looks at."""
    return values if type(values) is list else sequence("keys", values)


def sequence(what: str, values: Any) -> list[Any]:
    """A list, or anything else that has a length and places; a text is none."""
    if isinstance(values, (str, bytes, bytearray, dict)) or not hasattr(values, "__getitem__"):
        raise TypeError(f"{what} are a list, not {type(values).__name__}")
    return values if type(values) is list else list(values)


def number(what: str, value: Any) -> int:
    """An address, a size or an offset: an integer from 0 to 64 bits; numpy's are some too."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is an integer, not {type(value).__name__}") from None
    if not 0 <= found < ADDRESS_END:
        raise TypeError(f"{what} is an integer from 0 to 64 bits, not {found}")
    return found


def numbers(what: str, values: Any) -> list[int]:
    """A list of them."""
    return [number(what, value) for value in sequence(what, values)]


def number_lists(what: str, values: Any) -> list[list[int]]:
    """A list of such lists."""
    return [numbers(what, inner) for inner in sequence(what, values)]


def text(what: str, value: object) -> str:
    """A text."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")
    return value


def texts(what: str, values: Any) -> list[str]:
    """A list of texts."""
    return [text(what, value) for value in sequence(what, values)]


def name(value: Key) -> bytes:
    """A key as the store knows it: one and the same, be it text or bytes."""
    return value if isinstance(value, bytes) else value.encode()
