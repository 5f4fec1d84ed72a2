//! The master within the engine's process, for an engine that was given none.
//!
//! It runs on a thread of its own with ordinary sockets and is spoken to like any other master. This file and
//! `main.rs` are the only places of the engine that know the master crate (`docs/notes/2026-11-21-embedded-master.md`).

use snowskin_engine::config::Config;
use snowskin_engine::patience::patiently_blocking;
use snowskin_master::ledger::LedgerError;
use snowskin_master::{Addresses, MasterConfig, MasterError, Stop, run_blocking};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

/// Why there is no master in this process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    /// Its ledger is in the folder of an SSD tier, and that one is taken.
    #[error("--ssd: {} is used by another engine: give each one a folder of its own", .0.display())]
    FolderInUse(PathBuf),
    /// It does not start.
    #[error(transparent)]
    Master(#[from] MasterError),
}

/// A master on a thread of this process.
pub(crate) struct EmbeddedMaster {
    thread: JoinHandle<Result<(), MasterError>>,
    stop: Stop,
    /// Where it answers.
    pub(crate) addresses: Addresses,
}

impl EmbeddedMaster {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(config: &Config) -> Result<Self, EmbeddedError> {
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
        let run = move || run_blocking(master_config, tell);
        let thread = std::thread::Builder::new().name("snowskin-master".to_owned()).spawn(run)?;
        match ready.recv() {
            Ok(addresses) => Ok(EmbeddedMaster { thread, stop, addresses }),
            Err(_) => Err(ended(thread)),
        }
    }

    /// Where cores reach it.
    pub(crate) fn frames(&self) -> SocketAddr {
        self.addresses.frames
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<(), MasterError> {
        self.stop.stop();
        self.thread.join().unwrap_or(Err(MasterError::Panicked))
    }
}

fn ended(thread: JoinHandle<Result<(), MasterError>>) -> MasterError {
    match thread.join() {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => MasterError::Panicked,
    }
}
