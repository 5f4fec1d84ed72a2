//! Random programs against a model of what each sector may hold, and swarms of faults.
//!
//! The model knows two sets for each sector: what a read may return now, and what may be there after a power loss. A
//! write that may have happened adds to both; a completed one, when nothing else is in flight, replaces the first; a
//! flush makes the second the first; a power loss makes the first the second.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use quickcheck::quickcheck;

use super::super::super::{DiskFault, DiskFaultRates, DiskOptions, SimDisk, SimPlatform, Simulation};
use super::{DISK_BYTES, SECTOR_BYTES, get, get_bytes, put, run, simulation};
use crate::platform::Platform;

const SECTORS: usize = 12;

#[derive(Clone)]
struct Sector {
    now: BTreeSet<u64>,
    after_power_loss: BTreeSet<u64>,
}

/// The disk, its model, and the values written so far.
struct Bench {
    sim: Simulation,
    node: SimPlatform,
    disk: SimDisk,
    model: Vec<Sector>,
    last_value: u64,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let sim = simulation(seed, DiskOptions { short_percent: 30, ..DiskOptions::default() });
        let node = sim.node("node");
        let disk = node.disk("ssd", SECTORS as u64 * SECTOR_BYTES);
        let zero = Sector { now: [0].into(), after_power_loss: [0].into() };
        Bench { sim, node, disk, model: vec![zero; SECTORS], last_value: 0 }
    }

    /// Takes part of a script to a range of sectors.
    fn range(a: u8, b: u8) -> (usize, usize) {
        let first = a as usize % SECTORS;
        (first, 1 + b as usize % (SECTORS - first).min(5))
    }

    /// Up to three writes, a read and perhaps a flush at once; ended by a death or not.
    fn batch(&mut self, places: &[(u8, u8)], flushes: bool, death: Option<Death>) {
        let mut possible = self.model.clone();
        let mut written = vec![BTreeSet::new(); SECTORS];
        let mut writes = Vec::new();
        for (a, b) in places {
            let (first, sectors) = Bench::range(*a, *b);
            self.last_value += 1;
            writes.push(put(self.disk.clone(), first as u64, sectors, self.last_value));
            for sector in first..first + sectors {
                possible[sector].now.insert(self.last_value);
                possible[sector].after_power_loss.insert(self.last_value);
                written[sector].insert(self.last_value);
            }
        }
        let (disk, reader) = (self.disk.clone(), self.disk.clone());
        let work = async move {
            let flush = async { if flushes { disk.flush().await } else { Ok(()) } };
            let all = futures_util::future::join3(join_all(writes), get(reader, 0, SECTORS), flush).await;
            all.2?;
            all.0.into_iter().collect::<io::Result<Vec<()>>>()?;
            all.1
        };
        let Some(death) = death else {
            let seen = run(&self.sim, &self.node, work).expect("no faults");
            assert_legal(&seen, &possible, "during writes");
            for (sector, written) in possible.iter_mut().zip(written) {
                if !written.is_empty() {
                    sector.now = written;
                }
            }
            self.model = possible;
            return;
        };
        self.node.spawn(async move { drop(work.await) });
        self.sim.run_for(Duration::from_micros(death.after_micros)).expect("within the limit");
        self.model = possible;
        self.die(death.with_power);
    }

    fn die(&mut self, with_power: bool) {
        if with_power {
            self.sim.faults().power_off(&self.node);
        }
        self.node = self.sim.faults().restart(&self.node);
        self.disk = self.node.disk("ssd", SECTORS as u64 * SECTOR_BYTES);
        if with_power {
            self.model.iter_mut().for_each(|sector| sector.now = sector.after_power_loss.clone());
        }
        self.look();
        if with_power {
            // Nothing is left in a cache.
            self.model.iter_mut().for_each(|sector| sector.after_power_loss = sector.now.clone());
        }
    }

    /// Reads everything: it is legal, and from now on known.
    fn look(&mut self) {
        let seen = run(&self.sim, &self.node, get(self.disk.clone(), 0, SECTORS)).expect("no faults");
        assert_legal(&seen, &self.model, "at rest");
        for (sector, value) in self.model.iter_mut().zip(seen) {
            sector.now = [value].into();
        }
    }

    fn flush(&mut self) {
        let disk = self.disk.clone();
        run(&self.sim, &self.node, async move { disk.flush().await }).expect("no faults");
        self.model.iter_mut().for_each(|sector| sector.after_power_loss = sector.now.clone());
    }
}

struct Death {
    after_micros: u64,
    with_power: bool,
}

fn assert_legal(seen: &[u64], possible: &[Sector], when: &str) {
    for (number, (value, sector)) in seen.iter().zip(possible).enumerate() {
        assert!(sector.now.contains(value), "{when}, sector {number} is {value}, not of {:?}", sector.now);
    }
}

fn play(seed: u64, script: &[(u8, u8, u8, u8)]) -> bool {
    let mut bench = Bench::new(seed);
    for (what, a, b, c) in script {
        let places = [(*a, *b), (*b, *c), (*c, *a)];
        let places = &places[..1 + *c as usize % 3];
        let after_micros = u64::from(*a) * 8;
        match what % 8 {
            0 | 1 => bench.batch(places, false, None),
            2 => bench.batch(places, true, None),
            3 => bench.flush(),
            4 => bench.look(),
            5 => bench.die(true),
            6 => bench.batch(places, *b % 2 == 0, Some(Death { after_micros, with_power: true })),
            _ => bench.batch(places, *b % 2 == 0, Some(Death { after_micros, with_power: false })),
        }
    }
    bench.look();
    let faults = bench.sim.faults().disks().remove(0);
    let only_losses = |damage: &super::super::super::Damage| damage.fault == DiskFault::PowerLoss;
    faults.damages(0..u64::MAX).iter().all(only_losses) && faults.in_flight() == 0
}

quickcheck! {
    fn every_sector_holds_one_of_its_legal_versions(seed: u64, script: Vec<(u8, u8, u8, u8)>) -> bool {
        play(seed, &script)
    }

    fn flushed_bytes_never_change_without_a_fault(seed: u64, cuts: Vec<u8>) -> bool {
        let mut bench = Bench::new(seed);
        bench.batch(&[(0, 4), (5, 4), (10, 1)], false, None);
        bench.look();
        bench.flush();
        let before = bench.model.clone();
        for cut in cuts {
            bench.die(cut % 2 == 0);
        }
        bench.model.iter().zip(before).all(|(now, before)| now.now == before.now)
    }
}

/// Two nodes that use their disks for a while, with a swarm of faults and with deaths.
fn swarm(seed: u64) -> (u64, u64, u64) {
    let faults = DiskFaultRates::swarm(seed, 30_000);
    let sim = simulation(seed, DiskOptions { faults, ..DiskOptions::default() });
    let mut nodes = [sim.node("one"), sim.node("other")];
    for round in 0..6_u64 {
        for node in &nodes {
            let disk = node.disk("ssd", DISK_BYTES);
            for task in 0..4_u64 {
                let (platform, disk) = (node.clone(), disk.clone());
                node.spawn(async move {
                    for value in 0..12 {
                        let sector = platform.entropy() % 60;
                        let _ = put(disk.clone(), sector, 3, round << 32 | task << 16 | value).await;
                        let _ = get_bytes(disk.clone(), sector, 4).await;
                        if value % 4 == 3 {
                            let _ = disk.flush().await;
                        }
                    }
                });
            }
        }
        sim.run_for(Duration::from_millis(1 + round * 4)).expect("within the limit");
        let dying = &mut nodes[round as usize % 2];
        if round % 3 == 0 {
            sim.faults().power_off(dying);
        }
        *dying = sim.faults().restart(dying);
    }
    sim.run_for(Duration::from_secs(60)).expect("within the limit");
    let disks = sim.faults().disks();
    assert!(disks.iter().all(|disk| disk.in_flight() == 0));
    let incidents: usize = disks.iter().map(|disk| disk.incidents().len()).sum();
    let operations = disks.iter().map(|disk| disk.counts().writes + disk.counts().reads).sum();
    (sim.event_hash(), operations, incidents as u64)
}

#[test]
fn one_seed_gives_one_run_of_disks_too() {
    let first: Vec<_> = (0..20).map(swarm).collect();
    assert_eq!(first, (0..20).map(swarm).collect::<Vec<_>>());
    let hashes: BTreeSet<u64> = first.iter().map(|(hash, ..)| *hash).collect();
    assert_eq!(hashes.len(), 20, "different seeds give different runs");
}

#[test]
fn swarms_of_faults_are_survived_and_come() {
    let (mut operations, mut incidents) = (0, 0);
    for seed in 100..160 {
        let run = swarm(seed);
        operations += run.1;
        incidents += run.2;
    }
    assert!(operations > 20_000 && incidents > 1_000, "{operations} operations, {incidents} incidents");
}

/// What the truth calls undamaged is what was written last, whatever broke.
#[test]
fn what_no_fault_has_damaged_is_right() {
    let mut damages = 0;
    for seed in 0..60 {
        let rates = DiskFaultRates::swarm(seed, 100_000);
        let sim = simulation(seed, DiskOptions { faults: rates, ..DiskOptions::default() });
        let node = sim.node("node");
        let disk = node.disk("ssd", DISK_BYTES);
        let faults = sim.faults().disk(&node, "ssd").expect("it is open");
        let mut expected = [0; 64];
        for value in 1..=40 {
            let first = node.entropy() as usize % 60;
            if run(&sim, &node, put(disk.clone(), first as u64, 4, value)).is_err() {
                // Nobody knows what is there now; it is written again until it is known.
                let retry = || run(&sim, &node, put(disk.clone(), first as u64, 4, value));
                while retry().is_err() {}
            }
            expected[first..first + 4].fill(value);
            let flusher = disk.clone();
            let _ = run(&sim, &node, async move { flusher.flush().await });
        }
        faults.mend();
        for (sector, value) in expected.iter().enumerate() {
            let range = sector as u64 * SECTOR_BYTES..(sector as u64 + 1) * SECTOR_BYTES;
            let found = faults.damages(range);
            damages += found.len();
            if found.is_empty() {
                let seen = run(&sim, &node, get(disk.clone(), sector as u64, 1)).expect("undamaged");
                assert_eq!(seen, [*value], "sector {sector} of seed {seed}");
            }
        }
    }
    assert!(damages > 100, "{damages} damages");
}
