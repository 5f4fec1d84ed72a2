//! The effective configuration of an engine: every value, and where it comes from.
//!
//! ```text
//!   defaults ◄── engine.toml (--config) ◄── flags        the later one wins
//!                       │
//!                 Config::read ──► Config (for `check`, which shows even what cannot start)
//!                       │
//!                 Config::verify ──► enough memory? ──► Config::load gives what can start
//! ```
//!
//! Promises: no setting is ignored or falls back silently. What cannot be read is an error that names file, line and
//! key, or the flag, and what would be right; what is legal but probably not meant is a warning.
//!
//! Flags and keys of the file have the same names ([`KEYS`]) and one parser (`config/value.rs`). A file's values may
//! be texts, numbers or switches: `memory = "4GB"`, `cores = 4`, `overcommit = true`.

mod error;
mod memory;
mod pages;
mod source;
mod ssd;
mod value;

pub use error::{ConfigError, Warning};
pub(crate) use memory::room_for;
pub use memory::{AvailableMemory, MemoryPlan};
pub use pages::PagePlan;
pub use source::{Setting, Source};
pub use ssd::{SsdMode, SsdSettings};
pub use value::{Advertise, Permille, ValueError};

use crate::cli::EngineArgs;
use crate::control::LocalSockets;
use crate::eviction::PolicyKind;
use crate::placement::{self, CpuPlan, PlacementError, PlacementWish};
use crate::shard::Admission;
use crate::tiering::devices::SsdPlan;
use crate::tiering::{ScrubRate, Trim};
use memory::{
    MEMORY_DEFAULT_BYTES_BLIND, MEMORY_DEFAULT_BYTES_MAX, MEMORY_DEFAULT_DIVISOR, MEMORY_PER_CORE_BYTES_MIN,
};
use snowskin_io::memory::{PageChoice, PageFacts};
use snowskin_io::topology::{Topology, TopologyError, cpu_list};
use snowskin_io::{LocalUsers, local_folder};
use snowskin_protocol::{ByteSize, Settings, Strategy};
use source::{Fallback, Layers};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, io};

/// Where core 0 listens when nobody says where.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);
/// Where the embedded master serves HTTP when nobody says where: a free port.
pub const MASTER_HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Microseconds of busy waiting before a core parks, when nobody says how many.
pub const SPIN_US_DEFAULT: u32 = 50;
/// Longer busy waiting starves a core's reactor.
pub const SPIN_US_MAX: u32 = 1_000;
/// Connections of a core when nobody says how many.
pub const CONNECTIONS_MAX_DEFAULT: u32 = 1_024;
/// More than this many sockets would wake more tasks than an executor can number (32,767).
pub const CONNECTIONS_MAX_LIMIT: u32 = 8_192;
/// Lanes of a core: one for each thread of a client on this machine, or one for each client.
pub const LOCAL_LANES_MAX_DEFAULT: u32 = 128;
/// As many as connections.
pub const LOCAL_LANES_MAX_LIMIT: u32 = CONNECTIONS_MAX_LIMIT;
/// The longest lease: an hour.
pub const LEASE_MS_MAX: u32 = 3_600_000;

/// All settings, in the order in which they are shown.
pub const KEYS: [&str; 31] = [
    "name",
    "cores",
    "numa",
    "cpus",
    "memory",
    "huge-pages",
    "prefault",
    "overcommit",
    "ssd",
    "ssd-size",
    "ssd-region",
    "ssd-mode",
    "ssd-admission",
    "ssd-write-budget",
    "ssd-scrub",
    "ssd-trim",
    "eviction-policy",
    "listen",
    "advertise",
    "local-sockets",
    "local-users",
    "local-lanes-max",
    "master",
    "master-http",
    "lease-ms",
    "high-watermark",
    "low-watermark",
    "allocation-strategy",
    "spin-us",
    "connections-max",
    "log",
];

/// The settings of a master; a master elsewhere has its own.
const MASTER_KEYS: [&str; 5] =
    ["master-http", "lease-ms", "high-watermark", "low-watermark", "allocation-strategy"];

/// How many configurations this process has read.
static CONFIGURATIONS: AtomicU32 = AtomicU32::new(0);

/// What an engine runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What [`snowskin_protocol::EngineId`] is made of; the same after a restart.
    pub name: Setting<String>,
    /// Cores, each a pinned thread.
    pub cores: Setting<u16>,
    /// The only NUMA node to use.
    pub numa: Setting<Option<u32>>,
    /// The only processors to use, core 0's first.
    pub cpus: Setting<Option<Vec<usize>>>,
    /// Memory for values of all cores together.
    pub memory: Setting<ByteSize>,
    /// A file that is the memory of the only core; see [`Config::lend_file`].
    lent_file: Option<PathBuf>,
    /// The pages that segments lie in.
    pub huge_pages: Setting<PageChoice>,
    /// Fill segments before serving.
    pub prefault: Setting<bool>,
    /// Start even if less memory is available than the plan needs.
    pub overcommit: Setting<bool>,
    /// What goes from memory to an SSD, and where that is.
    pub ssd: SsdSettings,
    /// Which object goes when room is needed.
    pub eviction_policy: Setting<PolicyKind>,
    /// Where core 0 listens; see [`Config::listen_address`].
    pub listen: Setting<SocketAddr>,
    /// What others should use instead; see [`Config::advertised_address`].
    pub advertise: Setting<Option<Advertise>>,
    /// The folder of the sockets at which clients of this machine come to share memory; `None`: there are none.
    pub local_sockets: Setting<Option<PathBuf>>,
    /// Whose clients may connect there.
    pub local_users: Setting<LocalUsers>,
    /// Lanes of each core, at most: ways of clients of this machine to use values in place.
    pub local_lanes_max: Setting<u32>,
    /// The master; `None`: one in this process.
    pub master: Setting<Option<SocketAddr>>,
    /// Where the master in this process serves HTTP.
    pub master_http: Setting<SocketAddr>,
    /// Milliseconds for which a read protects an object. This and the watermarks are the embedded master's.
    pub lease_ms: Setting<u32>,
    /// Share of memory in use at which eviction starts.
    pub high_watermark: Setting<Permille>,
    /// Share at which it stops.
    pub low_watermark: Setting<Permille>,
    /// How places for values are chosen.
    pub allocation_strategy: Setting<Strategy>,
    /// Microseconds of busy waiting as asked for; see [`Config::spin`] for those in force.
    pub spin_us: Setting<u32>,
    /// Connections of each core, at most.
    pub connections_max: Setting<u32>,
    /// What is logged.
    pub log: Setting<log::LevelFilter>,
    /// Where each core runs.
    pub cpu_plan: CpuPlan,
    /// What memory is used for.
    pub memory_plan: MemoryPlan,
    /// Where its pages come from.
    pub page_plan: PagePlan,
}

/// What a configuration depends on besides flags and file; an argument, so that tests can be any machine.
struct Machine {
    topology: Topology,
    available: Option<AvailableMemory>,
    pages: PageFacts,
    host_name: String,
    /// `pid-42`, or `pid-42-1` for the second configuration that the process reads: it may have an engine for each.
    process: String,
    resolve: value::Resolve,
}

impl Machine {
    fn this() -> Result<Self, TopologyError> {
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host_name = host_name.trim();
        Ok(Machine {
            topology: Topology::read()?,
            available: memory::available_memory(Path::new("/")),
            pages: PageFacts::read(),
            host_name: if host_name.is_empty() { "localhost" } else { host_name }.to_owned(),
            process: process_name(std::process::id(), CONFIGURATIONS.fetch_add(1, Ordering::Relaxed)),
            resolve: |host| {
                let found = (host, 0).to_socket_addrs()?.map(|address| address.ip()).next();
                found.ok_or_else(|| io::Error::other("the name has no address"))
            },
        })
    }
}

impl Config {
    /// As the command line would be, for a program that embeds an engine: `["--memory", "1GB", "--listen", "127.0.0.1:0"]`, without a program's name
    /// before them. Never ends the process, and prints nothing.
    pub fn from_flags<T: AsRef<str>>(flags: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
        Self::load(&EngineArgs::of_flags(flags)?)
    }

    /// Reads flags, file and machine. Gives only what can start: [`Config::read`], then [`Config::verify`].
    pub fn load(args: &EngineArgs) -> Result<Self, ConfigError> {
        let config = Self::read(args)?;
        config.verify()?;
        Ok(config)
    }

    /// Reads flags, file and machine. The result may need more memory than there is; `check` shows by how much.
    pub fn read(args: &EngineArgs) -> Result<Self, ConfigError> {
        let text = match &args.config {
            Some(path) => {
                let unreadable = |error| ConfigError::Unreadable { path: path.clone(), error };
                Some(fs::read_to_string(path).map_err(unreadable)?)
            }
            None => None,
        };
        let file = args.config.as_deref().zip(text.as_deref());
        let layers = Layers::new(&args.given(), file)?;
        Self::resolve(&layers, Machine::this()?)
    }

    /// Are the processors real, and is there enough memory, or is it not to matter?
    pub fn verify(&self) -> Result<(), ConfigError> {
        if self.cpu_plan.simulated {
            return Err(ConfigError::Simulated);
        }
        if self.memory_plan.missing_bytes() > 0 && !self.overcommit.value {
            return Err(ConfigError::Memory { plan: Box::new(self.memory_plan.clone()) });
        }
        Ok(())
    }

    fn resolve(layers: &Layers, machine: Machine) -> Result<Self, ConfigError> {
        let resolve = machine.resolve;
        let address = |text: &str| value::address(text, resolve);
        let listen = layers.setting("listen", address, || LISTEN_DEFAULT)?;
        let advertise = |text: &str| value::advertise(text, resolve).map(Some);
        let name = layers.setting("name", value::name, || default_name(&machine, listen.value.port()))?;
        let node = |text: &str| value::number_u32(text, 0, u32::MAX).map(Some);
        let numa = layers.setting("numa", node, || None)?;
        let cpus = layers.setting("cpus", |text| Ok(Some(cpu_list(text)?)), || None)?;
        let wanted = layers.setting("cores", |text| value::core_count(text).map(Some), || None)?;
        let (cores, cpu_plan) = place_cores(&machine.topology, wanted, &numa, &cpus)?;
        let huge_pages = layers.setting("huge-pages", value::page_choice, || PageChoice::Auto)?;
        let memory = layers.setting(
            "memory",
            |text| Ok(text.parse::<ByteSize>()?),
            || default_memory(&machine, cores.value, huge_pages.value),
        )?;
        let spin_us = |text: &str| value::number_u32(text, 0, SPIN_US_MAX);
        let connections = |text: &str| value::number_u32(text, 1, CONNECTIONS_MAX_LIMIT);
        let connections_max = layers.setting("connections-max", connections, || CONNECTIONS_MAX_DEFAULT)?;
        let lease_ms = |text: &str| value::number_u32(text, 0, LEASE_MS_MAX);
        let usual = Settings::default();
        let (high, low) = (usual.high_watermark_permille, usual.low_watermark_permille);
        let (local_sockets, local_lanes_max) = local_settings(layers)?;
        let lanes_max = if local_sockets.value.is_some() { local_lanes_max.value } else { 0 };
        let count = (cores.value, connections_max.value, lanes_max);
        let mut memory_plan = MemoryPlan::new(memory.value.0, count, huge_pages.value, machine.available);
        let page_plan = PagePlan::new(machine.pages, &cpu_plan, memory_plan.segment_bytes, huge_pages.value)
            .with_helpers(&machine.topology, &cpu_plan, numa.value, cpus.value.as_deref());
        memory_plan.huge_bytes = page_plan.huge_bytes();
        let config = Config {
            name,
            numa,
            cpus,
            prefault: layers.setting("prefault", value::switch, || true)?,
            overcommit: layers.setting("overcommit", value::switch, || false)?,
            ssd: SsdSettings::of(layers)?,
            eviction_policy: layers.setting("eviction-policy", value::policy, PolicyKind::default)?,
            advertise: layers.setting("advertise", advertise, || None)?,
            local_users: layers.setting("local-users", value::local_users, LocalUsers::default)?,
            local_sockets,
            local_lanes_max,
            master: layers.setting("master", |text| address(text).map(Some), || None)?,
            master_http: layers.setting("master-http", address, || MASTER_HTTP_DEFAULT)?,
            lease_ms: layers.setting("lease-ms", lease_ms, || usual.lease_ms)?,
            high_watermark: layers.setting("high-watermark", value::permille, || Permille(high))?,
            low_watermark: layers.setting("low-watermark", value::permille, || Permille(low))?,
            allocation_strategy: layers
                .setting("allocation-strategy", value::strategy, || usual.strategy())?,
            spin_us: layers.setting("spin-us", spin_us, || SPIN_US_DEFAULT)?,
            log: layers.setting("log", value::log_level, || log::LevelFilter::Info)?,
            cores,
            memory,
            lent_file: None,
            huge_pages,
            listen,
            connections_max,
            cpu_plan,
            memory_plan,
            page_plan,
        };
        config.fits_together()?;
        Ok(config)
    }

    /// Settings that are right one by one and contradict each other.
    fn fits_together(&self) -> Result<(), ConfigError> {
        let cores = self.cores.value;
        let least = ByteSize(MEMORY_PER_CORE_BYTES_MIN.saturating_mul(u64::from(cores)));
        if self.memory.value < least {
            let given = self.memory.value;
            return Err(refused("memory", &self.memory, ValueError::MemoryPerCore { given, cores, least }));
        }
        if self.memory_plan.segment_bytes == 0 {
            let (pages, cores) = (self.huge_pages.value, u64::from(cores));
            let least = ByteSize(memory::granule(u64::MAX, pages) * cores);
            let error = ValueError::PageTooLarge { pages, least };
            return Err(refused("huge-pages", &self.huge_pages, error));
        }
        ports_fit(self.listen.value.port(), cores).map_err(|error| refused("listen", &self.listen, error))?;
        if let Some(first) = self.advertise.value.and_then(|advertise| advertise.port) {
            ports_fit(first, cores).map_err(|error| refused("advertise", &self.advertise, error))?;
        }
        let everywhere = self.listen.value.ip();
        if everywhere.is_unspecified() && self.advertise.value.is_none() {
            return Err(refused("listen", &self.listen, ValueError::AdvertiseMissing(everywhere)));
        }
        self.ssd.fits(cores)?;
        self.master_settings_fit()
    }

    fn master_settings_fit(&self) -> Result<(), ConfigError> {
        if let Some(master) = self.master.value {
            let not_ours = || ValueError::MastersOwn(master);
            only_default("master-http", &self.master_http, not_ours)?;
            only_default("lease-ms", &self.lease_ms, not_ours)?;
            only_default("high-watermark", &self.high_watermark, not_ours)?;
            only_default("allocation-strategy", &self.allocation_strategy, not_ours)?;
            return only_default("low-watermark", &self.low_watermark, not_ours);
        }
        let (high, low) = (self.high_watermark.value, self.low_watermark.value);
        if low > high {
            let error = ValueError::Watermarks { high, low };
            return Err(match self.low_watermark.is_given() {
                true => refused("low-watermark", &self.low_watermark, error),
                false => refused("high-watermark", &self.high_watermark, error),
            });
        }
        let (http, listen) = (self.master_http.value, self.listen.value);
        let last = listen.port().saturating_add(self.cores.value - 1);
        let same_host =
            http.ip() == listen.ip() || http.ip().is_unspecified() || listen.ip().is_unspecified();
        if same_host && http.port() != 0 && (listen.port()..=last).contains(&http.port()) {
            let (port, first) = (http.port(), listen.port());
            let error = ValueError::HttpPortTaken { port, core: port - first, first, last };
            return Err(refused("master-http", &self.master_http, error));
        }
        Ok(())
    }

    /// What the operator should know before it starts.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let http = self.master.value.is_none().then_some(self.master_http.value);
        let open = [Some(self.listen.value), http].into_iter().flatten().filter(|at| !at.ip().is_loopback());
        warnings.extend(open.map(Warning::Unprotected));
        if self.spin_us.is_given() && self.spin_us.value > 0 && !self.cpu_plan.spin {
            warnings.push(Warning::NoSpin);
        }
        warnings.extend(self.ssd.warning());
        if self.memory_plan.missing_bytes() > 0 {
            warnings.push(Warning::Overcommitted(ByteSize(self.memory_plan.missing_bytes())));
        }
        let is_there = self.ssd.places.value.iter().all(|path| path.exists());
        if self.ssd_plan().is_some() && is_there && self.master.value.is_none() && self.own_ledger().is_none()
        {
            warnings.push(Warning::Forgetful);
        }
        warnings
    }

    /// Where clients of this machine come to share memory.
    pub fn local_sockets(&self) -> Option<LocalSockets> {
        let folder = self.local_sockets.value.clone()?;
        Some(LocalSockets {
            folder,
            is_asked: self.local_sockets.is_given(),
            users: self.local_users.value,
            lanes_max: self.local_lanes_max.value as usize,
        })
    }

    /// How long a core waits busily before it parks: nothing where another core or process needs its processor.
    pub fn spin(&self) -> Duration {
        let spin_us = if self.cpu_plan.spin { self.spin_us.value } else { 0 };
        Duration::from_micros(u64::from(spin_us))
    }

    /// Where a core listens. Port 0: any free one.
    pub fn listen_address(&self, core: u16) -> SocketAddr {
        let first = self.listen.value;
        let port = if first.port() == 0 { 0 } else { first.port() + core };
        SocketAddr::new(first.ip(), port)
    }

    /// Where others should connect to for a core that listens on `bound`.
    pub fn advertised_address(&self, core: u16, bound: SocketAddr) -> SocketAddr {
        match self.advertise.value {
            Some(Advertise { ip, port: Some(first) }) if first != 0 => SocketAddr::new(ip, first + core),
            Some(Advertise { ip, .. }) => SocketAddr::new(ip, bound.port()),
            None => bound,
        }
    }

    /// The SSD tier that is asked for; `None`: there is none.
    pub fn ssd_plan(&self) -> Option<SsdPlan> {
        self.ssd.plan(self.cpu_plan.cores.iter().map(|core| core.node).collect())
    }

    /// Where the embedded master remembers who has kept what on the SSD.
    pub fn own_ledger(&self) -> Option<PathBuf> {
        let is_on = self.master.value.is_none() && self.ssd_plan().is_some();
        self.ssd.places.value.first().filter(|_| is_on).and_then(|place| ssd::ledger(place))
    }

    /// What the embedded master tells all engines.
    pub fn cluster_settings(&self) -> Settings {
        Settings {
            high_watermark_permille: self.high_watermark.value.0,
            low_watermark_permille: self.low_watermark.value.0,
            lease_ms: self.lease_ms.value,
            ..Settings::default()
        }
        .with_strategy(self.allocation_strategy.value)
    }

    /// Every setting in the order of [`KEYS`]: key, value, where it comes from.
    pub fn rows(&self) -> Vec<(&'static str, String, &Source)> {
        fn row<T>(setting: &Setting<T>, words: impl FnOnce(&T) -> String) -> (String, &Source) {
            (words(&setting.value), &setting.source)
        }
        fn or<T: ToString>(none: &str) -> impl FnOnce(&Option<T>) -> String {
            move |value| value.as_ref().map_or_else(|| none.to_owned(), T::to_string)
        }
        let list = |cpus: &Vec<usize>| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let values = [
            row(&self.name, String::clone),
            row(&self.cores, u16::to_string),
            row(&self.numa, or("any node")),
            row(&self.cpus, |cpus| cpus.as_ref().map_or_else(|| "any".to_owned(), list)),
            row(&self.memory, ByteSize::to_string),
            row(&self.huge_pages, PageChoice::to_string),
            row(&self.prefault, bool::to_string),
            row(&self.overcommit, bool::to_string),
            row(&self.ssd.places, |places| match &places[..] {
                [] => "none".to_owned(),
                some => some.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(","),
            }),
            row(&self.ssd.size, or("nothing")),
            row(&self.ssd.region, ByteSize::to_string),
            row(&self.ssd.mode, SsdMode::to_string),
            row(&self.ssd.admission, Admission::to_string),
            row(&self.ssd.write_budget, |budget| {
                budget.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} a day"))
            }),
            row(&self.ssd.scrub, ScrubRate::to_string),
            row(&self.ssd.trim, Trim::to_string),
            row(&self.eviction_policy, PolicyKind::to_string),
            row(&self.listen, SocketAddr::to_string),
            row(&self.advertise, or("as listen")),
            row(&self.local_sockets, |folder| {
                folder.as_ref().map_or_else(|| "off".to_owned(), |it| it.display().to_string())
            }),
            row(&self.local_users, LocalUsers::to_string),
            row(&self.local_lanes_max, u32::to_string),
            row(&self.master, or("in this process")),
            row(&self.master_http, SocketAddr::to_string),
            row(&self.lease_ms, u32::to_string),
            row(&self.high_watermark, Permille::to_string),
            row(&self.low_watermark, Permille::to_string),
            row(&self.allocation_strategy, Strategy::to_string),
            row(&self.spin_us, u32::to_string),
            row(&self.connections_max, u32::to_string),
            row(&self.log, |level| level.to_string().to_ascii_lowercase()),
        ];
        let elsewhere = |key: &str| self.master.value.is_some() && MASTER_KEYS.contains(&key);
        let shown = |key: &str, value: String| if elsewhere(key) { "the master's".to_owned() } else { value };
        KEYS.into_iter().zip(values).map(|(key, (value, source))| (key, shown(key, value), source)).collect()
    }
}

fn refused<T>(key: &'static str, setting: &Setting<T>, error: ValueError) -> ConfigError {
    ConfigError::Value { key, origin: setting.source.clone(), error: Box::new(error) }
}

fn only_default<T>(
    key: &'static str,
    setting: &Setting<T>,
    error: impl FnOnce() -> ValueError,
) -> Result<(), ConfigError> {
    if setting.is_given() { Err(refused(key, setting, error())) } else { Ok(()) }
}

fn ports_fit(first: u16, cores: u16) -> Result<(), ValueError> {
    let last = u32::from(first) + u32::from(cores) - 1;
    if first == 0 || last <= u32::from(u16::MAX) {
        return Ok(());
    }
    Err(ValueError::Ports { first, cores, last, most: u32::from(u16::MAX) + 1 - u32::from(cores) })
}

fn default_name(machine: &Machine, port: u16) -> Fallback<String> {
    let host = &machine.host_name;
    match port {
        0 => Fallback(
            format!("{host}:{}", machine.process),
            "host and process, because the port changes with every start".to_owned(),
        ),
        _ => Fallback(format!("{host}:{port}"), "host and port".to_owned()),
    }
}

fn process_name(process: u32, earlier: u32) -> String {
    if earlier == 0 { format!("pid-{process}") } else { format!("pid-{process}-{earlier}") }
}

fn default_memory(machine: &Machine, cores: u16, pages: PageChoice) -> Fallback<ByteSize> {
    let least = MEMORY_PER_CORE_BYTES_MIN.max(memory::granule(0, pages)).saturating_mul(u64::from(cores));
    let Some(available) = &machine.available else {
        let bytes = ByteSize(MEMORY_DEFAULT_BYTES_BLIND.max(least));
        return Fallback(bytes, "the kernel does not say how much is available".to_owned());
    };
    let huge_bytes = machine.pages.free_bytes(pages);
    let there = available.bytes.saturating_add(huge_bytes);
    let words = match huge_bytes {
        0 => format!("{} available", ByteSize(there)),
        _ => format!("{} available, {} of it huge pages", ByteSize(there), ByteSize(huge_bytes)),
    };
    let share = there / MEMORY_DEFAULT_DIVISOR;
    if share > MEMORY_DEFAULT_BYTES_MAX {
        return Fallback(
            ByteSize(MEMORY_DEFAULT_BYTES_MAX.max(least)),
            format!("the most that is taken unasked, of {words}"),
        );
    }
    // Whole segments: the remainder would only be odd to read.
    let segment_bytes = MemoryPlan::new(share, (cores, 1, 0), pages, None).segment_bytes;
    let bytes = ByteSize((segment_bytes * u64::from(cores)).max(least));
    Fallback(bytes, format!("a quarter of {words}"))
}

fn local_settings(layers: &Layers) -> Result<(Setting<Option<PathBuf>>, Setting<u32>), ConfigError> {
    let lanes = |text: &str| value::number_u32(text, 0, LOCAL_LANES_MAX_LIMIT);
    let lanes_max = layers.setting("local-lanes-max", lanes, || LOCAL_LANES_MAX_DEFAULT)?;
    Ok((layers.setting("local-sockets", value::local_sockets, || Some(local_folder()))?, lanes_max))
}

fn place_cores(
    topology: &Topology,
    wanted: Setting<Option<u16>>,
    numa: &Setting<Option<u32>>,
    cpus: &Setting<Option<Vec<usize>>>,
) -> Result<(Setting<u16>, CpuPlan), ConfigError> {
    let wish = PlacementWish { cores: wanted.value, node: numa.value, cpus: cpus.value.clone() };
    let cpu_plan = placement::plan(topology, &wish).map_err(|error| {
        let (key, source) = match error {
            PlacementError::UnknownNode { .. } => ("numa", &numa.source),
            PlacementError::CoreCount(_) | PlacementError::NoUnits => ("cores", &wanted.source),
            PlacementError::UnknownCpu { .. }
            | PlacementError::RepeatedCpu(_)
            | PlacementError::CpuOffNode { .. } => ("cpus", &cpus.source),
        };
        ConfigError::Placement { key, origin: source.clone(), error }
    })?;
    let source = match wanted.value {
        Some(_) => wanted.source,
        None => Source::Default("one for each usable processor".to_owned()),
    };
    let value = u16::try_from(cpu_plan.cores.len()).expect("a plan has at most CORES_MAX cores");
    Ok((Setting { value, source }, cpu_plan))
}

#[cfg(test)]
mod tests;
