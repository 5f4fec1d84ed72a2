"""`mooncake_client`: `snowskin-engine` with the flags of Mooncake Store's: a process that lends memory of this machine to a cluster.

Its first core listens on ``--port``, and there stores find it that ``setup_dummy`` sets up.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Optional

from . import sizes
from .flags import Flag, Given, Grammar, WrongFlag
from .programs import Child, NotStarted, find
from .settings import PROTOCOLS, SEGMENT_BYTES_MIN, folder_of_sockets

LOOPBACK = "127.0.0.1"
READY = re.compile(r"is ready: (.*)")

USED = {
    "host": Flag(LOOPBACK, "the address at which it listens and others reach it"),
    "port": Flag(50052, "where it listens; 0: any free port"),
    "global_segment_size": Flag("4 GB", "bytes that it lends, such as 16MB"),
    "master_server_address": Flag("127.0.0.1:50051", "where the master answers"),
    "protocol": Flag("tcp", "tcp or rdma; engines talk by TCP, stores of this machine by shared memory"),
    "enable_offload": Flag(False, "keep on an SSD what has no room: in the folder that MOONCAKE_OFFLOAD_FILE_STORAGE_PATH names"),
    "threads": Flag(1, "cores, each a pinned thread"),
    "minloglevel": Flag(0, "0: all; 1: warnings and errors; 2: errors"),
    "logtostderr": Flag(True, "it always does"),
    "alsologtostderr": Flag(True, "it always does"),
}
_TRUTHS = "enable_http_server start_offload_rpc_server use_mmap_arena_allocator colorlogtostderr log_prefix stop_logging_if_full_disk symbolize_stacktrace"
_OTHERS = "http_port device_names local_buffer_size metadata_server tenant_id mmap_arena_pool_size log_dir v vmodule stderrthreshold max_log_size ipc_socket_path"
GRAMMAR = Grammar(USED, _TRUTHS.split(), _OTHERS.split())
HELP = """mooncake_client: an engine of a Snowskin cluster, with the flags of Mooncake Store's.

It listens on 127.0.0.1 unless it is told otherwise (--host): there is no authentication.

"""


def command(program: str, given: Given) -> list[str]:
    """The command line of `snowskin-engine`. Raises :class:`WrongFlag`."""
    if given.text("protocol") not in PROTOCOLS:
        raise WrongFlag(f"--protocol is {given.text('protocol')!r}: it is one of {', '.join(PROTOCOLS)}")
    try:
        memory = sizes.size("--global_segment_size", given.text("global_segment_size"))
    except ValueError as error:
        raise WrongFlag(str(error)) from None
    if memory < SEGMENT_BYTES_MIN:
        raise WrongFlag(f"--global_segment_size is {memory}: an engine lends at least 16MB")
    level = ("info", "warn", "error")[min(2, max(0, given.number("minloglevel")))]
    listen = sizes.join_address(given.text("host"), given.number("port"))
    flags = ["--listen", listen, "--master", given.text("master_server_address"), "--memory", str(memory)]
    flags += ["--cores", str(max(1, given.number("threads"))), "--log", level]
    if given.is_set("enable_offload"):
        folder = os.environ.get("MOONCAKE_OFFLOAD_FILE_STORAGE_PATH", "")
        if not folder:
            raise WrongFlag("--enable_offload needs a folder: name it in MOONCAKE_OFFLOAD_FILE_STORAGE_PATH")
        os.makedirs(folder, exist_ok=True)
        flags += ["--ssd", folder]
    sockets = folder_of_sockets("")
    return [program, *flags, *(["--local-sockets", sockets] if sockets else [])]


def main(arguments: Optional[list[str]] = None) -> int:
    """The program: runs until a signal or the engine's end."""
    try:
        given = GRAMMAR.parse(sys.argv[1:] if arguments is None else arguments)
        if given.wants_help:
            print(HELP + GRAMMAR.help())
            return 0
        for name in given.ignored:
            print(f"mooncake_client: --{name} means nothing here", file=sys.stderr)
        child = Child(command(find("snowskin-engine"), given), READY)
        child.end_on_signals()
        print(f"mooncake_client is ready: {child.words[1]}", flush=True)
        return child.wait()
    except (NotStarted, WrongFlag, OSError) as error:
        print(f"mooncake_client: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
