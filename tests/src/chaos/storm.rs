//! The faults: they begin at random, last for a random time, and end.

use super::cluster::{Cluster, ENGINES};
use super::record::Record;
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Client processes.
pub(super) const CLIENTS: usize = 3;
/// Engines, dead or alive.
const ENGINES_MAX: usize = 5;
/// Pause between two faults.
const PAUSE_MS: std::ops::Range<u64> = 50..700;
/// How long an engine or the master is stopped. A core that is silent for 10 s is declared dead, and one that lives
/// on without knowing it excuses nearly everything: so it never is.
const STOP_MS: std::ops::Range<u64> = 200..4_000;
/// How long an engine or the master is down.
const DOWN_MS: std::ops::Range<u64> = 100..3_000;
/// After a stop, and before the next one of the same engine: enough for several heartbeats.
const STOP_PAUSE: Duration = Duration::from_secs(4);

/// What may happen, as often as it stands here.
const FAULTS: [Fault; 14] = [
    Fault::KillEngine,
    Fault::KillEngine,
    Fault::KillEngine,
    Fault::StopEngine,
    Fault::StopEngine,
    Fault::StopEngine,
    Fault::KillMaster,
    Fault::KillMaster,
    Fault::StopMaster,
    Fault::KillClient,
    Fault::KillClient,
    Fault::KillClient,
    Fault::Join,
    Fault::Leave,
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillEngine,
    StopEngine,
    KillMaster,
    StopMaster,
    KillClient,
    Join,
    Leave,
}

enum Cure {
    StartEngine(usize),
    ContinueEngine(usize),
    StartMaster,
    ContinueMaster,
}

/// The faults of one fire.
pub(super) struct Storm {
    random: StdRng,
    record: Arc<Record>,
    active: Vec<(Instant, Cure)>,
    next: Instant,
}

impl Storm {
    /// Faults that follow from `random`, as far as they follow from anything.
    pub(super) fn new(random: StdRng, record: Arc<Record>) -> Storm {
        Storm { random, record, active: Vec::new(), next: Instant::now() }
    }

    /// Kills an engine that stays down until the end of the fire, so that it is declared dead.
    pub(super) fn kill_for_good(&mut self, cluster: &mut Cluster) {
        let Some(number) = self.one_of(cluster.healthy()) else { return };
        cluster.kill_engine(number);
        self.happened(Fault::KillEngine, &format!("engine {number}, until it is declared dead"));
    }

    /// Lets end what is due to end, and begin what is due to begin.
    pub(super) fn blow(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let due: Vec<_> = self.active.extract_if(.., |(until, _)| *until <= now).collect();
        due.into_iter().for_each(|(_, cure)| self.cure(cure, cluster));
        if now >= self.next {
            self.next = now + self.millis(PAUSE_MS);
            let fault = FAULTS[self.random.random_range(0..FAULTS.len())];
            self.begin(fault, cluster);
        }
    }

    /// Ends everything: no more faults, and the cluster is of its full size.
    pub(super) fn clear(mut self, cluster: &mut Cluster) {
        for (_, cure) in std::mem::take(&mut self.active) {
            self.cure(cure, cluster);
        }
        for number in cluster.down() {
            if cluster.engine_count() - cluster.down().len() < ENGINES {
                cluster.start_engine(number);
            }
        }
        self.record.tell("no more faults");
    }

    fn begin(&mut self, fault: Fault, cluster: &mut Cluster) {
        let healthy = cluster.healthy();
        // One engine and the others' remains go on, so that there is something to be wrong.
        let can_spare = healthy.len() > 1;
        let words = match fault {
            Fault::KillEngine if can_spare => self.one_of(healthy).map(|number| {
                cluster.kill_engine(number);
                self.end_after(DOWN_MS, Cure::StartEngine(number));
                format!("engine {number}")
            }),
            Fault::StopEngine if can_spare => {
                let is_due = |&number: &usize| cluster.engine(number).fresh_since.elapsed() > STOP_PAUSE;
                self.one_of(healthy.into_iter().filter(is_due).collect()).map(|number| {
                    cluster.stop_engine(number, true);
                    self.end_after(STOP_MS, Cure::ContinueEngine(number));
                    format!("engine {number}")
                })
            }
            Fault::KillMaster if cluster.master_is_healthy() => {
                cluster.kill_master();
                self.end_after(DOWN_MS, Cure::StartMaster);
                Some("down".to_owned())
            }
            Fault::StopMaster if cluster.master_is_healthy() => {
                cluster.stop_master(true);
                self.end_after(STOP_MS, Cure::ContinueMaster);
                Some("stopped".to_owned())
            }
            Fault::KillClient => {
                let at = self.random.random_range(0..CLIENTS);
                cluster.replace_client(at);
                Some(format!("process {at}"))
            }
            Fault::Join if cluster.engine_count() < ENGINES_MAX => {
                let number = cluster.engine_count();
                cluster.start_engine(number);
                Some(format!("engine {number}"))
            }
            Fault::Leave if healthy.len() > 2 => self.one_of(healthy).map(|number| {
                cluster.let_engine_leave(number);
                format!("engine {number}")
            }),
            _ => None,
        };
        if let Some(words) = words {
            self.happened(fault, &words);
        }
    }

    fn happened(&self, fault: Fault, words: &str) {
        self.record.tell(format!("{fault:?}: {words}"));
        self.record.count(format!("fault {fault:?}"));
    }

    fn cure(&mut self, cure: Cure, cluster: &mut Cluster) {
        let words = match cure {
            Cure::StartEngine(number) => {
                cluster.start_engine(number);
                format!("engine {number} starts")
            }
            Cure::ContinueEngine(number) => {
                cluster.stop_engine(number, false);
                format!("engine {number} goes on")
            }
            Cure::StartMaster => {
                cluster.restart_master();
                "the master starts".to_owned()
            }
            Cure::ContinueMaster => {
                cluster.stop_master(false);
                "the master goes on".to_owned()
            }
        };
        self.record.tell(words);
    }

    fn end_after(&mut self, millis: std::ops::Range<u64>, cure: Cure) {
        let until = Instant::now() + self.millis(millis);
        self.active.push((until, cure));
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    fn one_of(&mut self, from: Vec<usize>) -> Option<usize> {
        if from.is_empty() { None } else { Some(from[self.random.random_range(0..from.len())]) }
    }
}
