"""`ReplicateConfig`: what a put says of an object besides its bytes, and what becomes of that here.

As many replicas are made as there are engines to have them, up to 16, before a put answers; fewer are no error, as in Mooncake Store. The first one
lies where its key says, so preferred segments are a wish that is not heard. Soft pins, hard pins and groups mean what they say. A soft pin is the value's and not the key's: one that
an upsert replaces takes it along, and ``SoftPinAction.PRESERVE`` preserves that of a value that stays.
"""

from __future__ import annotations

from typing import Any, Callable, Generic, NamedTuple, Optional, TypeVar, Union, cast, overload

from .._snowskin import PutSettings
from . import checks
from .codes import INVALID_PARAMETERS, NO_FILE_SYSTEM, OK
from .kinds import ObjectDataType, SoftPinAction

#: Of a soft pin that names no time.
SOFT_PIN_MS_DEFAULT = 30 * 60 * 1000
SOFT_PIN_MS_MAX = 24 * 60 * 60 * 1000
REPLICAS_MAX = 16

T = TypeVar("T")


class Field(Generic[T]):
    """An attribute that takes values of one type, and refuses others with a ``TypeError``."""

    def __init__(self, take: Callable[[str, Any], T]) -> None:
        self._take = take
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, config: None, owner: Optional[type] = None) -> Field[T]: ...
    @overload
    def __get__(self, config: ReplicateConfig, owner: Optional[type] = None) -> T: ...
    def __get__(self, config: Optional[ReplicateConfig], owner: Optional[type] = None) -> Union[T, Field[T]]:
        if config is None:
            return self
        value = config._values[self._name]
        # Whoever changes the list that he gets changes nothing, so he shall see that.
        return cast(T, value.copy() if isinstance(value, list) else value)

    def __set__(self, config: ReplicateConfig, value: T) -> None:
        config._values[self._name] = self._take(self._name, value)


def _flag(what: str, value: Any) -> bool:
    if isinstance(value, (str, bytes)) or not (value is None or hasattr(type(value), "__bool__")):
        raise TypeError(f"{what} is True or False, not {type(value).__name__}")
    return bool(value)


def _optional_number(what: str, value: Any) -> Optional[int]:
    return None if value is None else checks.number(what, value)


def _optional_texts(what: str, value: Any) -> Optional[list[str]]:
    return None if value is None else checks.texts(what, value)


def _action(what: str, value: Any) -> SoftPinAction:
    if not isinstance(value, SoftPinAction):
        raise TypeError(f"{what} is a SoftPinAction, not {type(value).__name__}")
    return value


def _data_type(what: str, value: Any) -> ObjectDataType:
    if not isinstance(value, ObjectDataType):
        raise TypeError(f"{what} is an ObjectDataType, not {type(value).__name__}")
    return value


class Keeping(NamedTuple):
    """How an object is kept."""

    #: 0: it is not pinned softly.
    soft_pin_ms: int
    hard_pin: bool
    replicas: int


#: How an object is kept of which nothing is said.
ONCE = Keeping(0, False, 1)


class ReplicateConfig:
    """What a put says of an object besides its bytes. See the module's head for what is heard."""

    __slots__ = ("_values",)

    #: How many in memory, in all; what is more than :data:`REPLICAS_MAX`, or than there are engines, is not made.
    replica_num = Field(checks.number)
    #: Copies on NVMe over Fabrics; refused but for 0.
    nof_replica_num = Field(checks.number)
    #: Copies in a shared file system; refused but for 0.
    dfs_replica_num = Field(checks.number)
    soft_pin_action = Field(_action)
    #: Only with ``SoftPinAction.ENABLE``; None: half an hour.
    soft_pin_ttl_ms = Field(_optional_number)
    with_hard_pin = Field(_flag)
    preferred_segments = Field(checks.texts)
    preferred_segment = Field(checks.text)
    preferred_nof_segments = Field(checks.texts)
    prefer_alloc_in_same_node = Field(_flag)
    data_type = Field(_data_type)
    #: One for each object of the call; objects of a group are evicted together.
    group_ids = Field(_optional_texts)

    def __init__(self) -> None:
        self._values: dict[str, Any] = {
            "replica_num": 1,
            "nof_replica_num": 0,
            "dfs_replica_num": 0,
            "soft_pin_action": SoftPinAction.PRESERVE,
            "soft_pin_ttl_ms": None,
            "with_hard_pin": False,
            "preferred_segments": [],
            "preferred_segment": "",
            "preferred_nof_segments": [],
            "prefer_alloc_in_same_node": False,
            "data_type": ObjectDataType.UNKNOWN,
            "group_ids": None,
        }

    def __str__(self) -> str:
        ttl = self.soft_pin_ttl_ms
        parts = [
            f"replica_num: {self.replica_num}",
            f"nof_replica_num: {self.nof_replica_num}",
            f"dfs_replica_num: {self.dfs_replica_num}",
            f"soft_pin_action: {self.soft_pin_action.name}",
            f"soft_pin_ttl_ms: {'default' if ttl is None else ttl}",
            f"with_hard_pin: {int(self.with_hard_pin)}",
            f"preferred_segments: [{', '.join(self.preferred_segments)}]",
        ]
        if self.preferred_segment:
            parts.append(f"preferred_segment (deprecated): {self.preferred_segment}")
        parts += [
            f"preferred_nof_segments: [{', '.join(self.preferred_nof_segments)}]",
            f"prefer_alloc_in_same_node: {int(self.prefer_alloc_in_same_node)}",
            f"data_type: {self.data_type.name}",
        ]
        return "ReplicateConfig: { " + ", ".join(parts) + " }"

    def _refusal(self, objects: int, takes_same_node: bool) -> int:
        """The code with which a call with so many objects is refused; 0 if it is not."""
        values = self._values
        enables = values["soft_pin_action"] is SoftPinAction.ENABLE
        ttl, groups = values["soft_pin_ttl_ms"], values["group_ids"]
        if values["dfs_replica_num"]:
            return NO_FILE_SYSTEM
        is_wrong = (
            values["replica_num"] == 0
            or values["nof_replica_num"] > 0
            or (ttl is not None and (not enables or ttl > SOFT_PIN_MS_MAX))
            or (groups is not None and len(groups) != objects)
            or (values["prefer_alloc_in_same_node"] and not takes_same_node)
        )
        return INVALID_PARAMETERS if is_wrong else OK

    def _settings(self, replace: bool) -> PutSettings:
        """What the native module takes."""
        keeping = self._keeping()
        groups = self._values["group_ids"]
        # What replaces a value keeps its pin, unless a word is said.
        keeps_pin = replace and self._values["soft_pin_action"] is SoftPinAction.PRESERVE
        if keeping == ONCE and groups is None and keeps_pin == replace:
            return PLAIN_REPLACE if replace else PLAIN
        return PutSettings(replace=replace, keep_soft_pin=keeps_pin, **keeping._asdict(), groups=groups)

    def _keeping(self) -> Keeping:
        """How objects are kept."""
        ttl = self._values["soft_pin_ttl_ms"]
        is_soft = self._values["soft_pin_action"] is SoftPinAction.ENABLE
        soft_pin_ms = (SOFT_PIN_MS_DEFAULT if ttl is None else ttl) if is_soft else 0
        return Keeping(soft_pin_ms, self._values["with_hard_pin"], min(self._values["replica_num"], REPLICAS_MAX))


#: Of puts that say nothing.
DEFAULT = ReplicateConfig()
PLAIN = PutSettings()
PLAIN_REPLACE = PutSettings(replace=True, keep_soft_pin=True)


def config(value: object) -> ReplicateConfig:
    """The configuration of a call; None is none."""
    if not isinstance(value, ReplicateConfig):
        raise TypeError(f"config is a ReplicateConfig, not {type(value).__name__}")
    return value
