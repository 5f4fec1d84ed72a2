"""Where objects are, and what tasks do with them: answers, without verbs."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import ReplicaStatus, TaskStatus, TaskType


@dataclass(eq=False)
class Descriptor:
    """A run of bytes in somebody's memory. Addresses of other processes are no use to anybody here, so they are 0."""

    size: int = 0
    buffer_address: int = 0
    transport_endpoint: str = ""

    def __repr__(self) -> str:
        return (
            f"<Descriptor size={self.size} buffer_address={self.buffer_address} "
            f"transport_endpoint={self.transport_endpoint}>"
        )


@dataclass(eq=False)
class MemoryDescriptor:
    """A replica in memory."""

    buffer_descriptor: Descriptor


@dataclass(eq=False)
class DiskDescriptor:
    """A replica in a file."""

    file_path: str
    object_size: int


class ReplicaDescriptor:
    """A replica of an object. Here it is in memory: what is on an engine's SSD comes back from there by itself."""

    def __init__(self, memory: MemoryDescriptor) -> None:
        self._memory = memory

    @property
    def status(self) -> ReplicaStatus:
        """What is not complete is not held."""
        return ReplicaStatus.COMPLETE

    def is_memory_replica(self) -> bool:
        """Always."""
        return True

    def is_disk_replica(self) -> bool:
        """Never."""
        return False

    def is_local_disk_replica(self) -> bool:
        """Never."""
        return False

    def get_memory_descriptor(self) -> MemoryDescriptor:
        """Where it is."""
        return self._memory

    def get_disk_descriptor(self) -> DiskDescriptor:
        """Raises: it is in memory."""
        raise RuntimeError("this replica is in memory: ask is_disk_replica() first")


Uuid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class QueryTaskResponse:
    """How far a task is."""

    id: Uuid = (0, 0)
    type: TaskType = TaskType.REPLICA_COPY
    status: TaskStatus = TaskStatus.PENDING
    created_at_ms_epoch: int = 0
    last_updated_at_ms_epoch: int = 0
    assigned_client: Uuid = (0, 0)
    message: str = ""

    def __repr__(self) -> str:
        return (
            f"QueryTaskResponse(id={self.id[0]}-{self.id[1]}, type={int(self.type)}, status={int(self.status)}, "
            f"created_at={self.created_at_ms_epoch}, last_updated_at={self.last_updated_at_ms_epoch}, "
            f'assigned_client={self.assigned_client[0]}-{self.assigned_client[1]}, message="{self.message}")'
        )
