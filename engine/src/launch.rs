//! The whole process: a pinned thread per core, from the first line of the log to the last slot given away.
//!
//! The threads share nothing but what is in [`Watch`]: a flag that says stop, a channel on which each core says
//! how far it is, and the number of those that listen.

use crate::config::Config;
use crate::control::{self, CoreConfig, CoreError, Supervisor};
use crate::tiering::devices::{PlaceError, SsdPlaces};
#[cfg(all(test, snowskin_loom))]
use loom::sync::Arc;
#[cfg(all(test, snowskin_loom))]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use snowskin_io::memory::Mapping;
use snowskin_io::uring::{self, CoreThread};
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
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Lines about memory that is being filled are at least this far apart.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
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

/// A running engine.
pub struct Engine {
    threads: Vec<CoreThread>,
    news: Receiver<News>,
    stop: Stop,
    /// Keeps devices of the SSD tier for this engine.
    _ssd: SsdPlaces,
}

impl Engine {
    /// Starts all cores. They set themselves up and register with the master meanwhile.
    pub fn start(config: &Config, master: SocketAddr, stop: Stop) -> Result<Engine, LaunchError> {
        let ssd = config.ssd_plan().map_or_else(|| Ok(SsdPlaces::default()), |plan| plan.prepare())?;
        let (sender, news) = channel();
        let engine = EngineId::of_name(&config.name.value);
        let incarnation = Incarnation(RandomState::new().hash_one(std::process::id()).max(1));
        let mut threads = Vec::new();
        let (listening, cores) = (Arc::new(AtomicUsize::new(0)), config.cpu_plan.cores.len());
        for placement in &config.cpu_plan.cores {
            let core = placement.core;
            let advertise = config.advertise.value.map(|advertise| {
                let port = advertise.port.filter(|port| *port != 0).map_or(0, |first| first + core);
                SocketAddr::new(advertise.ip, port)
            });
            let core_config = CoreConfig {
                id: CoreId { engine, core },
                incarnation,
                engine_cores: config.cores.value,
                listen: config.listen_address(core),
                local: config.local_sockets(),
                advertise,
                master,
                memory: config.mapping_request(core),
                ssd: ssd.configs.get(usize::from(core)).cloned(),
                policy: config.eviction_policy.value,
                connections_max: u64::from(config.connections_max.value),
                settings: config.cluster_settings(),
            };
            let (news, stop, listening) = (sender.clone(), stop.clone(), listening.clone());
            let watch = Watch { core, news, stop, listening, cores };
            let name = format!("snowskin-{core}");
            let thread = uring::spawn_core(&name, placement.cpu, config.spin(), async move |platform| {
                let mut memory = MemoryProgress::of(format!("core {core}"));
                let mut progress = |done, total| {
                    memory.tell(done, total);
                    if watch.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                match control::open(&platform, &core_config, &mut progress).await {
                    Ok((opened, doors)) => {
                        for (segment, _) in opened.shard.borrow().segments().iter() {
                            log::info!("{}", memory_line(core, segment.mapping()));
                        }
                        control::run(opened, doors, core_config.master, watch).await;
                    }
                    Err(error) => drop(watch.news.send(News::Failed(watch.core, error))),
                }
            });
            let cpu = placement.cpu;
            threads.push(thread.map_err(|source| LaunchError::Thread { core, cpu, source })?);
        }
        Ok(Engine { threads, news, stop, _ssd: ssd })
    }

    /// Waits until all cores are in the table, or the engine is told to stop. Answers where they listen, in the order of
    /// the cores.
    pub fn wait_until_joined(&self) -> Result<Vec<SocketAddr>, LaunchError> {
        let mut addresses = BTreeMap::new();
        let mut joined = 0;
        while joined < self.threads.len() {
            match self.news.recv() {
                Ok(News::Listening(core, address)) => drop(addresses.insert(core, address)),
                Ok(News::Joined) => joined += 1,
                // A core that was told to stop while it got its memory has none.
                Ok(News::Failed(..)) if self.stop.is_stopped() => break,
                Ok(News::Failed(core, source)) => {
                    self.stop.stop();
                    return Err(LaunchError::Core { core, source });
                }
                Err(_) if self.stop.is_stopped() => break,
                Err(_) => return Err(LaunchError::Ended),
            }
        }
        Ok(addresses.into_values().collect())
    }

    /// Waits until all cores have ended: after [`Stop::stop`], when their slots are given away.
    pub fn join(self) -> Result<(), LaunchError> {
        for thread in self.threads {
            thread.join().map_err(|_| LaunchError::Ended)?;
        }
        if self.stop.is_stopped() { Ok(()) } else { Err(LaunchError::Ended) }
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

    #[test]
    fn the_line_says_what_the_memory_is() {
        let mapping = Mapping::plain(1 << 20).expect("memory");
        assert_eq!(memory_line(2, &mapping), "core 2: 1 MiB of memory in plain pages");
    }
}

#[cfg(all(test, snowskin_loom))]
#[path = "launch_loom.rs"]
mod loom_tests;
