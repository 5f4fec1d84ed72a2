//! A cluster of our own for the time of a run: one master and some engines as child processes on loopback.

use crate::process::{Process, ProcessError, find};
use crate::store::{Membership, Reach, connect};
use snowskin_client::Transport;
use snowskin_protocol::ByteSize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MASTER: &str = "snowskin-master";
const ENGINE: &str = "snowskin-engine";
/// How long the engines may take to find each other and share out the slots.
const WHOLE_WAIT: Duration = Duration::from_secs(30);
/// Fill levels at which eviction starts and stops. High, because a run says beforehand how much memory there is, and
/// its hit rate is put beside that of an ideal cache which fills its memory entirely.
const WATERMARKS: (&str, &str) = ("0.98", "0.97");

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterPlan {
    pub(crate) engines: usize,
    pub(crate) cores_per_engine: usize,
    pub(crate) memory_bytes_per_engine: u64,
    pub(crate) lease_ms: u64,
    /// How long an engine's core polls before it sleeps; the engine's own choice if `None`.
    pub(crate) spin_us: Option<u64>,
    /// `None`: memory only.
    pub(crate) ssd: Option<SsdPlace>,
}

/// Where the engines' SSD tiers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SsdPlace {
    /// Each engine has a folder in it.
    pub(crate) folder: PathBuf,
    pub(crate) bytes_per_engine: u64,
    /// The engine's own choice if `None`.
    pub(crate) region_bytes: Option<u64>,
    /// What goes there, and when: flags of the engine and their values.
    pub(crate) manner: Vec<(&'static str, String)>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{program} says it is ready with a line we do not understand: \"{line}\"")]
    ReadyLine { program: &'static str, line: String },
    #[error("after {WHOLE_WAIT:?} the cluster is not whole: {0}")]
    NotWhole(String),
    #[error("the SSD tier's folder {path}: {reason}")]
    Folder { path: String, reason: std::io::Error },
}

impl SsdPlace {
    fn folder_of(&self, engine: &str) -> PathBuf {
        self.folder.join(engine)
    }

    fn make_folder(&self, engine: &str) -> Result<(), ClusterError> {
        let path = self.folder_of(engine);
        std::fs::create_dir_all(&path)
            .map_err(|reason| ClusterError::Folder { path: path.display().to_string(), reason })
    }

    fn arguments(&self, engine: &str) -> Vec<String> {
        let folder = self.folder_of(engine).display().to_string();
        let size = self.bytes_per_engine.to_string();
        let mut arguments = vec!["--ssd".to_owned(), folder, "--ssd-size".to_owned(), size];
        if let Some(bytes) = self.region_bytes {
            arguments.extend(["--ssd-region".to_owned(), bytes.to_string()]);
        }
        arguments.extend(self.manner.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]));
        arguments
    }
}

/// A running cluster. Dropping it stops the engines, then the master.
#[derive(Debug)]
pub(crate) struct Cluster {
    plan: ClusterPlan,
    engines: Vec<(Process, String)>,
    master: Process,
    master_address: SocketAddr,
    master_http: String,
}

impl Cluster {
    /// Starts everything and waits until every core serves its slots.
    pub(crate) fn start(plan: &ClusterPlan) -> Result<Self, ClusterError> {
        // Both are looked for before either is started.
        let (master_program, engine_program) = (find(MASTER)?, find(ENGINE)?);
        let ready = format!("{MASTER} is ready: ");
        let (master, line) = Process::start(MASTER, &master_program, &master_arguments(plan), &ready)?;
        let (master_address, master_http) = parse_master(&line[ready.len()..])
            .ok_or(ClusterError::ReadyLine { program: MASTER, line: line.clone() })?;
        let mut cluster =
            Cluster { plan: plan.clone(), engines: Vec::new(), master, master_address, master_http };
        let ready = format!("{ENGINE} is ready: ");
        for number in 1..=plan.engines {
            let name = format!("engine-{number}");
            let arguments = engine_arguments(plan, &name, master_address);
            if let Some(ssd) = &plan.ssd {
                ssd.make_folder(&name)?;
            }
            let (engine, line) = Process::start(&name, &engine_program, &arguments, &ready)?;
            cluster.engines.push((engine, line[ready.len()..].to_owned()));
        }
        cluster.await_whole()?;
        Ok(cluster)
    }

    /// Where clients begin.
    pub(crate) fn seeds(&self) -> Vec<SocketAddr> {
        vec![self.master_address]
    }

    /// All processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.engines.iter().map(|(engine, _)| engine.pid()).chain([self.master.pid()]).collect()
    }

    /// The process of engine `index`, from 0.
    pub(crate) fn engine_pid(&self, index: usize) -> u32 {
        self.engines[index].0.pid()
    }

    /// What runs, a line each, for people.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "master    pid {:<7} {}   page: {}",
            self.master.pid(),
            self.master_address,
            self.master_http
        )];
        for (number, (engine, where_it_listens)) in self.engines.iter().enumerate() {
            lines.push(format!(
                "engine-{} pid {:<7} {}, {}",
                number + 1,
                engine.pid(),
                ByteSize(self.plan.memory_bytes_per_engine),
                where_it_listens
            ));
            if let Some(ssd) = &self.plan.ssd {
                lines.push(format!(
                    "{:10}and {} on the SSD, in {}",
                    "",
                    ByteSize(ssd.bytes_per_engine),
                    ssd.folder.display()
                ));
            }
        }
        lines
    }

    /// An error if a process has ended that should not have.
    pub(crate) fn check_alive(&mut self) -> Result<(), ProcessError> {
        self.master.check_alive()?;
        self.engines.iter_mut().try_for_each(|(engine, _)| engine.check_alive())
    }

    fn await_whole(&mut self) -> Result<(), ClusterError> {
        let cores = self.plan.engines * self.plan.cores_per_engine;
        let reach =
            Reach { seeds: self.seeds(), spin: Duration::ZERO, checksums: true, transport: Transport::Auto };
        let begun = Instant::now();
        let mut last = "no member has answered".to_owned();
        while begun.elapsed() < WHOLE_WAIT {
            self.check_alive()?;
            match connect(&reach).and_then(|store| store.members()) {
                Ok(found) if found == (Membership { cores, slots_waiting: 0 }) => return Ok(()),
                Ok(found) => {
                    last = format!(
                        "{} of {cores} cores, {} slots are waiting",
                        found.cores, found.slots_waiting
                    );
                }
                Err(failure) => last = failure.sentence,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(ClusterError::NotWhole(last))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All at once, then each is waited for when its guard drops; the master last, so that engines can leave.
        self.engines.iter().for_each(|(engine, _)| engine.terminate());
        self.engines.clear();
    }
}

fn master_arguments(plan: &ClusterPlan) -> Vec<String> {
    let lease = plan.lease_ms.to_string();
    let (high, low) = WATERMARKS;
    let anywhere = "127.0.0.1:0";
    [
        "--listen",
        anywhere,
        "--http",
        anywhere,
        "--lease-ms",
        &lease,
        "--high-watermark",
        high,
        "--low-watermark",
        low,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn engine_arguments(plan: &ClusterPlan, name: &str, master: SocketAddr) -> Vec<String> {
    let (cores, memory) = (plan.cores_per_engine.to_string(), plan.memory_bytes_per_engine.to_string());
    let master = master.to_string();
    let mut arguments = [
        "--cores",
        &cores,
        "--memory",
        &memory,
        "--listen",
        "127.0.0.1:0",
        "--master",
        &master,
        "--name",
        name,
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(spin_us) = plan.spin_us {
        arguments.extend(["--spin-us".to_owned(), spin_us.to_string()]);
    }
    if let Some(ssd) = &plan.ssd {
        arguments.extend(ssd.arguments(name));
    }
    arguments
}

/// `frames on ADDR, http on http://ADDR`
fn parse_master(line: &str) -> Option<(SocketAddr, String)> {
    let (frames, http) = line.strip_prefix("frames on ")?.split_once(", http on ")?;
    Some((frames.trim().parse().ok()?, http.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_line() {
        let (address, http) =
            parse_master("frames on 127.0.0.1:7400, http on http://127.0.0.1:7401").unwrap();
        assert_eq!((address.port(), http.as_str()), (7400, "http://127.0.0.1:7401"));
        assert_eq!(parse_master("all is well"), None);
        assert_eq!(parse_master("frames on nowhere, http on x"), None);
    }

    #[test]
    fn arguments_name_every_choice() {
        let plan = ClusterPlan {
            engines: 1,
            cores_per_engine: 2,
            memory_bytes_per_engine: 4096,
            lease_ms: 50,
            spin_us: Some(0),
            ssd: None,
        };
        let arguments = |plan| engine_arguments(plan, "e", "127.0.0.1:1".parse().unwrap()).join(" ");
        let engine = "--cores 2 --memory 4096 --listen 127.0.0.1:0 --master 127.0.0.1:1 --name e --spin-us 0";
        assert_eq!(arguments(&plan), engine);
        let folder = PathBuf::from("d");
        let ssd = SsdPlace {
            folder,
            bytes_per_engine: 9,
            region_bytes: Some(3),
            manner: vec![("--ssd-mode", "off".to_owned())],
        };
        assert_eq!(
            arguments(&ClusterPlan { ssd: Some(ssd), ..plan.clone() }),
            format!("{engine} --ssd d/e --ssd-size 9 --ssd-region 3 --ssd-mode off")
        );
        assert!(master_arguments(&plan).join(" ").contains("--lease-ms 50 --high-watermark 0.98"));
    }
}
