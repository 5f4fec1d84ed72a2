"""Classes of hosts, which may not be installed."""

from __future__ import annotations

import importlib
from typing import Any


def class_of(module: str, name: str) -> Any:
    """A class of a host to derive from; `object` where the host is not installed, so that its connector can be looked at and tested."""
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        return object
