//! What the kernel lets this process do, and whether that is enough for an engine.
//!
//! [`KernelFacts`] are read once; [`judge`] decides about them without looking at the machine again, so that every
//! verdict has a test.

use super::pages;
use crate::config::PagePlan;
use rustix::process::{Resource, getrlimit};
use snowskin_io::memory::{TransparentTrial, try_transparent_pages};
use snowskin_io::probe::{ExecutorProbeError, probe_executor};
use snowskin_protocol::ByteSize;
use snowskin_protocol::units::KIB;
use std::fs;
use std::path::Path;

/// Older kernels lack MADV_POPULATE_WRITE, with which memory is filled; the executor needs io_uring as of 5.8.
const KERNEL_MIN: (u32, u32) = (5, 14);
/// An executor refuses to start below this.
const MEMLOCK_BYTES_MIN: u64 = 512 * KIB;
/// Files of a core besides its connections: rings, event and memory files, the listening socket.
const FILES_PER_CORE: u64 = 32;
/// Files of the process besides its cores: log, master, ledger.
const FILES_OF_PROCESS: u64 = 64;
/// The system call was refused by permissions or a seccomp profile.
const EPERM: i32 = 1;
/// The system call is not in this kernel, or a seccomp profile says so.
const ENOSYS: i32 = 38;
/// No memory may be locked for the ring.
const ENOMEM: i32 = 12;

/// How an ability serves the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that an engine can use.
    Good,
    /// It runs, with less.
    Limited,
    /// It cannot run.
    Fatal,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ability {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it; empty if nothing.
    pub(crate) advice: String,
}

/// What the kernel says.
#[derive(Debug)]
pub(crate) struct KernelFacts {
    /// `/proc/sys/kernel/osrelease`.
    pub(crate) release: Option<String>,
    pub(crate) executor: Result<(), ExecutorProbeError>,
    /// Bytes that may be locked; `None`: no limit.
    pub(crate) memlock_bytes: Option<u64>,
    /// Files that may be open; `None`: no limit.
    pub(crate) open_files: Option<u64>,
    /// How memory of segments comes to transparent huge pages.
    pub(crate) transparent_trial: TransparentTrial,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`: `always [madvise] never`.
    pub(crate) transparent_huge_pages: Option<String>,
}

/// What an engine needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs<'a> {
    pub(crate) cores: u16,
    pub(crate) connections_max: u64,
    /// NUMA nodes, by core.
    pub(crate) nodes: &'a [Option<u32>],
    pub(crate) pages: &'a PagePlan,
    pub(crate) prefault: bool,
}

impl KernelFacts {
    /// Asks the kernel, and tries an executor.
    pub(crate) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(Path::new(path)).ok().map(|text| text.trim().to_owned());
        KernelFacts {
            release: text("/proc/sys/kernel/osrelease"),
            executor: probe_executor(),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            open_files: getrlimit(Resource::Nofile).current,
            transparent_trial: try_transparent_pages(),
            transparent_huge_pages: text("/sys/kernel/mm/transparent_hugepage/enabled"),
        }
    }
}

/// One verdict for each ability.
pub(crate) fn judge(facts: &KernelFacts, needs: &Needs<'_>) -> Vec<Ability> {
    vec![
        kernel(facts),
        io_uring(facts),
        memlock(facts),
        open_files(facts, needs),
        pages::huge_pages(needs),
        pages::segment_pages(facts, needs),
        transparent_huge_pages(facts),
    ]
}

pub(super) fn ability(name: &'static str, verdict: Verdict, found: String, advice: &str) -> Ability {
    Ability { name, verdict, found, advice: advice.to_owned() }
}

fn kernel(facts: &KernelFacts) -> Ability {
    let Some(release) = &facts.release else {
        let advice = "is /proc mounted? an engine needs it";
        return ability("kernel", Verdict::Limited, "unknown".to_owned(), advice);
    };
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL_MIN {
        let advice = format!("use a kernel from {}.{} on", KERNEL_MIN.0, KERNEL_MIN.1);
        return ability("kernel", Verdict::Fatal, release.clone(), &advice);
    }
    ability("kernel", Verdict::Good, release.clone(), "")
}

fn io_uring(facts: &KernelFacts) -> Ability {
    let error = match &facts.executor {
        Ok(()) => return ability("io_uring", Verdict::Good, "usable: an executor ran".to_owned(), ""),
        Err(error) => error,
    };
    let advice = match error.errno() {
        Some(EPERM) => {
            "allow io_uring: a container's seccomp profile forbids it (docker: --security-opt seccomp=unconfined or a \
             profile with io_uring_setup, io_uring_enter and io_uring_register), or set \
             /proc/sys/kernel/io_uring_disabled to 0"
        }
        Some(ENOSYS) => {
            "use a kernel with io_uring, or a container runtime that passes it on (gVisor does not)"
        }
        Some(ENOMEM) => "raise the memlock limit: ulimit -l unlimited, or docker --ulimit memlock=-1",
        _ => "an engine needs io_uring; clients do not and can run here",
    };
    ability("io_uring", Verdict::Fatal, error.to_string(), advice)
}

fn memlock(facts: &KernelFacts) -> Ability {
    let Some(bytes) = facts.memlock_bytes else {
        return ability("memlock limit", Verdict::Good, "unlimited".to_owned(), "");
    };
    let found = ByteSize(bytes).to_string();
    if bytes < MEMLOCK_BYTES_MIN {
        let least = ByteSize(MEMLOCK_BYTES_MIN);
        let advice = format!("give at least {least}: ulimit -l unlimited, or docker --ulimit memlock=-1");
        return ability("memlock limit", Verdict::Fatal, found, &advice);
    }
    ability("memlock limit", Verdict::Good, found, "")
}

fn open_files(facts: &KernelFacts, needs: &Needs<'_>) -> Ability {
    let own = u64::from(needs.cores) * FILES_PER_CORE + FILES_OF_PROCESS;
    let wanted = own + needs.connections_max;
    let Some(files) = facts.open_files else {
        return ability("open files limit", Verdict::Good, "unlimited".to_owned(), "");
    };
    let found = files.to_string();
    if files < own {
        let advice = format!("give at least {own}, better {wanted}: ulimit -n {wanted}");
        return ability("open files limit", Verdict::Fatal, found, &advice);
    }
    if files < wanted {
        let advice = format!(
            "enough for {} of {} connections: ulimit -n {wanted}, or lower connections-max",
            files - own,
            needs.connections_max
        );
        return ability("open files limit", Verdict::Limited, found, &advice);
    }
    ability("open files limit", Verdict::Good, found, "")
}

fn transparent_huge_pages(facts: &KernelFacts) -> Ability {
    let name = "transparent huge pages";
    let mode = facts.transparent_huge_pages.as_deref().unwrap_or("");
    let chosen = mode.split(['[', ']']).nth(1).unwrap_or("unknown").to_owned();
    match chosen.as_str() {
        "always" | "madvise" => ability(name, Verdict::Good, chosen, ""),
        _ => ability(name, Verdict::Limited, chosen, "index and buffers use normal pages"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowskin_io::memory::PageChoice;
    use std::io;

    fn facts() -> KernelFacts {
        KernelFacts {
            release: Some("6.1.0-18-amd64".to_owned()),
            executor: Ok(()),
            memlock_bytes: None,
            open_files: Some(1 << 20),
            transparent_trial: TransparentTrial::WhenTouched,
            transparent_huge_pages: Some("always [madvise] never".to_owned()),
        }
    }

    fn judge_all(facts: &KernelFacts) -> Vec<Ability> {
        let pages = pages::tests::plan(PageChoice::Auto, 1024);
        let needs =
            Needs { cores: 4, connections_max: 4096, nodes: &[None; 4], pages: &pages, prefault: true };
        judge(facts, &needs)
    }

    fn verdict(facts: &KernelFacts, name: &str) -> (Verdict, String) {
        let all = judge_all(facts);
        let found = all.iter().find(|ability| ability.name == name).expect("an ability");
        assert_eq!(found.verdict == Verdict::Good, found.advice.is_empty(), "{found:?}");
        (found.verdict, found.advice.clone())
    }

    #[test]
    fn a_good_machine_is_good() {
        let all = judge_all(&facts());
        assert!(all.iter().all(|ability| ability.verdict == Verdict::Good), "{all:?}");
    }

    #[test]
    fn kernels() {
        for (release, expected) in [
            (Some("5.4.0-generic"), Verdict::Fatal),
            (Some("4.19"), Verdict::Fatal),
            (Some("odd"), Verdict::Fatal),
            (Some("5.13.9"), Verdict::Fatal),
            (Some("5.14.0"), Verdict::Good),
            (None, Verdict::Limited),
        ] {
            let facts = KernelFacts { release: release.map(str::to_owned), ..facts() };
            assert_eq!(verdict(&facts, "kernel").0, expected, "{release:?}");
        }
    }

    #[test]
    fn each_refusal_of_io_uring_has_its_advice() {
        for (errno, expected) in
            [(EPERM, "seccomp"), (ENOSYS, "gVisor"), (ENOMEM, "memlock"), (22, "clients do not")]
        {
            let refused = ExecutorProbeError::Refused(io::Error::from_raw_os_error(errno));
            let (verdict, advice) = verdict(&KernelFacts { executor: Err(refused), ..facts() }, "io_uring");
            assert_eq!(verdict, Verdict::Fatal);
            assert!(advice.contains(expected), "{advice}");
        }
    }

    #[test]
    fn limits() {
        let low = KernelFacts { memlock_bytes: Some(64 * KIB), open_files: Some(100), ..facts() };
        assert_eq!(verdict(&low, "memlock limit").0, Verdict::Fatal);
        assert_eq!(verdict(&low, "open files limit").0, Verdict::Fatal);
        let middle = KernelFacts { memlock_bytes: Some(512 * KIB), open_files: Some(1024), ..facts() };
        assert_eq!(verdict(&middle, "memlock limit").0, Verdict::Good);
        let (limited, advice) = verdict(&middle, "open files limit");
        assert_eq!(limited, Verdict::Limited);
        assert!(advice.contains("enough for 832 of 4096 connections"), "{advice}");
        assert_eq!(
            verdict(&KernelFacts { open_files: None, ..facts() }, "open files limit").0,
            Verdict::Good
        );
    }

    #[test]
    fn transparent_pages_of_everything_else() {
        let none = KernelFacts { transparent_huge_pages: None, ..facts() };
        assert_eq!(verdict(&none, "transparent huge pages").0, Verdict::Limited);
    }

    #[test]
    fn this_kernel_answers() {
        let facts = KernelFacts::read();
        assert!(facts.release.is_some() && facts.executor.is_ok(), "{facts:?}");
    }
}
