//! A master on the calling thread: ordinary sockets, admin HTTP, until it is told to stop.

use crate::config::MasterConfig;
use crate::http;
use crate::master::MasterError;
use crate::server::{see_off, start};
use snowskin_io::sockets::{SocketsPlatform, SocketsRuntime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Where a running master answers, with the real ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Frames.
    pub frames: SocketAddr,
    /// Admin HTTP, if it was asked for.
    pub http: Option<SocketAddr>,
}

/// Ends a master that runs on another thread. Clones are the same switch; it cannot be switched back.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// A switch that has not been used.
    pub fn new() -> Self {
        Stop(Arc::new(watch::Sender::new(false)))
    }

    /// Ends the master, now or as soon as it starts. One that is embedded first tells those who stay who has gone.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    async fn stopped(&self) {
        // The sender lives as long as this does, so the wait ends with `true` alone.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop::new()
    }
}

/// Runs a master on this thread until [`MasterConfig::stop`] is used, or a signal comes if the configuration says so.
/// `ready` is called once, when it answers. Panics inside a tokio runtime, as every blocking call would have to.
pub fn run_blocking(
    config: MasterConfig,
    ready: impl FnOnce(Addresses) + Send + 'static,
) -> Result<(), MasterError> {
    let runtime = SocketsRuntime::new(Duration::ZERO)?;
    runtime.run(move |platform| run(platform, config, ready)).ok_or(MasterError::Panicked)?
}

async fn run(
    platform: SocketsPlatform,
    config: MasterConfig,
    ready: impl FnOnce(Addresses),
) -> Result<(), MasterError> {
    let (stop, stops_at_signals, http) = (config.stop.clone(), config.stops_at_signals, config.http);
    let is_embedded = config.is_embedded;
    // Before anybody is told that we are ready: a signal right afterwards must find its handler.
    let signals = if stops_at_signals { Some(Signals::install()?) } else { None };
    let handle = start(&platform, config).await?;
    let http = match http {
        Some(address) => Some(http::start(&platform, address, handle.master.clone()).await?),
        None => None,
    };
    ready(Addresses { frames: handle.address, http });
    tokio::select! {
        () = stop.stopped() => {}
        () = Signals::received(signals) => {}
    }
    if is_embedded {
        see_off(&platform, &handle.master).await;
    }
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, MasterError> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(signals: Option<Signals>) {
        let Some(mut signals) = signals else { return std::future::pending().await };
        tokio::select! {
            _ = signals.terminate.recv() => log::info!("SIGTERM: the master stops"),
            _ = signals.interrupt.recv() => log::info!("SIGINT: the master stops"),
        }
    }
}
