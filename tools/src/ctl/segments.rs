//! Segments of cores: list, mount, unmount; and evicting down to a level.

use super::Failure;
use argh::FromArgs;
use snowskin_client::admin::{AdminReply, AdminRequest, Evict, Mount, Unmount};
use snowskin_client::{BlockingClient, CoreId};
use snowskin_protocol::ByteSize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Memory of this size may take minutes to fill.
const SLOW: Duration = Duration::from_secs(600);

/// the segments of all cores
#[derive(FromArgs)]
#[argh(subcommand, name = "segments")]
pub(crate) struct SegmentsVerb {}

/// add a segment to a core
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "mount",
    example = "{command_name} 1b2c3d4e/0 --size 4GiB\n{command_name} 1b2c3d4e/0 --path /dev/dax0.0"
)]
pub(crate) struct MountVerb {
    /// the core, as status shows it
    #[argh(positional)]
    core: String,
    /// its size (default: all of the file or device)
    #[argh(option)]
    size: Option<ByteSize>,
    /// make it of this file or device-dax device instead of memory
    #[argh(option)]
    path: Option<PathBuf>,
    /// pages: auto, 1GiB, 2MiB, transparent or off (default: as the engine was started)
    #[argh(option)]
    huge_pages: Option<String>,
}

/// let a segment of a core go; what it holds moves to the core's other segments
#[derive(FromArgs)]
#[argh(subcommand, name = "unmount")]
pub(crate) struct UnmountVerb {
    /// the core, as status shows it
    #[argh(positional)]
    core: String,
    /// the segment's number, as segments shows it
    #[argh(positional)]
    segment: u16,
    /// seconds after which what has found no other place is dropped (default: 30)
    #[argh(option, default = "30.0")]
    grace: f64,
}

/// evict until no more than a share of the memory is in use
#[derive(FromArgs)]
#[argh(subcommand, name = "evict")]
pub(crate) struct EvictVerb {
    /// the share that may be in use afterwards, 0 to 1, such as 0.5
    #[argh(option, from_str_fn(share))]
    to: f64,
    /// only this core, as status shows it (default: all cores)
    #[argh(option)]
    core: Option<String>,
}

/// A part of the memory, as people write it.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("\"{text}\" is no share: use 0 to 1, such as 0.5"))
}

/// A line a segment.
pub(crate) fn segments(client: &BlockingClient) -> Result<String, Failure> {
    let mut text =
        format!("{:<12} {:>7} {:>10} {:>10} {:>12}  pages\n", "core", "segment", "size", "free", "longest");
    for core in cores(client, None)? {
        let infos = match client.admin(core, AdminRequest::Segments)? {
            AdminReply::Segments(infos) => infos,
            other => return Err(unexpected(core, other)),
        };
        for info in infos {
            let [size, free, longest] = [info.capacity_bytes, info.free_bytes, info.free_range_bytes_max]
                .map(|bytes| ByteSize(bytes).to_string());
            let core = core.to_string();
            let leaving = if info.is_leaving { "; is being unmounted" } else { "" };
            let figures = format!("{:>7} {size:>10} {free:>10} {longest:>12}", info.segment);
            writeln!(text, "{core:<12} {figures}  {}{leaving}", info.pages).expect("a string takes all");
        }
    }
    Ok(text)
}

/// Answers what to say when it is done.
pub(crate) fn mount(client: &BlockingClient, verb: &MountVerb) -> Result<String, Failure> {
    let core = one_core(client, &verb.core)?;
    let bytes = verb.size.map_or(0, |size| size.0);
    let mount = Mount { bytes, path: verb.path.clone(), huge_pages: verb.huge_pages.clone() };
    match client.with_deadline(SLOW).admin(core, AdminRequest::Mount(mount))? {
        AdminReply::Mounted { segment, bytes, pages } => {
            Ok(format!("core {core} has segment {segment} of {}: {pages}\n", ByteSize(bytes)))
        }
        other => Err(unexpected(core, other)),
    }
}

/// Answers what to say when it has begun.
pub(crate) fn unmount(client: &BlockingClient, verb: &UnmountVerb) -> Result<String, Failure> {
    if !(0.0..1e9).contains(&verb.grace) {
        return Err(Failure::Negative("the grace must be 0 seconds or more".to_owned()));
    }
    let core = one_core(client, &verb.core)?;
    let (segment, grace_ms) = (verb.segment, (verb.grace * 1000.0) as u64);
    match client.admin(core, AdminRequest::Unmount(Unmount { segment, grace_ms }))? {
        AdminReply::Unmounting => {
            Ok(format!("core {core} empties segment {segment}; `segments` shows it as long as it is there\n"))
        }
        other => Err(unexpected(core, other)),
    }
}

/// A line a core.
pub(crate) fn evict(client: &BlockingClient, verb: &EvictVerb) -> Result<String, Failure> {
    let evict = Evict { permille: (verb.to * 1000.0).round() as u16 };
    let mut text = String::new();
    for core in cores(client, verb.core.as_deref())? {
        match client.with_deadline(SLOW).admin(core, AdminRequest::Evict(evict))? {
            AdminReply::Evicted { objects, bytes, reached } => {
                let rest = if reached { "" } else { "; leases, pins and readers protect the rest" };
                let bytes = ByteSize(bytes);
                writeln!(text, "core {core}: {objects} objects, {bytes} evicted{rest}")
                    .expect("a string takes all");
            }
            other => return Err(unexpected(core, other)),
        }
    }
    Ok(text)
}

fn cores(client: &BlockingClient, only: Option<&str>) -> Result<Vec<CoreId>, Failure> {
    let table = client.table()?;
    let is_meant = |id: &CoreId| only.is_none_or(|only| id.to_string() == only);
    let found: Vec<CoreId> = table.members.iter().map(|member| member.id).filter(is_meant).collect();
    match only {
        Some(only) if found.is_empty() => {
            Err(Failure::Negative(format!("there is no core {only}; `status` lists those that there are")))
        }
        _ => Ok(found),
    }
}

pub(crate) fn one_core(client: &BlockingClient, id: &str) -> Result<CoreId, Failure> {
    Ok(cores(client, Some(id))?[0])
}

fn unexpected(core: CoreId, reply: AdminReply) -> Failure {
    match reply {
        AdminReply::Refused(sentence) => Failure::Negative(format!("core {core}: {sentence}")),
        other => Failure::Negative(format!("core {core} answered something else: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_one() {
        assert_eq!(["0", "0.5", "1"].map(share), [Ok(0.0), Ok(0.5), Ok(1.0)]);
        for text in ["50%", "2", "-0.1", "NaN", ""] {
            assert!(share(text).expect_err("no share").ends_with("use 0 to 1, such as 0.5"), "{text}");
        }
    }
}
