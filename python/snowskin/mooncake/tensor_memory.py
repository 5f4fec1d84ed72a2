"""Tensors as memory, and memory as tensors. torch is imported by the first call that needs it: without it, calls answer as they do for
arguments that are no tensors, and the log says what is missing.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
from typing import Any, NamedTuple, Optional

from .tensor_layout import DTYPES, HEADER_BYTES, DIMENSIONS_MAX, Axes, Header, Shape, unpack

log = logging.getLogger("mooncake")

Tensor = Any
_has_warned = False


class Source(NamedTuple):
    """A tensor that is to be put: what lies in its memory, and the tensor, which keeps it there."""

    header: Header
    tensor: Tensor

    def pieces(self) -> tuple[Any, ...]:
        """The object, in pieces. They are good as long as the tensor is."""
        header, size = self.header.pack(), self.header.data_bytes
        return (header, memory(self.tensor.data_ptr(), size)) if size else (header,)

    def as_shard(self, whole: Shape, axes: Axes) -> Source:
        """The same elements, as a part of a tensor."""
        return Source(Header(self.header.dtype, whole, self.header.shape, axes), self.tensor)

    def split(self, split_dim: int, count: int) -> Optional[list[Tensor]]:
        """So many parts of one extent; None: there are no such."""
        shape = self.header.shape
        if not 0 <= split_dim < len(shape) or count < 1 or shape[split_dim] % count:
            return None
        extent = shape[split_dim] // count
        return [self.tensor.narrow(split_dim, part * extent, extent) for part in range(count)]


def torch() -> Optional[Any]:
    """The module; None: it is not there."""
    global _has_warned
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        if not _has_warned:
            log.error("tensors need torch, which cannot be imported (%s): pip install torch", error)
            _has_warned = True
        return None


def source(tensor: Tensor) -> Optional[Source]:
    """A tensor that can be put; None: it is none, or of a kind that has no number. What is not on this machine's memory in C order is copied."""
    module = torch()
    if module is None or not isinstance(tensor, module.Tensor):
        return None
    if tensor.layout is not module.strided or tensor.is_meta or tensor.dim() > DIMENSIONS_MAX:
        return None
    name = str(tensor.dtype).partition(".")[2]
    if name not in DTYPES:
        return None
    shape = tuple(tensor.shape)
    return Source(Header(DTYPES.index(name), shape, shape), tensor.detach().resolve_neg().cpu().contiguous())


def memory(start: int, size: int) -> memoryview:
    """Bytes at an address."""
    return memoryview((ctypes.c_ubyte * size).from_address(start)).cast("B")


def header_at(start: int, size: int) -> Optional[Header]:
    """The header of an object of so many bytes that lies at an address; None: it holds no tensor."""
    return unpack(memory(start, HEADER_BYTES), size) if size >= HEADER_BYTES else None


def at(start: int, header: Header) -> Tensor:
    """The elements at an address, as a tensor that lies there: whoever has it keeps the memory. A scalar has one dimension, of one."""
    module = importlib.import_module("torch")
    dtype = getattr(module, DTYPES[header.dtype])
    shape = header.shape or (1,)
    if header.data_bytes == 0:
        return module.empty(shape, dtype=dtype)
    return module.frombuffer(memory(start, header.data_bytes), dtype=module.uint8).view(dtype).reshape(shape)


def empty(header: Header) -> Tensor:
    """A tensor for these elements."""
    module = importlib.import_module("torch")
    return module.empty(header.shape or (1,), dtype=getattr(module, DTYPES[header.dtype]))


def copied(start: int, header: Header) -> Tensor:
    """A tensor of the elements at an address. Other threads run while they are copied."""
    tensor = empty(header)
    if header.data_bytes:
        ctypes.memmove(tensor.data_ptr(), start, header.data_bytes)
    return tensor
