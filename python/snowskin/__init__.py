"""Snowskin: a KV-cache store for LLM inference.

    import snowskin

    with snowskin.Engine(memory="4GB") as engine, snowskin.Store(engine.cores) as store:
        store.put("llama/prefix-1", array)
        if value := store.get("llama/prefix-1"):
            ...

An :class:`Engine` holds values in this process; `snowskin-engine` and `snowskin-master`, which come with this package, are programs that do.

A call on one key answers one thing, a call on a list of keys a list of answers in the same order. A key that is not held is a
:class:`Miss`, which says why and is false; what went wrong is an exception of :mod:`snowskin.errors`.
"""

import atexit

from . import errors
from ._snowskin import Engine, Store, View, __version__, close_engines
from .aio import AsyncStore
from .errors import BatchError, SnowskinError
from .outcomes import Holders, Miss, Removal, RemovedCount, Task, TaskInfo, TaskState

# What was lent is given away before the interpreter ends.
atexit.register(close_engines)

__all__ = [
    "AsyncStore",
    "BatchError",
    "Engine",
    "Holders",
    "Miss",
    "Removal",
    "RemovedCount",
    "SnowskinError",
    "Store",
    "Task",
    "TaskInfo",
    "TaskState",
    "View",
    "__version__",
    "errors",
]
