//! What every disk must do, written once: each platform's tests run [`all`] and [`follows_the_model`] on disks of theirs.
//!
//! Bytes describe themselves: each word of a sector says which sector and which writing it is of, so that bytes that went
//! astray, twice or nowhere are found.

use super::{
    Disk, DiskBuffers, DiskError, DiskSource, DiskTarget, ExtentPart, ReservationPart, SECTOR_BYTES,
};
use crate::memory::{Mapping, Segment};
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use std::io::{self, ErrorKind};
use std::rc::Rc;

pub(crate) const SECTOR: usize = SECTOR_BYTES as usize;
/// The size of a disk for these tests.
pub(crate) const SECTORS: u64 = 1_024;
pub(crate) const BYTES: u64 = SECTORS * SECTOR_BYTES;

/// The bytes of sectors from `first`, as a writing of that number leaves them; of writing 0 they are zeros.
pub(crate) fn bytes_of(writing: u32, first: u64, sectors: u64) -> Vec<u8> {
    let words = (first..first + sectors).flat_map(|sector| [word_of(writing, sector); SECTOR / 8]);
    words.flat_map(u64::to_le_bytes).collect()
}

fn word_of(writing: u32, sector: u64) -> u64 {
    if writing == 0 { 0 } else { u64::from(writing) << 32 | (sector + 1) }
}

/// Which writing each sector is of. Panics if one is mixed or of another place.
fn writings(bytes: &[u8], first: u64) -> Vec<u32> {
    let sectors = bytes.chunks_exact(SECTOR).zip(first..).map(|(bytes, sector)| {
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let writing = (word >> 32) as u32;
        assert_eq!(word, word_of(writing, sector), "sector {sector} is of another place");
        assert!(bytes.chunks_exact(8).all(|other| other == &bytes[..8]), "sector {sector} is mixed");
        writing
    });
    sectors.collect()
}

/// A buffer that tells when it is dropped.
pub(crate) struct Witnessed<B>(pub(crate) B, #[expect(dead_code, reason = "is counted")] pub(crate) Rc<()>);

// SAFETY: what it is around is one.
unsafe impl<B: DiskSource> DiskSource for Witnessed<B> {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

// SAFETY: as above.
unsafe impl<B: DiskTarget> DiskTarget for Witnessed<B> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

pub(crate) async fn put<D: Disk>(disk: &D, writing: u32, first: u64, sectors: u64) -> io::Result<()> {
    disk.write_all_at(first * SECTOR_BYTES, bytes_of(writing, first, sectors)).await.0
}

pub(crate) async fn get<D: Disk>(disk: &D, first: u64, sectors: u64) -> io::Result<Vec<u32>> {
    let buffer = vec![0xee; sectors as usize * SECTOR];
    let (read, bytes) = disk.read_exact_at(first * SECTOR_BYTES, buffer).await;
    read.map(|()| writings(&bytes, first))
}

/// Everything but the model, one after the other.
pub(crate) async fn all<D: Disk>(disk: D) {
    assert_eq!(disk.bytes(), BYTES);
    fresh_is_zeros(&disk).await;
    what_is_written_is_read(&disk).await;
    all_kinds_of_buffers_will_do(&disk).await;
    what_is_not_of_sectors_is_refused(&disk).await;
    the_end_is_the_end(&disk).await;
    more_operations_than_slots(&disk).await;
    what_never_began_does_nothing(&disk).await;
    dropped_operations_go_on(&disk).await;
    what_was_dropped_when_done_is_over(&disk).await;
    segments_are_buffers(&disk).await;
    what_is_discarded_is_zeros_or_old(&disk).await;
}

async fn fresh_is_zeros<D: Disk>(disk: &D) {
    assert_eq!(get(disk, 0, SECTORS).await.expect("no faults"), vec![0; SECTORS as usize]);
}

async fn what_is_written_is_read<D: Disk>(disk: &D) {
    put(disk, 1, 0, SECTORS).await.expect("no faults");
    put(disk, 2, 3, 40).await.expect("no faults");
    put(disk, 3, 5, 1).await.expect("no faults");
    disk.flush().await.expect("no faults");
    let mut expected = vec![1; SECTORS as usize];
    expected[3..43].fill(2);
    expected[5] = 3;
    assert!(get(disk, 0, SECTORS).await.expect("no faults") == expected);
    // In other pieces than it was written in, at once.
    let parts = (0..SECTORS / 8).map(|part| get(disk, part * 8, 8));
    let seen: Vec<u32> =
        join_all(parts).await.into_iter().flat_map(|part| part.expect("no faults")).collect();
    assert!(seen == expected);
    assert_eq!(disk.read(0, Vec::new()).await.0.expect("nothing is asked for"), 0);
    assert_eq!(disk.write(0, Vec::new()).await.0.expect("nothing is given"), 0);
}

async fn all_kinds_of_buffers_will_do<D: Disk>(disk: &D) {
    let buffers = DiskBuffers::new(64 * SECTOR);
    let mut buffer = buffers.take(16 * SECTOR).expect("room");
    buffer.copy_from_slice(&bytes_of(4, 10, 16));
    let (written, buffer) = disk.write_all_at(10 * SECTOR_BYTES, buffer).await;
    written.expect("no faults");
    drop(buffer);
    let (read, buffer) =
        disk.read_exact_at(10 * SECTOR_BYTES, buffers.take(16 * SECTOR).expect("room")).await;
    read.expect("no faults");
    assert_eq!(writings(&buffer, 10), [4; 16]);
    drop(buffer);
    assert_eq!(buffers.used_bytes(), 0);
    // Memory at an odd address, and more of it than is copied at once.
    let odd = |bytes: Vec<u8>| Odd(std::iter::once(0).chain(bytes).collect());
    let (written, _) = disk.write_all_at(100 * SECTOR_BYTES, odd(bytes_of(5, 100, 600))).await;
    written.expect("no faults");
    let (read, mut bytes) = disk.read_exact_at(100 * SECTOR_BYTES, odd(vec![0; 600 * SECTOR])).await;
    read.expect("no faults");
    assert_eq!(writings(bytes.bytes_mut(), 100), [5; 600]);
}

/// Bytes at an odd address.
struct Odd(Vec<u8>);

// SAFETY: a vector's bytes stay where they are, and are its alone.
unsafe impl DiskSource for Odd {
    fn bytes(&self) -> &[u8] {
        &self.0[1..]
    }
}

// SAFETY: as above.
unsafe impl DiskTarget for Odd {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0[1..]
    }
}

async fn what_is_not_of_sectors_is_refused<D: Disk>(disk: &D) {
    let last = u64::MAX - SECTOR_BYTES + 1;
    for (offset, bytes) in [(1, SECTOR), (512, SECTOR), (0, 512), (0, SECTOR + 1), (last, 2 * SECTOR)] {
        let (read, buffer) = disk.read(offset, vec![1; bytes]).await;
        let (written, buffer) = disk.write(offset, buffer).await;
        let discarded = disk.discard(offset, bytes as u64).await;
        assert_eq!(buffer.len(), bytes, "it comes back");
        for error in
            [read.expect_err("refused"), written.expect_err("refused"), discarded.expect_err("refused")]
        {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let expected = DiskError::NotSectors { offset, bytes: bytes as u64 };
            assert_eq!(DiskError::of(&error), Some(&expected));
        }
    }
}

async fn the_end_is_the_end<D: Disk>(disk: &D) {
    put(disk, 6, SECTORS - 4, 4).await.expect("no faults");
    let last = BYTES - SECTOR_BYTES;
    assert_eq!(disk.read(BYTES, vec![0; SECTOR]).await.0.expect("the end"), 0);
    assert_eq!(disk.read(BYTES + (1 << 40), vec![0; SECTOR]).await.0.expect("far behind the end"), 0);
    assert_eq!(disk.read(last, vec![0; 3 * SECTOR]).await.0.expect("one sector"), SECTOR);
    assert_eq!(disk.write(last, bytes_of(7, SECTORS - 1, 3)).await.0.expect("one sector"), SECTOR);
    let behind = disk.write(BYTES, vec![0; SECTOR]).await.0.expect_err("the end");
    assert_eq!(behind.kind(), ErrorKind::StorageFull);
    let eof = disk.read_exact_at(last, vec![0; 2 * SECTOR]).await.0.expect_err("the end");
    assert_eq!(eof.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(DiskError::of(&eof), Some(&DiskError::End { offset: BYTES }));
    let full = disk.write_all_at(last, bytes_of(8, SECTORS - 1, 2)).await.0.expect_err("the end");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    disk.discard(BYTES, 64 * SECTOR_BYTES).await.expect("nobody's");
    assert_eq!(get(disk, SECTORS - 4, 4).await.expect("no faults"), [6, 6, 6, 8]);
    assert_eq!(disk.bytes(), BYTES);
}

async fn more_operations_than_slots<D: Disk>(disk: &D) {
    let writes = (0..SECTORS).map(|sector| put(disk, 9 + sector as u32, sector, 1));
    assert!(join_all(writes).await.into_iter().all(|written| written.is_ok()));
    let reads = join_all((0..2 * SECTORS).map(|number| get(disk, number % SECTORS, 1))).await;
    for (number, read) in reads.into_iter().enumerate() {
        assert_eq!(read.expect("no faults"), [9 + (number as u64 % SECTORS) as u32]);
    }
    // Reads of some places and writes and flushes of others, at once.
    let mixed = (0..64).map(|part| async move {
        let (first, writing) = (part * 16, 3_000 + part as u32);
        let (written, read) = join(put(disk, writing, first, 8), get(disk, first + 8, 8)).await;
        written.expect("no faults");
        assert_eq!(
            read.expect("no faults"),
            (9 + first as u32 + 8..9 + first as u32 + 16).collect::<Vec<_>>()
        );
        disk.flush().await.expect("no faults");
        assert_eq!(get(disk, first, 8).await.expect("no faults"), [writing; 8]);
    });
    join_all(mixed).await;
}

async fn what_never_began_does_nothing<D: Disk>(disk: &D) {
    put(disk, 4_000, 0, 8).await.expect("no faults");
    let witness = Rc::new(());
    drop(disk.write(0, Witnessed(bytes_of(4_001, 0, 8), witness.clone())));
    drop(disk.read(0, Witnessed(vec![0; SECTOR], witness.clone())));
    drop((disk.flush(), disk.discard(0, BYTES)));
    assert_eq!(Rc::strong_count(&witness), 1);
    assert_eq!(get(disk, 0, 8).await.expect("no faults"), [4_000; 8]);
}

async fn dropped_operations_go_on<D: Disk>(disk: &D) {
    let witness = Rc::new(());
    for sector in 0..SECTORS {
        // Polled once, then dropped.
        let buffer = Witnessed(bytes_of(4_002, sector, 1), witness.clone());
        assert!(disk.write(sector * SECTOR_BYTES, buffer).now_or_never().is_none());
        assert!(sector > 0 || Rc::strong_count(&witness) == 2, "it has only begun");
    }
    until_alone(disk, &witness).await;
    assert!(get(disk, 0, SECTORS).await.expect("no faults").iter().all(|writing| *writing == 4_002));
    for _ in 0..300 {
        let buffer = Witnessed(vec![0; 16 * SECTOR], witness.clone());
        assert!(disk.read(0, buffer).now_or_never().is_none());
        assert!(disk.flush().now_or_never().is_none());
    }
    until_alone(disk, &witness).await;
}

/// Until the operations that have these buffers have ended.
async fn until_alone<D: Disk>(disk: &D, witness: &Rc<()>) {
    for _ in 0..100_000 {
        if Rc::strong_count(witness) == 1 {
            return;
        }
        get(disk, 0, 1).await.expect("no faults");
    }
    panic!("{} buffers are still owned", Rc::strong_count(witness) - 1);
}

/// A future that is dropped between the end of its operation and its own.
async fn what_was_dropped_when_done_is_over<D: Disk>(disk: &D) {
    let witness = Rc::new(());
    let mut write = Box::pin(disk.write(0, Witnessed(bytes_of(4_003, 0, 4), witness.clone())));
    assert!(write.as_mut().now_or_never().is_none());
    for _ in 0..100 {
        get(disk, 100, 4).await.expect("no faults");
    }
    disk.flush().await.expect("no faults");
    drop(write);
    until_alone(disk, &witness).await;
}

async fn segments_are_buffers<D: Disk>(disk: &D) {
    let segment = Segment::new(0, Mapping::plain(4 << 20).expect("memory"));
    for is_registered in [false, true] {
        let registered = is_registered.then(|| disk.register(segment.mapping()));
        // Each at another multiple of 512.
        let _gap = segment.reserve(512).expect("room");
        let values = [(16_u64, 4_010), (100, 4_011), (64, 4_012)];
        let round_trips = values.map(|(sectors, writing)| {
            let (segment, disk, first) = (segment.clone(), disk.clone(), u64::from(writing - 4_010) * 100);
            async move {
                let bytes = sectors as usize * SECTOR;
                let mut reservation = segment.reserve(bytes + 512).expect("room");
                reservation.value_mut()[512..].copy_from_slice(&bytes_of(writing, first, sectors));
                let id = reservation.publish();
                let part = ExtentPart::new(segment.pin(id, bytes + 512), 512..bytes + 512);
                let (written, part) = disk.write_all_at(first * SECTOR_BYTES, part).await;
                written.expect("no faults");
                drop(part.into_extent());
                segment.let_go(id);
                let part =
                    ReservationPart::new(segment.reserve(bytes + 512).expect("room"), 512..bytes + 512);
                let (read, part) = disk.read_exact_at(first * SECTOR_BYTES, part).await;
                read.expect("no faults");
                assert_eq!(
                    writings(&part.into_reservation().value()[512..], first),
                    vec![writing; sectors as usize]
                );
            }
        });
        join_all(round_trips).await;
        drop(registered);
    }
    let usage = segment.usage();
    assert_eq!(usage.free_bytes, usage.capacity_bytes);
}

async fn what_is_discarded_is_zeros_or_old<D: Disk>(disk: &D) {
    put(disk, 4_020, 0, SECTORS).await.expect("no faults");
    match disk.discard(10 * SECTOR_BYTES, 500 * SECTOR_BYTES).await {
        // Some file systems cannot.
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        discarded => discarded.expect("no faults"),
    }
    let seen = get(disk, 0, SECTORS).await.expect("no faults");
    let is_legal = |(sector, writing): (usize, &u32)| match sector {
        10..510 => [0, 4_020].contains(writing),
        _ => *writing == 4_020,
    };
    assert!(seen.iter().enumerate().all(is_legal));
    assert_eq!(get(disk, 0, SECTORS).await.expect("no faults"), seen, "it does not change again");
    put(disk, 4_021, 20, 10).await.expect("no faults");
    assert_eq!(get(disk, 20, 10).await.expect("no faults"), [4_021; 10]);
    disk.discard(0, 0).await.or_else(only_unsupported).expect("nothing to discard");
}

fn only_unsupported(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::Unsupported { Ok(()) } else { Err(error) }
}

/// A random program over few sectors against the set of writings that each may hold. Operations of one step are at once,
/// in ranges of their own.
pub(crate) async fn follows_the_model<D: Disk>(disk: D, script: Vec<(u8, u8, u8)>) -> bool {
    const USED: u64 = 64;
    put(&disk, 1, 0, USED).await.expect("no faults");
    let mut model = vec![vec![1]; USED as usize];
    for (number, (what, a, b)) in (2_u32..).zip(script) {
        // Two ranges that do not overlap.
        let middle = 1 + u64::from(a) % (USED - 1);
        let (low, high) = (u64::from(b) % middle, middle + u64::from(b) % (USED - middle));
        let (left, right) = ((low, middle - low), (high, USED - high));
        match what % 5 {
            0 | 1 => {
                let both = join(put(&disk, number, left.0, left.1), get(&disk, right.0, right.1)).await;
                both.0.expect("no faults");
                model[low as usize..middle as usize].fill(vec![number]);
                if !is_legal(&mut model, right.0, &both.1.expect("no faults")) {
                    return false;
                }
            }
            2 => {
                let both = join(put(&disk, number, right.0, right.1), discard(&disk, left)).await;
                both.0.expect("no faults");
                model[high as usize..].fill(vec![number]);
                model[low as usize..middle as usize].iter_mut().for_each(|legal| legal.push(0));
            }
            3 => disk.flush().await.expect("no faults"),
            _ => {
                let seen = get(&disk, 0, USED).await.expect("no faults");
                if !is_legal(&mut model, 0, &seen) {
                    return false;
                }
            }
        }
    }
    let seen = get(&disk, 0, USED).await.expect("no faults");
    is_legal(&mut model, 0, &seen)
}

async fn discard<D: Disk>(disk: &D, (first, sectors): (u64, u64)) {
    let discarded = disk.discard(first * SECTOR_BYTES, sectors * SECTOR_BYTES).await;
    discarded.or_else(only_unsupported).expect("no faults");
}

/// Whether what was seen is legal; from now on it is all that is.
fn is_legal(model: &mut [Vec<u32>], first: u64, seen: &[u32]) -> bool {
    let sectors = model[first as usize..].iter_mut().zip(seen);
    sectors.fold(true, |is_legal, (legal, seen)| {
        let is_in = legal.contains(seen);
        *legal = vec![*seen];
        is_legal && is_in
    })
}
