"""Snowskin: a KV-cache store for LLM inference.

    import snowskin

    with snowskin.Store("127.0.0.1:7300") as store:
        store.put("llama/prefix-1", tensor.numpy())
        if value := store.get("llama/prefix-1"):
            ...

A call on one key answers one thing, a call on a list of keys a list of answers in the same order. A key that is not held is a
:class:`Miss`, which says why and is false; what went wrong is an exception of :mod:`snowskin.errors`.
"""

from . import errors
from ._snowskin import Store, View, __version__
from .aio import AsyncStore
from .errors import BatchError, SnowskinError
from .outcomes import Miss, Removal, RemovedCount

__all__ = [
    "AsyncStore",
    "BatchError",
    "Miss",
    "Removal",
    "RemovedCount",
    "SnowskinError",
    "Store",
    "View",
    "__version__",
    "errors",
]
