//! Random programs against a model of what each sector may hold, and swarms of faults.
//!
//! The model knows two sets for each sector: what a read may return now, and what may be there after a power loss. A
//! write that may have happened adds to both; a completed one, when nothing else is in flight, replaces the first; a
//! discard adds zeros to both; a
//! flush makes the second the first, as that was when it began, and what was written since; a power loss makes the
//! first the second, and may mix its blocks where the truth tells of damage.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use quickcheck::quickcheck;

use super::super::super::{DiskFault, DiskFaultRates, DiskOptions, SimDisk, SimPlatform, Simulation};
use super::{DISK_BYTES, SECTOR, SECTOR_BYTES, get, get_bytes, open, put, run, simulation, values};
use crate::disk::Disk;
use crate::platform::Platform;

const SECTORS: usize = 12;
const BLOCK: usize = 512;

/// A sector's content: the value that each of its blocks is full of. They differ only after a power loss.
type Content = [u64; SECTOR / BLOCK];

#[derive(Clone)]
struct Sector {
    now: BTreeSet<Content>,
    after_power_loss: BTreeSet<Content>,
}

/// The contents of sectors. Panics if a block is mixed.
fn contents(bytes: &[u8]) -> Vec<Content> {
    let content = |sector: &[u8]| {
        let blocks = sector.chunks_exact(BLOCK).map(|block| values(&block.repeat(SECTOR / BLOCK))[0]);
        Content::try_from(blocks.collect::<Vec<u64>>()).expect("a sector of blocks")
    };
    bytes.chunks_exact(SECTOR).map(content).collect()
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
        let options = DiskOptions { short_percent: 30, torn_sector_percent: 20, ..DiskOptions::default() };
        let sim = simulation(seed, options);
        let node = sim.node("node");
        let disk = open(&node, "ssd", SECTORS as u64 * SECTOR_BYTES);
        let zero = Sector { now: [Content::default()].into(), after_power_loss: [Content::default()].into() };
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
                let content = [self.last_value; SECTOR / BLOCK];
                possible[sector].now.insert(content);
                possible[sector].after_power_loss.insert(content);
                written[sector].insert(content);
            }
        }
        let (disk, reader) = (self.disk.clone(), self.disk.clone());
        let has_flushed = Rc::new(Cell::new(false));
        let flushed = Rc::clone(&has_flushed);
        let work = async move {
            let flush = async {
                if flushes {
                    disk.flush().await?;
                    flushed.set(true);
                }
                io::Result::Ok(())
            };
            let read = get_bytes(reader, 0, SECTORS);
            let all = futures_util::future::join3(join_all(writes), read, flush).await;
            all.2?;
            all.0.into_iter().collect::<io::Result<Vec<()>>>()?;
            all.1
        };
        if let Some(death) = &death {
            self.node.spawn(async move { drop(work.await) });
            self.sim.run_for(Duration::from_micros(death.after_micros)).expect("within the limit");
        } else {
            let seen = run(&self.sim, &self.node, work).expect("no faults");
            assert_legal(&contents(&seen), &possible, "during writes");
        }
        for ((sector, before), written) in possible.iter_mut().zip(&self.model).zip(written) {
            if has_flushed.get() {
                sector.after_power_loss = before.now.union(&written).copied().collect();
            }
            if death.is_none() && !written.is_empty() {
                sector.now = written;
            }
        }
        self.model = possible;
        if let Some(death) = death {
            self.die(death.with_power);
        }
    }

    fn die(&mut self, with_power: bool) {
        if with_power {
            self.sim.faults().power_off(&self.node);
        }
        self.node = self.sim.faults().restart(&self.node);
        self.disk = open(&self.node, "ssd", SECTORS as u64 * SECTOR_BYTES);
        if with_power {
            self.model.iter_mut().for_each(|sector| sector.now = sector.after_power_loss.clone());
            self.tell_torn();
        }
        self.look();
        if with_power {
            // Nothing is left in a cache.
            self.model.iter_mut().for_each(|sector| sector.after_power_loss = sector.now.clone());
        }
    }

    /// After a power loss, what is damaged by it may be made of legal blocks instead of being legal.
    fn tell_torn(&mut self) {
        let bytes = run(&self.sim, &self.node, get_bytes(self.disk.clone(), 0, SECTORS)).expect("no faults");
        let faults = self.sim.faults().disks().remove(0);
        for (number, (sector, seen)) in self.model.iter_mut().zip(contents(&bytes)).enumerate() {
            let place = number as u64 * SECTOR_BYTES..(number as u64 + 1) * SECTOR_BYTES;
            let is_legal = |block: usize| sector.now.iter().any(|content| content[block] == seen[block]);
            if !faults.damages(place).is_empty() && (0..seen.len()).all(is_legal) {
                sector.now.insert(seen);
            }
        }
    }

    /// Reads everything: it is legal, and from now on known.
    fn look(&mut self) {
        let bytes = run(&self.sim, &self.node, get_bytes(self.disk.clone(), 0, SECTORS)).expect("no faults");
        let seen = contents(&bytes);
        assert_legal(&seen, &self.model, "at rest");
        for (sector, content) in self.model.iter_mut().zip(seen) {
            sector.now = [content].into();
        }
    }

    /// Discards a range, and waits for it.
    fn discard(&mut self, a: u8, b: u8) {
        let (first, sectors) = Bench::range(a, b);
        let (offset, bytes) = (first as u64 * SECTOR_BYTES, sectors as u64 * SECTOR_BYTES);
        let disk = self.disk.clone();
        run(&self.sim, &self.node, async move { disk.discard(offset, bytes).await }).expect("no faults");
        for sector in &mut self.model[first..first + sectors] {
            sector.now.insert(Content::default());
            sector.after_power_loss.insert(Content::default());
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

fn assert_legal(seen: &[Content], possible: &[Sector], when: &str) {
    for (number, (content, sector)) in seen.iter().zip(possible).enumerate() {
        let is_legal = sector.now.contains(content);
        assert!(is_legal, "{when}, sector {number} is {content:?}, not of {:?}", sector.now);
    }
}

fn play(seed: u64, script: &[(u8, u8, u8, u8)]) -> bool {
    let mut bench = Bench::new(seed);
    for (what, a, b, c) in script {
        let places = [(*a, *b), (*b, *c), (*c, *a)];
        let places = &places[..1 + *c as usize % 3];
        let after_micros = u64::from(*a) * 8;
        match what % 10 {
            0 | 1 => bench.batch(places, false, None),
            2 => bench.batch(places, true, None),
            3 => bench.flush(),
            4 => bench.look(),
            5 => bench.die(true),
            6 => bench.batch(places, *b % 2 == 0, Some(Death { after_micros, with_power: true })),
            7 => bench.batch(places, *b % 2 == 0, Some(Death { after_micros, with_power: false })),
            _ => bench.discard(*a, *b),
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
fn swarm(seed: u64) -> (u64, u64, Vec<DiskFault>) {
    let faults = DiskFaultRates::swarm(seed, 30_000);
    let sim = simulation(seed, DiskOptions { faults, ..DiskOptions::default() });
    let mut nodes = [sim.node("one"), sim.node("other")];
    for round in 0..6_u64 {
        for node in &nodes {
            let disk = open(node, "ssd", DISK_BYTES);
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
    let incidents = disks.iter().flat_map(|disk| disk.incidents()).map(|incident| incident.fault);
    let operations = disks.iter().map(|disk| disk.counts().writes + disk.counts().reads).sum();
    (sim.event_hash(), operations, incidents.collect())
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
    let (mut operations, mut incidents) = (0, [0; DiskFault::ALL.len()]);
    for seed in 100..160 {
        let run = swarm(seed);
        operations += run.1;
        run.2.into_iter().for_each(|fault| incidents[fault as usize] += 1);
    }
    assert!(operations > 20_000, "{operations} operations");
    for fault in DiskFault::ALL.into_iter().filter(|fault| fault.is_of_operations()) {
        assert!(incidents[fault as usize] > 10, "{fault:?} came {} times", incidents[fault as usize]);
    }
}

/// Writes and flushes while a swarm of faults is about, and while every so many writes the power fails (0: never).
/// What the truth calls undamaged is what was written last. Returns how many damages there are.
fn undamaged_is_right(seed: u64, writes_per_power_loss: u64) -> usize {
    let rates = DiskFaultRates::swarm(seed, 100_000);
    let options = DiskOptions { faults: rates, torn_sector_percent: 20, ..DiskOptions::default() };
    let sim = simulation(seed, options);
    let mut node = sim.node("node");
    let mut disk = open(&node, "ssd", DISK_BYTES);
    let faults = sim.faults().disk(&node, "ssd").expect("it is open");
    let mut expected = [0; 64];
    for value in 1..=40 {
        let first = node.entropy() as usize % 60;
        // After an error nobody knows what is there; it is written again until it is known.
        while run(&sim, &node, put(disk.clone(), first as u64, 4, value)).is_err() {}
        expected[first..first + 4].fill(value);
        if writes_per_power_loss == 0 || node.entropy().is_multiple_of(4) {
            let _ = run(&sim, &node, disk.flush());
        }
        if writes_per_power_loss > 0 && value % writes_per_power_loss == 0 {
            sim.faults().power_off(&node);
            node = sim.faults().restart(&node);
            disk = open(&node, "ssd", DISK_BYTES);
        }
    }
    faults.mend();
    let mut damages = 0;
    for (sector, value) in expected.iter().enumerate() {
        let range = sector as u64 * SECTOR_BYTES..(sector as u64 + 1) * SECTOR_BYTES;
        let found = faults.damages(range);
        damages += found.len();
        if found.is_empty() {
            let seen = run(&sim, &node, get(disk.clone(), sector as u64, 1)).expect("undamaged");
            assert_eq!(seen, [*value], "sector {sector} of seed {seed}");
        }
    }
    damages
}

#[test]
fn what_no_fault_has_damaged_is_right() {
    let damages: usize = (0..60).map(|seed| undamaged_is_right(seed, 0)).sum();
    assert!(damages > 100, "{damages} damages");
}

#[test]
fn what_no_fault_and_no_power_loss_has_damaged_is_right() {
    let damages: usize = (0..60).map(|seed| undamaged_is_right(seed, 7)).sum();
    assert!((200..60 * 48).contains(&damages), "{damages} damages");
}
