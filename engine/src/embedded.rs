//! An engine within any process: that of `snowskin-engine`, or somebody else's that links this library.
//!
//! ```text
//!   EmbeddedEngine ── Engine: a pinned thread for each core
//!                  └─ a master on a thread of its own, if the configuration names none
//! ```
//!
//! Promises: whoever has an [`EmbeddedEngine`] has one that serves. When it has ended, by [`EmbeddedEngine::stop`] or
//! because it was dropped, its slots are given away to those who took them in time, its threads are gone, and memory, sockets and locks are
//! given back. If its master ends with it, engines that stay have been told first that it is gone, unless they do not listen for two seconds. A panic on one of its threads ends the process, one on any other thread is none of its business ([`crate::panics`]).
//! Nothing here touches signals, logging or the process's exit: these are the host's.
//!
//! The master is spoken to like any other one. This file is the only place of the engine that knows the master crate
//! (`docs/notes/2026-11-21-embedded-master.md`).

use crate::config::Config;
use crate::launch::{Engine, LaunchError, Stop};
use crate::panics;
use crate::patience::patiently_blocking;
use snowskin_master::ledger::LedgerError;
use snowskin_master::{Addresses, MasterConfig, MasterError, run_blocking};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

/// Why there is no engine in this process, or why it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Its master's ledger is in the folder of an SSD tier, and that one is taken.
    #[error("--ssd: {} is used by another engine: give each one a folder of its own", .0.display())]
    FolderInUse(PathBuf),
    /// Its master does not start, or did not end well.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// A core does not start, or did not end well.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// An engine that runs in this process, with its master if it was given none. Dropped, it ends as by [`EmbeddedEngine::stop`].
pub struct EmbeddedEngine {
    cores: Vec<SocketAddr>,
    master_address: SocketAddr,
    stop: Stop,
    // In the order in which they end: cores say farewell to their master.
    engine: Engine,
    master: Option<EmbeddedMaster>,
}

impl EmbeddedEngine {
    /// Starts it, and waits until all its cores have joined. That takes as long as getting the memory does, and for ever while the master that
    /// the configuration names does not answer; [`EmbeddedEngine::start_with`] can be ended.
    pub fn start(config: &Config) -> Result<Self, EmbeddedError> {
        EmbeddedEngine::start_with(config, Stop::default())
    }

    /// The same with a switch of the caller's. Used while this waits, it ends the wait: the engine that is then answered has begun to leave,
    /// and may have none of its cores.
    pub fn start_with(config: &Config, stop: Stop) -> Result<Self, EmbeddedError> {
        panics::abort_where_engines_run();
        let master = match config.master.value {
            Some(_) => None,
            None => Some(EmbeddedMaster::start(config)?),
        };
        let master_address = master.as_ref().map(|master| master.addresses.frames).or(config.master.value);
        let master_address = master_address.expect("embedded or given");
        let (memory, cores, pages) = (config.memory.value, config.cores.value, config.huge_pages.value);
        log::info!("getting {memory} of memory for {cores} cores (huge pages: {pages})");
        let mut engine = Engine::start(config, master_address, stop.clone())?;
        let cores = engine.wait_until_joined()?;
        Ok(EmbeddedEngine { cores, master_address, stop, engine, master })
    }

    /// Where its cores listen, in their order.
    pub fn cores(&self) -> &[SocketAddr] {
        &self.cores
    }

    /// Where the master answers, its own or the one that it was given: what clients and other engines are told.
    pub fn master(&self) -> SocketAddr {
        self.master_address
    }

    /// Where its own master serves HTTP; `None` if it was given a master.
    pub fn master_http(&self) -> Option<SocketAddr> {
        self.master.as_ref()?.addresses.http
    }

    /// Ends it: slots are given to other engines of the cluster as far as they take them within some seconds, then its threads end.
    pub fn stop(self) -> Result<(), EmbeddedError> {
        self.stop.stop();
        self.wait()
    }

    /// Waits until somebody else has used the switch that it was started with, and it has ended.
    pub fn wait(self) -> Result<(), EmbeddedError> {
        let EmbeddedEngine { engine, master, .. } = self;
        let ended = engine.join();
        master.map_or(Ok(()), EmbeddedMaster::stop)?;
        Ok(ended?)
    }
}

/// A master on a thread of this process. Dropped, it ends.
struct EmbeddedMaster {
    /// Taken at the end.
    thread: Option<JoinHandle<Result<(), MasterError>>>,
    stop: snowskin_master::Stop,
    /// Where it answers.
    addresses: Addresses,
}

impl EmbeddedMaster {
    /// Starts it, and waits until it answers.
    fn start(config: &Config) -> Result<Self, EmbeddedError> {
        let is_in_use = |error: &MasterError| matches!(error, MasterError::Ledger(LedgerError::InUse(_)));
        match patiently_blocking(|| EmbeddedMaster::try_start(config), is_in_use) {
            Err(MasterError::Ledger(LedgerError::InUse(ledger))) => {
                Err(EmbeddedError::FolderInUse(ledger.parent().map_or(ledger.clone(), Into::into)))
            }
            started => Ok(started?),
        }
    }

    fn try_start(config: &Config) -> Result<Self, MasterError> {
        let master_config = MasterConfig {
            ledger: config.own_ledger(),
            http: Some(config.master_http.value),
            settings: config.cluster_settings().into(),
            ..MasterConfig::embedded()
        };
        let stop = master_config.stop.clone();
        let (sender, ready) = channel();
        let tell = move |addresses| sender.send(addresses).expect("the starter waits for this");
        let run = move || {
            panics::this_thread_is_an_engines();
            run_blocking(master_config, tell)
        };
        let thread = std::thread::Builder::new().name("snowskin-master".to_owned()).spawn(run)?;
        match ready.recv() {
            Ok(addresses) => Ok(EmbeddedMaster { thread: Some(thread), stop, addresses }),
            Err(_) => Err(ended(thread)),
        }
    }

    /// Ends it.
    fn stop(mut self) -> Result<(), MasterError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), MasterError> {
        self.stop.stop();
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or(Err(MasterError::Panicked)))
    }
}

impl Drop for EmbeddedMaster {
    fn drop(&mut self) {
        // If it did not end well, the log says so.
        let _ = self.end();
    }
}

fn ended(thread: JoinHandle<Result<(), MasterError>>) -> MasterError {
    match thread.join() {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => MasterError::Panicked,
    }
}
