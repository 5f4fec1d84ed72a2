//! Ctrl-C and SIGTERM: the first asks the run to end early and report what it has; the second ends it at once.

use crate::process;
use crate::scratch;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether somebody has asked us to stop.
pub(crate) fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Listens for signals on a thread of its own, and makes a panic take the children along (a release build aborts
/// on a panic, so no guard would run).
pub(crate) fn install() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        process::kill_all();
        scratch::remove_all();
    }));
    let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(|| {
        if let Err(error) = listen() {
            log::warn!("signals are not handled, children may outlive a Ctrl-C: {error}");
        }
    });
    if let Err(error) = spawned {
        log::warn!("no thread for signals: {error}");
    }
}

fn listen() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if STOP.swap(true, Ordering::Relaxed) {
                process::kill_all();
                scratch::remove_all();
                std::process::exit(130);
            }
            eprintln!("\nstopping; once more to stop at once");
        }
    })
}
