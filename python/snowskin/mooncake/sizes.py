"""Sizes, truths and addresses as configurations write them."""

from __future__ import annotations

import math
import re
from typing import Any

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE_END = 1 << 63
_TRUE = ("true", "1", "yes", "on", "enable")
_FALSE = ("false", "0", "no", "off", "disable", "")


def size(what: str, value: Any) -> int:
    """A number of bytes: 16777216, "16777216", "16MB", "4 GB", "0.5g". Raises ``ValueError``; a percentage is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or not 0 <= value < _SIZE_END:
            raise ValueError(f"{what} is {value}: a size is a number of bytes, 0 or more")
        return int(value)
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'{what} is {value!r}: a size is a number of bytes, or a text such as "16MB" or "4 GB"')
    unit = _UNITS[found[2].lower()]
    amount = float(found[1]) * unit if "." in found[1] else int(found[1]) * unit
    return size(what, amount)


def truth(what: str, value: Any) -> bool:
    """True or False, or a word for one of them. Raises ``ValueError``."""
    if value is None or isinstance(value, (bool, int, float)):
        return bool(value)
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"{what} is {value!r}: it is true or false")


def port(what: str, value: Any) -> int:
    """A port. Raises ``ValueError``."""
    found = int(value)
    if not 0 <= found < 1 << 16:
        raise ValueError(f"{what} is {value}: a port is a number below 65536")
    return found


def split_address(address: str) -> tuple[str, str]:
    """Host and port, either of which may be missing: "h:1", "h", "[::1]:1", "::1"."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest.lstrip(":")
    if address.count(":") == 1:
        host, _, tail = address.partition(":")
        return host, tail
    return address, ""


def join_address(host: str, port: int) -> str:
    """The other way."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
