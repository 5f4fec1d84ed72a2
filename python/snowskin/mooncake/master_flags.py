"""The flags of `mooncake_master`, and what each becomes of `snowskin-master`."""

from __future__ import annotations

import json
from typing import Any

from . import sizes
from .flags import Flag, Given, Grammar, WrongFlag, milliseconds, read

LOOPBACK = "127.0.0.1"

USED = {
    "rpc_port": Flag(0, "where clients and engines find it; 0: --port"),
    "port": Flag(50051, "the same"),
    "rpc_address": Flag(LOOPBACK, "the address there"),
    "metrics_port": Flag(9003, "where metrics, health and queries are served by HTTP"),
    "metrics_host": Flag("", "the address there; none: --rpc_address"),
    "default_kv_lease_ttl": Flag("10000", "for how long a read protects an object: milliseconds, or such as 10s"),
    "eviction_high_watermark_ratio": Flag(0.9, "the share of memory at which eviction begins"),
    "eviction_ratio": Flag(0.05, "how much of memory eviction frees"),
    "allocation_strategy": Flag("random", "random, free_ratio_first, fragmentation_aware or local_first"),
    "enable_http_metadata_server": Flag(False, "serve metadata of others by HTTP, too"),
    "http_metadata_server_host": Flag("", "the address there; none: --rpc_address"),
    "http_metadata_server_port": Flag(8080, "where it is served"),
    "config_path": Flag("", "a file with flags, JSON or lines of NAME: VALUE; those of the command line count more"),
    "logtostderr": Flag(True, "it always does"),
    "alsologtostderr": Flag(True, "it always does"),
    "minloglevel": Flag(0, "0: all; 1: warnings and errors; 2: errors"),
    "v": Flag(0, "above 0: more"),
}

_TRUTHS = """
allow_evict_soft_pinned_objects enable_cxl enable_disk_eviction enable_ha enable_kv_events enable_metadata_cleanup_on_timeout
enable_metric_reporting enable_multi_tenants enable_offload enable_oplog enable_snapshot enable_snapshot_restore
kv_events_emit_legacy_compat kv_events_emit_object_key offload_force_evict offload_on_evict promotion_on_hit rpc_enable_tcp_no_delay
use_mmap_arena_allocator helppackage helpxml colorlogtostderr drop_log_memory log_prefix stop_logging_if_full_disk symbolize_stacktrace
"""
_OTHERS = """
batch_oplog_retry_timeout_sec client_ttl cluster_id cxl_path cxl_size default_kv_soft_pin_ttl dynamic_replication_admission_qps_threshold
dynamic_replication_heat_window_seconds dynamic_replication_max_memory_replicas dynamic_replication_mode etcd_endpoints
global_file_segment_size ha_backend_connstring ha_backend_type kv_events_additional_salt kv_events_backend_id kv_events_bind_endpoint
kv_events_block_size kv_events_dp_rank kv_events_lora_name kv_events_model_name kv_events_queue_capacity kv_events_tenant_id
max_kv_soft_pin_ttl max_retry_attempts max_threads max_total_finished_tasks max_total_pending_tasks max_total_processing_tasks
memory_allocator nof_eviction_high_watermark_ratio nof_eviction_ratio nof_heartbeat_failures_threshold nof_heartbeat_interval_sec
nof_heartbeat_probe_timeout_ms offload_cap_ratio offloading_queue_limit oplog_batch_max_entries oplog_poll_interval_ms
pending_task_timeout_sec pod_name pod_namespace processing_task_timeout_sec promotion_admission_threshold promotion_max_per_heartbeat
promotion_queue_limit put_start_discard_timeout_sec put_start_release_timeout_sec quota_bytes root_fs_dir rpc_conn_timeout_seconds
rpc_interface rpc_thread_num snapshot_backup_dir snapshot_catalog_backend_connstring snapshot_catalog_backend_type
snapshot_catalog_store_connstring snapshot_catalog_store_type snapshot_child_timeout_seconds snapshot_interval_seconds
snapshot_object_store_type snapshot_payload_backend_type snapshot_payload_store_type snapshot_retention_count tenant_quota_connector_type
tenant_quota_connector_uri mmap_arena_pool_size fromenv tryfromenv tab_completion_columns tab_completion_word helpmatch helpon
alsologtoemail log_backtrace_at log_dir log_link logbuflevel logbufsecs logemaillevel logfile_mode logmailer max_log_size stderrthreshold
vmodule
"""
GRAMMAR = Grammar(USED, _TRUTHS.split(), _OTHERS.split())

STRATEGIES = ("random", "free_ratio_first", "fragmentation_aware", "local_first")
#: The master's watermarks are above this.
WATERMARK_MIN = 0.001


def parse(arguments: list[str]) -> Given:
    """Reads a command line, and the file that it names. Raises :class:`WrongFlag`."""
    given = GRAMMAR.parse(arguments)
    path = given.text("config_path")
    if path:
        of_file = GRAMMAR.parse([])
        for name, text in _of_file(path):
            GRAMMAR.take(of_file, name, text)
        for name in of_file.named - given.named:
            given.values[name] = of_file.values[name]
        given.ignored += of_file.ignored
    return given


def command(program: str, given: Given) -> list[str]:
    """The command line of `snowskin-master`. Raises :class:`WrongFlag`."""
    address = sizes.join_address(given.text("rpc_address"), rpc_port(given))
    high = float(given.values["eviction_high_watermark_ratio"])
    share = float(given.values["eviction_ratio"])
    if not WATERMARK_MIN <= high <= 1 or not 0 <= share <= 1:
        raise WrongFlag("--eviction_high_watermark_ratio and --eviction_ratio are shares of memory, from 0 to 1")
    low = max(WATERMARK_MIN, high - share)
    strategy = given.text("allocation_strategy")
    if strategy not in STRATEGIES:
        raise WrongFlag(f"--allocation_strategy is {strategy!r}: it is one of {', '.join(STRATEGIES)}")
    lease = milliseconds("default_kv_lease_ttl", given.text("default_kv_lease_ttl"))
    level = "debug" if given.number("v") > 0 else ("info", "warn", "error")[min(2, max(0, given.number("minloglevel")))]
    flags = ["--listen", address, "--http", f"{LOOPBACK}:0", "--lease-ms", str(lease), "--log", level]
    flags += ["--high-watermark", f"{high:.3f}", "--low-watermark", f"{low:.3f}", "--allocation-strategy", strategy]
    return [program, *flags]


def rpc_port(given: Given) -> int:
    """Where frames are answered."""
    return given.number("rpc_port") or given.number("port")


def _of_file(path: str) -> list[tuple[str, str]]:
    """The flags of a file."""
    text = read(path)
    if text.lstrip().startswith("{"):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise WrongFlag(f"{path} is no JSON: {error}") from None
        return [(str(name), _word(value)) for name, value in values.items()]
    found = []
    for line in text.splitlines():
        name, colon, value = line.split("#", 1)[0].partition(":")
        if colon and value.strip():
            found.append((name.strip(), value.strip().strip("\"'")))
    return found


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
