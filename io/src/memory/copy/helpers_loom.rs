//! Every interleaving of callers and helpers (`make loom`).

use super::Helpers;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What pieces write, one each: loom refuses two at once, and a read that does not know of a write.
struct Cells(Vec<UnsafeCell<u32>>);

// SAFETY: loom checks every access, which is what the cells are for.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    fn new(count: usize) -> Self {
        Cells((0..count).map(|_| UnsafeCell::new(0)).collect())
    }

    fn add_one(&self, index: usize) {
        // SAFETY: loom checks that nobody else has the cell open.
        self.0[index].with_mut(|count| unsafe { *count += 1 });
    }

    fn are_all_one(&self) -> bool {
        // SAFETY: as above.
        self.0.iter().all(|cell| cell.with(|count| unsafe { *count } == 1))
    }
}

#[test]
fn each_piece_is_done_once_before_the_caller_goes_on() {
    loom::model(|| {
        let helpers = Helpers::new(1);
        for _ in 0..2 {
            // Gone after each loop: who came late would find it freed.
            let cells = Cells::new(2);
            helpers.for_each(2, &|piece| cells.add_one(piece));
            assert!(cells.are_all_one());
        }
    });
}

#[test]
fn two_callers_share_a_helper() {
    loom::model(|| {
        let helpers = Arc::new(Helpers::new(1));
        let run = |helpers: &Helpers| {
            let cells = Cells::new(2);
            helpers.for_each(2, &|piece| cells.add_one(piece));
            assert!(cells.are_all_one());
        };
        let other = helpers.clone();
        let other = thread::spawn(move || run(&other));
        run(&helpers);
        other.join().unwrap();
    });
}

#[test]
fn a_piece_that_panics_ends_the_loop_when_all_are_done() {
    loom::model(|| {
        let helpers = Helpers::new(1);
        let cells = Cells::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            helpers.for_each(2, &|piece| {
                cells.add_one(piece);
                if piece == 0 {
                    // Without the hook: a line for each interleaving would be a book.
                    resume_unwind(Box::new("on purpose"));
                }
            });
        }));
        assert!(outcome.is_err());
        assert!(cells.are_all_one());
    });
}
