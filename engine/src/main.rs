//! `snowskin-engine`: holds data in memory and serves it, one pinned core beside another.

use snowskin_engine::cli::{EngineArgs, Verb, version_line};
use snowskin_engine::config::Config;
use snowskin_engine::embedded::EmbeddedEngine;
use snowskin_engine::launch::Stop;
use snowskin_engine::{check, panics};
use std::error::Error;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let args: EngineArgs = argh::from_env();
    if args.version {
        println!("{}", version_line());
        return ExitCode::SUCCESS;
    }
    let done = match args.verb {
        Some(Verb::Check) => return check(&args),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("snowskin-engine: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(args: &EngineArgs) -> ExitCode {
    let config = match Config::read(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("snowskin-engine: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (report, can_start) = check::report(&config);
    print!("{report}");
    if can_start { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(args: &EngineArgs) -> Result<(), Box<dyn Error>> {
    let config = Config::load(args)?;
    env_logger::Builder::new().filter_level(config.log.value).init();
    panics::abort_everywhere();
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    log::info!("{}", config.cpu_plan.to_string().trim_end().replace('\n', "; "));
    let stop = Stop::default();
    stop_at_signals(&stop)?;
    let engine = EmbeddedEngine::start_with(&config, stop.clone())?;
    if !stop.is_stopped() {
        let listed: Vec<String> = engine.cores().iter().map(ToString::to_string).collect();
        println!("snowskin-engine is ready: cores on {}, master on {}", listed.join(", "), engine.master());
        if let Some(http) = engine.master_http() {
            log::info!("look at the cluster on http://{http}");
        }
    }
    Ok(engine.wait()?)
}

/// A thread that waits for SIGTERM or SIGINT. The second signal ends the process at once.
fn stop_at_signals(stop: &Stop) -> std::io::Result<()> {
    let stop = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = async move {
        loop {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if stop.is_stopped() {
                std::process::exit(1);
            }
            log::info!("leaving: giving slots away, then ending");
            stop.stop();
        }
    };
    std::thread::Builder::new().name("snowskin-signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}
