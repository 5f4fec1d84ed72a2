//! The text of one setting, as flag or file has it, to its value; and why not.

use super::ssd::SsdMode;
use crate::eviction::{PolicyKind, UnknownPolicy};
use crate::placement::CORES_MAX;
use crate::shard::{Admission, UnknownAdmission};
use snowskin_io::LocalUsers;
use snowskin_io::memory::PageChoice;
use snowskin_io::topology::CpuListError;
use snowskin_protocol::strategy::{Strategy, UnknownStrategy};
use snowskin_protocol::units::{ByteSize, ByteSizeError};
use snowskin_protocol::units::{GIB, MIB};
use snowskin_ssd_tier::format::{REGION_BYTES_MAX, SECTOR_BYTES};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Characters of an engine's name, at most.
const NAME_CHARACTERS_MAX: usize = 255;
/// Bytes of a folder's path, at most: with the name of a socket behind it, a path may have 107.
const FOLDER_BYTES_MAX: usize = 50;
/// Thousandths in a whole.
const PERMILLE_MAX: u16 = 1000;

/// A share in thousandths, written as a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permille(pub u16);

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}%", self.0 / 10),
            tenths => write!(f, "{}.{tenths}%", self.0 / 10),
        }
    }
}

/// Where others should connect to instead of the address listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// The address.
    pub ip: IpAddr,
    /// Core 0's port, core `i` has the port plus `i`; `None`: the ports that the cores listen on.
    pub port: Option<u16>,
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// Why a setting's value cannot be used. Each sentence ends with what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Not a size.
    #[error(transparent)]
    Size(#[from] ByteSizeError),
    /// Not a list of processors.
    #[error(transparent)]
    CpuList(#[from] CpuListError),
    /// Not a whole number, or out of range.
    #[error("\"{text}\" is not usable here: write a whole number from {least} to {most}")]
    Number {
        /// What was written.
        text: String,
        /// The smallest that will do.
        least: u64,
        /// The largest that will do.
        most: u64,
    },
    /// Not a percentage.
    #[error("\"{0}\" is not a percentage: write one from 0.1% to 100%, such as 95%")]
    Percent(String),
    /// Not an address with a port.
    #[error("\"{0}\" is not an address with a port: write one such as 127.0.0.1:7400 or [::1]:7400")]
    Address(String),
    /// A host's name that nobody knows.
    #[error("the address of host \"{host}\" cannot be found ({error}); write an IP address instead")]
    Host {
        /// The name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// A log level that does not exist.
    #[error("\"{0}\" is not a log level: write off, error, warn, info, debug or trace")]
    LogLevel(String),
    /// A switch that is neither on nor off.
    #[error("\"{0}\" is neither true nor false")]
    Switch(String),
    /// Not a folder for sockets.
    #[error(
        "\"{0}\" is no folder for sockets: write an absolute path of at most {FOLDER_BYTES_MAX} bytes, or off"
    )]
    LocalSockets(String),
    /// Not a place for an SSD tier.
    #[error(
        "\"{0}\" is no place for what goes to an SSD: write an absolute path of a folder or of a block device, or several with commas between"
    )]
    Ssd(String),
    /// One place for two parts.
    #[error("{0} is named twice: name each place once, cores share it")]
    SsdTwice(String),
    /// Not the size of a region.
    #[error("regions of {0}: write 1MiB to 2GiB, a multiple of 4KiB")]
    SsdRegion(ByteSize),
    /// No choice of how a volume is kept.
    #[error("{0}")]
    SsdChoice(String),
    /// No such mode.
    #[error("there is no way \"{0}\" of writing to an SSD: use write-back, write-through or off")]
    SsdMode(String),
    /// No such admission.
    #[error(transparent)]
    SsdAdmission(#[from] UnknownAdmission),
    /// So little that nothing could be written.
    #[error("{0} a day is too little to be of use: write 1GiB or more, or none for any number")]
    SsdWriteBudget(ByteSize),
    /// A size of nothing.
    #[error("there is no --ssd that it is about")]
    SsdMissing,
    /// Too small.
    #[error("{given} on the SSD for {cores} cores: give --ssd-size of at least {} MiB", .least.0.div_ceil(1 << 20))]
    SsdSize {
        /// What was given.
        given: ByteSize,
        /// For so many cores.
        cores: u16,
        /// What will do.
        least: ByteSize,
    },
    /// No choice of users.
    #[error("{0}")]
    LocalUsers(String),
    /// No such policy.
    #[error(transparent)]
    Policy(#[from] UnknownPolicy),
    /// No such strategy.
    #[error(transparent)]
    Strategy(#[from] UnknownStrategy),
    /// Pages that do not exist.
    #[error("{0}")]
    Pages(String),
    /// Not a page for each core.
    #[error(
        "a core's share of the memory is less than a page of {pages}: give at least {least}, or use auto"
    )]
    PageTooLarge {
        /// The pages.
        pages: PageChoice,
        /// Memory for a page for each core.
        least: ByteSize,
    },
    /// A file is the memory of one core.
    #[error("a file that is lent is the memory of one core, not of {cores}: give one")]
    FileOfOneCore {
        /// How many were given.
        cores: u16,
    },
    /// A name that cannot be printed on a line.
    #[error("a name has 1 to {NAME_CHARACTERS_MAX} characters that can be printed, without spaces")]
    Name,
    /// Eviction would stop above where it starts.
    #[error(
        "eviction would start at {high} and stop at {low}: use a low watermark that is not above the high one"
    )]
    Watermarks {
        /// Where it starts.
        high: Permille,
        /// Where it stops.
        low: Permille,
    },
    /// The setting belongs to a master, and that one is elsewhere.
    #[error("the master at {0} decides this: set it there, or leave out master to have one in this process")]
    MastersOwn(SocketAddr),
    /// Not even a useful segment for each core.
    #[error("{given} is too little for {cores} cores: give at least {least}, or use fewer cores")]
    MemoryPerCore {
        /// The memory.
        given: ByteSize,
        /// The cores.
        cores: u16,
        /// What they need.
        least: ByteSize,
    },
    /// The ports of the cores would go beyond the last.
    #[error("{cores} cores from port {first} need ports up to {last}: use a first port up to {most}")]
    Ports {
        /// Core 0's port.
        first: u16,
        /// How many there are.
        cores: u16,
        /// The last core's port.
        last: u32,
        /// The highest first port that will do.
        most: u32,
    },
    /// Listening everywhere does not tell where to connect to.
    #[error("{0} means every address of this host: say with advertise which one others should use")]
    AdvertiseMissing(IpAddr),
    /// Nobody can connect to "every address".
    #[error("{0} means every address of a host: write the one that others should use")]
    AdvertiseEverywhere(IpAddr),
    /// HTTP on the port of a core.
    #[error(
        "port {port} is the one of core {core}: use a port outside {first} to {last}, or 0 for a free one"
    )]
    HttpPortTaken {
        /// The port.
        port: u16,
        /// The core that listens on it.
        core: u16,
        /// The first core's port.
        first: u16,
        /// The last core's port.
        last: u16,
    },
}

/// Finds the address of a host by its name.
pub(crate) type Resolve = fn(&str) -> io::Result<IpAddr>;

pub(crate) fn number(text: &str, least: u64, most: u64) -> Result<u64, ValueError> {
    let refuse = || ValueError::Number { text: text.to_owned(), least, most };
    let digits = text.trim().replace('_', "");
    digits.parse().ok().filter(|value| (least..=most).contains(value)).ok_or_else(refuse)
}

pub(crate) fn number_u32(text: &str, least: u32, most: u32) -> Result<u32, ValueError> {
    let value = number(text, u64::from(least), u64::from(most))?;
    Ok(u32::try_from(value).expect("most is 32 bits"))
}

pub(crate) fn core_count(text: &str) -> Result<u16, ValueError> {
    let value = number(text, 1, u64::from(CORES_MAX))?;
    Ok(u16::try_from(value).expect("CORES_MAX is 16 bits"))
}

/// `95%`, `95` or `95.5%`, in thousandths.
pub(crate) fn permille(text: &str) -> Result<Permille, ValueError> {
    let refuse = || ValueError::Percent(text.to_owned());
    let digits = text.trim().trim_end_matches('%').trim_end();
    let (whole, tenth) = digits.split_once('.').unwrap_or((digits, "0"));
    if tenth.len() != 1 {
        return Err(refuse());
    }
    let whole: u16 = whole.parse().map_err(|_| refuse())?;
    let tenth: u16 = tenth.parse().map_err(|_| refuse())?;
    let value = whole.checked_mul(10).and_then(|tens| tens.checked_add(tenth)).ok_or_else(refuse)?;
    if (1..=PERMILLE_MAX).contains(&value) { Ok(Permille(value)) } else { Err(refuse()) }
}

/// `10.0.0.1:7400`, `[::1]:7400` or `host:7400`.
pub(crate) fn address(text: &str, resolve: Resolve) -> Result<SocketAddr, ValueError> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let refuse = || ValueError::Address(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let port: u16 = port.parse().map_err(|_| refuse())?;
    Ok(SocketAddr::new(host_ip(host, resolve).ok_or_else(refuse)??, port))
}

/// An address that others should use, with or without a port.
pub(crate) fn advertise(text: &str, resolve: Resolve) -> Result<Advertise, ValueError> {
    let text = text.trim();
    let advertise = if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
        Advertise { ip, port: None }
    } else if text.contains(':') {
        let address = address(text, resolve)?;
        Advertise { ip: address.ip(), port: Some(address.port()) }
    } else {
        let ip = host_ip(text, resolve).ok_or_else(|| ValueError::Address(text.to_owned()))??;
        Advertise { ip, port: None }
    };
    if advertise.ip.is_unspecified() {
        return Err(ValueError::AdvertiseEverywhere(advertise.ip));
    }
    Ok(advertise)
}

/// `None` if this cannot be a host's name.
fn host_ip(host: &str, resolve: Resolve) -> Option<Result<IpAddr, ValueError>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || !host.chars().all(fits) || !host.contains(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    Some(resolve(host).map_err(|error| ValueError::Host { host: host.to_owned(), error }))
}

pub(crate) fn log_level(text: &str) -> Result<log::LevelFilter, ValueError> {
    text.trim().parse().map_err(|_| ValueError::LogLevel(text.to_owned()))
}

/// The name of an eviction policy.
pub(crate) fn policy(text: &str) -> Result<PolicyKind, ValueError> {
    Ok(text.parse()?)
}

/// The name of an allocation strategy.
pub(crate) fn strategy(text: &str) -> Result<Strategy, ValueError> {
    Ok(text.parse()?)
}

/// A folder for sockets, or `off`.
pub(crate) fn local_sockets(text: &str) -> Result<Option<PathBuf>, ValueError> {
    let text = text.trim();
    match Path::new(text) {
        _ if text == "off" => Ok(None),
        folder if folder.is_absolute() && text.len() <= FOLDER_BYTES_MAX => Ok(Some(folder.to_owned())),
        _ => Err(ValueError::LocalSockets(text.to_owned())),
    }
}

/// Places for an SSD tier, or `none`.
pub(crate) fn ssd(text: &str) -> Result<Vec<PathBuf>, ValueError> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    let mut places: Vec<PathBuf> = Vec::new();
    for text in text.split(',').map(str::trim) {
        match Path::new(text) {
            path if places.iter().any(|other| other == path) => {
                return Err(ValueError::SsdTwice(text.to_owned()));
            }
            path if path.is_absolute() => places.push(path.to_owned()),
            _ => return Err(ValueError::Ssd(text.to_owned())),
        }
    }
    Ok(places)
}

/// The size of a region.
pub(crate) fn ssd_region(text: &str) -> Result<ByteSize, ValueError> {
    let bytes: ByteSize = text.parse()?;
    let is_possible =
        (MIB..=REGION_BYTES_MAX).contains(&bytes.0) && bytes.0.is_multiple_of(SECTOR_BYTES as u64);
    if is_possible { Ok(bytes) } else { Err(ValueError::SsdRegion(bytes)) }
}

/// A way to keep a volume.
pub(crate) fn ssd_choice<T: FromStr<Err = String>>(text: &str) -> Result<T, ValueError> {
    text.parse().map_err(ValueError::SsdChoice)
}

/// A way of writing to an SSD.
pub(crate) fn ssd_mode(text: &str) -> Result<SsdMode, ValueError> {
    match text.trim() {
        "write-back" => Ok(SsdMode::WriteBack),
        "write-through" => Ok(SsdMode::WriteThrough),
        "off" => Ok(SsdMode::Off),
        _ => Err(ValueError::SsdMode(text.to_owned())),
    }
}

/// What is let onto an SSD.
pub(crate) fn ssd_admission(text: &str) -> Result<Admission, ValueError> {
    Ok(text.trim().parse()?)
}

/// Bytes a day, or any number of them.
pub(crate) fn ssd_write_budget(text: &str) -> Result<Option<ByteSize>, ValueError> {
    if text.trim() == "none" {
        return Ok(None);
    }
    let bytes: ByteSize = text.parse()?;
    if bytes.0 >= GIB { Ok(Some(bytes)) } else { Err(ValueError::SsdWriteBudget(bytes)) }
}

pub(crate) fn local_users(text: &str) -> Result<LocalUsers, ValueError> {
    text.trim().parse().map_err(ValueError::LocalUsers)
}

pub(crate) fn switch(text: &str) -> Result<bool, ValueError> {
    text.trim().parse().map_err(|_| ValueError::Switch(text.to_owned()))
}

pub(crate) fn page_choice(text: &str) -> Result<PageChoice, ValueError> {
    text.parse().map_err(ValueError::Pages)
}

pub(crate) fn name(text: &str) -> Result<String, ValueError> {
    let unprintable = |c: char| c.is_control() || c.is_whitespace();
    if text.is_empty() || text.chars().count() > NAME_CHARACTERS_MAX || text.contains(unprintable) {
        return Err(ValueError::Name);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(host: &str) -> io::Result<IpAddr> {
        match host {
            "cache-1" => Ok(IpAddr::from([10, 0, 0, 7])),
            _ => Err(io::Error::other("no such host")),
        }
    }

    #[test]
    fn percentages() {
        for (text, value) in [("95%", 950), ("95", 950), ("97.5%", 975), ("100", 1000), ("0.1%", 1)] {
            assert_eq!(permille(text).expect(text), Permille(value));
        }
        for text in ["", "%", "0", "101", "95.55", "-1", "x", "9.", "70000"] {
            assert!(matches!(permille(text), Err(ValueError::Percent(_))), "{text}");
        }
        assert_eq!((Permille(950).to_string(), Permille(975).to_string()), ("95%".into(), "97.5%".into()));
    }

    #[test]
    fn addresses() {
        for (text, expected) in
            [("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:0", "[::1]:0"), ("cache-1:7400", "10.0.0.7:7400")]
        {
            assert_eq!(address(text, resolve).expect(text).to_string(), expected);
        }
        for text in ["7400", ":7400", "127.0.0.1", "127.0.0.1:70000", "::1:x", "a b:1", "1.2.3:4"] {
            assert!(matches!(address(text, resolve), Err(ValueError::Address(_))), "{text}");
        }
        assert!(matches!(address("nowhere:1", resolve), Err(ValueError::Host { .. })));
    }

    #[test]
    fn what_others_should_use() {
        for (text, expected) in [
            ("10.0.0.5", "10.0.0.5"),
            ("10.0.0.5:99", "10.0.0.5:99"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:9", "[::1]:9"),
            ("cache-1", "10.0.0.7"),
            ("cache-1:9", "10.0.0.7:9"),
        ] {
            assert_eq!(advertise(text, resolve).expect(text).to_string(), expected);
        }
        assert!(matches!(advertise("0.0.0.0", resolve), Err(ValueError::AdvertiseEverywhere(_))));
        assert!(matches!(advertise("a b", resolve), Err(ValueError::Address(_))));
    }

    #[test]
    fn the_small_ones() {
        assert_eq!(number("1_000", 1, 1000).expect("a number"), 1000);
        let refusal = number("0", 1, 9).expect_err("too small").to_string();
        assert!(refusal.ends_with("write a whole number from 1 to 9"), "{refusal}");
        assert!(core_count("1024").is_ok() && core_count("1025").is_err() && core_count("0").is_err());
        assert!(log_level("debug").is_ok() && log_level("loud").is_err());
        assert!(switch("true").is_ok() && switch("yes").is_err());
        assert_eq!(page_choice("2MB").expect("pages"), PageChoice::TwoMiB);
        assert!(page_choice("4KiB").is_err() && page_choice("on").is_err());
        assert!(name("host:7400").is_ok() && name("").is_err() && name("a b").is_err());
        assert!(name(&"x".repeat(256)).is_err());
    }
}
