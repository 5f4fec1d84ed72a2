//! `snowskin-engine`: holds data in memory and serves it, one pinned core beside another.

mod embedded;

use embedded::EmbeddedMaster;
use snowskin_engine::check;
use snowskin_engine::cli::{EngineArgs, Verb, version_line};
use snowskin_engine::config::Config;
use snowskin_engine::launch::{Engine, Stop};
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
    abort_on_panic();
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    log::info!("{}", config.cpu_plan.to_string().trim_end().replace('\n', "; "));
    let stop = Stop::default();
    stop_at_signals(&stop)?;
    let embedded = match config.master.value {
        Some(_) => None,
        None => Some(EmbeddedMaster::start(&config)?),
    };
    let master = embedded.as_ref().map(EmbeddedMaster::frames).or(config.master.value);
    let master = master.expect("embedded or given");
    let (memory, cores, pages) = (config.memory.value, config.cores.value, config.huge_pages.value);
    log::info!("getting {memory} of memory for {cores} cores (huge pages: {pages})");
    let engine = Engine::start(&config, master, stop.clone())?;
    let addresses = engine.wait_until_joined()?;
    if !stop.is_stopped() {
        let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        println!("snowskin-engine is ready: cores on {}, master on {master}", listed.join(", "));
        if let Some(http) = embedded.as_ref().and_then(|embedded| embedded.addresses.http) {
            log::info!("look at the cluster on http://{http}");
        }
    }
    engine.join()?;
    embedded.map_or(Ok(()), EmbeddedMaster::stop)?;
    Ok(())
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

/// A core that has lost its invariants must not go on serving, and a panic on one thread would leave a hole in the
/// cluster that looks alive.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}
