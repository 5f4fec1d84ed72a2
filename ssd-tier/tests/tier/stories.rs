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

#[test]
fn a_volume_that_is_abandoned_after_a_failure_holds_nothing() {
    let put = |core: crate::PaperCore| async move {
        let put = core.put(1, 5_000).await;
        let committed = core.commit().await;
        put.is_err() || committed.is_err()
    };
    let filled = || {
        let mut lives = Lives::new(8, 4);
        assert!(!lives.live_calmly(put));
        lives
    };
    // What a life does before it is asked for anything.
    let (opened, _) = filled().live(Plan::Calm, |_core| async {});
    let mut ended = 0;
    for number in opened.operations()..opened.operations() + 12 {
        let lives = filled();
        let (disk, was_abandoned) =
            lives.live(Plan::Fails(number, crate::paper::Part::Nothing), move |core| async move {
                put(core.clone()).await;
                let is_ended = core.volume.is_ended();
                if is_ended {
                    core.volume.abandon().await.expect("only one operation fails");
                }
                is_ended
            });
        if was_abandoned == Some(true) {
            ended += 1;
            // Whoever knows of nothing finds nothing.
            let mut next = Lives::new(8, 4);
            next.image = disk.image();
            assert_eq!(next.live_calmly(|core| async move { core.read_all().await.expect("whole") }), 0);
        }
    }
    assert!(ended > 0, "no failure ends the writing");
}
