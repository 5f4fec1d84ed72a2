//! Sequences of events that once went wrong, or well could.

use crate::Lives;
use crate::paper::Plan;

#[test]
fn a_tombstone_that_waits_does_not_end_what_is_written_after_it() {
    let mut lives = Lives::new(8, 4);
    lives.live_calmly(|core| async move {
        core.put(1, 100).await.expect("room");
        core.commit().await.expect("no faults");
        // Buries the first one, which waits for a commit, and writes the second.
        core.put(1, 200).await.expect("room");
        core.commit().await.expect("no faults");
    });
    assert_eq!(lives.live_calmly(|core| async move { core.read_all().await.expect("whole") }), 1);
}

#[test]
fn what_stands_in_a_region_whose_header_was_lost_does_not_come_back_under_the_next_one() {
    let mut lives = Lives::new(8, 4);
    let (disk, _) = lives.live(Plan::Calm, |core| async move {
        for key in 1..4 {
            core.put(key, 100).await.expect("room");
        }
    });
    // The power fails: of the region's sectors only those of the last two records have reached the medium.
    let (mut image, unflushed) = disk.remains();
    let first = 256;
    image.extend(unflushed.into_iter().filter(|(sector, _)| (first + 2..first + 4).contains(sector)));
    lives.image = image;
    lives.live_calmly(|core| async move {
        core.put(3, 50).await.expect("room");
        core.commit().await.expect("no faults");
    });
    assert_eq!(lives.live_calmly(|core| async move { core.read_all().await.expect("whole") }), 1);
}
