//! The runtime that clients share, and who drives it.
//!
//! A session lives in a runtime of its own (see `snowskin_io::sockets`). Blocking calls drive it on the caller's
//! thread. Asynchronous calls have no thread to give, so the first of them starts one; from then on that thread
//! drives, and blocking calls of the same client wait for it: use one kind where latency counts.

use crate::config::ClientConfig;
use crate::error::Error;
use crate::local::{Local, Manner};
use crate::options::{self, PutOptions};
use crate::outcome::ClientCounters;
use crate::session::Session;
use crate::started::Started;
use futures_channel::oneshot;
use snowskin_io::Moment;
use snowskin_io::sockets::{Resident, SocketsPlatform, SocketsRuntime};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{NameRef, ObjectName};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest deadline: more than anybody means.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A core that says nothing in a lane for this long is asked by the session.
const LANE_PATIENCE_MAX: Duration = Duration::from_secs(1);

/// The session that tasks get.
pub(crate) type LocalSession = Rc<Session<SocketsPlatform>>;

/// A handle to a session in its runtime.
#[derive(Clone)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// The ways to cores of this machine that need no runtime.
    local: Option<Arc<Local>>,
    tenant: Arc<str>,
    deadline: Duration,
    /// How long a core may be silent in a lane.
    lane_patience: Duration,
}

/// Before the session is asked there has to be time left.
fn lane_patience(deadline: Duration) -> Duration {
    (deadline / 2).min(LANE_PATIENCE_MAX)
}

struct Shared {
    resident: Arc<Resident<LocalSession>>,
    /// Ends the background thread when it is dropped with the last handle.
    thread: Started<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, Error> {
        let runtime = SocketsRuntime::new(config.spin).map_err(|error| Error::Runtime(error.to_string()))?;
        let (tenant, deadline) = (config.tenant.as_str().into(), config.deadline);
        let local = Local::new(&config);
        let observer = local.clone();
        let resident = Arc::new(Resident::new(runtime, |platform| {
            let session = Session::open(platform, config);
            if let Some(local) = observer {
                session.observe(move |table| local.adopt(table));
            }
            session
        }));
        let shared = Arc::new(Shared { resident, thread: Started::new() });
        Ok(Driver { shared, local, tenant, deadline, lane_patience: lane_patience(deadline) })
    }

    /// The ways to cores of this machine that need no runtime, if they are to be used.
    pub(crate) fn local(&self) -> Option<&Local> {
        self.local.as_deref()
    }

    /// How a call is made in lanes.
    pub(crate) fn manner(&self) -> Manner<'_> {
        Manner { tenant: &self.tenant, patience: self.lane_patience, deadline: self.deadline }
    }

    /// The same driver for what is left of a call after so long.
    pub(crate) fn after(&self, spent: Duration) -> Self {
        self.with_deadline(self.deadline.saturating_sub(spent))
    }

    pub(crate) fn with_deadline(&self, deadline: Duration) -> Self {
        Driver { deadline, lane_patience: lane_patience(deadline), ..self.clone() }
    }

    /// Counters, with those of the ways that need no runtime.
    pub(crate) fn with_local(&self, mut counters: ClientCounters) -> ClientCounters {
        self.local.iter().for_each(|local| local.add_to(&mut counters));
        counters
    }

    /// The hash of a key's name, which is written to `room`; `None`: it is no key.
    pub(crate) fn hash(&self, key: &[u8], room: &mut Vec<u8>) -> Option<u64> {
        NameRef::compose(&self.tenant, key, room).ok().map(NameRef::hash)
    }

    /// The hints of a batch, for items in this order.
    pub(crate) fn hints<'k>(&self, items: impl Iterator<Item = (&'k [u8], &'k PutOptions)>) -> Vec<PutHints> {
        options::hints(&self.tenant, &items.collect::<Vec<_>>())
    }

    /// The name of a key, or why it has none.
    pub(crate) fn name(&self, key: &[u8]) -> Result<ObjectName, Error> {
        ObjectName::new(&self.tenant, key).map_err(Error::InvalidKey)
    }

    /// The names of keys, or per key why it has none; then the valid ones are asked for alone.
    pub(crate) fn names<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Names {
        let mut names = Names { valid: Vec::with_capacity(keys.size_hint().0), invalid: Vec::new() };
        for (index, key) in keys.enumerate() {
            match self.name(key) {
                Ok(name) => names.valid.push(name),
                Err(error) => names.invalid.push((index, error)),
            }
        }
        names
    }

    /// Starts `make`'s future in the runtime, with its deadline.
    fn start<F, T>(&self, make: F) -> oneshot::Receiver<T::Output>
    where
        F: FnOnce(LocalSession, Moment) -> T + Send + 'static,
        T: Future + 'static,
        T::Output: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let ends = Instant::now() + self.deadline.min(DEADLINE_MAX);
        self.shared.resident.spawn(move |session| {
            let session = session.clone();
            async move {
                let deadline = session.platform().moment_of(ends);
                // Pinned where it is made: a future that is awaited by value has room for itself twice.
                let work = pin!(make(session, deadline));
                // A caller that no longer waits needs no answer.
                let _ = sender.send(work.await);
            }
        });
        receiver
    }

    /// Runs `make`'s future to its end, driving the runtime on this thread.
    pub(crate) fn block_on<F, T>(&self, make: F) -> Result<T::Output, Error>
    where
        F: FnOnce(LocalSession, Moment) -> T + Send + 'static,
        T: Future + 'static,
        T::Output: Send + 'static,
    {
        // Started from inside, so that the runtime, which is about to look for tasks anyway, need not be woken up by a
        // system call.
        let root = async { self.start(make).await };
        self.shared.resident.block_on(root).map_err(|_| Error::Closed)
    }

    /// Runs `make`'s future to its end on the background thread.
    pub(crate) async fn run<F, T>(&self, make: F) -> Result<T::Output, Error>
    where
        F: FnOnce(LocalSession, Moment) -> T + Send + 'static,
        T: Future + 'static,
        T::Output: Send + 'static,
    {
        self.ensure_thread()?;
        self.start(make).await.map_err(|_| Error::Closed)
    }

    fn ensure_thread(&self) -> Result<(), Error> {
        self.shared.thread.ensure(|| {
            let (sender, ended) = oneshot::channel();
            let resident = self.shared.resident.clone();
            std::thread::Builder::new()
                .name("snowskin-client".into())
                .spawn(move || {
                    // Ends when the sender is dropped; nothing is ever sent.
                    let _ = resident.block_on(ended);
                })
                .map_err(|error| Error::Runtime(error.to_string()))?;
            Ok(sender)
        })
    }
}

/// Names of a batch's valid keys, and errors for the others by their index.
pub(crate) struct Names {
    pub(crate) valid: Vec<ObjectName>,
    pub(crate) invalid: Vec<(usize, Error)>,
}

/// Whether the key at `index` of a batch has a name.
pub(crate) fn is_valid(invalid: &[(usize, Error)], index: usize) -> bool {
    invalid.iter().all(|(other, _)| *other != index)
}

/// An answer for each key: those of the valid ones, with the errors of the invalid ones put in between. If the call
/// as a whole failed, that is the answer of each.
pub(crate) fn spread<T>(
    answers: Result<Vec<Result<T, Error>>, Error>,
    valid: usize,
    invalid: Vec<(usize, Error)>,
) -> Vec<Result<T, Error>> {
    let mut answers = answers.unwrap_or_else(|error| (0..valid).map(|_| Err(error.clone())).collect());
    // In ascending order, so each index is right when its turn comes.
    for (index, error) in invalid {
        answers.insert(index, Err(error));
    }
    answers
}
