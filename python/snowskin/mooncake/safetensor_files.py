"""Tensors in files of the safetensors format, written and read here, so that the package of that name is not needed.

A file is ``u64`` (little endian) the length of a header, the header, the elements. The header is JSON: of each tensor, by its name, ``dtype``, ``shape``
and ``data_offsets``, where its elements begin and end behind the header. It is filled up with blanks to a multiple of 8 bytes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from typing import Any, Optional, Union

from . import checks, tensor_memory
from .base import log
from .checks import Key
from .codes import INVALID_PARAMETERS, OK
from .shards import Shards
from .tensor_layout import DIMENSIONS_MAX, HEADER_BYTES, ITEM_BYTES, Header
from .tensor_memory import Tensor

#: What `save_tensor_to_safetensor` answers where there is no tensor under the key.
NO_TENSOR = -1100
#: Bytes of a header that is read, at most: as many as the package allows.
HEADER_BYTES_MAX = 100_000_000
#: By the numbers of element types.
_WORDS = ("F32", "F64", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_LENGTH = struct.Struct("<Q")

FileName = Union[str, bytes, "os.PathLike[str]"]


class SafetensorFiles(Shards):
    """See the module's head."""

    def save_tensor_to_safetensor(self, key: Key, file_name: Optional[FileName] = None) -> int:
        """Writes the tensor of a key to a file, named as the key if nothing else is said: 0, or a code."""
        checks.key(key)
        if self._verbs is None:
            return INVALID_PARAMETERS
        found = self._object(checks.name(key))
        if found is None:
            return NO_TENSOR
        header, view = found
        said = {"dtype": _WORDS[header.dtype], "shape": list(header.shape or (1,)), "data_offsets": [0, header.data_bytes]}
        text = json.dumps({checks.text("key", key): said}, separators=(",", ":"), ensure_ascii=False).encode()
        text = text.ljust(-(-len(text) // 8) * 8)
        try:
            with open(key if file_name is None else file_name, "wb") as file:
                file.write(_LENGTH.pack(len(text)) + text)
                file.write(memoryview(view)[HEADER_BYTES:])
        except OSError as error:
            log.error("a tensor cannot be saved: %s", error)
            return INVALID_PARAMETERS
        return OK

    def load_tensor_from_safetensor(self, key: Optional[Key] = None, file_name: Optional[FileName] = None) -> Optional[Tensor]:
        """Reads a tensor from a file and stores it under a key, or the file's name: the one of that name, or the first one. None if it cannot be had."""
        if file_name is None:
            raise TypeError("file_name is needed")
        name = os.fsdecode(file_name) if key is None else checks.text("key", key)
        if self._verbs is None or tensor_memory.torch() is None:
            return None
        try:
            tensor = _read(file_name, name, key is not None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("no tensor can be loaded from %s: %s", os.fsdecode(file_name), error)
            return None
        return tensor if tensor is not None and self.put_tensor(name, tensor) == OK else None


def _read(file_name: FileName, name: str, is_named: bool) -> Optional[Tensor]:
    """A tensor of a file. Raises ``OSError``, ``ValueError``, ``KeyError`` or ``TypeError`` for a file that is not well."""
    with open(file_name, "rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size).ljust(_LENGTH.size, b"\0"))
        if length > min(HEADER_BYTES_MAX, os.fstat(file.fileno()).st_size):
            raise ValueError("its header is longer than a file may have it")
        tensors: dict[str, Any] = {own: said for own, said in json.loads(file.read(length)).items() if own != "__metadata__"}
        if not tensors:
            raise ValueError("it has no tensor")
        if name not in tensors:
            if is_named:
                log.warning("%s has no tensor %s: its first one is taken", os.fsdecode(file_name), name)
            name = min(tensors, key=lambda own: int(tensors[own]["data_offsets"][0]))
        said = tensors[name]
        begin, end = (int(offset) for offset in said["data_offsets"])
        shape = tuple(int(extent) for extent in said["shape"])
        dtype = _WORDS.index(said["dtype"])
        if len(shape) > DIMENSIONS_MAX or any(extent < 0 for extent in shape) or math.prod(shape) * ITEM_BYTES[dtype] != end - begin:
            raise ValueError(f"{name} has a shape that its bytes do not fill, or too many dimensions")
        tensor = tensor_memory.empty(Header(dtype, shape, shape))
        file.seek(_LENGTH.size + length + begin)
        if end > begin and file.readinto(tensor_memory.memory(tensor.data_ptr(), end - begin)) != end - begin:
            raise ValueError(f"it ends within {name}")
        return tensor.reshape(shape)
