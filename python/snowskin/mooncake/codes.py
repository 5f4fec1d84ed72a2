"""The numbers that callers of Mooncake Store's API compare with. 0 and sizes are well, these are not."""

from __future__ import annotations

from typing import Final

OK: Final = 0
INTERNAL: Final = -1
NO_SPACE: Final = -200
#: Also: the store is not set up.
INVALID_PARAMETERS: Final = -600
REPLICA_NOT_READY: Final = -703
OBJECT_NOT_FOUND: Final = -704
OBJECT_EXISTS: Final = -705
CHECKSUM_MISMATCH: Final = -801
UNAVAILABLE_NOW: Final = -1010
TASK_NOT_FOUND: Final = -1400
#: A replica on a shared file system was asked for, and there is none.
NO_FILE_SYSTEM: Final = -1601

#: What ``health_check`` answers.
HEALTHY: Final = 0
NOT_SET_UP: Final = 1
MASTER_OUT_OF_REACH: Final = 2

#: What the master's HTTP calls them.
WORDS: Final = {
    INTERNAL: "INTERNAL_ERROR",
    INVALID_PARAMETERS: "INVALID_PARAMS",
    REPLICA_NOT_READY: "REPLICA_IS_NOT_READY",
    OBJECT_NOT_FOUND: "OBJECT_NOT_FOUND",
    UNAVAILABLE_NOW: "UNAVAILABLE_IN_CURRENT_STATUS",
}
