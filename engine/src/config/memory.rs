//! The memory plan: one sum from what was asked for to what the process will use, and what there is to compare with.

use crate::transport::CONNECTION_BYTES;
use snowskin_io::lane::LINK_BYTES;
use snowskin_io::memory::{Backing, MappingRequest, PageChoice, PageFacts};
use snowskin_protocol::units::{ByteSize, GIB, KIB, MIB};
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The least memory of a core.
pub(super) const MEMORY_PER_CORE_BYTES_MIN: u64 = MIB;
/// The most that is taken when nobody says how much.
pub(super) const MEMORY_DEFAULT_BYTES_MAX: u64 = 16 * GIB;
/// What is taken when nobody says how much and the kernel does not say what is available.
pub(super) const MEMORY_DEFAULT_BYTES_BLIND: u64 = 256 * MIB;
/// One part in so many of what is available is taken when nobody says how much.
pub(super) const MEMORY_DEFAULT_DIVISOR: u64 = 4;

/// Segments of at least [`SEGMENT_BYTES_LARGE`] are multiples of this, the size of a huge page.
const SEGMENT_GRANULE_LARGE: u64 = 2 * MIB;
/// From here on a whole huge page is at most 3 % of a segment.
const SEGMENT_BYTES_LARGE: u64 = 64 * MIB;
/// Smaller segments are multiples of a page.
const SEGMENT_GRANULE_SMALL: u64 = 4 * KIB;
/// The index is estimated for objects of this size.
const ESTIMATED_OBJECT_BYTES: u64 = MIB;
/// Index, name and bookkeeping of an object.
const ESTIMATED_INDEX_BYTES_PER_OBJECT: u64 = 256;
/// A cgroup without a limit says a number near 2^63.
const CGROUP_UNLIMITED_BYTES: u64 = 1 << 60;

/// What can be used, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailableMemory {
    /// Bytes.
    pub bytes: u64,
    /// The narrowest limit, in words.
    pub limit: String,
}

/// What the engine will use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What was asked for.
    pub memory_bytes: u64,
    /// Cores, each with a segment.
    pub cores: u16,
    /// One core's segment.
    pub segment_bytes: u64,
    /// What does not divide into whole segments; not used.
    pub remainder_bytes: u64,
    /// Bytes of segments in huge pages that are set aside: they are not part of what is available.
    pub huge_bytes: u64,
    /// An estimate: objects of 1 MiB.
    pub index_bytes: u64,
    /// Buffers of all connections that may be open, at most.
    pub connections_max: u64,
    /// Bytes of these buffers.
    pub connection_bytes: u64,
    /// Lanes that may be open, at most.
    pub lanes_max: u64,
    /// Bytes that are shared with their clients, if all of it is touched.
    pub lane_bytes: u64,
    /// What there is; `None` if the kernel does not say.
    pub available: Option<AvailableMemory>,
}

impl MemoryPlan {
    /// Divides `memory_bytes` among cores. `count`: cores, and connections and lanes of each. None of it is in huge pages yet.
    pub fn new(
        memory_bytes: u64,
        count: (u16, u32, u32),
        pages: PageChoice,
        available: Option<AvailableMemory>,
    ) -> Self {
        let (cores, connections_max_per_core, lanes_max_per_core) = count;
        let share = memory_bytes / u64::from(cores.max(1));
        let segment_bytes = share - share % granule(share, pages);
        let connections_max = u64::from(connections_max_per_core) * u64::from(cores);
        let lanes_max = u64::from(lanes_max_per_core) * u64::from(cores);
        MemoryPlan {
            memory_bytes,
            cores,
            segment_bytes,
            remainder_bytes: memory_bytes - segment_bytes * u64::from(cores),
            huge_bytes: 0,
            index_bytes: memory_bytes / ESTIMATED_OBJECT_BYTES * ESTIMATED_INDEX_BYTES_PER_OBJECT,
            connections_max,
            connection_bytes: connections_max * CONNECTION_BYTES as u64,
            lanes_max,
            lane_bytes: lanes_max * LINK_BYTES as u64,
            available,
        }
    }

    /// All that the process will use: segments, index, connections, lanes.
    pub fn total_bytes(&self) -> u64 {
        let segments = self.memory_bytes - self.remainder_bytes;
        let beside = self.index_bytes.saturating_add(self.connection_bytes).saturating_add(self.lane_bytes);
        segments.saturating_add(beside)
    }

    /// The bytes that are missing, or 0.
    pub fn missing_bytes(&self) -> u64 {
        let wanted = self.total_bytes().saturating_sub(self.huge_bytes);
        self.available.as_ref().map_or(0, |available| wanted.saturating_sub(available.bytes))
    }
}

/// A core's segment with a share of so many bytes is a multiple of this.
pub(super) fn granule(share: u64, pages: PageChoice) -> u64 {
    match pages {
        PageChoice::OneGiB => GIB,
        PageChoice::TwoMiB | PageChoice::Transparent => SEGMENT_GRANULE_LARGE,
        PageChoice::Auto | PageChoice::Plain if share >= SEGMENT_BYTES_LARGE => SEGMENT_GRANULE_LARGE,
        PageChoice::Auto | PageChoice::Plain => SEGMENT_GRANULE_SMALL,
    }
}

/// The sum, a line for each term.
impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |bytes: u64, words: &str| writeln!(f, "{:>10}   {words}", ByteSize(bytes).to_string());
        let segments = self.memory_bytes - self.remainder_bytes;
        line(self.memory_bytes, "asked for")?;
        let cores = if self.cores == 1 { "1 core".to_owned() } else { format!("{} cores", self.cores) };
        line(segments, &format!("segments: {cores} x {}", ByteSize(self.segment_bytes)))?;
        if self.remainder_bytes > 0 {
            line(self.remainder_bytes, "remainder, not used: segments are whole pages")?;
        }
        line(self.index_bytes, "index, an estimate: 256 bytes for each object of 1 MiB")?;
        let connections = self.connections_max;
        line(
            self.connection_bytes,
            &format!("buffers, at most: {connections} connections x {}", ByteSize(CONNECTION_BYTES as u64)),
        )?;
        if self.lanes_max > 0 {
            let (lanes, each) = (self.lanes_max, ByteSize(LINK_BYTES as u64));
            line(self.lane_bytes, &format!("shared with local clients, at most: {lanes} lanes x {each}"))?;
        }
        line(self.total_bytes(), "in all: segments + index + buffers")?;
        if self.huge_bytes > 0 {
            line(self.huge_bytes, "of it in huge pages, which are set aside beside what is available")?;
        }
        match &self.available {
            Some(available) => {
                write!(f, "{:>10}   {}", ByteSize(available.bytes).to_string(), available.limit)
            }
            None => write!(f, "{:>10}   available: the kernel does not say", "?"),
        }
    }
}

/// Reads what is available: the kernel's `MemAvailable`, and the room in every cgroup that this process is in.
pub(super) fn available_memory(root: &Path) -> Option<AvailableMemory> {
    let mut found = Vec::new();
    if let Ok(text) = fs::read_to_string(root.join("proc/meminfo"))
        && let Some(kib) = field(&text, "MemAvailable:")
    {
        let limit = "available on this machine (MemAvailable)".to_owned();
        found.push(AvailableMemory { bytes: kib.saturating_mul(KIB), limit });
    }
    for (directory, names) in cgroups(root) {
        if let Ok(Some(bytes)) = cgroup_room(&directory, names) {
            let place = directory.strip_prefix(root).unwrap_or(&directory).display().to_string();
            found.push(AvailableMemory {
                bytes,
                limit: format!("available under the limit of cgroup /{place}"),
            });
        }
    }
    found.into_iter().min_by_key(|available| available.bytes)
}

/// Compares the memory of a further segment with what is available now; an error says how much that is.
pub(crate) fn room_for(request: &MappingRequest) -> Result<(), String> {
    compare(request, PageFacts::read(), available_memory(Path::new("/")))
}

fn compare(
    request: &MappingRequest,
    mut pages: PageFacts,
    available: Option<AvailableMemory>,
) -> Result<(), String> {
    let huge_bytes = pages.forecast(request.bytes, request.node, request.pages).huge_bytes;
    let wanted = (request.bytes as u64).saturating_sub(huge_bytes);
    match available {
        Some(AvailableMemory { bytes, limit }) if request.backing == Backing::Anonymous && wanted > bytes => {
            let (wanted, bytes) = (ByteSize(wanted), ByteSize(bytes));
            Err(format!("{wanted} of memory are wanted and {bytes} are {limit}: mount less"))
        }
        _ => Ok(()),
    }
}

/// Names of the files of a memory cgroup, which differ between its two versions.
struct CgroupNames {
    limit: &'static str,
    usage: &'static str,
    /// Field of `memory.stat`: file cache that goes away under pressure.
    reclaimable: &'static str,
}

const CGROUP_1: CgroupNames = CgroupNames {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file ",
};
const CGROUP_2: CgroupNames =
    CgroupNames { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file " };

/// The directories of this process's memory cgroups with all their parents, nearest first.
fn cgroups(root: &Path) -> Vec<(PathBuf, &'static CgroupNames)> {
    let mut directories = Vec::new();
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, names) = match controllers {
            "" => ("sys/fs/cgroup", &CGROUP_2),
            _ if controllers.split(',').any(|name| name == "memory") => ("sys/fs/cgroup/memory", &CGROUP_1),
            _ => continue,
        };
        let mount = root.join(mount);
        let nearest = mount.join(path.trim_start_matches('/'));
        // In a container the path is often the host's, and only the mount's top is there: it is among the parents.
        let inside = nearest.ancestors().take_while(|directory| directory.starts_with(&mount));
        directories.extend(inside.map(|directory| (directory.to_owned(), names)));
    }
    directories
}

/// Bytes that can still be used in a cgroup; `None`: it has no limit.
fn cgroup_room(directory: &Path, names: &CgroupNames) -> io::Result<Option<u64>> {
    let read = |name: &str| fs::read_to_string(directory.join(name));
    let Ok(limit) = read(names.limit)?.trim().parse::<u64>() else {
        return Ok(None); // "max"
    };
    if limit >= CGROUP_UNLIMITED_BYTES {
        return Ok(None);
    }
    let usage: u64 = read(names.usage)?.trim().parse().unwrap_or(0);
    let reclaimable = read("memory.stat").ok().and_then(|text| field(&text, names.reclaimable)).unwrap_or(0);
    Ok(Some(limit.saturating_sub(usage.saturating_sub(reclaimable))))
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowskin_io::memory::HugePagePool;

    #[test]
    fn a_further_segment_must_fit_beside_what_is_there() {
        let request = MappingRequest {
            bytes: 8 << 30,
            backing: Backing::Anonymous,
            pages: PageChoice::Auto,
            node: None,
            prefault: None,
        };
        let none = PageFacts::default();
        let there = |bytes| Some(AvailableMemory { bytes, limit: "available here".to_owned() });
        let refused = compare(&request, none.clone(), there(8 * GIB - 1)).unwrap_err();
        assert!(
            refused.contains("8 GiB of memory are wanted") && refused.contains("are available here"),
            "{refused}"
        );
        assert_eq!(compare(&request, none.clone(), there(8 * GIB)), Ok(()));
        assert_eq!(compare(&request, none.clone(), None), Ok(()), "the kernel does not say");
        let file = MappingRequest { backing: Backing::File { path: "x".into() }, ..request.clone() };
        assert_eq!(compare(&file, none, there(0)), Ok(()), "a file is no memory");
        // Huge pages are set aside beside what is available.
        let pool = HugePagePool { page_bytes: 2 << 20, node: None, total: 4096, free: 4096 };
        let huge = PageFacts { pools: vec![pool], default_page_bytes: Some(2 << 20), shmem_mode: None };
        assert_eq!(compare(&request, huge, there(0)), Ok(()));
    }
    use quickcheck::quickcheck;

    fn plan(memory: u64, cores: u16, connections: u32, available: Option<AvailableMemory>) -> MemoryPlan {
        MemoryPlan::new(memory, (cores, connections, 0), PageChoice::Auto, available)
    }

    #[test]
    fn huge_pages_are_beside_what_is_available() {
        let available = AvailableMemory { bytes: GIB, limit: "available here".to_owned() };
        let mut plan = plan(8 * GIB, 2, 1, Some(available));
        assert!(plan.missing_bytes() > 7 * GIB);
        plan.huge_bytes = 8 * GIB;
        assert_eq!(plan.missing_bytes(), 0);
        assert!(plan.to_string().contains("     8 GiB   of it in huge pages, which are set aside"), "{plan}");
    }

    #[test]
    fn segments_are_whole_pages_of_the_kind_asked_for() {
        let segment = |memory, pages| MemoryPlan::new(memory, (1, 1, 0), pages, None).segment_bytes;
        assert_eq!(segment(5 * GIB / 2, PageChoice::OneGiB), 2 * GIB);
        assert_eq!(segment(GIB - 1, PageChoice::OneGiB), 0);
        assert_eq!(segment(5 * MIB, PageChoice::TwoMiB), 4 * MIB);
        assert_eq!(segment(5 * MIB, PageChoice::Auto), 5 * MIB);
    }

    #[test]
    fn segments_are_whole_huge_pages_when_large() {
        let plan = plan(GIB, 3, 1024, None);
        assert_eq!(plan.segment_bytes, 340 * MIB);
        assert_eq!(plan.remainder_bytes, 4 * MIB);
        assert_eq!(plan.total_bytes(), 1020 * MIB + 1024 * 256 + 3 * 36 * MIB);
        assert_eq!(plan.missing_bytes(), 0);
    }

    #[test]
    fn small_segments_are_whole_pages() {
        let plan = plan(MIB + 5000, 1, 1, None);
        assert_eq!((plan.segment_bytes, plan.remainder_bytes), (MIB + 4096, 904));
    }

    quickcheck! {
        fn the_sum_is_exact(memory: u64, cores: u16, connections: u16) -> bool {
            let memory = memory % (1 << 45);
            let cores = cores % 1024 + 1;
            let plan = plan(memory, cores, u32::from(connections), None);
            plan.segment_bytes * u64::from(cores) + plan.remainder_bytes == memory && plan.segment_bytes.is_multiple_of(4096)
        }
    }

    #[test]
    fn the_plan_is_a_sum_that_people_can_check() {
        let available = AvailableMemory { bytes: 8 * GIB, limit: "available here".to_owned() };
        let text = plan(GIB, 3, 1024, Some(available)).to_string();
        let expected = "     1 GiB   asked for\n  1020 MiB   segments: 3 cores x 340 MiB\n     4 MiB   remainder, \
                        not used: segments are whole pages\n   256 KiB   index, an estimate: 256 bytes for each object \
                        of 1 MiB\n   108 MiB   buffers, at most: 3072 connections x 36 KiB\n   1.1 GiB   in all: \
                        segments + index + buffers\n     8 GiB   available here";
        assert_eq!(text, expected);
        assert!(plan(GIB, 1, 1, None).to_string().contains("does not say"));
        let with_lanes = MemoryPlan::new(GIB, (2, 1, 128), PageChoice::Auto, None);
        assert!(with_lanes.to_string().contains("at most: 256 lanes x 1."), "{with_lanes}");
        assert_eq!(with_lanes.lane_bytes, 256 * LINK_BYTES as u64);
    }

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    1048576 kB\n");

    #[test]
    fn without_cgroups_the_kernel_decides() {
        let root = machine(&[MEMINFO]);
        let available = available_memory(root.path()).expect("an answer");
        assert_eq!(available.bytes, GIB);
        assert!(available.limit.contains("MemAvailable"));
        assert_eq!(available_memory(machine(&[]).path()), None);
    }

    #[test]
    fn the_narrowest_cgroup_decides() {
        let root = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/pod/box\n"),
            ("sys/fs/cgroup/pod/box/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "1048576\n"),
            ("sys/fs/cgroup/pod/memory.current", "524288\n"),
            ("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 4096\n"),
        ]);
        let available = available_memory(root.path()).expect("an answer");
        assert_eq!(available.bytes, 524_288 + 4096);
        assert_eq!(available.limit, "available under the limit of cgroup /sys/fs/cgroup/pod");
    }

    #[test]
    fn cgroups_of_the_first_version() {
        let limit = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
        let usage = ("sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
        let root =
            machine(&[MEMINFO, ("proc/self/cgroup", "4:cpu,memory:/lost\n3:cpu:/\nodd\n"), limit, usage]);
        assert_eq!(available_memory(root.path()).expect("an answer").bytes, 1_500_000);
        let unlimited = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let root = machine(&[MEMINFO, ("proc/self/cgroup", "4:memory:/\n"), unlimited]);
        assert_eq!(available_memory(root.path()).expect("an answer").bytes, GIB);
    }
}
