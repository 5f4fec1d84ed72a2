//! `snowskin-master`: the thin master as a process of its own. See `--help`, and the library's head.
//!
//! Standard output has one line, when it answers; the log goes to standard error. Ends with 0 after SIGTERM or SIGINT,
//! with 1 when it could not start.

mod cli;

use snowskin_master::{Addresses, MasterConfig, run_blocking};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli: cli::Cli = argh::from_env();
    env_logger::Builder::new().parse_filters(&cli.log).init();
    match run_blocking(MasterConfig::from(cli), announce) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("snowskin-master: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Programs that asked for port 0 read the ports from this line.
fn announce(addresses: Addresses) {
    let mut line = format!("snowskin-master is ready: frames on {}", addresses.frames);
    if let Some(http) = addresses.http {
        line += &format!(", http on http://{http}");
    }
    let mut out = std::io::stdout().lock();
    // Whoever started us may have closed our standard output; that is no reason to stop.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
