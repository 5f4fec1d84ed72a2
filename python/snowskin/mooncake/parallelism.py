"""What verbs on shards are told: how a tensor is spread over ranks, and which part of it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

from . import checks
from .tensor_layout import AXES_MAX, Axes, Axis

MODES = ("as_stored", "shard", "full")


class _Checked:
    """Attributes that take values of their types, and no others."""

    __slots__ = ()
    _takes: dict[str, Callable[[str, Any], Any]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        take = self._takes.get(name)
        if take is None:
            raise AttributeError(f"a {type(self).__name__} has no {name}")
        object.__setattr__(self, name, take(name, value))


def _integer(what: str, value: Any) -> int:
    if isinstance(value, float) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} is an integer, not {type(value).__name__}")
    found = int(value)
    if not -(1 << 31) <= found < 1 << 31:
        raise TypeError(f"{what} is an integer of 32 bits, not {found}")
    return found


def _optional_integer(what: str, value: Any) -> Optional[int]:
    return None if value is None else _integer(what, value)


class ParallelAxis(_Checked):
    """One way of spreading: "tp" splits a dimension, "ep" names an expert, "pp" a stage, "dp" has copies."""

    __slots__ = ("expert_id", "kind", "rank", "size", "split_dim", "stage_id")
    _takes = {"kind": checks.text, "rank": _integer, "size": _integer}
    _takes |= dict.fromkeys(("split_dim", "expert_id", "stage_id"), _optional_integer)

    kind: str
    rank: int
    size: int
    split_dim: Optional[int]
    expert_id: Optional[int]
    stage_id: Optional[int]

    def __init__(self) -> None:
        self.kind, self.rank, self.size = "", 0, 1
        self.split_dim = self.expert_id = self.stage_id = None


def _axes(what: str, value: Any) -> list[ParallelAxis]:
    found = checks.sequence(what, value)
    if not all(isinstance(axis, ParallelAxis) for axis in found):
        raise TypeError(f"{what} are a list of ParallelAxis")
    return list(found)


class TensorParallelism(_Checked):
    """All ways in which a tensor is spread, at most four, each of another kind."""

    __slots__ = ("axes",)
    _takes = {"axes": _axes}

    axes: list[ParallelAxis]

    def __init__(self) -> None:
        self.axes = []


def _mode(what: str, value: Any) -> str:
    mode = checks.text(what, value).lower()
    if mode not in MODES:
        raise RuntimeError(f"{what} is one of {', '.join(MODES)}, not {value!r}")
    return mode


def _parallelism(what: str, value: Any) -> Optional[TensorParallelism]:
    if value is not None and not isinstance(value, TensorParallelism):
        raise TypeError(f"{what} is a TensorParallelism, not {type(value).__name__}")
    return value


class ReadTarget(_Checked):
    """What a get wants: the object "as_stored", the "shard" of a parallelism, or the "full" tensor."""

    __slots__ = ("mode", "parallelism")
    _takes = {"mode": _mode, "parallelism": _parallelism}

    mode: str
    parallelism: Optional[TensorParallelism]

    def __init__(self) -> None:
        self.mode, self.parallelism = MODES[0], None


def axes_of(parallelism: Any) -> Optional[Axes]:
    """The axes of a parallelism; None: they are not well."""
    try:
        given: Sequence[Any] = checks.sequence("axes", parallelism.axes)
        axes = tuple(_axis_of(axis, axis.kind.lower()) for axis in given)
    except (AttributeError, TypeError):
        return None
    kinds = {axis.kind for axis in axes}
    return axes if 0 < len(axes) == len(kinds) <= AXES_MAX and all(axis.is_well for axis in axes) else None


def writer_axis(partition: Any) -> Optional[Axis]:
    """What one of several writers has, from anything with rank, size and split_dim; None: it is not well."""
    try:
        axis = Axis("tp", _integer("rank", partition.rank), _integer("size", partition.size), _integer("split_dim", partition.split_dim))
    except (AttributeError, TypeError):
        return None
    return axis if axis.is_well else None


def _axis_of(axis: Any, kind: str) -> Axis:
    members = [_optional_integer(name, getattr(axis, name, None)) for name in ("split_dim", "expert_id", "stage_id")]
    return Axis(kind, _integer("rank", axis.rank), _integer("size", axis.size), *members)
