//! Seeded randomness, split into streams.
//!
//! Every consumer (the scheduler, each node, each connection) draws from a stream of its own, so that one more draw
//! in one of them does not shift the others: two runs that differ in one place stay comparable elsewhere.

use crate::SplitMix;

/// Consumers of randomness. The number after the label in [`Entropy::new`] tells apart consumers of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Consumer {
    Scheduler = 1,
    Node = 2,
    Connection = 3,
    Disk = 4,
    DiskFault = 5,
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Entropy(SplitMix);

impl Entropy {
    /// The stream of the `number`-th consumer of its kind, under `seed`.
    pub(super) fn new(seed: u64, consumer: Consumer, number: u64) -> Entropy {
        Entropy(SplitMix::new(SplitMix::split(seed, (consumer as u64) << 56 | number)))
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number in `0..bound`. The bias is below 2^-32 for the bounds of a simulation.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high - low).saturating_add(1))
    }

    /// True in `percent` of 100 draws.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_bounds_hold() {
        let mut streams = [
            Entropy::new(7, Consumer::Node, 0),
            Entropy::new(7, Consumer::Node, 1),
            Entropy::new(7, Consumer::Connection, 0),
            Entropy::new(8, Consumer::Node, 0),
        ];
        let mut firsts: Vec<u64> = streams.iter_mut().map(Entropy::next).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), streams.len());
        for _ in 0..1_000 {
            assert!((3..=5).contains(&streams[0].between(3, 5)));
            assert!(!streams[0].percent(0) && streams[0].percent(100));
        }
    }
}
