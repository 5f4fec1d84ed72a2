"""`mooncake.store`: the store, and what its verbs take and answer. See :mod:`snowskin.mooncake`."""

from __future__ import annotations

from .._snowskin import View as BufferHandle
from .kinds import ObjectDataType, ReplicaStatus, SoftPinAction, TaskStatus, TaskType
from .lifecycle import Lifecycle
from .memory import MooncakeHostMemAllocator, bind_to_numa_node
from .placement import Placement
from .parallelism import ParallelAxis, ReadTarget, TensorParallelism
from .pools import BufferLease, BufferPool, RegisteredBufferLease, RegisteredBufferPool
from .replicas import Descriptor, DiskDescriptor, MemoryDescriptor, QueryTaskResponse, ReplicaDescriptor
from .replicate import ReplicateConfig
from .segments import Segments
from .sessions import Sessions
from .safetensor_files import SafetensorFiles
from .values import Values

UNKNOWN, KVCACHE, TENSOR, WEIGHT, SAMPLE = list(ObjectDataType)[:5]
ACTIVATION, GRADIENT, OPTIMIZER_STATE, METADATA, GENERAL = list(ObjectDataType)[5:]
UNDEFINED, INITIALIZED, COMPLETE = ReplicaStatus.UNDEFINED, ReplicaStatus.INITIALIZED, ReplicaStatus.COMPLETE
REMOVED = ReplicaStatus.REMOVED
PENDING, PROCESSING, FAILED, SUCCESS = TaskStatus
REPLICA_COPY, REPLICA_MOVE = TaskType


class MooncakeDistributedStore(Lifecycle, Values, SafetensorFiles, Sessions, Placement, Segments):
    """A store: a client of a cluster that may also lend it memory. Made empty; :meth:`setup` connects it.

    Any number of threads may use it at once, and every call gives the interpreter back while it works. Verbs answer in numbers: 0 and sizes are
    well, negative ones are codes (:mod:`snowskin.mooncake.codes`). Nothing is raised but ``TypeError`` for arguments of wrong types. A store that
    is not set up, closed, or made by the process that this one was forked from answers -600, ``b""``, ``None`` or ``[]``, as fits the verb.
    """

    def __repr__(self) -> str:
        place = self._place
        state = "not set up" if place is None else f"{place.hostname or 'no name'} at {place.settings.master_server_addr}"
        return f"<MooncakeDistributedStore: {state}>"


__all__ = [name for name in dict(globals()) if name[0].isupper() or name == "bind_to_numa_node"]
__all__ = [name for name in __all__ if name not in ("Lifecycle", "Placement", "SafetensorFiles", "Segments", "Sessions", "Values")]
