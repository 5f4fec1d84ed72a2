use super::super::{Holder, Watch, release};
use super::*;
use std::os::fd::AsRawFd;
use std::sync::mpsc;

const CARD: Card = Card { segment: 3, offset: 4096, value_bytes: 5, checksum: 6, version: 8 };
const PLACED: Placed<'static> = Placed { hash: 7, name: b"tenant/key", card: CARD };

fn map(file: BorrowedFd<'_>, cards: u64) -> io::Result<SharedShelf> {
    SharedShelf::map(file.try_clone_to_owned().unwrap(), cards)
}

#[test]
fn a_card_is_found_as_long_as_the_hour_has_not_passed() {
    let mut shelf = ShelfRegion::create(64).unwrap();
    let client = map(shelf.file(), 64).unwrap();
    let place = shelf.places(7).start;
    let id = shelf.put(place, &PLACED);
    let find = |now| client.find(7, b"tenant/key", now, |_| {});
    assert_eq!(find(5000), None, "it has not said the hour");
    shelf.say_hour(5000);
    assert_eq!(find(5000), Some((id, CARD)));
    assert_eq!((find(6000), find(6001), find(4999)), (Some((id, CARD)), None, None));
    shelf.take_back(place);
    assert_eq!(find(5000), None);
}

#[test]
fn nothing_is_found_on_the_shelf_of_who_has_gone() {
    let mut shelf = ShelfRegion::create(4).unwrap();
    let client = map(shelf.file(), 4).unwrap();
    shelf.put(0, &PLACED);
    shelf.say_hour(5000);
    assert!(client.find(7, b"tenant/key", 5000, |_| {}).is_some());
    drop(shelf);
    assert!(client.find(7, b"tenant/key", 5000, |_| {}).is_none());
}

#[test]
fn the_kernel_says_that_a_thread_has_died() {
    let (sender, receiver) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut shelf = ShelfRegion::create(4).unwrap();
        shelf.put(0, &PLACED);
        shelf.say_hour(5000);
        sender.send(shelf.file().try_clone_to_owned().unwrap()).unwrap();
        assert!(ended.recv().is_err());
        // Whatever dies here has no time to tidy up.
        std::mem::forget(shelf);
    });
    let client = SharedShelf::map(receiver.recv().unwrap(), 4).unwrap();
    assert!(client.find(7, b"tenant/key", 5000, |_| {}).is_some());
    drop(end);
    thread.join().unwrap();
    assert!(client.find(7, b"tenant/key", 5000, |_| {}).is_none());
}

#[test]
fn clients_cannot_write_to_a_shelf_nor_map_what_is_none() {
    let shelf = ShelfRegion::create(4).unwrap();
    let path = format!("/proc/self/fd/{}", shelf.file().as_raw_fd());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    assert!(MmapOptions::new().len(4096).map_raw(&file).is_err());
    assert!(rustix::io::write(&file, b"x").is_err());
    for cards in [0, 3, 8, 1 << 21, u64::MAX] {
        assert_eq!(map(shelf.file(), cards).unwrap_err().kind(), io::ErrorKind::InvalidData, "{cards}");
    }
    let plain = memfd_create("plain", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&plain, (words_of(4) * WORD_BYTES) as u64).unwrap();
    assert!(SharedShelf::map(plain, 4).is_err(), "somebody could take it away");
}

#[test]
fn both_ends_of_a_lane_see_the_same_holds() {
    let (ours, theirs) = LaneRegion::pair().unwrap();
    let (holds, watched) = (HoldRegion::of(&ours), HoldRegion::of(&theirs));
    let (mut holder, mut watch) = (Holder::new(holds.clone()), Watch::new(watched));
    let mut shelf = ShelfRegion::create(4).unwrap();
    let id = shelf.put(0, &PLACED);
    let place = holder.free_place().unwrap();
    holder.hold(place, id);
    holder.note_use(place);
    let (mut held, mut used) = (Vec::new(), Vec::new());
    watch.held(|id| held.push(id));
    watch.uses(|id| used.push(id));
    release(&holds, place);
    watch.held(|id| held.push(id));
    assert_eq!((held, used), (vec![id], vec![id]));
}
