"""The SSD of an engine, as Mooncake Store's settings and variables name it: a folder, and how many bytes may be there."""

from __future__ import annotations

import os
import shutil

from . import sizes

FOLDER_VARIABLE = "MOONCAKE_OFFLOAD_FILE_STORAGE_PATH"
SIZE_VARIABLE = "MOONCAKE_OFFLOAD_TOTAL_SIZE_LIMIT_BYTES"
#: Of what is free there, if nobody says how much.
SHARE_PERCENT = 90


def folder(path: str = "") -> str:
    """The folder, made if it is not there; the path, or else that of the environment. Raises ``ValueError`` if neither names one."""
    path = path or os.environ.get(FOLDER_VARIABLE, "")
    if not path:
        raise ValueError(f"what has no room in memory needs a folder: name it in {FOLDER_VARIABLE}, or as ssd_offload_path")
    os.makedirs(path, exist_ok=True)
    return path


def size(path: str) -> int:
    """How many bytes may be there."""
    limit = os.environ.get(SIZE_VARIABLE)
    return sizes.size(SIZE_VARIABLE, limit) if limit else shutil.disk_usage(path).free * SHARE_PERCENT // 100
