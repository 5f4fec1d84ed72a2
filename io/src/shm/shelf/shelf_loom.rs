//! Every interleaving of a client that finds a card and the core that takes it back (`make loom`): who found it is seen to hold it, and what
//! it read was one card.

use super::Words;
use super::cards::{Card, CardId, Cards, Labels, Placed};
use super::holds::{Holder, Watch, release};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::collections::BTreeMap;

/// The words that one card, one hold and one use have.
#[derive(Clone)]
struct Few(Arc<BTreeMap<usize, AtomicU64>>);

impl Few {
    fn of(words: impl Iterator<Item = usize>) -> Self {
        Few(Arc::new(words.map(|at| (at, AtomicU64::new(0))).collect()))
    }
}

impl Words for Few {
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.0[&at]
    }
}

fn card(number: u64) -> Card {
    Card { segment: number as u32, offset: number, value_bytes: number, checksum: number, version: number }
}

const CARDS: usize = 4;

fn shelf() -> (Cards<Few>, Labels<Few>) {
    // The tags, the first card with a short name, and the numbers of the others.
    let words = Few::of((512..523).chain([548, 580, 612]));
    (Cards::new(words.clone(), CARDS), Labels::new(words, CARDS))
}

#[test]
fn loom_who_finds_a_card_is_seen_to_hold_it() {
    loom::model(|| {
        let (mut cards, labels) = shelf();
        let lane = Few::of([0, 64, 80].into_iter());
        let first = cards.put(0, &Placed { hash: 7, name: b"n", card: card(1) });
        let holds = lane.clone();
        let client = thread::spawn(move || {
            let holder = Holder::new(holds);
            labels.find(7, b"n", |id| holder.hold(0, id)).map(|(id, found)| {
                let number = u64::from(found.segment);
                assert_eq!(found, card(number), "one card");
                (id, number)
            })
        });
        assert_eq!(cards.take_back(0), Some(first));
        let watch = Watch::new(lane);
        let is_held = watch.holds_in(1).contains(&first);
        // The bytes of the first one may be overwritten from here on, unless it is held.
        let second = cards.put(0, &Placed { hash: 7, name: b"n", card: card(2) });
        match client.join().expect("it ends") {
            Some((id, number)) if id == first => assert!(is_held && number == 1, "its bytes are kept"),
            Some((id, number)) => assert!(id == second && number == 2),
            None => {}
        }
    });
}

#[test]
fn loom_who_releases_a_card_has_read_what_it_named() {
    loom::model(|| {
        let lane = Few::of([0, 64, 80].into_iter());
        let value = Arc::new(loom::cell::UnsafeCell::new(1));
        let id = shelf().0.put(0, &Placed { hash: 7, name: b"n", card: card(1) });
        Holder::new(lane.clone()).hold(0, id);
        let (holds, read) = (lane.clone(), value.clone());
        let client = thread::spawn(move || {
            // SAFETY: of a model: loom fails if somebody writes meanwhile.
            assert_eq!(read.with(|value| unsafe { *value }), 1);
            release(&holds, 0);
        });
        if Watch::new(lane).holds_in(1).is_empty() {
            // SAFETY: of a model, as above.
            value.with_mut(|value| unsafe { *value = 2 });
        }
        client.join().expect("it ends");
    });
}

/// What is held at the first places.
trait HoldsIn {
    fn holds_in(&self, places: usize) -> Vec<CardId>;
}

impl HoldsIn for Watch<Few> {
    fn holds_in(&self, places: usize) -> Vec<CardId> {
        let mut held = Vec::new();
        self.held_at(0..places, |id| held.push(id));
        held
    }
}
