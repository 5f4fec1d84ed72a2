//! `snowskin-inspect`: looks into a volume of the SSD tier, by its format alone (`docs/FORMAT.md`).
//!
//! It opens the volume for reading and nothing else, so it may be used beside an engine; what it shows of a volume in use was true when it was
//! read. It decodes what it can of a broken one, and says of everything else where it is and why it is not shown. Statuses: `failure.rs`.

mod check;
mod device;
mod diff;
mod export;
mod failure;
mod get;
mod map;
mod parts;
mod picture;
mod progress;
mod records;
mod region;
mod regions;
mod superblock;
mod text;
mod usage;
mod value;
mod verify;
mod volume;

#[cfg(test)]
mod text_tests;
#[cfg(test)]
mod volume_tests;

use argh::FromArgs;
use device::Device;
use failure::{Failure, Verdict};
use progress::Progress;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use volume::Volume;

/// Look into a volume of the SSD tier: a file or block device. Nothing is ever written to it.
#[derive(FromArgs)]
#[argh(
    example = "{command_name} superblock /dev/nvme1n1\n{command_name} regions tier.img\n{command_name} records tier.img --match '^llama/'\n\
               {command_name} get tier.img some/key > value.bin\n{command_name} verify tier.img && echo whole",
    note = "PATH is a file or block device. Where cores share one, PATH@2 is the part of core 2. An engine may use it meanwhile.",
    error_code(1, "something is damaged, absent or different"),
    error_code(2, "it cannot be read at all: no file, no volume, another version")
)]
struct Args {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Parts(parts::PartsVerb),
    Superblock(superblock::SuperblockVerb),
    Regions(regions::RegionsVerb),
    Region(regions::RegionVerb),
    Records(records::RecordsVerb),
    Get(get::GetVerb),
    Map(map::MapVerb),
    Verify(verify::VerifyVerb),
    Usage(usage::UsageVerb),
    Export(export::ExportVerb),
    Diff(diff::DiffVerb),
}

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let is_terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(Quiet { to: io::stdout().lock(), is_closed: false });
    let outcome = run(&args, &mut out, is_terminal);
    let flushed = out.flush();
    match outcome.and_then(|verdict| Ok(flushed.map(|()| verdict)?)) {
        Ok(verdict) => verdict.into(),
        Err(failure) => {
            eprintln!("snowskin-inspect: {failure}");
            failure.status()
        }
    }
}

fn run(args: &Args, out: &mut impl Write, is_terminal: bool) -> Result<Verdict, Failure> {
    match &args.verb {
        Verb::Parts(verb) => parts::run(verb, out),
        Verb::Superblock(verb) => superblock::run(verb, out),
        Verb::Regions(verb) => regions::run(verb, out),
        Verb::Region(verb) => regions::run_one(verb, out),
        Verb::Records(verb) => records::run(verb, out),
        Verb::Get(verb) => get::run(verb, out),
        Verb::Map(verb) => map::run(verb, out, is_terminal),
        Verb::Verify(verb) => verify::run(verb, out),
        Verb::Usage(verb) => usage::run(verb, out),
        Verb::Export(verb) => export::run(verb, out),
        Verb::Diff(verb) => diff::run(verb, out),
    }
}

/// Opens a volume and reads all but its values.
fn read(path: &Path) -> Result<(Device, Volume), Failure> {
    let device = Device::open(path)?;
    let mut progress = Progress::new("regions");
    let volume = Volume::read(&device, &mut |done, all| progress.at(done, all))?;
    Ok((device, volume))
}

/// Says on standard error what could not be decoded, so that a listing is not taken for complete.
fn say_troubles(volume: &Volume) -> Verdict {
    let damages = volume.troubles().filter(|trouble| trouble.is_damage);
    let mut verdict = Verdict::Whole;
    for trouble in damages {
        eprintln!("snowskin-inspect: {trouble}");
        verdict = Verdict::Damaged;
    }
    verdict
}

/// Output that goes nowhere once its reader has seen enough: `| head` is no error.
struct Quiet<W> {
    to: W,
    is_closed: bool,
}

impl<W: Write> Quiet<W> {
    fn pass<T>(&mut self, nothing: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.is_closed {
            return Ok(nothing);
        }
        match write(&mut self.to) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(nothing)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Quiet<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pass(bytes.len(), |to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass((), |to| to.flush())
    }
}
