//! Every interleaving of a caller that takes its buffer back and tasks that would still use it (`make loom`).
//!
//! loom does not see raw pointers. So each buffer has a witness, a cell that is opened for exactly as long as somebody
//! uses the buffer, and whose openings loom refuses to overlap or to follow each other without a happens-before.

use super::{LoanMut, lend, lend_mut};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Opened while the buffer is used. The count is there so that a use takes its time: loom changes threads only where
/// they meet, and within a use they would not.
#[derive(Clone)]
struct Witness(Arc<(UnsafeCell<()>, AtomicUsize)>);

// SAFETY: the cell's content has no bytes; loom checks every opening, which is what the witness is for.
unsafe impl Send for Witness {}
// SAFETY: as above.
unsafe impl Sync for Witness {}

impl Witness {
    fn new() -> Self {
        Witness(Arc::new((UnsafeCell::new(()), AtomicUsize::new(0))))
    }

    fn writes<R>(&self, work: impl FnOnce() -> R) -> R {
        self.takes_its_time(|| self.0.0.with_mut(|_| work()))
    }

    fn reads<R>(&self, work: impl FnOnce() -> R) -> R {
        self.takes_its_time(|| self.0.0.with(|_| work()))
    }

    fn takes_its_time<R>(&self, work: impl FnOnce() -> R) -> R {
        // No test has two readers, so nobody ever finds another one.
        assert_eq!(self.0.1.fetch_add(1, Ordering::Relaxed), 0, "two uses at once");
        let result = work();
        self.0.1.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

/// A task of the client: two system calls, each on what is left of the loan. Answers how many it could make.
fn fill_twice(loan: &LoanMut, witness: &Witness, byte: u8) -> usize {
    let fill = |bytes: &mut [u8]| witness.writes(|| bytes.fill(byte));
    (0..2).filter(|_| loan.with(0, fill).is_some()).count()
}

#[test]
fn after_the_scope_nobody_writes() {
    loom::model(|| {
        let witness = Witness::new();
        let mut buffer = [0; 8];
        let task = lend_mut(&mut [&mut buffer], |loan| {
            let witness = witness.clone();
            thread::spawn(move || (fill_twice(&loan, &witness, 7), loan))
        });
        let seen = witness.writes(|| buffer);
        assert!(seen == [0; 8] || seen == [7; 8], "part of a write: {seen:?}");
        let (writes, loan) = task.join().unwrap();
        assert_eq!(buffer, seen, "written after the scope");
        assert_eq!(seen == [7; 8], writes > 0);
        assert_eq!(loan.with(0, |_| ()), None);
    });
}

#[test]
fn two_tasks_and_the_caller_take_turns() {
    loom::model(|| {
        let witness = Witness::new();
        let mut buffer = [0; 4];
        let tasks = lend_mut(&mut [&mut buffer], |loan| {
            [1, 2].map(|byte| {
                let (loan, witness) = (loan.clone(), witness.clone());
                thread::spawn(move || _ = loan.with(0, |bytes| witness.writes(|| bytes.fill(byte))))
            })
        });
        let seen = witness.writes(|| buffer);
        assert!(seen.iter().all(|byte| *byte == seen[0]), "two writes at once: {seen:?}");
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(buffer, seen, "written after the scope");
    });
}

#[test]
fn after_the_scope_nobody_reads() {
    loom::model(|| {
        let witness = Witness::new();
        let mut buffer = vec![5; 8];
        let task = lend(&[&buffer], |loan| {
            let witness = witness.clone();
            thread::spawn(move || loan.with(0, |bytes| witness.reads(|| bytes.to_vec())))
        });
        witness.writes(|| buffer.fill(0));
        drop(buffer);
        let read = task.join().unwrap();
        assert!(read.is_none_or(|read| read == [5; 8]), "read after the scope");
    });
}

#[test]
fn a_scope_that_unwinds_takes_the_buffer_back() {
    loom::model(|| {
        let witness = Witness::new();
        let mut buffer = [0; 8];
        let mut task = None;
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lend_mut(&mut [&mut buffer], |loan| {
                let witness = witness.clone();
                task = Some(thread::spawn(move || fill_twice(&loan, &witness, 7)));
                // Without the hook: a line for each interleaving would be a book.
                std::panic::resume_unwind(Box::new("on purpose"));
            })
        }));
        assert!(unwound.is_err());
        let seen = witness.writes(|| buffer);
        let writes = task.expect("it was started").join().unwrap();
        assert_eq!((buffer == [7; 8], buffer), (writes > 0, seen), "written after the scope");
    });
}
