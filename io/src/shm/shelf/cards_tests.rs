use super::*;
use quickcheck::quickcheck;
use std::cell::Cell;
use std::rc::Rc;

/// Words of one process.
#[derive(Clone)]
pub(in super::super) struct Heap(Rc<Vec<AtomicU64>>);

impl Heap {
    pub(in super::super) fn new(words: usize) -> Self {
        Heap(Rc::new((0..words).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Words for Heap {
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.0[at]
    }
}

fn shelf(count: usize) -> (Cards<Heap>, Labels<Heap>) {
    let words = Heap::new(words_of(count));
    (Cards::new(words.clone(), count), Labels::new(words, count))
}

fn card(number: u64) -> Card {
    Card {
        segment: number as u32 + 1,
        offset: number << 40,
        value_bytes: number + 9,
        checksum: !number,
        version: number ^ 99,
    }
}

/// Few names, of lengths with and without an end of eight bytes; some share a hash.
fn name(number: u8) -> (u64, Vec<u8>) {
    let name = vec![number; usize::from(number) * 9 % (NAME_BYTES_MAX + 1)];
    (u64::from(number % 32 / 2 + 1) << 24, name)
}

quickcheck! {
    fn who_finds_a_card_finds_the_one_that_was_put_last(steps: Vec<(u8, u8)>) -> bool {
        let (mut cards, labels) = shelf(16);
        let mut model: Vec<Option<(u8, CardId, u64)>> = vec![None; 16];
        for (at, (what, which)) in (0_u64..).zip(steps) {
            let (hash, name) = name(which);
            let place = cards.places(hash).start + usize::from(what) % CARDS_PER_SET;
            assert_eq!(cards.take_back(place), model[place].take().map(|(_, id, _)| id));
            if what >= 64 {
                // A hash stands on one card, as a core sees to it.
                for place in cards.places(hash) {
                    if model[place].is_some_and(|(known, ..)| self::name(known).0 == hash) {
                        cards.take_back(place);
                        model[place] = None;
                    }
                }
                let id = cards.put(place, &Placed { hash, name: &name, card: card(at) });
                model[place] = Some((which, id, at));
            }
            for other in 0..64 {
                let (hash, name) = self::name(other);
                let held = Cell::new(None);
                let found = labels.find(hash, &name, |id| held.set(Some(id)));
                let known = model.iter().flatten().find(|(known, ..)| self::name(*known) == (hash, name.clone())).copied();
                assert_eq!(found, known.map(|(_, id, at)| (id, card(at))));
                assert_eq!(held.get(), found.map(|(id, _)| id));
            }
        }
        true
    }
}

#[test]
fn a_card_that_is_taken_back_while_it_is_looked_at_is_not_found() {
    let (mut cards, labels) = shelf(4);
    let placed = Placed { hash: 7, name: b"name", card: card(1) };
    let first = cards.put(0, &placed);
    let cards = std::cell::RefCell::new(cards);
    let held = Cell::new(None);
    let found = labels.find(7, b"name", |id| {
        held.set(Some(id));
        assert_eq!(cards.borrow_mut().take_back(0), Some(first));
        cards.borrow_mut().put(0, &placed);
    });
    assert_eq!((found, held.get()), (None, Some(first)), "whoever took it back looks for who holds it");
    let again = labels.find(7, b"name", |_| {}).expect("it stands there again");
    assert_ne!(again.0, first);
    assert_eq!((again.0.place(), again.1), (0, card(1)));
}

#[test]
fn what_fits_on_no_card_is_found_on_none() {
    let (mut cards, labels) = shelf(4);
    cards.put(3, &Placed { hash: 7, name: &[5; NAME_BYTES_MAX], card: card(1) });
    assert!(labels.find(7, &[5; NAME_BYTES_MAX], |_| {}).is_some());
    assert!(labels.find(7, &[5; NAME_BYTES_MAX + 1], |_| {}).is_none());
    assert!(labels.find(7, b"", |_| {}).is_none() && labels.find(8, &[5; NAME_BYTES_MAX], |_| {}).is_none());
    assert_eq!(cards.standing(2), None);
    assert_eq!(cards.standing(CARDS_MAX), None);
}

#[test]
#[should_panic(expected = "a card stands there")]
fn a_card_is_taken_back_before_another_one_is_put() {
    let (mut cards, _) = shelf(4);
    let placed = Placed { hash: 7, name: b"name", card: card(1) };
    cards.put(0, &placed);
    cards.put(0, &placed);
}
