//! The commands, put together: a cluster or an address, a workload, what was measured, and what is left of it.

use crate::cli::{Failed, LimitsArguments, ReplayArguments, RunArguments};
use crate::cluster::{Cluster, ClusterPlan, SsdPlace};
use crate::limits::{LimitsPlan, Wake, measure as measure_limits};
use crate::meter::Measured;
use crate::replay::{Ideal, Memory, ReplayPlan, TraceSummary, cluster_memory};
use crate::report::summary::Summary;
use crate::report::table::{latencies, number, percent, summary_lines};
use crate::report::{write, write_json};
use crate::scratch::Scratch;
use crate::store::{Failure, Reach, Reached, Store, connect};
use crate::trace::{Request, Shape, TraceFacts, generate, read_trace};
use crate::workload::Popularity;
use crate::{replay as replaying, run as running, ssd};
use snowskin_client::Transport;
use snowskin_protocol::{ByteSize, KIB};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Bytes of a block when nobody says.
const BLOCK_BYTES: u64 = 64 * KIB;
/// The lease of a store in production, and the least that is sensible when time runs faster.
const LEASE_MS: f64 = 5_000.0;
const LEASE_MS_MIN: u64 = 50;
/// How long a run measures when nobody says.
const DURATION: Duration = Duration::from_secs(10);

/// Bytes of an engine's SSD tier when nobody says, and those of a replay.
const SSD_BYTES: ByteSize = ByteSize(10 << 30);
const SSD_PART: Memory = Memory::PartOfUnique(0.4);
/// Time of a measurement of limits in each round, and of one of a disk, which is slower to show what it can.
const SLICE: Duration = Duration::from_millis(200);
const SSD_SLICE: Duration = Duration::from_millis(1_500);

/// A cluster that is ours, or the way to somebody else's.
pub(crate) struct Target {
    pub(crate) cluster: Option<Cluster>,
    pub(crate) stores: Vec<Box<dyn Store>>,
}

impl Target {
    /// Starts a cluster unless there is a master's address, and connects `clients` times.
    pub(crate) fn open(
        master: Option<SocketAddr>,
        plan: &ClusterPlan,
        clients: usize,
        (verify, transport): (bool, Transport),
    ) -> Result<Self, Failed> {
        let cluster = match master {
            Some(_) => None,
            None => {
                check_memory(plan)?;
                Some(Cluster::start(plan).map_err(run_failed)?)
            }
        };
        let seeds = master.map(|address| vec![address]).or_else(|| cluster.as_ref().map(Cluster::seeds));
        let reach = Reach {
            seeds: seeds.expect("an address or a cluster"),
            spin: Duration::from_micros(plan.spin_us.unwrap_or(0)),
            checksums: verify,
            transport,
        };
        let stores: Result<Vec<_>, _> = (0..clients).map(|_| connect(&reach)).collect();
        let stores =
            stores.map_err(|failure| Failed::Run(format!("cannot connect: {}", failure.sentence)))?;
        Ok(Target { cluster, stores })
    }

    /// What runs, for people.
    pub(crate) fn announce(&self) {
        for line in self.cluster.iter().flat_map(Cluster::describe) {
            println!("  {line}");
        }
    }
}

/// The command `run`.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failed> {
    let plan = run_plan(arguments)?;
    let mut cluster_plan = ClusterPlan {
        engines: arguments.engines,
        cores_per_engine: arguments.cores,
        memory_bytes_per_engine: arguments.memory.0,
        lease_ms: arguments.lease_ms,
        spin_us: Some(arguments.spin_us),
        ssd: arguments.ssd.as_ref().map(|folder| SsdPlace {
            folder: folder.clone(),
            bytes_per_engine: arguments.ssd_size.unwrap_or(SSD_BYTES).0,
            region_bytes: Some(arguments.ssd_region.0),
            manner: Vec::new(),
        }),
    };
    check_ssd(arguments.ssd.as_deref(), arguments.ssd_size.is_some(), arguments.keep, arguments.master)?;
    let _scratch = scratch_of(&mut cluster_plan, arguments.keep)?;
    let mut target =
        Target::open(arguments.master, &cluster_plan, arguments.clients, (plan.verify, arguments.transport))?;
    target.announce();
    println!("  {} keys of {}: {}", number(plan.keys), plan.sizes, ByteSize(plan.sizes.total(plan.keys)));
    if !arguments.no_preload {
        let loaded = running::preload(&plan, &target.stores, target.cluster.as_mut()).map_err(run_failed)?;
        let counts = &loaded.total.counts;
        println!(
            "  preloaded {} of {} keys, {} in {:.1} s",
            number(counts.stored + counts.existed),
            number(plan.keys),
            ByteSize(counts.bytes_written),
            loaded.elapsed.as_secs_f64()
        );
        let summary = Summary::new("preload", BTreeMap::new(), &loaded, Reached::by(&target.stores));
        summary.complaint().map_or(Ok(()), |complaint| Err(Failed::Run(format!("preload: {complaint}"))))?;
    }
    let json_lines = arguments.json_lines.as_deref();
    let before = ssd::look(&target.stores).map_err(look_failed)?;
    let measured =
        running::run(&plan, &target.stores, target.cluster.as_mut(), json_lines).map_err(run_failed)?;
    let reached = Reached::by(&target.stores);
    let mut summary = Summary::new("run", run_settings(arguments, &plan), &measured, reached);
    summary.take_ssd(&before, ssd::look(&target.stores));
    println!();
    summary_lines(&summary).iter().for_each(|line| println!("{line}"));
    finish(&summary, &measured, arguments.json.as_deref(), &arguments.report)
}

fn run_plan(arguments: &RunArguments) -> Result<running::RunPlan, Failed> {
    need_at_least_one(&[
        ("--keys", arguments.keys),
        ("--batch", arguments.batch as u64),
        ("--threads", arguments.threads as u64),
        ("--clients", arguments.clients as u64),
        ("--engines", arguments.engines as u64),
        ("--cores", arguments.cores as u64),
        ("--operations", arguments.operations.unwrap_or(1)),
    ])?;
    if arguments.verify && arguments.no_verify {
        return Err(Failed::Usage("--verify and --no-verify: which?".to_owned()));
    }
    if arguments.duration.is_some() && arguments.operations.is_some() {
        return Err(Failed::Usage("give --duration or --operations, not both".to_owned()));
    }
    if arguments.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err(Failed::Usage("--rate must be above 0 keys a second".to_owned()));
    }
    let duration = match arguments.operations {
        Some(_) => None,
        None => Some(arguments.duration.unwrap_or(DURATION)),
    };
    Ok(running::RunPlan {
        keys: arguments.keys,
        sizes: arguments.value_size.clone(),
        batch: arguments.batch,
        threads: arguments.threads,
        mix: arguments.mix.clone(),
        popularity: Popularity::new(&arguments.workload, arguments.keys, arguments.theta)
            .map_err(Failed::Usage)?,
        duration,
        operations: arguments.operations.unwrap_or(0),
        rate: arguments.rate,
        verify: !arguments.no_verify,
        refill: arguments.refill,
        seed: arguments.seed,
    })
}

fn run_settings(arguments: &RunArguments, plan: &running::RunPlan) -> BTreeMap<String, String> {
    settings([
        ("cluster", arguments.master.map_or_else(|| "own".to_owned(), |address| address.to_string())),
        ("engines", arguments.engines.to_string()),
        ("cores", arguments.cores.to_string()),
        ("memory", arguments.memory.to_string()),
        ("lease_ms", arguments.lease_ms.to_string()),
        ("transport", arguments.transport.to_string()),
        ("spin_us", arguments.spin_us.to_string()),
        ("workload", arguments.workload.clone()),
        ("theta", arguments.theta.to_string()),
        ("keys", plan.keys.to_string()),
        ("value_size", plan.sizes.to_string()),
        ("mix", plan.mix.to_string()),
        ("batch", plan.batch.to_string()),
        ("threads", plan.threads.to_string()),
        ("clients", arguments.clients.to_string()),
        ("loop", plan.rate.map_or_else(|| "closed".to_owned(), |rate| format!("open, {rate} keys/s"))),
        ("verify", plan.verify.to_string()),
        ("refill", plan.refill.to_string()),
        ("preload", (!arguments.no_preload).to_string()),
        ("seed", plan.seed.to_string()),
    ])
}

/// The command `replay`.
pub(crate) fn replay(arguments: &ReplayArguments) -> Result<(), Failed> {
    let requests = requests_of(arguments)?;
    let mut prepared = Prepared::new(arguments, requests)?;
    let _scratch = scratch_of(&mut prepared.cluster_plan, arguments.keep)?;
    println!("  {}", prepared.trace_in_words());
    if let Some(model) = arguments.model.filter(|_| arguments.block_size.is_none()) {
        println!("  {}", model.arithmetic());
    }
    let mut target = Target::open(
        arguments.master,
        &prepared.cluster_plan,
        arguments.clients,
        (!arguments.no_verify, arguments.transport),
    )?;
    target.announce();
    let (summary, measured) = prepared.replay(arguments, &mut target, "replay")?;
    println!();
    rates(&summary).iter().for_each(|line| println!("{line}"));
    summary_lines(&summary).iter().for_each(|line| println!("{line}"));
    finish(&summary, &measured, arguments.json.as_deref(), &arguments.report)
}

/// Reads or makes the trace.
pub(crate) fn requests_of(arguments: &ReplayArguments) -> Result<Vec<Request>, Failed> {
    let limit = arguments.limit.unwrap_or(usize::MAX);
    match &arguments.trace {
        Some(path) => read_trace(path, limit).map_err(run_failed),
        None => Ok(generate(Shape { requests: arguments.requests.min(limit), seed: arguments.seed })),
    }
}

/// A trace with all that follows from it and the settings.
pub(crate) struct Prepared {
    requests: Vec<Request>,
    pub(crate) facts: TraceFacts,
    pub(crate) ideal: Ideal,
    pub(crate) cluster_plan: ClusterPlan,
    plan: ReplayPlan,
    memory_bytes: Option<u64>,
}

impl Prepared {
    pub(crate) fn new(arguments: &ReplayArguments, requests: Vec<Request>) -> Result<Self, Failed> {
        check_replay(arguments, &requests)?;
        let block_bytes = match (arguments.block_size, arguments.model) {
            (Some(size), _) => size.0,
            (None, Some(model)) => model.bytes_per_block(),
            (None, None) => BLOCK_BYTES,
        };
        let facts = TraceFacts::of(&requests);
        let (engines, cores) = (arguments.engines, arguments.cores);
        let per_engine = cluster_memory(arguments.memory, &facts, block_bytes, engines, cores);
        let memory_bytes = arguments.master.is_none().then_some(per_engine * engines as u64);
        check_ssd(arguments.ssd.as_deref(), arguments.ssd_size.is_some(), arguments.keep, arguments.master)?;
        let ssd = arguments.ssd.as_ref().map(|folder| SsdPlace {
            folder: folder.clone(),
            bytes_per_engine: {
                let size = arguments.ssd_size.unwrap_or(SSD_PART);
                cluster_memory(size, &facts, block_bytes, engines, cores)
            },
            region_bytes: Some(arguments.ssd_region.0),
            manner: [("--ssd-mode", &arguments.ssd_mode), ("--ssd-admission", &arguments.ssd_admission)]
                .into_iter()
                .filter_map(|(flag, value)| Some((flag, value.clone()?)))
                .collect(),
        });
        let ssd_bytes = ssd.as_ref().map_or(0, |ssd| ssd.bytes_per_engine * engines as u64);
        let time_scale = (!arguments.closed).then_some(arguments.time_scale);
        Ok(Prepared {
            ideal: Ideal::of(&requests, memory_bytes, ssd_bytes, block_bytes),
            facts,
            requests,
            cluster_plan: ClusterPlan {
                engines,
                cores_per_engine: cores,
                memory_bytes_per_engine: per_engine,
                lease_ms: arguments.lease_ms.unwrap_or_else(|| scaled_lease_ms(time_scale)),
                spin_us: Some(arguments.spin_us),
                ssd,
            },
            plan: ReplayPlan {
                block_bytes: block_bytes as usize,
                batch: arguments.batch,
                threads: arguments.threads,
                time_scale,
                verify: !arguments.no_verify,
                seed: arguments.seed,
            },
            memory_bytes,
        })
    }

    /// Engines have SSD tiers there.
    pub(crate) fn take_ssd(&mut self, place: SsdPlace) {
        let ssd_bytes = place.bytes_per_engine * self.cluster_plan.engines as u64;
        self.cluster_plan.ssd = Some(place);
        self.ideal = Ideal::of(&self.requests, self.memory_bytes, ssd_bytes, self.plan.block_bytes as u64);
    }

    /// What of the trace there is room for, the beginning of a sentence.
    pub(crate) fn room_in_words(&self) -> String {
        let part = |bytes: u64| {
            let blocks = bytes / self.plan.block_bytes as u64;
            percent(blocks as f64 / self.facts.unique_blocks.max(1) as f64)
        };
        let memory = part(self.memory_bytes.unwrap_or(0));
        match &self.cluster_plan.ssd {
            None => format!("Memory holds {memory}"),
            Some(ssd) => {
                let ssd = part(ssd.bytes_per_engine * self.cluster_plan.engines as u64);
                format!("Memory holds {memory} and the SSD {ssd}")
            }
        }
    }

    pub(crate) fn trace_in_words(&self) -> String {
        let facts = &self.facts;
        format!(
            "{} requests over {} s, {} blocks of {}, {} unique ({}), {} of these used once",
            number(facts.requests),
            number(facts.duration_ms / 1_000),
            number(facts.blocks),
            ByteSize(self.plan.block_bytes as u64),
            number(facts.unique_blocks),
            ByteSize(facts.unique_blocks * self.plan.block_bytes as u64),
            percent(facts.blocks_used_once as f64 / facts.unique_blocks.max(1) as f64)
        )
    }

    /// Replays, and makes the summary.
    pub(crate) fn replay(
        &self,
        arguments: &ReplayArguments,
        target: &mut Target,
        command: &str,
    ) -> Result<(Summary, Measured), Failed> {
        let (stores, cluster) = (&target.stores, target.cluster.as_mut());
        let json_lines = arguments.json_lines.as_deref();
        let before = ssd::look(stores).map_err(look_failed)?;
        let measured =
            replaying::replay(&self.plan, &self.requests, stores, cluster, json_lines).map_err(run_failed)?;
        let mut summary = Summary::new(command, self.settings(arguments), &measured, Reached::by(stores));
        summary.take_ssd(&before, ssd::look(stores));
        let block_bytes = self.plan.block_bytes as u64;
        summary.trace = Some(TraceSummary {
            memory_bytes: self.memory_bytes,
            time_scale: self.plan.time_scale,
            lease_ms: self.memory_bytes.map(|_| self.cluster_plan.lease_ms),
            ..TraceSummary::new(&measured, &self.facts, self.ideal, block_bytes)
        });
        Ok((summary, measured))
    }

    fn settings(&self, arguments: &ReplayArguments) -> BTreeMap<String, String> {
        let generated = || format!("generated, seed {}", arguments.seed);
        settings([
            ("trace", arguments.trace.as_ref().map_or_else(generated, |path| path.display().to_string())),
            ("cluster", arguments.master.map_or_else(|| "own".to_owned(), |address| address.to_string())),
            ("engines", arguments.engines.to_string()),
            ("cores", arguments.cores.to_string()),
            ("memory_per_engine", ByteSize(self.cluster_plan.memory_bytes_per_engine).to_string()),
            ("transport", arguments.transport.to_string()),
            ("spin_us", arguments.spin_us.to_string()),
            ("threads", arguments.threads.to_string()),
            ("clients", arguments.clients.to_string()),
            ("batch", arguments.batch.to_string()),
            ("verify", self.plan.verify.to_string()),
        ])
    }
}

fn check_replay(arguments: &ReplayArguments, requests: &[Request]) -> Result<(), Failed> {
    need_at_least_one(&[
        ("--requests or --limit", requests.len() as u64),
        ("--threads", arguments.threads as u64),
        ("--clients", arguments.clients as u64),
        ("--batch", arguments.batch as u64),
        ("--engines", arguments.engines as u64),
        ("--cores", arguments.cores as u64),
    ])?;
    if !(arguments.time_scale.is_finite() && arguments.time_scale > 0.0) {
        return Err(Failed::Usage("--time-scale must be above 0, such as 60".to_owned()));
    }
    if arguments.master.is_some() && matches!(arguments.memory, Memory::PerEngine(_)) {
        log::warn!("--memory has no effect on a cluster that runs already");
    }
    Ok(())
}

/// A tier is of engines that we start, and its size is nothing without it.
fn check_ssd(
    folder: Option<&Path>,
    has_size: bool,
    keep: bool,
    master: Option<SocketAddr>,
) -> Result<(), Failed> {
    match (folder, master) {
        (None, _) if has_size => Err(Failed::Usage("--ssd-size is for --ssd".to_owned())),
        (None, _) if keep => Err(Failed::Usage("--keep is for --ssd".to_owned())),
        (Some(_), Some(_)) => {
            Err(Failed::Usage("--ssd is for a cluster that is started: not with --master".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Unless they are to be kept, the files of the SSD tier are in a folder of their own, which goes with its guard.
fn scratch_of(plan: &mut ClusterPlan, keep: bool) -> Result<Option<Scratch>, Failed> {
    let Some(ssd) = plan.ssd.as_mut().filter(|_| !keep) else { return Ok(None) };
    let scratch = Scratch::new(&ssd.folder)
        .map_err(|error| Failed::Run(format!("{}: {error}", ssd.folder.display())))?;
    ssd.folder = scratch.path().to_owned();
    Ok(Some(scratch))
}

/// A lease protects what was matched until it is read; when time runs faster, that is sooner.
fn scaled_lease_ms(time_scale: Option<f64>) -> u64 {
    time_scale.map_or(LEASE_MS_MIN, |scale| ((LEASE_MS / scale) as u64).max(LEASE_MS_MIN))
}

/// The hit rate beside what is possible.
pub(crate) fn rates(summary: &Summary) -> Vec<String> {
    let Some(trace) = &summary.trace else { return Vec::new() };
    let of_ideal = if trace.ideal_lru_prefix_hit_rate > 0.0 {
        format!(" ({:.2} of it)", trace.prefix_hit_rate / trace.ideal_lru_prefix_hit_rate)
    } else {
        String::new()
    };
    let capacity =
        trace.ideal_lru_blocks.map_or_else(String::new, |blocks| format!(" of {} blocks", number(blocks)));
    let memory_alone = trace
        .ideal_lru_memory_prefix_hit_rate
        .map_or_else(String::new, |rate| format!("   ideal LRU of the memory alone {}", percent(rate)));
    vec![
        format!(
            "  prefix hit rate {}   ideal LRU{capacity} {}{of_ideal}{memory_alone}   cache without end {}",
            percent(trace.prefix_hit_rate),
            percent(trace.ideal_lru_prefix_hit_rate),
            percent(trace.infinite_prefix_hit_rate)
        ),
        format!(
            "  {} requests, {} blocks, memory {}; {} blocks gone between match and read",
            number(trace.requests),
            number(trace.blocks),
            trace.memory(),
            number(trace.misses_after_hit)
        ),
    ]
}

/// Writes what is asked for, says where, and judges.
pub(crate) fn finish(
    summary: &Summary,
    measured: &Measured,
    json: Option<&Path>,
    report: &Path,
) -> Result<(), Failed> {
    if let Some(path) = json {
        write_json(path, summary).map_err(Failed::Run)?;
    }
    let paths = write(report, summary, measured).map_err(Failed::Run)?;
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    println!("\n  report: {}", paths.join(", "));
    summary.complaint().map_or(Ok(()), |complaint| Err(Failed::Run(complaint)))
}

/// The command `limits`.
pub(crate) fn limits(arguments: &LimitsArguments) -> Result<(), Failed> {
    need_at_least_one(&[("--rounds", arguments.rounds as u64)])?;
    let wakes = match arguments.wake.as_str() {
        "spin" => vec![Wake::Spin],
        "block" => vec![Wake::Block],
        "both" => vec![Wake::Spin, Wake::Block],
        other => return Err(Failed::Usage(format!("--wake {other}: use spin, block or both"))),
    };
    let (slice, transport) = match arguments.ssd {
        Some(_) => (SSD_SLICE, Transport::Auto),
        None => (SLICE, Transport::Tcp),
    };
    let plan = LimitsPlan {
        rounds: arguments.rounds,
        slice: arguments.slice.unwrap_or(slice),
        wakes,
        pin: arguments.pin,
        checksums: !arguments.no_checksums,
        transport: arguments.transport.unwrap_or(transport),
        parts: arguments.part.clone(),
        ssd: arguments.ssd.clone(),
    };
    let has_parts = plan.ssd.is_some() || plan.transport == Transport::SharedMemory;
    if plan.parts.iter().any(|part| !has_parts || part.is_of_ssd() != plan.ssd.is_some()) {
        let words = "--part: copies, views, batches and cores are for --transport shm, reads, demotion, latency and mount \
                     for --ssd";
        return Err(Failed::Usage(words.to_owned()));
    }
    let report = measure_limits(&plan).map_err(Failed::Run)?;
    report.lines().iter().for_each(|line| println!("{line}"));
    arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &report)).map_err(Failed::Run)
}

/// The latencies of a summary, printed.
pub(crate) fn print_latencies(summary: &Summary) {
    latencies(summary).iter().for_each(|line| println!("{line}"));
}

/// Refuses a cluster that this machine cannot hold, before it is killed for memory.
fn check_memory(plan: &ClusterPlan) -> Result<(), Failed> {
    let needed = plan.memory_bytes_per_engine.saturating_mul(plan.engines as u64);
    match available_bytes() {
        Some(available) if needed > available / 10 * 9 => Err(Failed::Usage(format!(
            "the engines need {} of memory and {} are available: take less --memory, a smaller block or value size, \
             or fewer requests (--limit)",
            ByteSize(needed),
            ByteSize(available)
        ))),
        _ => Ok(()),
    }
}

fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * KIB)
}

fn need_at_least_one(settings: &[(&str, u64)]) -> Result<(), Failed> {
    match settings.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(Failed::Usage(format!("{name} must be at least 1"))),
        None => Ok(()),
    }
}

fn settings<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn look_failed(failure: Failure) -> Failed {
    Failed::Run(failure.sentence)
}

fn run_failed(error: impl std::fmt::Display) -> Failed {
    Failed::Run(error.to_string())
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
