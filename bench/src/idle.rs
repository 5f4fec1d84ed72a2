//! What an engine costs that has nothing to do: with clients that are connected and silent, beside one without clients.
//!
//! Both are watched during the same seconds, by the CPU time that the kernel has counted for their processes.

use crate::cli::{Failed, IdleArguments};
use crate::cluster::{Cluster, ClusterPlan};
use crate::cpu;
use crate::interrupt::stop_requested;
use crate::report::table::Table;
use crate::report::write_json;
use crate::store::{Reach, Store, connect};
use serde::Serialize;
use std::time::{Duration, Instant};

const MEMORY_BYTES: u64 = 64 << 20;
/// From the last call to the first second that counts.
const SETTLE: Duration = Duration::from_secs(1);
/// How much of a CPU an idle engine may use, in percent.
const BAR_PERCENT: f64 = 1.0;

/// All figures. `--json` writes this. In percent of one CPU.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    command: &'static str,
    transport: String,
    clients: usize,
    seconds: f64,
    spin_us: u64,
    engine_percent: f64,
    engine_without_clients_percent: f64,
    /// Of all clients together.
    clients_percent: f64,
    bar_percent: f64,
}

/// `snowskin-bench idle`.
pub(crate) fn idle(arguments: &IdleArguments) -> Result<(), Failed> {
    if arguments.clients == 0 || arguments.duration.is_zero() {
        return Err(Failed::Usage("--clients and --duration must be above 0".to_owned()));
    }
    let report = measure(arguments).map_err(Failed::Run)?;
    report.lines().iter().for_each(|line| println!("{line}"));
    arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &report)).map_err(Failed::Run)
}

fn measure(arguments: &IdleArguments) -> Result<IdleReport, String> {
    let plan = ClusterPlan {
        engines: 1,
        cores_per_engine: 1,
        memory_bytes_per_engine: MEMORY_BYTES,
        lease_ms: 50,
        spin_us: Some(arguments.spin_us),
        ssd: None,
    };
    let start = || Cluster::start(&plan).map_err(|error| error.to_string());
    let (busy, alone) = (start()?, start()?);
    let reach = Reach {
        seeds: busy.seeds(),
        spin: Duration::from_micros(arguments.spin_us),
        checksums: true,
        transport: arguments.transport,
    };
    let mut stores = Vec::new();
    for number in 0..arguments.clients {
        let store = connect(&reach).map_err(|failure| failure.sentence)?;
        greet(store.as_ref(), number)?;
        stores.push(store);
    }
    wait(SETTLE)?;
    let pids = [busy.engine_pid(0), alone.engine_pid(0), std::process::id()];
    let begun = Instant::now();
    let before = cpu_seconds(pids)?;
    wait(arguments.duration)?;
    let after = cpu_seconds(pids)?;
    let seconds = begun.elapsed().as_secs_f64();
    let [engine, without, clients] = [0, 1, 2].map(|index| 100.0 * (after[index] - before[index]) / seconds);
    Ok(IdleReport {
        command: "idle",
        transport: arguments.transport.to_string(),
        clients: arguments.clients,
        seconds,
        spin_us: arguments.spin_us,
        engine_percent: engine,
        engine_without_clients_percent: without,
        clients_percent: clients,
        bar_percent: BAR_PERCENT,
    })
}

/// One put and one get, so that the client is connected for good.
fn greet(store: &dyn Store, number: usize) -> Result<(), String> {
    let (key, value) = (format!("idle/{number}").into_bytes(), [7; 64]);
    for outcome in store.put(&[(&key, &value)], true) {
        outcome.map_err(|failure| failure.sentence)?;
    }
    let mut to = [0; 64];
    match store.get_into(&mut [(&key, &mut to)]).pop() {
        Some(Ok(Some(64))) if to == value => Ok(()),
        Some(Err(failure)) => Err(failure.sentence),
        other => Err(format!("client {number} does not get what it has put: {other:?}")),
    }
}

fn cpu_seconds<const N: usize>(pids: [u32; N]) -> Result<[f64; N], String> {
    let mut seconds = [0.0; N];
    for (seconds, pid) in seconds.iter_mut().zip(pids) {
        *seconds = cpu::seconds_of(pid).ok_or_else(|| format!("process {pid} has ended"))?;
    }
    Ok(seconds)
}

/// Sleeps, unless it is interrupted.
fn wait(time: Duration) -> Result<(), String> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if stop_requested() {
            return Err("interrupted".to_owned());
        }
        std::thread::sleep(Duration::from_millis(100).min(time - begun.elapsed().min(time)));
    }
    Ok(())
}

impl IdleReport {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "  {:.1} s, {} silent clients by {}, {} µs of polling; CPU time in percent of one core\n",
            self.seconds, self.clients, self.transport, self.spin_us
        )];
        let mut table = Table::new(&["process", "CPU %", "bar"]);
        let verdict = if self.engine_percent <= self.bar_percent { "met" } else { "ABOVE" };
        let rows = [
            (
                format!("engine with {} clients", self.clients),
                self.engine_percent,
                format!("≤ {:.2} {verdict}", self.bar_percent),
            ),
            ("engine without clients".to_owned(), self.engine_without_clients_percent, String::new()),
            ("the clients together".to_owned(), self.clients_percent, String::new()),
        ];
        for (process, percent, bar) in rows {
            table.row([process, format!("{percent:.2}"), bar]);
        }
        lines.extend(table.lines());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn a_client_gets_what_it_has_put() {
        greet(&FakeStore::default(), 3).unwrap();
        assert!(greet(&FakeStore { corrupts: true, ..FakeStore::default() }, 3).is_err());
        assert!(
            greet(&FakeStore { fails: Some(snowskin_protocol::Code::NoSpace), ..FakeStore::default() }, 3)
                .is_err()
        );
    }

    #[test]
    fn processes_that_have_ended_are_errors() {
        assert!(cpu_seconds([std::process::id()]).is_ok());
        assert!(cpu_seconds([u32::MAX]).unwrap_err().contains("has ended"));
    }

    #[test]
    fn a_report_says_whether_the_bar_is_met() {
        let report = |engine_percent| IdleReport {
            command: "idle",
            transport: "shm".to_owned(),
            clients: 10,
            seconds: 10.0,
            spin_us: 50,
            engine_percent,
            engine_without_clients_percent: 0.1,
            clients_percent: 0.0,
            bar_percent: BAR_PERCENT,
        };
        assert!(report(0.5).lines().join("\n").contains("≤ 1.00 met"));
        assert!(report(1.5).lines().join("\n").contains("≤ 1.00 ABOVE"));
    }
}
