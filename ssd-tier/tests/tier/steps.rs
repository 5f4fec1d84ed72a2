//! Random histories: what a core may do with a volume, many things at once and in any order.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use snowskin_io::{Platform, SplitMix};
use snowskin_ssd_tier::TierError;

use crate::keeper::{Core, Pending};
use crate::model::Key;
use crate::paper::SECTOR;

/// Names, at most: few, so that each has a history.
const KEYS: u64 = 24;
/// Records under way, at most.
const PENDING_MAX: u64 = 6;
/// Lengths at which something changes: around sectors, chunks of a checksum, and what fits into a head.
const EDGES: [usize; 8] =
    [1, 4_096 - 88, SECTOR, 2 * SECTOR, 3 * SECTOR, 4 * SECTOR, 4 * SECTOR + 88, 5 * SECTOR];

/// Someone who does things to a core at random.
pub(crate) struct Steps<P: Platform> {
    pub(crate) core: Rc<Core<P>>,
    platform: P,
    random: SplitMix,
    /// Bytes of the largest value that is tried.
    bytes_max: usize,
    /// Whether nothing may fail.
    is_calm: bool,
    pending: Rc<Cell<u64>>,
    held: Vec<Pending<P>>,
}

impl<P: Platform> Steps<P> {
    pub(crate) fn new(core: Rc<Core<P>>, platform: P, seed: u64, region_bytes: u64, is_calm: bool) -> Self {
        let random = SplitMix::new(seed);
        core.keep_percent.set([0, 50, 90][seed as usize % 3]);
        let bytes_max = region_bytes as usize;
        Steps { core, platform, random, bytes_max, is_calm, pending: Rc::default(), held: Vec::new() }
    }

    fn draw(&self, below: u64) -> u64 {
        self.random.draw() % below
    }

    fn key(&self) -> Key {
        self.draw(KEYS) as Key
    }

    fn bytes(&self) -> usize {
        let bytes = match self.draw(8) {
            0 => EDGES[self.draw(EDGES.len() as u64) as usize] as u64 + self.draw(3),
            1 => self.draw(self.bytes_max as u64) + 1,
            // The largest that may fit, with the sectors that are no value's.
            2 => (self.bytes_max as u64 - 3 * SECTOR as u64).saturating_sub(self.draw(2 * SECTOR as u64)),
            3 | 4 => self.draw(3 * SECTOR as u64) + 1,
            _ => self.draw(1_000) + 1,
        };
        (bytes as usize).saturating_sub(1).max(1)
    }

    /// Some steps. `Err`: the volume takes nothing any more.
    pub(crate) async fn run(&mut self, steps: u64) -> Result<(), TierError> {
        for _ in 0..steps {
            match self.step().await {
                Err(TierError::Ended) if !self.is_calm => return Err(TierError::Ended),
                Err(TierError::Full) if self.draw(3) == 0 => drop(self.core.reclaim().await),
                Err(TierError::Full | TierError::TooLarge(_)) => {}
                Err(error) if self.is_calm => panic!("{error}"),
                _ => {}
            }
        }
        Ok(())
    }

    /// All that was begun has ended.
    pub(crate) async fn rest(&mut self) {
        while !self.held.is_empty() {
            self.let_land(0);
        }
        while self.pending.get() > 0 {
            self.platform.sleep(Duration::from_millis(1)).await;
        }
    }

    async fn step(&mut self) -> Result<(), TierError> {
        match self.draw(32) {
            0..12 => self.begin(),
            12..18 => {
                if !self.held.is_empty() {
                    self.let_land(self.draw(self.held.len() as u64) as usize);
                }
                Ok(())
            }
            18 | 19 => {
                self.core.bury(self.key());
                Ok(())
            }
            20 | 21 => self.core.commit().await,
            22 => {
                let (core, is_calm) = (self.core.clone(), self.is_calm);
                self.platform.spawn(async move {
                    let committed = core.commit().await;
                    assert!(!is_calm || matches!(committed, Ok(()) | Err(TierError::Full)), "{committed:?}");
                });
                Ok(())
            }
            23..26 => self.read(self.key()).await,
            26 | 27 => {
                let (core, key, is_calm) = (self.core.clone(), self.key(), self.is_calm);
                let row = core.rows.borrow().get(&key).copied();
                self.platform.spawn(async move {
                    let read = core.read(key).await;
                    // Reclaim may have taken it away meanwhile.
                    let is_there = core.rows.borrow().get(&key).copied() == row;
                    assert!(!is_calm || !is_there || read.is_ok(), "{read:?}");
                });
                Ok(())
            }
            28..31 => {
                self.platform.sleep(Duration::from_micros(self.draw(2_000))).await;
                Ok(())
            }
            _ => self.core.reclaim().await.map(drop),
        }
    }

    fn begin(&mut self) -> Result<(), TierError> {
        if self.pending.get() + self.held.len() as u64 >= PENDING_MAX {
            return Ok(());
        }
        let (key, bytes) = (self.key(), self.bytes());
        let begun = match self.draw(4) {
            0 => self.core.begin_over(key, bytes),
            _ => self.core.begin(key, bytes),
        };
        self.held.push(begun?);
        if self.draw(2) == 0 {
            self.let_land(self.held.len() - 1);
        }
        Ok(())
    }

    fn let_land(&mut self, index: usize) {
        let pending = self.held.swap_remove(index);
        let (core, under_way, is_calm) = (self.core.clone(), self.pending.clone(), self.is_calm);
        under_way.set(under_way.get() + 1);
        self.platform.spawn(async move {
            let finished = core.finish(pending).await;
            assert!(!is_calm || finished.is_ok(), "{finished:?}");
            under_way.set(under_way.get() - 1);
        });
    }

    async fn read(&self, key: Key) -> Result<(), TierError> {
        let row = self.core.rows.borrow().get(&key).copied();
        match self.core.read(key).await {
            Err(_) if self.core.rows.borrow().get(&key).copied() != row => Ok(()),
            read => read.map(drop),
        }
    }
}
