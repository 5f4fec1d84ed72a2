//! Whose turn it is on a core.
//!
//! A stream that always has more (a client that asks again at once, a value of gigabytes) never makes its task wait,
//! and glommio cannot interrupt a task: the core would send no heartbeat, fire no timer and serve nobody else. So a
//! half that has gone on for [`TURN`] without waiting makes a trip through the ring: a read that is ready at once, but
//! only after the executor has run everybody else and looked at its rings and timers.
//!
//! A short timer would be simpler. Under load it stalled executors of glommio 0.9 for seconds.

use glommio::io::BufferedFile;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// How long a half may go on without waiting for anything.
const TURN: Duration = Duration::from_millis(1);
/// A file that can always be read.
const ALWAYS_READABLE: &str = "/dev/zero";

/// The door to the ring that all streams of a core share.
#[derive(Clone)]
pub(super) struct Turns(Rc<BufferedFile>);

impl Turns {
    pub(super) async fn open() -> io::Result<Self> {
        Ok(Turns(Rc::new(BufferedFile::open(ALWAYS_READABLE).await.map_err(io::Error::from)?)))
    }

    pub(super) fn turn(&self) -> Turn {
        Turn { turns: self.clone(), began: None, is_over: false, trip: None }
    }
}

/// The turn of one half of a stream.
pub(super) struct Turn {
    turns: Turns,
    began: Option<Instant>,
    is_over: bool,
    trip: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Turn {
    /// Ready while the turn lasts; else pending until others have had theirs.
    pub(super) fn poll_mine(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.trip.is_none() {
            if !self.is_over && self.began.get_or_insert_with(Instant::now).elapsed() < TURN {
                return Poll::Ready(());
            }
            let file = self.turns.0.clone();
            self.trip = Some(Box::pin(async move {
                // What is read, or whether, does not matter.
                let _ = file.read_at(0, 1).await;
            }));
        }
        if let Some(trip) = &mut self.trip {
            ready!(trip.as_mut().poll(context));
        }
        (self.trip, self.began, self.is_over) = (None, None, false);
        Poll::Ready(())
    }

    /// The turn is over, however long it has been.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// The half waits: others have their turn now.
    pub(super) fn pass<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() {
            self.began = None;
        }
        result
    }
}
