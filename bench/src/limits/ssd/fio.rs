//! What the disk can do: fio, as a child, on the same file system.

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// Operations that are under way at a time.
pub(super) const DEPTH: usize = 32;
/// Time for either side to become busy, and for a device to use up what it allows for a moment only. It does not count.
pub(super) const RAMP: Duration = Duration::from_millis(300);

/// What fio is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// At any place of a file that is there.
    Reads,
    /// From the beginning of a file to its end, again and again.
    Writes,
}

/// fio, if it is there, and how it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fio {
    /// Whether the kernel knows its buffers beforehand, as it knows an engine's segments.
    has_fixed_buffers: bool,
}

impl Fio {
    /// `None`: it is not installed. Tries on a small file in `folder` whether the kernel takes its buffers.
    pub(super) fn find(folder: &Path) -> Result<Option<Fio>, String> {
        match Command::new("fio").arg("--version").output() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("fio cannot be started: {error}")),
        }
        let trial = folder.join("fio-trial");
        let rate = |has_fixed_buffers| {
            let job =
                Job { file: &trial, file_bytes: 64 << 20, block_bytes: 1 << 20, pattern: Pattern::Writes };
            Fio { has_fixed_buffers }.bytes_per_s(&job, Duration::from_millis(50))
        };
        let has_fixed_buffers = rate(true).is_ok();
        let found = if has_fixed_buffers { Ok(0.0) } else { rate(false) };
        let removed = std::fs::remove_file(&trial);
        found?;
        removed.map_err(|error| format!("{}: {error}", trial.display()))?;
        Ok(Some(Fio { has_fixed_buffers }))
    }

    /// For people.
    pub(super) fn in_words(self) -> String {
        let buffers = if self.has_fixed_buffers { "fixedbufs" } else { "without fixedbufs" };
        format!("fio: io_uring, O_DIRECT, depth {DEPTH}, one thread, {buffers}")
    }

    /// Runs for so long. Answers how fast it was.
    pub(super) fn bytes_per_s(self, job: &Job<'_>, time: Duration) -> Result<f64, String> {
        let arguments = job.arguments(self.has_fixed_buffers, time);
        let output =
            Command::new("fio").args(&arguments).output().map_err(|error| format!("fio: {error}"))?;
        parse(&output, job.pattern)
    }
}

/// One job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) file: &'a Path,
    pub(super) file_bytes: u64,
    pub(super) block_bytes: usize,
    pub(super) pattern: Pattern,
}

impl Job<'_> {
    fn arguments(&self, has_fixed_buffers: bool, time: Duration) -> Vec<String> {
        let Job { file, file_bytes, block_bytes, pattern } = self;
        let mut arguments = vec![
            "--name=limit".to_owned(),
            // Options of an engine are known after it.
            "--ioengine=io_uring".to_owned(),
            format!("--filename={}", file.display()),
            format!("--size={}", file_bytes / *block_bytes as u64 * *block_bytes as u64),
            format!("--bs={block_bytes}"),
            format!("--iodepth={DEPTH}"),
            format!("--ramp_time={}ms", RAMP.as_millis()),
            format!("--runtime={}ms", time.as_millis()),
            format!("--fixedbufs={}", u8::from(has_fixed_buffers)),
        ];
        let always = ["--direct=1", "--time_based", "--thread", "--output-format=json"];
        arguments.extend(always.map(str::to_owned));
        let of_pattern: &[&str] = match pattern {
            Pattern::Reads => &["--rw=randread", "--norandommap", "--randrepeat=0", "--readonly"],
            Pattern::Writes => &["--rw=write", "--refill_buffers=0"],
        };
        arguments.extend(of_pattern.iter().map(|&argument| argument.to_owned()));
        arguments
    }
}

fn parse(output: &Output, pattern: Pattern) -> Result<f64, String> {
    let complaint = || format!("fio failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(complaint());
    }
    // Warnings may stand before it.
    let begin = output.stdout.iter().position(|&byte| byte == b'{').ok_or_else(complaint)?;
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout[begin..]).map_err(|error| format!("fio's output: {error}"))?;
    let side = match pattern {
        Pattern::Reads => "read",
        Pattern::Writes => "write",
    };
    let rate = json["jobs"][0][side]["bw_bytes"].as_f64();
    rate.filter(|rate| *rate > 0.0).ok_or_else(|| "fio's output has no bw_bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn output(stdout: &str, code: i32) -> Output {
        Output {
            status: ExitStatus::from_raw(code),
            stdout: stdout.into(),
            stderr: b"no such engine".to_vec(),
        }
    }

    #[test]
    fn rates_are_read_from_the_json() {
        let text = r#"note: x
            {"jobs": [{"read": {"bw_bytes": 0}, "write": {"bw_bytes": 1500000000}}]}"#;
        assert_eq!(parse(&output(text, 0), Pattern::Writes), Ok(1.5e9));
        assert!(parse(&output(text, 0), Pattern::Reads).expect_err("nothing").contains("bw_bytes"));
        assert!(parse(&output(text, 256), Pattern::Writes).expect_err("status 1").contains("no such engine"));
        assert!(
            parse(&output("{", 0), Pattern::Writes).is_err()
                && parse(&output("", 0), Pattern::Reads).is_err()
        );
    }

    #[test]
    fn jobs_are_whole_blocks_and_reads_write_nothing() {
        let job = Job { file: Path::new("f"), file_bytes: 10, block_bytes: 4, pattern: Pattern::Reads };
        let arguments = job.arguments(true, Duration::from_secs(2)).join(" ");
        for part in [
            "--filename=f",
            "--size=8",
            "--bs=4",
            "--ramp_time=300ms",
            "--runtime=2000ms",
            "--fixedbufs=1",
            "--readonly",
        ] {
            assert!(arguments.contains(part), "{part} in {arguments}");
        }
        let writes = Job { pattern: Pattern::Writes, ..job }.arguments(false, Duration::ZERO).join(" ");
        assert!(writes.contains("--rw=write") && !writes.contains("--readonly"), "{writes}");
    }
}
