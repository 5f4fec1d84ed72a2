"""An L2 backend of LMCache's multi-process mode: `lmcache server --l2-adapter JSON`.

    {"type": "native_plugin", "module_path": "snowskin.connectors.lmcache", "class_name": "Connector",
     "adapter_params": {"seeds": "10.0.0.1:7300"}}

``adapter_params`` are the settings of :mod:`snowskin.connectors._settings`; ``{"embedded_memory": "64GB"}`` needs no engine elsewhere. With
``"type": "plugin"`` and ``"class_name": "Adapter"`` the same works as an adapter of its own, whose status says whether the cluster answers.

```text
  controllers: submit_batch_…()  ──► the native client ──► event_fd() ──► LMCache's demux thread: drain_completions()
```

A key of LMCache, ``model@rank@group@hash[@salt]``, is a key of ours behind the namespace and a slash (`lmcache/`, if none is set). Values lie as
LMCache gives them. The first value of a key stays, as is right for keys that are hashes of what they stand for.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import unquote_to_bytes

from ..outcomes import Removal
from ._calls import Calls, Submit
from ._host import class_of
from ._settings import settings_of
from ._troubles import Troubles

#: What keys begin with, if no namespace is set.
NAMESPACE = "lmcache"
#: The number of a call, whether it went well, what went wrong, and an answer for each key.
Completion = tuple[int, bool, str, Optional[list[bool]]]

_WHERE = "LMCache's adapter_params"


def key_of(namespace: str, name: str) -> bytes:
    """Our key of a name of LMCache's: its bytes, but for those that a key cannot have. :func:`name_of` is the way back."""
    escaped = name.encode("utf-8", "surrogatepass").replace(b"%", b"%25").replace(b"\0", b"%00")
    return namespace.encode() + b"/" + escaped


def name_of(namespace: str, key: bytes) -> str:
    """The name of LMCache's whose key this is."""
    escaped = key[len(namespace.encode()) + 1 :]
    return unquote_to_bytes(escaped).decode("utf-8", "surrogatepass")


@dataclass
class _Call:
    number: int
    #: "set", "get", "exists" or "delete".
    verb: str
    keys: int
    #: Of a get, bytes of each buffer.
    sizes: Sequence[int] = ()
    #: Buffers, which LMCache does not keep for us.
    buffers: Sequence[memoryview] = ()


class Connector:
    """What LMCache calls a native client. Nothing waits but the constructor and :meth:`close`, for a deadline at most."""

    def __init__(self, **settings: Any) -> None:
        chosen = settings_of(settings, _WHERE)
        self._namespace = chosen.namespace if chosen.namespace is not None else NAMESPACE
        self._replicas = chosen.replicas
        self._troubles = Troubles(__name__)
        self._calls: Calls[_Call] = Calls(chosen, self._troubles)
        self._numbers = itertools.count(1)

    def event_fd(self) -> int:
        """Readable while there are completions; -1 after :meth:`close`."""
        return self._calls.fileno()

    def submit_batch_set(self, keys: list[str], memoryviews: list[memoryview]) -> int:
        """Stores all values. It went well if all are held then, whoever stored them."""
        named, buffers = self._named(keys, memoryviews), list(memoryviews)
        call = _Call(0, "set", len(keys), buffers=buffers)
        return self._begin(call, lambda requests: requests.submit_put(named, buffers, replicas=self._replicas))

    def submit_batch_get(self, keys: list[str], memoryviews: list[memoryview]) -> int:
        """Reads values into buffers. True for each key whose value has exactly the length of its buffer."""
        named, buffers = self._named(keys, memoryviews), list(memoryviews)
        call = _Call(0, "get", len(keys), [buffer.nbytes for buffer in buffers], buffers)
        return self._begin(call, lambda requests: requests.submit_get_into(named, buffers))

    def submit_batch_exists(self, keys: list[str]) -> int:
        """Whether each key is held. Those that are stay for a while: a lease protects them."""
        named = self._named(keys)
        return self._begin(_Call(0, "exists", len(keys)), lambda requests: requests.submit_exists(named))

    def submit_batch_delete(self, keys: list[str]) -> int:
        """Removes keys. True for each that is not held any more; False: somebody has just read it."""
        named = self._named(keys)
        return self._begin(_Call(0, "delete", len(keys)), lambda requests: requests.submit_remove(named))

    def drain_completions(self) -> list[Completion]:
        """What has ended. Never waits; afterwards the event descriptor is silent."""
        return [self._completion(call, answer) for call, answer in self._calls.ended()]

    def close(self) -> None:
        """Waits until nothing touches LMCache's buffers any more, and ends. Again: nothing."""
        self._calls.close()

    def is_answered(self) -> bool:
        """Whether the cluster answers, as far as the last call knows."""
        return self.event_fd() >= 0 and not self._troubles.is_pause()

    def _named(self, keys: list[str], buffers: Optional[list[memoryview]] = None) -> list[bytes]:
        # The words of LMCache's own clients.
        if not keys:
            raise RuntimeError("keys list is empty")
        if buffers is not None and len(buffers) != len(keys):
            raise RuntimeError("keys and memviews size mismatch")
        if self.event_fd() < 0:
            raise RuntimeError("the connector is closed")
        return [key_of(self._namespace, key) for key in keys]

    def _begin(self, call: _Call, submit: Submit) -> int:
        call.number = next(self._numbers)
        self._calls.begin(call, submit)
        return call.number

    def _completion(self, call: _Call, answer: Any) -> Completion:
        outcomes = self._troubles.answers(f"{call.verb} of {call.keys} keys", answer, call.keys)
        if call.verb == "set":
            failed = next((outcome for outcome in outcomes if not isinstance(outcome, bool)), None)
            return call.number, failed is None, "" if failed is None else str(failed), None
        if call.verb == "get":
            return call.number, True, "", [outcome == size for outcome, size in zip(outcomes, call.sizes)]
        if call.verb == "delete":
            gone = (Removal.REMOVED, Removal.MISSING)
            return call.number, True, "", [outcome in gone for outcome in outcomes]
        return call.number, True, "", [outcome is True for outcome in outcomes]


if TYPE_CHECKING:

    class _Host:
        def __init__(self, native_client: Any, max_capacity_gb: float, type_name: str) -> None: ...
        def report_status(self) -> dict[str, Any]: ...

else:
    _Host = class_of("lmcache.v1.distributed.l2_adapters.native_connector_l2_adapter", "NativeConnectorL2Adapter")


class Adapter(_Host):
    """For LMCache's type ``plugin``: its adapter of native clients around a :class:`Connector`, with a status that knows the cluster.

    ``adapter_params`` may have ``max_capacity_gb``, as those of ``native_plugin`` have it beside them: above it, LMCache evicts.
    """

    def __init__(self, config: Mapping[str, Any], l1_memory_desc: Optional[object] = None) -> None:
        settings = dict(config)
        capacity = float(settings.pop("max_capacity_gb", 0))
        self._connector = Connector(**settings)
        super().__init__(self._connector, capacity, "snowskin")

    def report_status(self) -> dict[str, Any]:
        """What LMCache's own adapter says; not healthy while nobody answers."""
        status = super().report_status()
        status["is_healthy"] = bool(status.get("is_healthy")) and self._connector.is_answered()
        return status
