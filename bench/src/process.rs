//! Child processes that never outlive us.
//!
//! Four ways to end, all covered: the guard is dropped (return, error, unwinding): SIGTERM, a bounded wait,
//! SIGKILL; a panic in a release build aborts: the hook of [`crate::interrupt`] kills all; Ctrl-C: the run ends and
//! drops its guards, because children are in process groups of their own and do not see the terminal's signal;
//! SIGKILL of ourselves: the kernel signals the children, because they asked for it (`PR_SET_PDEATHSIG`) before they
//! became what they are: we start ourselves with the hidden command `with-parent`, which asks and then executes
//! the program in its place, so no code runs between fork and exec.

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The hidden command that ties a child to its parent's life.
pub(crate) const WITH_PARENT: &str = "with-parent";
/// How long a child may take from SIGTERM to its end.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// How long a child may take to print its first line.
const READY_WAIT: Duration = Duration::from_secs(60);
/// The last lines of a child's error output that are kept for the message when it fails.
const LAST_LINES: usize = 20;

/// All children that live, for those ways to end in which no guard is dropped.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Why a child is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The program does not exist where we look.
    #[error(
        "cannot find {name} beside {}: build everything with `cargo build --release --workspace`, or give the \
         address of a running master with --master",
        .beside.display()
    )]
    Missing {
        /// The program.
        name: String,
        /// Where we looked.
        beside: PathBuf,
    },
    /// The program cannot be started.
    #[error("cannot start {name}: {reason}")]
    Start {
        /// The program.
        name: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The program ended, or stayed silent, instead of saying that it is ready.
    #[error("{name} {what}; the last it said:\n{last}")]
    NotReady {
        /// The program.
        name: String,
        /// What it did instead.
        what: String,
        /// The end of its error output.
        last: String,
    },
}

/// A running child. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

/// The path of a program of ours: beside this executable, or one folder up (tests run from `deps`).
pub(crate) fn find(program: &str) -> Result<PathBuf, ProcessError> {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    let above = folder.parent().map(|above| above.join(program));
    let places = [Some(folder.join(program)), above];
    places
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
        .ok_or(ProcessError::Missing { name: program.to_owned(), beside: folder })
}

impl Process {
    /// Starts `program` and waits for a line on its standard output that begins with `ready`; returns that line.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        ready: &str,
    ) -> Result<(Self, String), ProcessError> {
        Self::start_with(name, program, arguments, Stdio::null(), ready)
    }

    /// The same, with something on its standard input.
    pub(crate) fn start_with(
        name: &str,
        program: &Path,
        arguments: &[String],
        input: Stdio,
        ready: &str,
    ) -> Result<(Self, String), ProcessError> {
        let mut command = tied_to_us(program);
        command.args(arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|reason| ProcessError::Start { name: name.to_owned(), reason })?;
        lock(&CHILDREN).push(child.id());
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        let errors = child.stderr.take().expect("piped");
        keep_last_lines(name.to_owned(), errors, Arc::clone(&last_lines));
        let lines = lines_of(child.stdout.take().expect("piped"));
        let mut process = Process { name: name.to_owned(), child, last_lines };
        let line = process.await_line(&lines, ready)?;
        Ok((process, line))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended, which it should not have.
    pub(crate) fn check_alive(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.not_ready(format!("ended early ({status})"))),
            _ => Ok(()),
        }
    }

    /// Asks it to end. [`Process::finish`] waits.
    pub(crate) fn terminate(&self) {
        // It may have ended already; then there is nobody to signal, and its id is ours until we wait for it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Waits for its end, and kills it when that takes too long.
    pub(crate) fn finish(&mut self) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < STOP_WAIT {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(status)) => return self.gone(Some(status)),
                Err(_) => break,
            }
        }
        log::warn!("{} does not stop on SIGTERM within {STOP_WAIT:?}: killing it", self.name);
        let _ = self.child.kill();
        let status = self.child.wait().ok();
        self.gone(status)
    }

    fn gone(&self, status: Option<ExitStatus>) -> Option<ExitStatus> {
        lock(&CHILDREN).retain(|&pid| pid != self.child.id());
        status
    }

    fn await_line(&mut self, lines: &Receiver<String>, ready: &str) -> Result<String, ProcessError> {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(ready) => return Ok(line),
                Ok(line) => log::debug!("{}: {line}", self.name),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.not_ready(format!("is not ready after {READY_WAIT:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status =
                        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                    return Err(self.not_ready(format!("ended before it was ready ({status})")));
                }
            }
        }
    }

    fn not_ready(&self, what: String) -> ProcessError {
        // The thread that reads the error output may be a moment behind the end of the process.
        std::thread::sleep(Duration::from_millis(50));
        let lines: Vec<String> = lock(&self.last_lines).iter().map(|line| format!("    {line}")).collect();
        let last = if lines.is_empty() { "    nothing".to_owned() } else { lines.join("\n") };
        ProcessError::NotReady { name: self.name.clone(), what, last }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
        self.finish();
    }
}

/// Kills every child that lives. For ways to end in which guards are not dropped.
pub(crate) fn kill_all() {
    for pid in lock(&CHILDREN).drain(..) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The hidden command: asks for the parent's death signal, then becomes the program. Returns only on failure.
pub(crate) fn become_child(parent: u32, program: &str, arguments: &[String]) -> std::io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return error.into();
    }
    // The parent may have died before the request: then nobody will ever signal us.
    if getppid().map(|pid| pid.as_raw_nonzero().get() as u32) != Some(parent) {
        return std::io::Error::other("the parent is gone");
    }
    Command::new(program).args(arguments).exec()
}

/// Through `with-parent` of this program, if this program is ours (tests are not).
fn tied_to_us(program: &Path) -> Command {
    match find(env!("CARGO_PKG_NAME")) {
        Ok(own) => {
            let mut command = Command::new(own);
            command.arg(WITH_PARENT).arg(std::process::id().to_string()).arg(program);
            command
        }
        Err(_) => Command::new(program),
    }
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody listens after the first line, and the pipe must be emptied all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn keep_last_lines(name: String, errors: impl Read + Send + 'static, kept: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            log::debug!("{name}: {line}");
            let mut kept = lock(&kept);
            if kept.len() == LAST_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
}

/// The lists behind these locks are whole at every moment, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, ready: &str) -> Result<(Process, String), ProcessError> {
        Process::start("sh", Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], ready)
    }

    fn lives(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_child_is_ready_and_ends_with_its_guard() {
        let (process, line) = shell("echo warming up; echo ready on 1; sleep 60", "ready").unwrap();
        assert_eq!(line, "ready on 1");
        let pid = process.pid();
        assert!(lives(pid));
        drop(process);
        assert!(!lives(pid));
    }

    #[test]
    fn a_child_that_fails_tells_what_it_said() {
        let error = shell("echo no port >&2; exit 3", "ready").expect_err("it fails").to_string();
        assert!(error.contains("ended before it was ready") && error.contains("no port"), "{error}");
        let (mut process, _) = shell("echo ready; echo later >&2; exit 4", "ready").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let error = process.check_alive().expect_err("it has ended").to_string();
        assert!(error.contains("ended early") && error.contains("later"), "{error}");
    }

    #[test]
    fn what_is_missing_is_said_with_how_to_build_it() {
        let error = find("snowskin-nonsense").expect_err("no such program").to_string();
        assert!(error.contains("cargo build --release --workspace"), "{error}");
    }
}
