use super::super::cards::tests::Heap;
use super::*;
use std::collections::BTreeSet;

fn pair() -> (Holder<Heap>, Watch<Heap>, Heap) {
    let words = Heap::new(HOLD_WORDS);
    (Holder::new(words.clone()), Watch::new(words.clone()), words)
}

fn held(watch: &Watch<Heap>) -> BTreeSet<u64> {
    let mut held = BTreeSet::new();
    watch.held(|id| held.extend([id.word()]));
    held
}

fn used(watch: &mut Watch<Heap>) -> Vec<u64> {
    let mut used = Vec::new();
    watch.uses(|id| used.push(id.word()));
    used
}

#[test]
fn what_is_held_is_seen_until_it_is_released_and_no_more_is_held_than_there_are_places() {
    let (mut holder, watch, words) = pair();
    let mut places = Vec::new();
    for number in 1..=HOLDS as u64 {
        let place = holder.free_place().expect("one is free");
        holder.hold(place, CardId::of_word(number));
        places.push(place);
    }
    assert_eq!(holder.free_place(), None);
    assert_eq!(held(&watch), (1..=HOLDS as u64).collect());
    release(&words, places[9]);
    assert_eq!(holder.free_place(), Some(places[9]));
    assert_eq!(held(&watch).len(), HOLDS - 1);
    assert!(!held(&watch).contains(&10));
}

#[test]
fn uses_come_in_order_and_who_has_noted_many_asks_the_core() {
    let (mut holder, mut watch, _) = pair();
    for round in 0..3 {
        for number in 1..=USES_MAX + 1 {
            let place = holder.free_place().expect("there is room");
            holder.hold(place, CardId::of_word(number + round));
            let are_many = holder.note_use(place);
            release(&holder.words, place);
            assert_eq!(are_many, number == USES_MANY);
        }
        assert_eq!(holder.free_place(), None, "the core is to be asked");
        assert_eq!(used(&mut watch), (1 + round..=USES_MAX + 1 + round).collect::<Vec<_>>());
        assert!(used(&mut watch).is_empty());
        assert!(holder.free_place().is_some());
    }
}

#[test]
fn who_says_what_cannot_be_has_used_nothing_and_waits_for_nobody() {
    let (mut holder, mut watch, words) = pair();
    for strange in [USES + 1, u64::MAX, 1 << 63, 7] {
        words.word(NOTED_AT).store(strange, Ordering::Relaxed);
        assert!(used(&mut watch).len() <= USES as usize);
    }
    words.word(TAKEN_AT).store(u64::MAX, Ordering::Relaxed);
    holder.hold(0, CardId::of_word(1));
    let many = (0..USES).filter(|_| holder.note_use(0)).count();
    assert_eq!(many, 1);
    assert_eq!(holder.free_place(), None);
}
