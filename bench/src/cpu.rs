//! CPU time and placement, from `/proc`.

use std::fs;

/// CPU seconds (user and system, all threads) that a process has used. `None` when it is gone.
pub(crate) fn seconds_of(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU seconds of this process and of these others.
pub(crate) fn seconds_of_all(others: &[u32]) -> f64 {
    others.iter().chain([&std::process::id()]).filter_map(|&pid| seconds_of(pid)).sum()
}

/// Fields 14 and 15 of `/proc/PID/stat`; the name before them may contain anything, so count from its end.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The CPU that a thread of this process is pinned to, if one is pinned to exactly one: an engine's core.
pub(crate) fn pinned_cpu_of(pid: u32) -> Option<usize> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|task| single_cpu(&fs::read_to_string(task.path().join("status")).ok()?))
}

fn single_cpu(status: &str) -> Option<usize> {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
}

/// The CPUs this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Pins the calling thread.
pub(crate) fn pin_to(cpu: usize) -> std::io::Result<()> {
    allow(&[cpu])
}

/// Lets the calling thread run on these.
fn allow(cpus: &[usize]) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set).map_err(std::io::Error::from)
}

/// The calling thread is pinned; when this is dropped, by the same thread, it may run again where it might before.
pub(crate) struct Pin {
    before: Vec<usize>,
}

impl Pin {
    pub(crate) fn to(cpu: usize) -> std::io::Result<Self> {
        let before = allowed();
        pin_to(cpu).map(|()| Pin { before })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Err(error) = allow(&self.before) {
            log::warn!("this thread stays pinned: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0";
        assert_eq!(ticks(stat), Some(100));
        assert_eq!(ticks("12 (short) S 1"), None);
    }

    #[test]
    fn a_pin_ends() {
        let before = allowed();
        let pin = Pin::to(before[0]).unwrap();
        assert_eq!(allowed(), before[..1]);
        drop(pin);
        assert_eq!(allowed(), before);
    }

    #[test]
    fn our_own_time_grows() {
        let before = seconds_of(std::process::id()).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        assert!(seconds_of(std::process::id()).unwrap() > before);
        assert_eq!(seconds_of(u32::MAX), None);
    }

    #[test]
    fn a_single_cpu_and_a_list() {
        assert_eq!(single_cpu("Name:\tx\nCpus_allowed_list:\t3\n"), Some(3));
        assert_eq!(single_cpu("Cpus_allowed_list:\t0-1\n"), None);
    }
}
