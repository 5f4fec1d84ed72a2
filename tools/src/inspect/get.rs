//! One value, verified before a byte of it is written.

use super::device::{Device, Window};
use super::failure::{Failure, Verdict};
use super::region::{Fate, Found, Region};
use super::text::{label, unshown};
use super::value::Unread;
use super::volume::Volume;
use super::{read, say_troubles};
use argh::FromArgs;
use snowskin_protocol::NameRef;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// write the value of a key to standard output, or to a file
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "get",
    example = "{command_name} tier.img some/key > value.bin\n{command_name} tier.img some/key --tenant llama --to value.bin"
)]
pub(crate) struct GetVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
    /// the key, as `records` shows it
    #[argh(positional)]
    key: String,
    /// the tenant (default: default)
    #[argh(option, default = "\"default\".to_owned()")]
    tenant: String,
    /// write it to this file, which appears when it is whole
    #[argh(option)]
    to: Option<PathBuf>,
}

pub(crate) fn run(verb: &GetVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let mut name = unshown(&verb.tenant).map_err(Failure::Asked)?;
    name.push(0);
    name.extend(unshown(&verb.key).map_err(Failure::Asked)?);
    let name = NameRef::parse(&name).map_err(|error| Failure::Asked(error.to_string()))?;
    let (device, volume) = read(&verb.path)?;
    let Some((region, found)) = volume.find(name) else {
        say_troubles(&volume);
        return Err(Failure::Asked(absent(&volume, name)));
    };
    let record = (region, found);
    match &verb.to {
        Some(path) => write_file(&device, &volume, record, path)?,
        None => {
            // Once to verify it, once to write it: nothing of a damaged value is handed out.
            check(&device, &volume, record)?;
            let written = volume.read_value(&mut Window::new(&device), record, |piece| out.write_all(piece));
            written.map_err(|error| match error {
                Unread::Taker(error) => Failure::Output(error),
                error => Failure::Asked(format!(
                    "{}; what was written is not whole",
                    damaged(region, found, &error)
                )),
            })?;
        }
    }
    Ok(Verdict::Whole)
}

/// Writes a value to a file, which has its name when it is whole.
pub(crate) fn write_file(
    device: &Device,
    volume: &Volume,
    (region, found): (&Region, &Found),
    path: &Path,
) -> Result<(), Failure> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |error| Failure::Write(path.to_owned(), error);
    let mut file = File::create(&partial).map_err(failed)?;
    let mut window = Window::new(device);
    let outcome = match volume.read_value(&mut window, (region, found), |piece| file.write_all(piece)) {
        Ok(()) => fs::rename(&partial, path).map_err(failed),
        Err(Unread::Taker(error)) => Err(failed(error)),
        Err(error) => Err(Failure::Asked(damaged(region, found, &error))),
    };
    if outcome.is_err() {
        // It is of no use to anybody; what is to be said is why.
        let _ = fs::remove_file(&partial);
    }
    outcome
}

fn check(device: &Device, volume: &Volume, (region, found): (&Region, &Found)) -> Result<(), Failure> {
    let read = volume.read_value(&mut Window::new(device), (region, found), |_| Ok(()));
    read.map_err(|error| Failure::Asked(damaged(region, found, &error)))
}

fn damaged(region: &Region, found: &Found, error: &Unread) -> String {
    format!("{}: region {}, offset {}: {error}", label(region.name(found)), region.number, found.offset)
}

/// Why there is no value, as far as the volume still knows.
fn absent(volume: &Volume, name: NameRef<'_>) -> String {
    let last = volume.records().filter(|(region, found)| region.name(found) == name).last();
    let why = match last {
        None => "there is none, and no tombstone of it".to_owned(),
        Some((region, found)) => {
            let place = format!("in region {}, at offset {}", region.number, found.offset);
            match found.fate {
                Fate::Tombstone => format!("it was removed; the tombstone is {place}"),
                Fate::NotWhole => format!("its last record, {place}, is not whole"),
                _ => format!("it was removed after its last record, {place}"),
            }
        }
    };
    format!("{}: {why}", label(name))
}
