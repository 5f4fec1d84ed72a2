//! The command line of `snowskin-bench`.
//!
//! Exit status: 0; 1 when values were wrong, operations failed, the run broke off or could not begin (the last line
//! says which); 2 when the command line cannot be understood.

use crate::alloc::Sizes as AllocSizes;
use crate::commands;
use crate::interrupt;
use crate::limits::{PONG_SERVER, Part, RAW_SERVER, serve_forever, serve_pongs};
use crate::model::Model;
use crate::policy::{Policies, SharesOfUnique};
use crate::process::{WITH_PARENT, become_child};
use crate::replay::Memory;
use crate::workload::{Mix, Sizes, parse_duration, parse_size};
use argh::FromArgs;
use snowskin_client::Transport;
use snowskin_engine::segment::Strategy;
use snowskin_protocol::ByteSize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const PROGRAM: &str = "snowskin-bench";

/// Why a command did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The settings make no sense together: exit status 2.
    Usage(String),
    /// Everything else: exit status 1.
    Run(String),
}

/// measures Snowskin: workloads, trace replay with every byte checked, limits beside raw TCP and memcpy, and a demo
#[derive(FromArgs)]
#[argh(
    example = "See it work, about 40 seconds:\n  {command_name} demo",
    example = "90 % reads of 64 KiB on a cluster of its own:\n  {command_name} run --value-size 64KiB --keys 10000 --threads 4",
    example = "An hour of chat traffic in a minute, with memory for 20 % of its blocks:\n  {command_name} replay --trace conversation_trace.jsonl.gz --time-scale 60 --memory 20%",
    example = "Beside raw TCP:\n  {command_name} limits --pin",
    example = "Through shared memory, beside memcpy and a ping-pong:\n  {command_name} limits --transport shm --pin",
    note = "Without --master, a command starts a master and engines on loopback and stops them when it ends.",
    note = "The first Ctrl-C ends a run early with a report; the second ends it at once.",
    error_code(1, "Wrong values, failed operations, or a run that broke off; the last line says which."),
    error_code(2, "The command line cannot be understood.")
)]
struct Arguments {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(Box<RunArguments>),
    Replay(Box<ReplayArguments>),
    Limits(LimitsArguments),
    Idle(IdleArguments),
    Alloc(AllocArguments),
    Evict(EvictArguments),
    Lookups(LookupsArguments),
    Policy(PolicyArguments),
    Demo(DemoArguments),
}

/// runs a synthetic workload: preload all keys, then a mix of operations in a closed or open loop
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    example = "Reads and writes at full speed for 10 seconds:\n  {command_name} --mix get=0.9,put=0.1",
    example = "5,000 lookups a second, latency counted from the intended start:\n  {command_name} --mix lookup --batch 32 --rate 5000",
    example = "Reads in place through shared memory:\n  {command_name} --mix view --transport shm --spin-us 200",
    example = "Uneven popularity, two sizes, against a running cluster:\n  {command_name} --master 10.0.0.1:7400 --workload zipf --value-size 1MiB,64KiB --clients 4 --threads 8"
)]
pub(crate) struct RunArguments {
    /// address of a running master, or of any core; default: start a cluster
    #[argh(option)]
    pub(crate) master: Option<SocketAddr>,
    /// engines to start (2)
    #[argh(option, default = "2")]
    pub(crate) engines: usize,
    /// cores of each engine (2)
    #[argh(option, default = "2")]
    pub(crate) cores: usize,
    /// memory of each engine (1GB)
    #[argh(option, default = "ByteSize(1 << 30)", from_str_fn(parse_size))]
    pub(crate) memory: ByteSize,
    /// folder on an SSD for a tier below the engines' memory; default: none
    #[argh(option)]
    pub(crate) ssd: Option<PathBuf>,
    /// bytes there of each engine, with --ssd (10GB)
    #[argh(option, from_str_fn(parse_size))]
    pub(crate) ssd_size: Option<ByteSize>,
    /// bytes of a region of the log there (16MiB)
    #[argh(option, default = "ByteSize(16 << 20)", from_str_fn(parse_size))]
    pub(crate) ssd_region: ByteSize,
    /// keep the files there, and begin with those that an earlier run with --keep left; default: they are removed
    #[argh(switch)]
    pub(crate) keep: bool,
    /// lease that reads and lookups grant, in ms (5000)
    #[argh(option, default = "5000")]
    pub(crate) lease_ms: u64,
    /// how cores are reached: auto (shared memory where it can be had), shm or tcp (auto)
    #[argh(option, default = "Transport::Auto")]
    pub(crate) transport: Transport,
    /// how long client and engines poll before they sleep, in µs (50)
    #[argh(option, default = "50")]
    pub(crate) spin_us: u64,
    /// which keys: uniform or zipf (uniform)
    #[argh(option, default = "\"uniform\".to_owned()")]
    pub(crate) workload: String,
    /// unevenness of zipf (0.99)
    #[argh(option, default = "0.99")]
    pub(crate) theta: f64,
    /// number of keys (1000)
    #[argh(option, default = "1_000")]
    pub(crate) keys: u64,
    /// size of values, or several that keys take in turn: 1MiB,64KiB (1MiB)
    #[argh(option, default = "\"1MiB\".parse().expect(\"a size\")")]
    pub(crate) value_size: Sizes,
    /// keys in a call (1)
    #[argh(option, default = "1")]
    pub(crate) batch: usize,
    /// threads that call (2)
    #[argh(option, default = "2")]
    pub(crate) threads: usize,
    /// sets of connections, which threads share (1)
    #[argh(option, default = "1")]
    pub(crate) clients: usize,
    /// operations and their weights, of get, view (reads in place), put (first writer wins), upsert (replaces), lookup,
    /// match_prefix (get=0.9,put=0.1)
    #[argh(option, default = "\"get=0.9,put=0.1\".parse().expect(\"a mix\")")]
    pub(crate) mix: Mix,
    /// how long to measure: 10s, 500ms, 2m (10s)
    #[argh(option, from_str_fn(parse_duration))]
    pub(crate) duration: Option<Duration>,
    /// end after so many keys instead of after a time
    #[argh(option)]
    pub(crate) operations: Option<u64>,
    /// open loop: keys a second, whether or not the store keeps up
    #[argh(option)]
    pub(crate) rate: Option<f64>,
    /// check every byte that is read (this is the default)
    #[argh(switch)]
    pub(crate) verify: bool,
    /// do not check what is read
    #[argh(switch)]
    pub(crate) no_verify: bool,
    /// do not put the keys before measuring
    #[argh(switch)]
    pub(crate) no_preload: bool,
    /// put what a read misses
    #[argh(switch)]
    pub(crate) refill: bool,
    /// seed of keys and values (1)
    #[argh(option, default = "1")]
    pub(crate) seed: u64,
    /// write the summary as JSON to this file
    #[argh(option)]
    pub(crate) json: Option<PathBuf>,
    /// write a line of JSON each second to this file
    #[argh(option)]
    pub(crate) json_lines: Option<PathBuf>,
    /// folder for summary and plots (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// replays requests of an inference service: match the prefix, read what is held, put the rest
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "replay",
    example = "A generated trace as fast as it goes:\n  {command_name} --closed --threads 4",
    example = "The published chat trace with blocks as one rank of Llama 3.1 70B stores them, memory for 5 %:\n  {command_name} --trace conversation_trace.jsonl.gz --model llama-3.1-70b-tp8 --limit 300 --memory 5%",
    note = "Trace files have one JSON object a line (timestamp, input_length, output_length, hash_ids), plain or gzip."
)]
pub(crate) struct ReplayArguments {
    /// trace file; default: generate one of the published shape
    #[argh(option)]
    pub(crate) trace: Option<PathBuf>,
    /// requests of a generated trace (4000)
    #[argh(option, default = "4_000")]
    pub(crate) requests: usize,
    /// replay only the first so many requests
    #[argh(option)]
    pub(crate) limit: Option<usize>,
    /// bytes of a block as this model has them: llama-3.1-8b, llama-3.1-70b-tp8, deepseek-v3 …
    #[argh(option)]
    pub(crate) model: Option<Model>,
    /// bytes of a block (64KiB)
    #[argh(option, from_str_fn(parse_size))]
    pub(crate) block_size: Option<ByteSize>,
    /// how many times faster than the trace to send its requests (60)
    #[argh(option, default = "60.0")]
    pub(crate) time_scale: f64,
    /// send requests as fast as the threads can, not at the trace's times
    #[argh(switch)]
    pub(crate) closed: bool,
    /// requests at the same time (8)
    #[argh(option, default = "8")]
    pub(crate) threads: usize,
    /// sets of connections, which threads share (1)
    #[argh(option, default = "1")]
    pub(crate) clients: usize,
    /// blocks in a call of get or put (32)
    #[argh(option, default = "32")]
    pub(crate) batch: usize,
    /// how cores are reached: auto (shared memory where it can be had), shm or tcp (auto)
    #[argh(option, default = "Transport::Auto")]
    pub(crate) transport: Transport,
    /// address of a running master, or of any core; default: start a cluster
    #[argh(option)]
    pub(crate) master: Option<SocketAddr>,
    /// engines to start (2)
    #[argh(option, default = "2")]
    pub(crate) engines: usize,
    /// cores of each engine (2)
    #[argh(option, default = "2")]
    pub(crate) cores: usize,
    /// memory of each engine (1GB), or of all as a part of the trace's unique bytes (20%) (20%)
    #[argh(option, default = "Memory::PartOfUnique(0.2)")]
    pub(crate) memory: Memory,
    /// folder on an SSD for a tier below the engines' memory; default: none
    #[argh(option)]
    pub(crate) ssd: Option<PathBuf>,
    /// bytes there of each engine, or of all as a part of the trace's unique bytes (40%), with --ssd (40%)
    #[argh(option)]
    pub(crate) ssd_size: Option<Memory>,
    /// bytes of a region of the log there (16MiB)
    #[argh(option, default = "ByteSize(16 << 20)", from_str_fn(parse_size))]
    pub(crate) ssd_region: ByteSize,
    /// when blocks go there, as the engine's flag of this name; default: the engine's
    #[argh(option)]
    pub(crate) ssd_mode: Option<String>,
    /// which do, as the engine's flag of this name; default: the engine's
    #[argh(option)]
    pub(crate) ssd_admission: Option<String>,
    /// keep the files there, and begin with those that an earlier run with --keep left; default: they are removed
    #[argh(switch)]
    pub(crate) keep: bool,
    /// lease in ms; default: 5000 shortened as the trace is, at least 50
    #[argh(option)]
    pub(crate) lease_ms: Option<u64>,
    /// how long client and engines poll before they sleep, in µs (50)
    #[argh(option, default = "50")]
    pub(crate) spin_us: u64,
    /// do not check what is read
    #[argh(switch)]
    pub(crate) no_verify: bool,
    /// seed of the generated trace and of values (1)
    #[argh(option, default = "1")]
    pub(crate) seed: u64,
    /// write the summary as JSON to this file
    #[argh(option)]
    pub(crate) json: Option<PathBuf>,
    /// write a line of JSON each second to this file
    #[argh(option)]
    pub(crate) json_lines: Option<PathBuf>,
    /// folder for summary and plots (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// measures get, put and lookup beside raw TCP; with --transport shm copies, reads in place, batches and cores beside
/// memcpy and a ping-pong through shared memory; with --ssd the SSD tier beside fio; both sides in turn, in one run
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "limits",
    example = "Beside raw TCP:\n  {command_name} --pin",
    example = "Through shared memory, a minute or two; needs 3 GB of memory:\n  {command_name} --transport shm --pin",
    example = "Only gets in place, while both sides spin:\n  {command_name} --transport shm --pin --part views --wake spin",
    example = "The SSD tier beside fio, two or three minutes:\n  {command_name} --ssd /mnt/nvme"
)]
pub(crate) struct LimitsArguments {
    /// rounds; the median of their ratios counts (5)
    #[argh(option, default = "5")]
    pub(crate) rounds: usize,
    /// time of each measurement in each round (200ms; with --ssd 1.5s)
    #[argh(option, from_str_fn(parse_duration))]
    pub(crate) slice: Option<Duration>,
    /// what a waiting side does: spin, block or both (both)
    #[argh(option, default = "\"both\".to_owned()")]
    pub(crate) wake: String,
    /// raw server on the CPU of the engine's core, client on another
    #[argh(switch)]
    pub(crate) pin: bool,
    /// how ours reaches its engine: tcp or auto (shared memory where it can be had), beside raw TCP; shm, beside what
    /// memory can do (tcp; with --ssd auto)
    #[argh(option)]
    pub(crate) transport: Option<Transport>,
    /// measure the SSD tier in this folder instead, beside fio; needs 12 GB there, which are removed, and 4 GB of memory
    #[argh(option)]
    pub(crate) ssd: Option<PathBuf>,
    /// only this part: with --transport shm copies, views, batches or cores, with --ssd reads, demotion, latency or
    /// mount; may be given several times (all)
    #[argh(option)]
    pub(crate) part: Vec<Part>,
    /// do not compare checksums in the client; without this, shm measures copies with and without
    #[argh(switch)]
    pub(crate) no_checksums: bool,
    /// write the figures as JSON to this file
    #[argh(option)]
    pub(crate) json: Option<PathBuf>,
}

/// measures the CPU time of an engine whose clients are silent, beside one without clients
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "idle",
    example = "Ten clients by shared memory, about 15 seconds:\n  {command_name}"
)]
pub(crate) struct IdleArguments {
    /// clients that are connected (10)
    #[argh(option, default = "10")]
    pub(crate) clients: usize,
    /// how long to watch (10s)
    #[argh(option, default = "Duration::from_secs(10)", from_str_fn(parse_duration))]
    pub(crate) duration: Duration,
    /// how clients reach the engine: auto (shared memory where it can be had), shm or tcp (shm)
    #[argh(option, default = "Transport::SharedMemory")]
    pub(crate) transport: Transport,
    /// how long clients and engine poll before they sleep, in µs (50)
    #[argh(option, default = "50")]
    pub(crate) spin_us: u64,
    /// write the figures as JSON to this file
    #[argh(option)]
    pub(crate) json: Option<PathBuf>,
}

/// measures the allocator: how full segments get and how fast, by strategy, segments, copies and sizes
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "alloc",
    example = "All of the matrix, a minute or two:\n  {command_name}",
    example = "One strategy with the two sizes of one deployment:\n  {command_name} --strategy fragmentation_aware --sizes pair"
)]
pub(crate) struct AllocArguments {
    /// bytes of all segments together; none of it is used (4GiB)
    #[argh(option, default = "ByteSize(4 << 30)", from_str_fn(parse_size))]
    pub(crate) memory: ByteSize,
    /// only this strategy: random, free_ratio_first, fragmentation_aware or local_first
    #[argh(option)]
    pub(crate) strategy: Option<Strategy>,
    /// only so many segments: 1, 2, 4, 8, 16 or 64
    #[argh(option)]
    pub(crate) segments: Option<usize>,
    /// only so many copies: 1, 2 or 3
    #[argh(option)]
    pub(crate) copies: Option<usize>,
    /// only these sizes: one (3,274,752 bytes), pair (and 658,432), random (4 KiB to 4 MiB) or mixed (4 KiB, 256 KiB,
    /// 3.12 MB)
    #[argh(option)]
    pub(crate) sizes: Option<AllocSizes>,
    /// values that come while others go, in each cell (20000)
    #[argh(option, default = "20_000")]
    pub(crate) churn: usize,
    /// seed of sizes and choices (1)
    #[argh(option, default = "1")]
    pub(crate) seed: u64,
    /// folder for figures and plot (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// compares eviction policies on traces, without I/O: prefix hits by policy and by the cache's share of all bytes
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "policy",
    example = "The published traces:\n  {command_name} --trace conversation_trace.jsonl.gz --trace synthetic_trace.jsonl.gz",
    note = "A block has bytes in proportion to its tokens; a request's last block has those that are left for it."
)]
pub(crate) struct PolicyArguments {
    /// trace file, may be given several times; default: a generated trace, and streams of single blocks
    #[argh(option)]
    pub(crate) trace: Vec<PathBuf>,
    /// requests of a generated trace (4000)
    #[argh(option, default = "4_000")]
    pub(crate) requests: usize,
    /// replay only the first so many requests
    #[argh(option)]
    pub(crate) limit: Option<usize>,
    /// bytes of the cache, in percent of those of all different blocks (5,10,20,40)
    #[argh(option, default = "\"5,10,20,40\".parse().expect(\"shares\")")]
    pub(crate) shares: SharesOfUnique,
    /// only these policies beside lru: hit_density, s3fifo
    #[argh(option)]
    pub(crate) policies: Option<Policies>,
    /// leave out the rows in which callers give hints (parent, continued prefix, last block)
    #[argh(switch)]
    pub(crate) no_hints: bool,
    /// seed of what is generated (1)
    #[argh(option, default = "1")]
    pub(crate) seed: u64,
    /// folder for figures and plot (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// measures puts while room has to be made, beside puts into empty memory
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "evict",
    example = "Two sizes, two engines of one core with a gibibyte each, a minute:\n  {command_name}"
)]
pub(crate) struct EvictArguments {
    /// memory of each of the two engines (1GiB)
    #[argh(option, default = "ByteSize(1 << 30)", from_str_fn(parse_size))]
    pub(crate) memory: ByteSize,
    /// size of the values; may be given several times (1MiB and 64KiB)
    #[argh(option, from_str_fn(parse_size))]
    pub(crate) value_size: Vec<ByteSize>,
    /// turns of each size (60)
    #[argh(option, default = "60")]
    pub(crate) rounds: usize,
    /// folder for figures (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// measures the lookups of one core, without sockets, beside bare probes of the same table
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "lookups",
    example = "A million and ten million objects, one thread and two; needs 11 GB of memory:\n  {command_name}",
    example = "A quick one:\n  {command_name} --objects 100000 --threads 1"
)]
pub(crate) struct LookupsArguments {
    /// objects in the table; may be given several times (1000000 and 10000000)
    #[argh(option)]
    pub(crate) objects: Vec<u64>,
    /// threads, each with a table of its own; may be given several times (1 and 2)
    #[argh(option)]
    pub(crate) threads: Vec<usize>,
    /// names in a batch, 1 to 4096 (32)
    #[argh(option, default = "32")]
    pub(crate) batch: usize,
    /// rounds, each of 262,144 names and more (9)
    #[argh(option, default = "9")]
    pub(crate) rounds: usize,
    /// folder for figures (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// shows a small cluster under chat traffic for about half a minute, and explains what is seen
#[derive(FromArgs)]
#[argh(subcommand, name = "demo")]
pub(crate) struct DemoArguments {
    /// trace file; default: generate one of the published shape
    #[argh(option)]
    pub(crate) trace: Option<PathBuf>,
    /// how long the replay should take (30s)
    #[argh(option, default = "Duration::from_secs(30)", from_str_fn(parse_duration))]
    pub(crate) duration: Duration,
    /// memory of each of the two engines (512MB)
    #[argh(option, default = "ByteSize(512 << 20)", from_str_fn(parse_size))]
    pub(crate) memory: ByteSize,
    /// bytes of each engine on the SSD, in the temporary folder (2GB)
    #[argh(option, default = "ByteSize(2 << 30)", from_str_fn(parse_size))]
    pub(crate) ssd_size: ByteSize,
    /// memory only
    #[argh(switch)]
    pub(crate) no_ssd: bool,
    /// write the summary as JSON to this file
    #[argh(option)]
    pub(crate) json: Option<PathBuf>,
    /// folder for summary and plots (report)
    #[argh(option, default = "PathBuf::from(\"report\")")]
    pub(crate) report: PathBuf,
}

/// The program: reads the command line, does what it says, and answers with the exit status.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = hidden(&arguments) {
        return code;
    }
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let command = match parse(&arguments) {
        Ok(command) => command,
        Err(code) => return code,
    };
    interrupt::install();
    let outcome = match command {
        Command::Run(arguments) => commands::run(&arguments),
        Command::Replay(arguments) => commands::replay(&arguments),
        Command::Limits(arguments) => commands::limits(&arguments),
        Command::Idle(arguments) => crate::idle::idle(&arguments),
        Command::Alloc(arguments) => crate::alloc::alloc(&arguments),
        Command::Evict(arguments) => crate::evict::evict(&arguments),
        Command::Lookups(arguments) => crate::lookups::lookups(&arguments),
        Command::Policy(arguments) => crate::policy::policy(&arguments),
        Command::Demo(arguments) => crate::demo::demo(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Run(reason)) => {
            eprintln!("{PROGRAM}: {reason}");
            ExitCode::from(1)
        }
        Err(Failed::Usage(reason)) => {
            eprintln!("{PROGRAM}: {reason}\nRun {PROGRAM} --help for what there is.");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Command, ExitCode> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match Arguments::from_args(&[PROGRAM], &arguments) {
        Ok(arguments) => Ok(arguments.command),
        Err(exit) if exit.status.is_ok() => {
            println!("{}", exit.output);
            Err(ExitCode::SUCCESS)
        }
        Err(exit) => {
            eprintln!("{}\nRun {PROGRAM} --help for what there is.", exit.output.trim_end());
            Err(ExitCode::from(2))
        }
    }
}

/// The commands that only this program gives to itself.
fn hidden(arguments: &[String]) -> Option<ExitCode> {
    let error = match arguments {
        [command, parent, program, rest @ ..] if command == WITH_PARENT => {
            become_child(parent.parse().ok()?, program, rest).to_string()
        }
        [command, rest @ ..] if command == RAW_SERVER => {
            serve_forever(rest.first().and_then(|cpu| cpu.parse().ok())).err()?.to_string()
        }
        [command, rest @ ..] if command == PONG_SERVER => match serve_pongs(rest) {
            Ok(()) => return Some(ExitCode::SUCCESS),
            Err(error) => error.to_string(),
        },
        _ => return None,
    };
    eprintln!("{PROGRAM} {}: {error}", arguments[0]);
    Some(ExitCode::from(1))
}

#[cfg(test)]
mod tests;
