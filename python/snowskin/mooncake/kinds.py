"""Choices that configurations and answers name by numbers."""

from __future__ import annotations

import enum


class Choice(enum.Enum):
    """An enumeration whose members are no numbers, and can be made into them."""

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)

    def __hash__(self) -> int:
        return int(self.value)


class SoftPinAction(Choice):
    """What a put does with the soft pin of an object."""

    PRESERVE = 0
    ENABLE = 1
    DISABLE = 2


class ObjectDataType(Choice):
    """What an object is. Kept nowhere: it changes nothing here."""

    UNKNOWN = 0
    KVCACHE = 1
    TENSOR = 2
    WEIGHT = 3
    SAMPLE = 4
    ACTIVATION = 5
    GRADIENT = 6
    OPTIMIZER_STATE = 7
    METADATA = 8
    GENERAL = 9


class ReplicaStatus(Choice):
    """How far a replica is."""

    UNDEFINED = 0
    INITIALIZED = 1
    PROCESSING = 2
    COMPLETE = 3
    REMOVED = 4
    FAILED = 5


class TaskStatus(Choice):
    """How far a task is."""

    PENDING = 0
    PROCESSING = 1
    FAILED = 2
    SUCCESS = 3


class TaskType(Choice):
    """What a task does."""

    REPLICA_COPY = 0
    REPLICA_MOVE = 1
