//! Every interleaving of callers that need the background thread, and of its end (`make loom`).

use super::Started;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, mpsc};
use loom::thread;

/// Ends the background thread when it is dropped, as the sender of the driver does. (loom's senders do not.)
struct End(mpsc::Sender<()>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send(()).expect("the background thread waits");
    }
}

/// What the driver's handles share, with a start that only leaves a mark.
struct Shared {
    started: Started<()>,
    starts: AtomicUsize,
    /// Whether the thread is there. Relaxed everywhere, so that only `Started` orders what callers see.
    ready: AtomicBool,
    fail_first: AtomicBool,
}

impl Shared {
    fn new(fail_first: bool) -> Arc<Shared> {
        Arc::new(Shared {
            started: Started::new(),
            starts: AtomicUsize::new(0),
            ready: AtomicBool::new(false),
            fail_first: AtomicBool::new(fail_first),
        })
    }

    fn ensure(&self) -> Result<(), ()> {
        self.started.ensure(|| {
            if self.fail_first.load(Ordering::Relaxed) {
                self.fail_first.store(false, Ordering::Relaxed);
                return Err(());
            }
            self.starts.fetch_add(1, Ordering::Relaxed);
            self.ready.store(true, Ordering::Relaxed);
            Ok(())
        })
    }
}

#[test]
fn callers_at_once_start_one_thread_and_none_goes_on_without() {
    loom::model(|| {
        let shared = Shared::new(false);
        let call = |shared: Arc<Shared>| {
            move || {
                assert_eq!(shared.ensure(), Ok(()));
                assert!(shared.ready.load(Ordering::Relaxed), "goes on before the thread is there");
            }
        };
        let others = [call(shared.clone()), call(shared.clone())].map(thread::spawn);
        call(shared.clone())();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.starts.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_start_that_fails_is_one_callers_failure_and_the_next_one_tries_again() {
    loom::model(|| {
        let shared = Shared::new(true);
        let others = [shared.clone(), shared.clone()].map(|shared| thread::spawn(move || shared.ensure()));
        let mut answers = vec![shared.ensure()];
        answers.extend(others.map(|other| other.join().unwrap()));
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
        assert_eq!(shared.starts.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn the_thread_ends_with_the_last_handle_and_not_before() {
    loom::model(|| {
        let handles = Arc::new(Started::new());
        let handles_left = Arc::new(AtomicUsize::new(2));
        let (end, ended) = mpsc::channel();
        let background = {
            let handles_left = handles_left.clone();
            thread::spawn(move || {
                ended.recv().expect("the end says so");
                assert_eq!(handles_left.load(Ordering::Relaxed), 0, "a handle has lost its thread");
            })
        };
        let other = {
            let (handles, end, handles_left) = (handles.clone(), end.clone(), handles_left.clone());
            thread::spawn(move || {
                assert_eq!(handles.ensure(|| Ok::<_, ()>(End(end))), Ok(()));
                handles_left.fetch_sub(1, Ordering::Relaxed);
            })
        };
        assert_eq!(handles.ensure(|| Ok::<_, ()>(End(end))), Ok(()));
        handles_left.fetch_sub(1, Ordering::Relaxed);
        drop(handles);
        other.join().unwrap();
        // A thread that nobody ends would be a deadlock, which loom reports.
        background.join().unwrap();
    });
}
