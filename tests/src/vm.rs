//! A virtual machine with an NVMe disk, for what no ordinary machine lets a test do: see each write and flush that reaches the disk, and lose
//! the power.
//!
//! `SNOWSKIN_VM` names the program that runs it. Where there is none these tests are skipped, and say so. It is called like this:
//!
//! ```text
//!   $SNOWSKIN_VM run --nvme FILE --nvme-size 64M [--write-log LOG] --timeout 300 … -- COMMAND…
//! ```
//!
//! and runs COMMAND as root in a guest with the current folder at its own path and the disk at [`DISK`], which FILE keeps. It passes on what the
//! command prints and its status, has others for its own troubles ([`NO_GUEST`]), and logs what reaches the disk as dm-log-writes does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// The disk in the guest.
pub const DISK: &str = "/dev/nvme0n1";
/// The status if there is no guest, although there should be one.
pub const NO_GUEST: i32 = 125;
/// How the names of libraries begin that come with the guest's C library and belong to it.
const OF_EVERY_GUEST: [&str; 6] = ["libc.", "libm.", "libdl.", "libpthread.", "librt.", "ld-linux"];
/// Seconds for a guest, with its start.
const SECONDS_MAX: u32 = 400;

/// A folder that the guest shares, and the way to start one.
pub struct Vm {
    program: PathBuf,
    folder: TempDir,
}

/// How a guest is started.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    /// Of the program: `--nvme-size 8M`.
    pub options: Vec<String>,
    /// Variables of the command.
    pub variables: Vec<(&'static str, String)>,
}

impl Vm {
    /// `None`: there is none, and this has been said.
    pub fn find() -> Option<Vm> {
        let Some(program) = std::env::var_os("SNOWSKIN_VM").map(PathBuf::from) else {
            println!("skipped: SNOWSKIN_VM names no program that runs a virtual machine");
            return None;
        };
        match Command::new(&program).arg("help").output() {
            Ok(output) if output.status.success() => {
                Some(Vm { program, folder: tempfile::tempdir().expect("a folder") })
            }
            Ok(output) => {
                println!("skipped: {} help: {}", program.display(), output.status);
                None
            }
            Err(error) => {
                println!("skipped: {}: {error}", program.display());
                None
            }
        }
    }

    /// What the guest sees at the same path.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a program known to the guest, with the libraries that it needs and the guest may lack.
    pub fn bring(&self, program: &Path) -> PathBuf {
        let name = program.file_name().expect("a program");
        let there = self.folder().join(name);
        std::fs::copy(program, &there).expect("it can be copied");
        let libraries = self.libraries();
        std::fs::create_dir_all(&libraries).expect("a folder");
        let listed = Command::new("ldd").arg(program).output().expect("the C library has it");
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let path = line.split_once("=> ").and_then(|(_, path)| path.split(' ').next()).map(Path::new);
            let Some((path, name)) = path.and_then(|path| Some((path, path.file_name()?))) else { continue };
            if !OF_EVERY_GUEST.iter().any(|known| name.to_string_lossy().starts_with(known)) {
                std::fs::copy(path, libraries.join(name)).expect("it can be copied");
            }
        }
        there
    }

    fn libraries(&self) -> PathBuf {
        self.folder().join("libraries")
    }

    /// Starts a guest that runs a command, with the disk that this file keeps.
    pub fn start(&self, disk: &Path, guest: &Guest, command: &[&str]) -> Child {
        let mut call = Command::new(&self.program);
        call.current_dir(self.folder())
            .args(["run", "--timeout", &SECONDS_MAX.to_string(), "--nvme"])
            .arg(disk);
        call.args(&guest.options);
        call.arg("--env").arg(format!("LD_LIBRARY_PATH={}", self.libraries().display()));
        for (name, value) in &guest.variables {
            call.arg("--env").arg(format!("{name}={value}"));
        }
        call.arg("--").args(command).stdin(Stdio::null()).stdout(Stdio::piped());
        call.spawn().expect("it was there")
    }

    /// Runs a command in a guest; what it printed. `None`: there is no guest, and this has been said.
    pub fn run(&self, disk: &Path, guest: &Guest, command: &[&str]) -> Option<(ExitStatus, String)> {
        let output = self.start(disk, guest, command).wait_with_output().expect("it ends");
        if output.status.code() == Some(NO_GUEST) {
            println!("skipped: {} cannot run a guest", self.program.display());
            return None;
        }
        Some((output.status, String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}
