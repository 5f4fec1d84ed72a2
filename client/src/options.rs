//! What a caller may say about an object besides its value: which to evict last, or never, what it belongs to, and when its put is
//! acknowledged.

use snowskin_protocol::ObjectName;
use snowskin_protocol::wire::data::PutHints;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What to do with an object beside storing it. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Evict it last, for so long from each use on: a millisecond at least, 49 days at most.
    pub soft_pin: Option<Duration>,
    /// If it replaces an object that is pinned softly, it is, too, and for as long. For upserts without a soft pin of their own.
    pub keep_soft_pin: bool,
    /// Never evict it. It stays until it is removed or replaced, or until its key gets another home core (one comes or
    /// goes): from then on it is evicted last.
    pub hard_pin: bool,
    /// Objects of one group are evicted together, as far as they lie in one core.
    pub group: Option<Vec<u8>>,
    /// The key of the block before it in its chain (its prefix). A block is not evicted before those behind it, as far
    /// as they lie in one core and that can be helped.
    pub parent: Option<Vec<u8>>,
    /// When the put is acknowledged.
    pub durability: Durability,
    /// Replicas to make besides the first, in memory of other engines, on other hosts first: as many as there can be,
    /// 15 at most. The put is acknowledged when they are there, or are known not to be, or three seconds have passed;
    /// that there are fewer is no error. If the engine of the first one is lost, the object is found in another one.
    pub more_replicas: usize,
}

/// When a put is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When it is in memory.
    #[default]
    Memory,
    /// When it is on the SSD of its core, and flushed: `Ok` says that what is held under the key (by this put, or, if it existed, by an
    /// earlier one) is found again by an engine that starts after a crash as the home of the key. Until it is evicted,
    /// removed or replaced; on an SSD what was written first is evicted first. [`crate::Error::NotDurable`] and
    /// [`crate::Error::NotDurableYet`] say that it is held, and not on the SSD.
    Ssd,
}

/// The hints of the items of a batch: what each says of itself, and what the batch as a whole says of its chains.
pub(crate) fn hints(tenant: &str, items: &[(&[u8], &PutOptions)]) -> Vec<PutHints> {
    let parents: HashSet<&[u8]> = items.iter().filter_map(|(_, options)| options.parent.as_deref()).collect();
    // Only parents are looked up: most batches have none, and hash nothing.
    let numbers: HashMap<&[u8], usize> = match parents.is_empty() {
        true => HashMap::new(),
        false => items.iter().enumerate().map(|(number, (key, _))| (*key, number)).collect(),
    };
    let parent_of = |number: usize| items[number].1.parent.as_deref();
    let continues = continuing(items.len(), parent_of, |key| numbers.get(key).copied());
    let hint = |((key, options), continues): (&(&[u8], &PutOptions), bool)| {
        let is_leaf = options.parent.is_some() && !parents.contains(key);
        let flags = [
            (options.hard_pin, PutHints::HARD_PIN),
            (continues, PutHints::CONTINUES),
            (is_leaf, PutHints::LEAF),
            (options.durability == Durability::Ssd, PutHints::DURABLE),
            (options.keep_soft_pin, PutHints::KEEP_SOFT_PIN),
        ];
        let hash = |key: &Vec<u8>| name_hash(tenant, key);
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1);
        PutHints {
            parent: options.parent.as_ref().map_or(0, hash),
            group: options.group.as_ref().map_or(0, hash),
            soft_pin_ms: options.soft_pin.map_or(0, milliseconds),
            flags: flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum(),
        }
        .with_more_replicas(options.more_replicas)
    };
    items.iter().zip(continues).map(hint).collect()
}

/// Of each item, whether its chain begins before this batch. Every item is looked at once.
fn continuing<'a>(
    count: usize,
    parent_of: impl Fn(usize) -> Option<&'a [u8]>,
    number_of: impl Fn(&'a [u8]) -> Option<usize>,
) -> Vec<bool> {
    let mut known = vec![None; count];
    for number in 0..count {
        let (mut at, mut path) = (number, Vec::new());
        let continues = loop {
            if let Some(continues) = known[at] {
                break continues;
            }
            // Should the chain be a ring, it has no beginning, here or elsewhere.
            known[at] = Some(false);
            path.push(at);
            match parent_of(at).map(&number_of) {
                None => break false,
                Some(None) => break true,
                Some(Some(parent)) => at = parent,
            }
        };
        path.into_iter().for_each(|at| known[at] = Some(continues));
    }
    known.into_iter().map(|continues| continues.unwrap_or(false)).collect()
}

/// The hash that the name of this key has. A key that is no valid one names nothing.
fn name_hash(tenant: &str, key: &[u8]) -> u64 {
    ObjectName::new(tenant, key).map_or(0, |name| name.hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child_of(parent: &str) -> PutOptions {
        PutOptions { parent: Some(parent.as_bytes().to_vec()), ..PutOptions::default() }
    }

    fn flags(items: &[(&str, PutOptions)]) -> Vec<u32> {
        let items: Vec<_> = items.iter().map(|(key, options)| (key.as_bytes(), options)).collect();
        hints("t", &items).into_iter().map(|hints| hints.flags).collect()
    }

    #[test]
    fn chains_tell_where_they_begin_and_end() {
        let none = PutOptions::default();
        let fresh = [("a", none.clone()), ("b", child_of("a")), ("c", child_of("b"))];
        assert_eq!(flags(&fresh), [0, 0, PutHints::LEAF]);
        // The same, in another order, behind a block that was put before.
        let continued = [("c", child_of("b")), ("a", child_of("root")), ("b", child_of("a"))];
        let on = PutHints::CONTINUES;
        assert_eq!(flags(&continued), [on | PutHints::LEAF, on, on]);
        let ring = [("a", child_of("b")), ("b", child_of("a")), ("alone", none)];
        assert_eq!(flags(&ring), [0, 0, 0]);
    }

    #[test]
    fn options_become_hints() {
        let options = PutOptions {
            soft_pin: Some(Duration::from_secs(2)),
            hard_pin: true,
            group: Some(b"g".to_vec()),
            parent: Some(b"not\0valid".to_vec()),
            durability: Durability::Ssd,
            more_replicas: 100,
            keep_soft_pin: true,
        };
        let [hints] = hints("t", &[(b"k", &options)])[..] else { panic!() };
        let group = ObjectName::new("t", b"g").unwrap().hash();
        assert_eq!((hints.soft_pin_ms, hints.group, hints.parent), (2_000, group, 0));
        let flags = PutHints::HARD_PIN | PutHints::CONTINUES | PutHints::LEAF | PutHints::DURABLE;
        let flags = flags | PutHints::KEEP_SOFT_PIN;
        assert_eq!((hints.flags, hints.more_replicas()), (flags | 15 << 8, 15));
    }
}
