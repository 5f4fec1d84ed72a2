//! Two clients at the same time, of an engine with two cores, beside one client of an engine with one.
//!
//! Clients are threads with connections of their own. On a machine with two CPUs the cores and the clients share
//! them, so nothing is promised; with more, two should do twice as much.

use super::join;
use crate::cpu;
use crate::limits::filled::{Set, start_cluster};
use crate::limits::memcpy::Buffer;
use crate::limits::slices::{Slice, slice};
use crate::limits::{LimitsPlan, Pinned, go_on, placement, spread_in_words};
use crate::progress::Progress;
use crate::report::table::Table;
use crate::spread::Spread;
use crate::store::Store;
use serde::Serialize;
use std::sync::Barrier;
use std::time::Duration;

/// Name, bytes of a value, values in a call.
const LOADS: [(&str, usize, usize); 2] = [("get 64 KiB", 64 << 10, 1), ("get 32 × 4 KiB", 4 << 10, 32)];
/// Bytes of values of each load.
const LOAD_BYTES: usize = 64 << 20;
const MEMORY_BYTES: u64 = 256 << 20;

/// One load.
#[derive(Debug, Serialize)]
pub(super) struct CoresRow {
    pub(super) what: &'static str,
    /// One client, one core.
    pub(super) one_gb_per_s: Spread,
    /// Two clients together, two cores.
    pub(super) two_gb_per_s: Spread,
    /// Two by one, within each round.
    pub(super) ratio: Spread,
}

/// Clients of one cluster.
struct Crowd {
    clients: Vec<Client>,
    sets: Vec<Set>,
}

/// Calls from the CPU that is named for it, if one is.
struct Client {
    store: Box<dyn Store>,
    cpu: Option<usize>,
}

/// In the first of the wake modes.
pub(super) fn measure(plan: &LimitsPlan, pinned: &mut Option<Pinned>) -> Result<Vec<CoresRow>, String> {
    let spin = plan.wakes[0].spin();
    let clusters = [start_cluster(1, MEMORY_BYTES, spin)?, start_cluster(2, MEMORY_BYTES, spin)?];
    *pinned = placement(plan.pin, &clusters[0])?;
    let cpus = pinned.map_or([None; 2], |pinned| [Some(pinned.client_cpu), Some(pinned.engine_cpu)]);
    let mut crowds = Vec::new();
    for (cluster, cpus) in clusters.iter().zip([&cpus[..1], &cpus]) {
        let mut clients = Vec::new();
        for &cpu in cpus {
            clients.push(Client { store: join(plan, cluster, spin, plan.checksums)?, cpu });
        }
        crowds.push(Crowd::new(clients, LOAD_BYTES)?);
    }
    let mut figures: [Vec<(f64, f64)>; LOADS.len()] = Default::default();
    let mut progress = Progress::new("cores", plan.rounds as u64);
    for round in 0..plan.rounds {
        progress.at(round as u64, "one and two".to_owned());
        for (load, figures) in figures.iter_mut().enumerate() {
            go_on()?;
            let one = crowds[0].gb_per_s(load, plan.slice)?;
            figures.push((one, crowds[1].gb_per_s(load, plan.slice)?));
        }
    }
    progress.finish();
    Ok(LOADS.iter().zip(&figures).map(|((what, ..), figures)| CoresRow::new(what, figures)).collect())
}

impl Crowd {
    fn new(clients: Vec<Client>, load_bytes: usize) -> Result<Self, String> {
        let sets = LOADS.iter().map(|&(_, bytes, _)| Set::new("cores", bytes, load_bytes / bytes));
        let sets: Vec<Set> = sets.collect();
        let first = clients.first().ok_or("no client")?;
        sets.iter().try_for_each(|set| set.put(first.store.as_ref()))?;
        Ok(Crowd { clients, sets })
    }

    /// All clients at once.
    fn gb_per_s(&self, load: usize, time: Duration) -> Result<f64, String> {
        let (set, (_, _, batch)) = (&self.sets[load], LOADS[load]);
        let together = Barrier::new(self.clients.len());
        let work = |client: &Client| {
            let pinned = client.cpu.map_or(Ok(()), cpu::pin_to);
            together.wait();
            pinned.map_err(|error| format!("cannot pin a client: {error}"))?;
            gets(client.store.as_ref(), set, batch, time)
        };
        let mut bytes_per_s = 0.0;
        std::thread::scope(|scope| {
            let running: Vec<_> =
                self.clients.iter().map(|client| scope.spawn(move || work(client))).collect();
            for client in running {
                let measured = client.join().map_err(|_| "a client panicked")??;
                bytes_per_s += measured.calls_per_s * (batch * set.value_bytes()) as f64;
            }
            Ok(bytes_per_s / 1e9)
        })
    }
}

/// One client's part. The last values are checked after the time is taken.
fn gets(store: &dyn Store, set: &Set, batch: usize, time: Duration) -> Result<Slice, String> {
    let (mut to, mut first) = (Buffer::new(batch * set.value_bytes()), 0);
    let measured = slice(time, || {
        first += batch;
        match batch {
            1 => set.get(store, first, &mut to),
            _ => set.get_batch(store, first, &mut to),
        }
    })?;
    set.check_batch(first, &to)?;
    Ok(measured)
}

impl CoresRow {
    /// Of GB/s in each round: one, two.
    fn new(what: &'static str, figures: &[(f64, f64)]) -> Self {
        CoresRow {
            what,
            one_gb_per_s: Spread::of(figures.iter().map(|(one, _)| *one)),
            two_gb_per_s: Spread::of(figures.iter().map(|(_, two)| *two)),
            ratio: Spread::of(figures.iter().map(|(one, two)| two / one)),
        }
    }
}

/// For people.
pub(super) fn table(rows: &[CoresRow]) -> Table {
    let mut table = Table::new(&["load", "1 client, 1 core, GB/s", "2 clients, 2 cores, GB/s", "ratio"]);
    for row in rows {
        table.row([
            row.what.to_owned(),
            format!("{:.2}", row.one_gb_per_s.median),
            format!("{:.2}", row.two_gb_per_s.median),
            spread_in_words(row.ratio),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn clients_work_at_the_same_time_and_are_added_up() {
        let client = |store| Client { store: Box::new(store), cpu: None };
        let crowd = |store: FakeStore| Crowd::new(vec![client(store)], 1 << 20);
        let one = crowd(FakeStore::default()).unwrap();
        for load in [0, 1] {
            assert!(one.gb_per_s(load, Duration::from_millis(2)).unwrap() > 0.0);
        }
        // The second client's store is empty: its error is told.
        let clients = one.clients.into_iter().chain([client(FakeStore::default())]).collect();
        let two = Crowd { clients, sets: one.sets };
        assert!(two.gb_per_s(0, Duration::ZERO).is_err());
        let corrupt = crowd(FakeStore { corrupts: true, ..FakeStore::default() }).unwrap();
        assert!(corrupt.gb_per_s(1, Duration::ZERO).expect_err("corrupt").contains("WRONG VALUE"));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let row = CoresRow::new("get", &[(1.0, 1.8), (2.0, 3.6)]);
        assert_eq!(row.ratio, Spread { median: 1.8, min: 1.8, max: 1.8 });
        assert_eq!(table(&[row]).lines().len(), 3);
    }
}
