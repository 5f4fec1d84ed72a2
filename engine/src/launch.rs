//! The whole process: a pinned thread per core, from the first line of the log to the last slot given away.
//!
//! The threads share nothing but what is in [`Watch`]: a flag that says stop, and a channel on which each core says
//! how far it is.

use crate::config::Config;
use crate::control::{self, CoreConfig, CoreError, Supervisor};
#[cfg(all(test, snowskin_loom))]
use loom::sync::Arc;
#[cfg(all(test, snowskin_loom))]
use loom::sync::atomic::{AtomicBool, Ordering};
use snowskin_io::uring::{self, CoreThread};
use snowskin_protocol::{CoreId, EngineId, Incarnation};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::Arc;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

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
}

impl Supervisor for Watch {
    fn listening(&self, address: SocketAddr) {
        // Nobody listens any more only when the process is ending.
        let _ = self.news.send(News::Listening(self.core, address));
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
}

impl Engine {
    /// Starts all cores. They set themselves up and register with the master meanwhile.
    pub fn start(config: &Config, master: SocketAddr, stop: Stop) -> Result<Engine, LaunchError> {
        let (sender, news) = channel();
        let engine = EngineId::of_name(&config.name.value);
        let incarnation = Incarnation(RandomState::new().hash_one(std::process::id()).max(1));
        let mut threads = Vec::new();
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
                advertise,
                master,
                memory_bytes: config.memory_plan.segment_bytes as usize,
                prefault: true,
                connections_max: u64::from(config.connections_max.value),
                settings: config.cluster_settings(),
            };
            let watch = Watch { core, news: sender.clone(), stop: stop.clone() };
            let name = format!("snowskin-{core}");
            let thread = uring::spawn_core(&name, placement.cpu, config.spin(), async move |platform| {
                match control::open(&platform, &core_config).await {
                    Ok((core, listener)) => control::run(core, listener, core_config.master, watch).await,
                    Err(error) => drop(watch.news.send(News::Failed(watch.core, error))),
                }
            });
            let cpu = placement.cpu;
            threads.push(thread.map_err(|source| LaunchError::Thread { core, cpu, source })?);
        }
        Ok(Engine { threads, news, stop })
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

#[cfg(all(test, snowskin_loom))]
#[path = "launch_loom.rs"]
mod loom_tests;
