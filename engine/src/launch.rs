//! A pinned thread per core, from the first line of the log to the last slot given away.
//!
//! The threads share nothing but what is in [`Watch`]: a flag that says stop, a channel on which each core says
//! how far it is, and the number of those that listen.

use crate::config::Config;
use crate::control::{self, CoreConfig, CoreError, Supervisor};
use crate::panics;
use crate::tiering::SsdConfig;
use crate::tiering::devices::{PlaceError, SsdPlaces};
#[cfg(all(test, snowskin_loom))]
use loom::sync::Arc;
#[cfg(all(test, snowskin_loom))]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use snowskin_io::memory::Mapping;
use snowskin_io::uring::{self, CoreThread, UringPlatform};
use snowskin_protocol::units::{GIB, MIB};
use snowskin_protocol::{ByteSize, CoreId, EngineId, Incarnation};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::Arc;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Lines about memory that is being filled are at least this far apart.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Who drops an engine waits so long for its cores: more than they take to leave.
const END_TIME: Duration = Duration::from_secs(10);
/// From here on a line says when all of it is there, however fast that was.
const MEMORY_BYTES_LARGE: usize = 4 << 30;

/// Why an engine could not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A thread or its ring could not be made.
    #[error("core {core} cannot be started on processor {cpu}: {source}; see `snowskin-engine check`")]
    Thread {
        /// Which core.
        core: u16,
        /// Where it was to run.
        cpu: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no place for the SSD tier.
    #[error(transparent)]
    Ssd(#[from] PlaceError),
    /// A core could not be set up.
    #[error("core {core}: {source}")]
    Core {
        /// Which core.
        core: u16,
        /// Why.
        source: CoreError,
    },
    /// A core's thread ended although nobody told it to.
    #[error("a core ended unexpectedly")]
    Ended,
}

/// Tells an engine to stop. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on the engine leaves and ends.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum News {
    Listening(u16, SocketAddr),
    Joined,
    Failed(u16, CoreError),
    /// The core's task is over, for whatever reason: its last word.
    Ended(u16),
}

/// What a core's thread has of the outside.
struct Watch {
    core: u16,
    news: Sender<News>,
    stop: Stop,
    /// How many cores listen, and how many there are. It carries nothing but itself.
    listening: Arc<AtomicUsize>,
    cores: usize,
}

impl Supervisor for Watch {
    fn listening(&self, address: SocketAddr) {
        // Nobody listens any more only when the process is ending.
        let _ = self.news.send(News::Listening(self.core, address));
        self.listening.fetch_add(1, Ordering::Relaxed);
    }

    fn do_all_listen(&self) -> bool {
        self.listening.load(Ordering::Relaxed) == self.cores
    }

    fn joined(&self) {
        let _ = self.news.send(News::Joined);
    }

    fn should_stop(&self) -> bool {
        self.stop.is_stopped()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // As above.
        let _ = self.news.send(News::Ended(self.core));
    }
}

/// A core's thread, and the processor that it is pinned to.
struct PinnedCore {
    cpu: usize,
    thread: CoreThread,
}

/// A running engine. Dropped, it is told to stop, and waited for [`END_TIME`] at most.
pub struct Engine {
    /// By core.
    threads: Vec<Option<PinnedCore>>,
    news: Receiver<News>,
    stop: Stop,
    /// Keeps devices of the SSD tier for this engine.
    ssd: SsdPlaces,
}

impl Engine {
    /// Starts all cores. They set themselves up and register with the master meanwhile.
    pub fn start(config: &Config, master: SocketAddr, stop: Stop) -> Result<Engine, LaunchError> {
        let ssd = config.ssd_plan().map_or_else(|| Ok(SsdPlaces::default()), |plan| plan.prepare())?;
        let (sender, news) = channel();
        let engine = EngineId::of_name(&config.name.value);
        let incarnation = Incarnation(RandomState::new().hash_one(std::process::id()).max(1));
        let (listening, cores) = (Arc::new(AtomicUsize::new(0)), config.cpu_plan.cores.len());
        let mut starting = Engine { threads: Vec::new(), news, stop: stop.clone(), ssd };
        let mut watches = Vec::new();
        for core in config.cpu_plan.cores.iter().map(|placement| placement.core) {
            let (news, stop, listening) = (sender.clone(), stop.clone(), listening.clone());
            watches.push(Watch { core, news, stop, listening, cores });
        }
        // If one cannot be started, the others are waited for, and they are over when nobody has a sender any more.
        drop(sender);
        for (placement, watch) in config.cpu_plan.cores.iter().zip(watches) {
            let (core, cpu) = (placement.core, placement.cpu);
            let ssd = starting.ssd.configs.get(usize::from(core)).cloned();
            let identity = (CoreId { engine, core }, incarnation);
            let core_config = core_config(config, identity, master, ssd);
            let run = async move |platform| run_core(platform, core_config, watch).await;
            let thread = uring::spawn_core(&format!("snowskin-{core}"), cpu, config.spin(), run)
                .map_err(|source| LaunchError::Thread { core, cpu, source })?;
            starting.threads.push(Some(PinnedCore { cpu, thread }));
        }
        Ok(starting)
    }

    /// Waits until all cores are in the table, or the engine is told to stop. Answers where they listen, in the order of
    /// the cores.
    pub fn wait_until_joined(&mut self) -> Result<Vec<SocketAddr>, LaunchError> {
        let mut addresses = BTreeMap::new();
        let mut joined = 0;
        while joined < self.threads.len() {
            match self.news.recv() {
                Ok(News::Listening(core, address)) => drop(addresses.insert(core, address)),
                Ok(News::Joined) => joined += 1,
                Ok(News::Failed(core, source)) if !self.stop.is_stopped() => {
                    self.stop.stop();
                    return Err(LaunchError::Core { core, source });
                }
                Ok(News::Ended(core)) if !self.stop.is_stopped() => return Err(self.why_ended(core)),
                // A core that was told to stop while it got its memory has none.
                Ok(News::Failed(..) | News::Ended(_)) | Err(_) => break,
            }
        }
        Ok(addresses.into_values().collect())
    }

    /// Why a core is over that nobody told to end.
    fn why_ended(&mut self, core: u16) -> LaunchError {
        self.stop.stop();
        let Some(ended) = self.threads[usize::from(core)].take() else { return LaunchError::Ended };
        match ended.thread.join() {
            Err(source) => LaunchError::Thread { core, cpu: ended.cpu, source },
            Ok(()) => LaunchError::Ended,
        }
    }

    /// Waits until all cores have ended: after [`Stop::stop`], when their slots are given away.
    pub fn join(mut self) -> Result<(), LaunchError> {
        let mut is_well = true;
        for ended in self.threads.iter_mut().filter_map(Option::take) {
            if ended.thread.join().is_err() {
                is_well = false;
                self.stop.stop();
            }
        }
        if is_well && self.stop.is_stopped() { Ok(()) } else { Err(LaunchError::Ended) }
    }

    /// Whether all cores have ended within this time.
    fn end_within(&mut self, time: Duration) -> bool {
        self.stop.stop();
        let deadline = Instant::now() + time;
        loop {
            match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.threads.iter_mut().filter_map(Option::take).for_each(|ended| drop(ended.thread.join()));
        true
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.end_within(END_TIME) {
            log::error!("a core does not end: it is left alone, with its memory and its part of the SSD");
            // Nobody else may open what it still writes to.
            std::mem::forget(std::mem::take(&mut self.ssd));
        }
    }
}

/// What a core is started with.
fn core_config(
    config: &Config,
    (id, incarnation): (CoreId, Incarnation),
    master: SocketAddr,
    ssd: Option<SsdConfig>,
) -> CoreConfig {
    let core = id.core;
    let advertise = config.advertise.value.map(|advertise| {
        let port = advertise.port.filter(|port| *port != 0).map_or(0, |first| first + core);
        SocketAddr::new(advertise.ip, port)
    });
    CoreConfig {
        id,
        incarnation,
        engine_cores: config.cores.value,
        listen: config.listen_address(core),
        local: config.local_sockets(),
        advertise,
        master,
        memory: config.mapping_request(core),
        ssd,
        policy: config.eviction_policy.value,
        connections_max: u64::from(config.connections_max.value),
        settings: config.cluster_settings(),
    }
}

/// All of a core's life, on its thread.
async fn run_core(platform: UringPlatform, config: CoreConfig, watch: Watch) {
    panics::this_thread_is_an_engines();
    let core = watch.core;
    let mut memory = MemoryProgress::of(format!("core {core}"));
    let mut progress = |done, total| {
        memory.tell(done, total);
        if watch.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match control::open(&platform, &config, &mut progress).await {
        Ok((opened, doors)) => {
            for (segment, _) in opened.shard.borrow().segments().iter() {
                log::info!("{}", memory_line(core, segment.mapping()));
            }
            control::run(opened, doors, config.master, watch).await;
        }
        Err(error) => drop(watch.news.send(News::Failed(core, error))),
    }
}

/// Tells the log how far a core's memory is filled: at most once a second, and at the end if it is large or took long.
#[derive(Clone, Debug)]
pub struct MemoryProgress {
    whose: String,
    started: Instant,
    /// When the last line was written; at first, when it began.
    told: Instant,
}

impl MemoryProgress {
    /// For memory that is about to be filled; `whose` is how its lines begin: `core 0`.
    pub fn of(whose: impl Into<String>) -> Self {
        let now = Instant::now();
        MemoryProgress { whose: whose.into(), started: now, told: now }
    }

    /// To be called with the bytes that are filled, and all of them, as [`Mapping::create`] does.
    pub fn tell(&mut self, done: usize, total: usize) {
        if let Some(line) = self.line(Instant::now(), done, total) {
            log::info!("{line}");
        }
    }

    fn line(&mut self, now: Instant, done: usize, total: usize) -> Option<String> {
        let is_last = done >= total && (total >= MEMORY_BYTES_LARGE || self.told > self.started);
        if !is_last && now.duration_since(self.told) < PROGRESS_PAUSE {
            return None;
        }
        self.told = now;
        let (unit, name) = if total as u64 >= GIB { (GIB, "GiB") } else { (MIB, "MiB") };
        let [done, total, gib] =
            [(done, unit), (total, unit), (done, GIB)].map(|(n, unit)| n as f64 / unit as f64);
        let seconds = now.duration_since(self.started).as_secs_f64().max(1e-3);
        let left = (total - done) / (done / seconds).max(1e-9);
        let left = if done < total { format!(", {} s left", left.ceil()) } else { String::new() };
        let (whose, rate) = (&self.whose, gib / seconds);
        Some(format!("{whose}: {done:.1} of {total:.1} {name} of memory ready ({rate:.1} GiB/s{left})"))
    }
}

/// The line that says what a core's memory is.
fn memory_line(core: u16, mapping: &Mapping) -> String {
    format!("core {core}: {} of memory in {}", ByteSize(mapping.bytes() as u64), mapping.pages())
}

#[cfg(test)]
#[cfg(not(snowskin_loom))]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_once_a_second_and_at_the_end() {
        let gib = 1 << 30;
        let mut progress = MemoryProgress::of("core 3");
        let start = progress.started;
        let mut at = |millis, done, total| progress.line(start + Duration::from_millis(millis), done, total);
        assert_eq!(at(900, 3 * gib, 64 * gib), None);
        let line = at(4000, 12 * gib, 64 * gib).expect("a second is over");
        assert_eq!(line, "core 3: 12.0 of 64.0 GiB of memory ready (3.0 GiB/s, 18 s left)");
        assert_eq!(at(4900, 15 * gib, 64 * gib), None);
        let line = at(4950, 64 * gib, 64 * gib).expect("the end");
        assert_eq!(line, "core 3: 64.0 of 64.0 GiB of memory ready (12.9 GiB/s)");
    }

    #[test]
    fn little_memory_is_not_worth_a_line() {
        let mut progress = MemoryProgress::of("core 0");
        let start = progress.started;
        assert_eq!(progress.line(start + Duration::from_millis(400), 256 << 20, 256 << 20), None);
        let slow = progress.line(start + Duration::from_secs(2), 64 << 20, 256 << 20).expect("a line");
        assert_eq!(slow, "core 0: 64.0 of 256.0 MiB of memory ready (0.0 GiB/s, 6 s left)");
        assert!(progress.line(start + Duration::from_secs(2), 256 << 20, 256 << 20).is_some());
    }

    /// An engine whose cores do nothing but this, and one more sender that keeps their news open.
    fn engine_of(cores: Vec<fn()>) -> (Engine, Sender<News>) {
        let (sender, news) = channel();
        let stop = Stop::default();
        let count = cores.len();
        let mut threads = Vec::new();
        for (core, main) in (0..).zip(cores) {
            let (news, stop, listening) = (sender.clone(), stop.clone(), Arc::default());
            let watch = Watch { core, news, stop, listening, cores: count };
            let run = async move |_| {
                let _watch = watch;
                main();
            };
            let thread = uring::spawn_core("launched", 0, Duration::ZERO, run).expect("a thread");
            threads.push(Some(PinnedCore { cpu: 0, thread }));
        }
        (Engine { threads, news, stop, ssd: SsdPlaces::default() }, sender)
    }

    #[test]
    fn a_core_that_ends_by_itself_ends_the_wait_and_is_told_of() {
        let (mut engine, _sender) = engine_of(vec![|| panic!("on purpose")]);
        let error = engine.wait_until_joined().expect_err("it has ended").to_string();
        assert!(error.starts_with("core 0 cannot be started on processor 0"), "{error}");
        assert!(engine.stop.is_stopped());
        let (mut engine, _sender) = engine_of(vec![|| {}]);
        assert!(matches!(engine.wait_until_joined(), Err(LaunchError::Ended)));
        // Told to stop, it is not astonishing.
        let (mut engine, sender) = engine_of(vec![|| {}]);
        engine.stop.stop();
        assert_eq!(engine.wait_until_joined().expect("no error"), []);
        drop(sender);
        assert_eq!(engine.wait_until_joined().expect("no error"), []);
        assert!(engine.join().is_ok());
    }

    #[test]
    fn a_join_says_whether_all_ended_as_they_were_told() {
        let (engine, sender) = engine_of(vec![|| panic!("on purpose"), || {}]);
        drop(sender);
        let stop = engine.stop.clone();
        assert!(matches!(engine.join(), Err(LaunchError::Ended)));
        assert!(stop.is_stopped(), "so that the others end, too");
        let (engine, sender) = engine_of(vec![|| {}]);
        drop(sender);
        assert!(matches!(engine.join(), Err(LaunchError::Ended)), "nobody told it to");
    }

    #[test]
    fn a_core_that_does_not_end_is_left_alone_after_a_while() {
        let (mut engine, sender) = engine_of(vec![|| {}]);
        assert!(!engine.end_within(Duration::from_millis(20)), "somebody has still to say something");
        assert!(engine.stop.is_stopped() && engine.threads[0].is_some());
        drop(sender);
        assert!(engine.end_within(END_TIME));
        assert!(engine.threads[0].is_none());
    }

    #[test]
    fn the_line_says_what_the_memory_is() {
        let mapping = Mapping::plain(1 << 20).expect("memory");
        assert_eq!(memory_line(2, &mapping), "core 2: 1 MiB of memory in plain pages");
    }
}

#[cfg(all(test, snowskin_loom))]
#[path = "launch_loom.rs"]
mod loom_tests;
