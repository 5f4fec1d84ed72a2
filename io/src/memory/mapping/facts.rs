//! What the system has set aside, which pages a mapping would get, and what to do to get better ones.

use super::address::Range;
use super::prefault::Fill;
use super::{MappingError, ONE_GIB, PageChoice, TWO_MIB, backing};
use snowskin_protocol::ByteSize;
use std::path::Path;
use std::{fs, io};

/// From here on a whole page of 2 MiB is at most 3 % of a segment: rounding up is worth it.
const ROUNDED_BYTES_MIN: usize = 64 << 20;
/// Bytes of the mapping with which transparent pages are tried.
const TRIAL_BYTES: usize = 2 * TWO_MIB;
/// The setting for transparent huge pages of shared memory, below [`Path`] `/`.
const SHMEM_PATH: &str = "sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// The huge pages of one size that are set aside, of one node or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePagePool {
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Which NUMA node; `None`: the sum of all.
    pub node: Option<u32>,
    /// Pages, used or not.
    pub total: u64,
    /// Pages that are not used. Of the sum, those that are promised to somebody are taken off.
    pub free: u64,
}

/// What the system says about pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageFacts {
    /// By size and node, the sum first; empty: the kernel has no huge pages.
    pub pools: Vec<HugePagePool>,
    /// Bytes of the huge pages that `vm.nr_hugepages` is about; `None`: the kernel does not say.
    pub default_page_bytes: Option<usize>,
    /// `advise`, `never`, … : whether shared memory gets transparent huge pages when it is touched; `None`: the kernel
    /// has none.
    pub shmem_mode: Option<String>,
}

/// What a mapping would get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageForecast {
    /// Bytes of the huge pages that are set aside and would be used; `None`: transparent or plain ones.
    pub huge_page_bytes: Option<usize>,
    /// All bytes in them.
    pub huge_bytes: u64,
    /// A line for each size that would not be used, and why.
    pub notes: Vec<String>,
}

/// One step down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// Huge pages of so many bytes.
    Huge(usize),
    /// What the kernel gives for the asking, else plain ones.
    Small,
}

impl PageFacts {
    /// Looks at the system.
    pub fn read() -> Self {
        Self::read_at(Path::new("/"))
    }

    /// Looks at a system whose `/` is at `root`.
    pub(super) fn read_at(root: &Path) -> Self {
        let mut pools = read_pools(&root.join("sys/kernel/mm/hugepages"), None);
        let mut nodes = nodes_in(&root.join("sys/devices/system/node"));
        nodes.sort_unstable();
        for node in nodes {
            let directory = root.join(format!("sys/devices/system/node/node{node}/hugepages"));
            pools.extend(read_pools(&directory, Some(node)));
        }
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let size = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
        let default_kib = size.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
        let mode = fs::read_to_string(root.join(SHMEM_PATH)).ok();
        PageFacts {
            pools,
            default_page_bytes: default_kib.map(|kib| kib << 10),
            shmem_mode: mode.and_then(|text| Some(text.split(['[', ']']).nth(1)?.to_owned())),
        }
    }

    fn pool(&self, page_bytes: usize, node: Option<u32>) -> Option<HugePagePool> {
        self.pools.iter().copied().find(|pool| (pool.page_bytes, pool.node) == (page_bytes, node))
    }

    /// Pages that can be had, on a node or anywhere.
    pub fn free_pages(&self, page_bytes: usize, node: Option<u32>) -> u64 {
        let Some(all) = self.pool(page_bytes, None) else { return 0 };
        let there = node.and_then(|node| self.pool(page_bytes, Some(node)));
        there.map_or(all.free, |there| there.free.min(all.free))
    }

    /// Bytes of all pages that can be had and that `choice` would use.
    pub fn free_bytes(&self, choice: PageChoice) -> u64 {
        let sizes = self.pools.iter().filter(|pool| pool.node.is_none()).filter(|pool| match choice {
            PageChoice::Auto => pool.page_bytes == TWO_MIB || pool.page_bytes == ONE_GIB,
            PageChoice::OneGiB => pool.page_bytes == ONE_GIB,
            PageChoice::TwoMiB => pool.page_bytes == TWO_MIB,
            PageChoice::Transparent | PageChoice::Plain => false,
        });
        sizes.map(|pool| pool.free * pool.page_bytes as u64).sum()
    }

    /// What to try for a memfd, best first. `notes` get a line for each size that need not be tried.
    pub(super) fn candidates(
        &self,
        bytes: usize,
        node: Option<u32>,
        choice: PageChoice,
        notes: &mut Vec<String>,
    ) -> Vec<Candidate> {
        match choice {
            PageChoice::OneGiB => return vec![Candidate::Huge(ONE_GIB)],
            PageChoice::TwoMiB => return vec![Candidate::Huge(TWO_MIB)],
            PageChoice::Transparent | PageChoice::Plain => return vec![Candidate::Small],
            PageChoice::Auto => {}
        }
        let mut candidates = Vec::new();
        for page_bytes in [ONE_GIB, TWO_MIB] {
            match self.why_not(page_bytes, bytes, node) {
                None => candidates.push(Candidate::Huge(page_bytes)),
                Some(reason) => notes.push(format!("{} huge pages: {reason}", ByteSize(page_bytes as u64))),
            }
        }
        candidates.push(Candidate::Small);
        candidates
    }

    /// Why `auto` does not take pages of this size; `None`: it does.
    fn why_not(&self, page_bytes: usize, bytes: usize, node: Option<u32>) -> Option<String> {
        if !bytes.is_multiple_of(page_bytes) && (page_bytes > TWO_MIB || bytes < ROUNDED_BYTES_MIN) {
            return Some("the size is not a whole number of them".to_owned());
        }
        let wanted = bytes.div_ceil(page_bytes) as u64;
        (self.free_pages(page_bytes, node) < wanted).then(|| self.shortage_words(wanted, page_bytes, node))
    }

    fn shortage_words(&self, wanted: u64, page_bytes: usize, node: Option<u32>) -> String {
        let place = node.map_or(String::new(), |node| format!(" on NUMA node {node}"));
        match self.pool(page_bytes, None) {
            None => "this kernel has none".to_owned(),
            Some(all) if all.total == 0 => "none is set aside".to_owned(),
            Some(_) => format!("{} free{place}, {wanted} needed", self.free_pages(page_bytes, node)),
        }
    }

    /// The error for huge pages of `page_bytes` that were asked for and refused.
    pub(super) fn shortage(
        &self,
        bytes: usize,
        page_bytes: usize,
        node: Option<u32>,
        source: io::Error,
    ) -> MappingError {
        let wanted = (bytes / page_bytes) as u64;
        // They may have gone to somebody else since, or belong to a cgroup's limit.
        let reason = match self.free_pages(page_bytes, node) < wanted {
            true => self.shortage_words(wanted, page_bytes, node),
            false => format!("{wanted} needed, and the kernel gives none: {source}"),
        };
        let remedy = match self.free_pages(page_bytes, node) < wanted {
            true => self.remedy(wanted, page_bytes, node),
            false => "look at the limits of the cgroup (hugetlb) and at who else takes them".to_owned(),
        };
        let size = ByteSize(page_bytes as u64);
        MappingError::Pages { reason: format!("no huge pages of {size}: {reason}"), remedy }
    }

    /// The command that makes so many pages free, for root.
    pub fn remedy(&self, wanted: u64, page_bytes: usize, node: Option<u32>) -> String {
        let many_nodes = self.pools.iter().filter(|pool| pool.page_bytes == page_bytes).count() > 2;
        let node = node.filter(|_| many_nodes);
        let Some(all) = self.pool(page_bytes, None) else {
            return format!(
                "use a kernel and a processor with pages of {}, or auto",
                ByteSize(page_bytes as u64)
            );
        };
        let there = node.and_then(|node| self.pool(page_bytes, Some(node))).unwrap_or(all);
        let count = there.total + wanted.saturating_sub(self.free_pages(page_bytes, node));
        let kib = page_bytes >> 10;
        match node {
            Some(node) => format!(
                "as root: echo {count} > /sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages"
            ),
            None if self.default_page_bytes == Some(page_bytes) => {
                format!("as root: sysctl vm.nr_hugepages={count}")
            }
            None => format!(
                "as root: echo {count} > /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages, or boot with \
                 hugepagesz={} hugepages={count}",
                if page_bytes == ONE_GIB { "1G" } else { "2M" }
            ),
        }
    }

    /// What a memfd would get now. Takes its pages off, so that several mappings can be asked for in turn.
    pub fn forecast(&mut self, bytes: usize, node: Option<u32>, choice: PageChoice) -> PageForecast {
        let mut notes = Vec::new();
        let first = self.candidates(bytes, node, choice, &mut notes).into_iter().next();
        let Some(Candidate::Huge(page_bytes)) = first else {
            return PageForecast { huge_page_bytes: None, huge_bytes: 0, notes };
        };
        let wanted = bytes.div_ceil(page_bytes) as u64;
        if self.free_pages(page_bytes, node) < wanted {
            let words = self.shortage_words(wanted, page_bytes, node);
            notes.push(format!("{} huge pages: {words}", ByteSize(page_bytes as u64)));
            return PageForecast { huge_page_bytes: None, huge_bytes: 0, notes };
        }
        for pool in self.pools.iter_mut().filter(|pool| pool.page_bytes == page_bytes) {
            if pool.node.is_none() || pool.node == node {
                pool.free = pool.free.saturating_sub(wanted);
            }
        }
        let huge_bytes = wanted * page_bytes as u64;
        PageForecast { huge_page_bytes: Some(page_bytes), huge_bytes, notes }
    }
}

fn read_pools(directory: &Path, node: Option<u32>) -> Vec<HugePagePool> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let pool = |path: &Path| -> Option<HugePagePool> {
        let kib = path.file_name()?.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let number = |name: &str| fs::read_to_string(path.join(name)).ok()?.trim().parse::<u64>().ok();
        // Only the sum knows what is promised.
        let promised = if node.is_none() { number("resv_hugepages").unwrap_or(0) } else { 0 };
        Some(HugePagePool {
            page_bytes: kib.parse::<usize>().ok()? << 10,
            node,
            total: number("nr_hugepages")?,
            free: number("free_hugepages")?.saturating_sub(promised),
        })
    };
    let mut pools: Vec<_> = entries.filter_map(|entry| pool(&entry.ok()?.path())).collect();
    pools.sort_by_key(|pool| pool.page_bytes);
    pools
}

fn nodes_in(directory: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok();
    entries.filter_map(|entry| number(entry.ok()?)).collect()
}

/// How memory of a memfd comes to transparent huge pages here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransparentTrial {
    /// When it is touched.
    WhenTouched,
    /// When it is pre-faulted, because then the kernel can be told to gather it (MADV_COLLAPSE).
    WhenPrefaulted,
    /// Not at all.
    Never,
}

/// Tries it with a small memfd, which takes a millisecond or two: what the settings say is not always what happens.
pub fn try_transparent_pages() -> TransparentTrial {
    let range = backing::memfd(TRIAL_BYTES, None).and_then(|file| Range::of_small_pages(&file, TRIAL_BYTES));
    match range.ok().and_then(|range| range.find_transparent_way()) {
        Some(Fill::Populate) => TransparentTrial::WhenTouched,
        Some(Fill::Gather) => TransparentTrial::WhenPrefaulted,
        None => TransparentTrial::Never,
    }
}

/// Why a mapping of `bytes` got none although it was asked for.
pub(super) fn no_transparent_reason(bytes: usize) -> String {
    if bytes < TWO_MIB {
        return "the memory is smaller than one".to_owned();
    }
    match fs::read_to_string(Path::new("/").join(SHMEM_PATH)) {
        Ok(modes) => format!("the kernel gave none (shmem_enabled: {})", modes.trim()),
        Err(_) => "this kernel has none".to_owned(),
    }
}

/// What makes the kernel give transparent huge pages to shared memory.
pub(super) fn transparent_remedy() -> String {
    format!(
        "as root: echo advise > /{SHMEM_PATH}; memory of at least 2 MiB that is pre-faulted has the best chance"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const GIB: usize = 1 << 30;

    /// The files of a system with two nodes: 100 pages of 2 MiB each, 30 and 90 free, 10 promised; 2 pages of 1 GiB on
    /// node 1.
    fn system(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("snowskin-facts-{name}-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        };
        let pool = |directory: &str, size: usize, total: u64, free: u64| {
            write(&format!("{directory}/hugepages-{size}kB/nr_hugepages"), &format!("{total}\n"));
            write(&format!("{directory}/hugepages-{size}kB/free_hugepages"), &format!("{free}\n"));
        };
        let node = |node: u32| format!("sys/devices/system/node/node{node}/hugepages");
        pool("sys/kernel/mm/hugepages", 2048, 200, 120);
        write("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "10\n");
        pool("sys/kernel/mm/hugepages", 1_048_576, 2, 2);
        pool(&node(0), 2048, 100, 30);
        pool(&node(1), 2048, 100, 90);
        pool(&node(0), 1_048_576, 0, 0);
        pool(&node(1), 1_048_576, 2, 2);
        write("sys/devices/system/node/online", "0-1\n");
        write("proc/meminfo", "MemTotal: 9 kB\nHugepagesize:       2048 kB\n");
        write(SHMEM_PATH, "always within_size [advise] never deny force\n");
        root
    }

    #[test]
    fn pools_are_read_by_size_and_node() {
        let root = system("read");
        let facts = PageFacts::read_at(&root);
        assert_eq!(facts.pools.len(), 6);
        assert_eq!(facts.free_pages(TWO_MIB, None), 110);
        assert_eq!((facts.free_pages(TWO_MIB, Some(0)), facts.free_pages(TWO_MIB, Some(1))), (30, 90));
        // A node that the kernel does not describe: only the sum is known.
        assert_eq!(facts.free_pages(TWO_MIB, Some(7)), 110);
        assert_eq!(facts.shmem_mode.as_deref(), Some("advise"));
        assert_eq!(facts.free_bytes(PageChoice::Auto), (110 * TWO_MIB + 2 * GIB) as u64);
        assert_eq!(facts.free_bytes(PageChoice::Plain), 0);
        fs::remove_dir_all(root).expect("removal");
        assert_eq!(PageFacts::read_at(Path::new("/no/such/place")), PageFacts::default());
    }

    #[test]
    fn auto_takes_the_largest_that_fits_and_says_why() {
        let root = system("auto");
        let facts = PageFacts::read_at(&root);
        fs::remove_dir_all(root).expect("removal");
        let auto = |bytes, node| {
            let mut notes = Vec::new();
            (facts.candidates(bytes, node, PageChoice::Auto, &mut notes), notes.join("; "))
        };
        let (gib, two, small) = (Candidate::Huge(GIB), Candidate::Huge(TWO_MIB), Candidate::Small);
        assert_eq!(
            auto(2 * GIB, Some(1)),
            (vec![gib, small], "2 MiB huge pages: 90 free on NUMA node 1, 1024 needed".into())
        );
        let (candidates, notes) = auto(GIB, Some(0));
        assert_eq!(candidates, [small]);
        assert!(notes.contains("1 GiB huge pages: 0 free on NUMA node 0, 1 needed"), "{notes}");
        assert_eq!(auto(60 * (1 << 20), Some(0)).0, [two, small]);
        // Small sizes are not rounded up to whole huge pages, larger ones are.
        assert_eq!(auto(4096, None).0, [small]);
        assert_eq!(auto((64 << 20) + 1, None).0, [two, small]);
        assert_eq!(PageFacts::default().candidates(GIB, None, PageChoice::Auto, &mut Vec::new()), [small]);
    }

    #[test]
    fn forecasts_take_turns() {
        let root = system("turns");
        let mut facts = PageFacts::read_at(&root);
        fs::remove_dir_all(root).expect("removal");
        let mut next = |node| facts.forecast(40 * TWO_MIB, Some(node), PageChoice::TwoMiB).huge_page_bytes;
        assert_eq!((next(0), next(1), next(1), next(1)), (None, Some(TWO_MIB), Some(TWO_MIB), None));
        assert_eq!(facts.free_pages(TWO_MIB, None), 30);
    }

    #[test]
    fn remedies_are_commands() {
        let root = system("remedy");
        let facts = PageFacts::read_at(&root);
        fs::remove_dir_all(root).expect("removal");
        assert_eq!(facts.remedy(150, TWO_MIB, None), "as root: sysctl vm.nr_hugepages=240");
        assert_eq!(
            facts.remedy(50, TWO_MIB, Some(0)),
            "as root: echo 120 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
        );
        let gib = facts.remedy(4, GIB, None);
        assert!(
            gib.ends_with("hugepages-1048576kB/nr_hugepages, or boot with hugepagesz=1G hugepages=4"),
            "{gib}"
        );
        assert!(PageFacts::default().remedy(1, GIB, None).ends_with("with pages of 1 GiB, or auto"));
        let source = || io::Error::from_raw_os_error(12);
        let error = facts.shortage(50 * TWO_MIB, TWO_MIB, Some(0), source()).to_string();
        assert!(
            error.starts_with("no huge pages of 2 MiB: 30 free on NUMA node 0, 50 needed; as root: "),
            "{error}"
        );
        let error = facts.shortage(2 * TWO_MIB, TWO_MIB, None, source()).to_string();
        assert!(error.contains("the kernel gives none: Cannot allocate memory"), "{error}");
    }
}
