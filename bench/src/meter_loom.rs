//! Every interleaving of workers that record and the watcher that takes their recorders away (`make loom`).

use super::{Live, Measured, Recorder, SECOND, Shared, Worker, take_second};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

const WORKERS: usize = 2;

#[test]
fn what_is_recorded_is_counted_once() {
    loom::model(|| {
        let recorders: Arc<Vec<Mutex<Recorder>>> = Arc::new((0..WORKERS).map(|_| Mutex::default()).collect());
        let shared = Arc::new(Shared { live: AtomicUsize::new(WORKERS), ..Shared::default() });
        let start = |index: usize| {
            let (recorders, shared) = (recorders.clone(), shared.clone());
            thread::spawn(move || {
                let _live = Live(&shared.live);
                let worker = Worker { index, recorder: &recorders[index], shared: &shared };
                worker.record().counts.operations += 1;
                worker.record().counts.hits += 1;
            })
        };
        let workers = [start(0), start(1)];
        let mut measured = Measured::default();
        take_second(&recorders, SECOND, SECOND, &mut measured, &mut None).unwrap();
        // Whoever sees that nobody lives any more sees all that they have recorded, before any join.
        let all_ended = shared.live.load(Ordering::Acquire) == 0;
        take_second(&recorders, 2 * SECOND, SECOND, &mut measured, &mut None).unwrap();
        let all = (WORKERS as u64, WORKERS as u64);
        let counted = |measured: &Measured| (measured.total.counts.operations, measured.total.counts.hits);
        assert!(!all_ended || counted(&measured) == all);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        take_second(&recorders, 3 * SECOND, SECOND, &mut measured, &mut None).unwrap();
        assert_eq!(counted(&measured), all);
        assert_eq!(measured.seconds.iter().map(|second| second.operations).sum::<u64>(), all.0);
    });
}
