//! The shelf against what the shard itself would answer, and what clients hold of it.

use super::super::tests::{NOW, accounts_are_square, get, name, put, remove, shard, table};
use super::*;
use quickcheck::quickcheck;
use snowskin_io::lane::{Holder, SharedShelf, release};
use snowskin_protocol::Checksum;
use snowskin_protocol::wire::data::ItemStatus;
use std::time::Duration;

const HOUR: u64 = 1000;

/// A client that reads a shard's shelf.
struct Client {
    shelf: SharedShelf,
    holds: HoldRegion,
    holder: Holder<HoldRegion>,
    reader: ReaderId,
}

impl Client {
    fn of(shard: &mut Shard) -> Self {
        if shard.shelf().is_none() {
            shard.enable_shelf(ShelfRegion::create(16).unwrap());
            shard.say_hour(HOUR);
        }
        let (file, cards) = shard.shelf().unwrap();
        let shelf = SharedShelf::map(file.try_clone_to_owned().unwrap(), cards).unwrap();
        let (ours, theirs) = LaneRegion::pair().unwrap();
        let reader = shard.add_reader(&theirs).unwrap();
        let holds = HoldRegion::of(&ours);
        Client { shelf, holder: Holder::new(holds.clone()), holds, reader }
    }

    /// Where it holds a card, and what that says.
    fn find(&mut self, key: &str) -> Option<(usize, Card)> {
        let at = self.holder.free_place()?;
        let name = name(key);
        let hash = name.as_ref().hash();
        let found = self.shelf.find(hash, name.as_ref().bytes(), HOUR, |id| self.holder.hold(at, id));
        if found.is_none() {
            release(&self.holds, at);
        }
        let (_, card) = found?;
        self.holder.note_use(at);
        Some((at, card))
    }

    fn give_back(&self, at: usize) {
        release(&self.holds, at);
    }
}

/// A get as a lane does it.
fn read(shard: &mut Shard, key: &str, now: Moment) -> Option<(SharedPlace, Extent)> {
    let extent = get(shard, key, now).ok()?;
    let (number, offset) = extent.location();
    let place = SharedPlace { segment: shard.segments().serial(number), handle: 0, offset };
    shard.shelve(name(key).as_ref().hashed(), place, now);
    Some((place, extent))
}

/// The same, so often that it is on the shelf.
fn shelve(shard: &mut Shard, key: &str) {
    (0..3).for_each(|_| assert!(read(shard, key, NOW).is_some()));
}

quickcheck! {
    fn what_is_on_the_shelf_is_what_the_shard_would_answer(steps: Vec<(u8, u8)>) -> bool {
        let mut shard = shard(24 * 4096);
        let mut client = Client::of(&mut shard);
        let mut held: Vec<(usize, SharedPlace, Extent)> = Vec::new();
        let (mut now, mut epoch) = (NOW, 1);
        for (what, which) in steps {
            let key = &format!("key {}", which % 16);
            now = now + Duration::from_millis(u64::from(what % 4) * 30);
            match what % 16 {
                0..4 => drop(put(&mut shard, key, &vec![which; 1 + usize::from(what) * 60])),
                4 => drop(remove(&mut shard, key, what >= 128, now)),
                5 if what >= 200 => {
                    // The slots go and come back: nothing of before counts.
                    (0..2).for_each(|home| {
                        epoch += 1;
                        shard.apply_table(&table(epoch, 1 - home, snowskin_protocol::table::NOBODY));
                    });
                }
                6 => shard.take_in_uses(now),
                7 if !held.is_empty() => client.give_back(held.swap_remove(usize::from(which) % held.len()).0),
                8 | 9 => {
                    if let Some((at, card)) = client.find(key) {
                        let (place, extent) = read(&mut shard, key, now).expect("it is held");
                        assert_eq!((card.segment, card.offset), (place.segment, place.offset));
                        held.push((at, place, extent));
                    }
                }
                _ => drop(read(&mut shard, key, now)),
            }
            for number in 0..16 {
                let key = &format!("key {number}");
                let Some((at, card)) = client.find(key) else { continue };
                let (place, extent) = read(&mut shard, key, now).expect("what is on the shelf is held");
                assert_eq!((card.segment, card.offset), (place.segment, place.offset));
                assert_eq!(card.value_bytes, extent.bytes());
                assert_eq!(Checksum(card.checksum), Checksum::of(extent.value()));
                client.give_back(at);
            }
            let (on_shelf, _) = shard.shelf_bytes();
            assert!(on_shelf <= shard.segments().capacity_bytes() / BYTES_SHARE);
            accounts_are_square(&shard);
        }
        held.into_iter().for_each(|(at, ..)| client.give_back(at));
        shard.look_at_holds();
        shard.shelf_bytes().1 == 0
    }
}

/// A shard with a key on the shelf, and a client that reads there.
fn shelved() -> (Shard, Client) {
    let mut shard = shard(1 << 20);
    let client = Client::of(&mut shard);
    put(&mut shard, "key", &[5; 9]);
    shelve(&mut shard, "key");
    (shard, client)
}

#[test]
fn what_is_read_twice_is_found_without_asking_until_it_is_no_more() {
    let mut shard = shard(1 << 20);
    let mut client = Client::of(&mut shard);
    put(&mut shard, "key", &[5; 9]);
    assert!(read(&mut shard, "key", NOW).is_some() && client.find("key").is_none(), "it was read once");
    assert!(read(&mut shard, "key", NOW).is_some());
    let (at, card) = client.find("key").expect("it is on the shelf");
    assert_eq!((card.value_bytes, card.checksum), (9, Checksum::of(&[5; 9]).0));
    client.give_back(at);
    assert_eq!(remove(&mut shard, "key", true, NOW).status, ItemStatus::Ok);
    assert!(client.find("key").is_none());
    assert_eq!(shard.shelf_bytes(), (0, 0));
}

#[test]
fn bytes_that_a_client_holds_are_kept_until_it_does_not_or_is_gone() {
    let mut shard = shard(1 << 20);
    let (mut first, mut second) = (Client::of(&mut shard), Client::of(&mut shard));
    let free = shard.stats().free_bytes;
    for is_killed in [false, true] {
        put(&mut shard, "key", &[5; 9]);
        shelve(&mut shard, "key");
        let (held, other) = (first.find("key").unwrap().0, second.find("key").unwrap().0);
        assert_eq!(remove(&mut shard, "key", true, NOW).status, ItemStatus::Ok);
        first.give_back(held);
        assert!(!shard.look_at_holds(), "the other one holds it");
        let stats = shard.stats();
        assert!(stats.pinned_bytes > 0 && stats.shelf_held_bytes == 9 && stats.free_bytes < free);
        match is_killed {
            false => {
                second.give_back(other);
                assert!(shard.look_at_holds());
            }
            true => shard.remove_reader(second.reader, NOW),
        }
        assert_eq!((shard.stats().free_bytes, shard.shelf_bytes()), (free, (0, 0)));
        accounts_are_square(&shard);
    }
}

#[test]
fn uses_are_leases_and_hits_as_if_the_core_had_been_asked() {
    let later = |ms| NOW + Duration::from_millis(ms);
    let (mut shard, mut client) = shelved();
    let hits = shard.stats().get_hits;
    let at = client.find("key").unwrap().0;
    client.give_back(at);
    // The lease of what the core was asked for is over by now.
    assert_eq!(remove(&mut shard, "key", false, later(150)).status, ItemStatus::Leased);
    assert_eq!((shard.stats().get_hits, shard.stats().shelf_hits), (hits + 1, 1));
    assert_eq!(remove(&mut shard, "key", false, later(300)).status, ItemStatus::Ok);
}

/// Takes cards back, for whatever reason.
type Cause = fn(&mut Shard, Position);

#[test]
fn who_has_read_a_card_has_a_lease_whatever_becomes_of_the_card() {
    let causes: [Cause; 3] = [
        |shard, _| shard.apply_table(&table(2, 1, 0)),
        |shard, _| shard.take_off(0..16),
        |shard, position| shard.take_off_shelf(position),
    ];
    let later = NOW + Duration::from_millis(70);
    for cause in causes {
        for is_held in [false, true] {
            let (mut shard, mut client) = shelved();
            shard.take_in_uses(later);
            let at = client.find("key").expect("it is on the shelf").0;
            if !is_held {
                client.give_back(at);
            }
            let position = shard.index.find(name("key").as_ref().hashed()).expect("it is there");
            assert!(shard.index.row(position).lease_until() < later + Duration::from_millis(100));
            cause(&mut shard, position);
            assert!(client.find("key").is_none());
            assert_eq!(shard.index.row(position).lease_until(), later + Duration::from_millis(100));
        }
    }
}

#[test]
fn who_is_read_after_it_was_chosen_is_not_evicted() {
    let (mut shard, mut client) = shelved();
    let later = NOW + Duration::from_millis(200);
    let victim = shard.victim(later, 1, true).expect("its lease is over");
    let at = client.find("key").expect("it is on the shelf").0;
    shard.evict(victim);
    client.give_back(at);
    assert!(client.find("key").is_none() && get(&mut shard, "key", later).is_ok());
}

#[test]
fn who_moves_out_leaves_nothing_on_the_shelf() {
    let (mut shard, mut client) = shelved();
    assert!(client.find("key").is_some());
    shard.apply_table(&table(2, 1, 0));
    assert!(client.find("key").is_none(), "another core is the home");
    assert_eq!(shard.shelf_bytes(), (0, 9), "but the client reads it still");
}

#[test]
fn cards_that_are_used_stay_when_others_want_their_places() {
    let mut shard = shard(1 << 20);
    let mut client = Client::of(&mut shard);
    for number in 0..64 {
        put(&mut shard, &format!("key {number}"), &[number; 9]);
    }
    let mut found = 0;
    for round in 0..6 {
        for number in 0..64 {
            shelve(&mut shard, &format!("key {number}"));
            // The first few are read again and again.
            for hot in 0..4 {
                let at = client.find(&format!("key {hot}")).map(|(at, _)| at);
                found += usize::from(round > 0 && at.is_some());
                at.into_iter().for_each(|at| client.give_back(at));
            }
            shard.take_in_uses(NOW);
        }
    }
    assert_eq!(found, 5 * 64 * 4, "those that came first are used");
    // Later, when nobody has used them for a while.
    let later = NOW + IDLE_TIME;
    for number in 4..64 {
        (0..3).for_each(|_| drop(read(&mut shard, &format!("key {number}"), later)));
    }
    let left = (0..4).filter(|hot| client.find(&format!("key {hot}")).is_some()).count();
    assert!(left < 4 && (4..64).any(|number| client.find(&format!("key {number}")).is_some()));
}
