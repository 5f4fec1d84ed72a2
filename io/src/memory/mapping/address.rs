//! The range of addresses of a mapping: where it lies, on which node, in which pages.

use super::prefault::Fill;
use super::{MappingError, TWO_MIB};
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};

/// `madvise`'s word for gathering pages in huge ones, the same on all machines.
const MADV_COLLAPSE: c_int = 25;
/// `mbind`'s words.
const MPOL_PREFERRED: c_long = 1;
const MPOL_BIND: c_long = 2;
/// The number of `mbind`, where it is known.
const MBIND: Option<c_long> = if cfg!(target_arch = "x86_64") {
    Some(237)
} else if cfg!(any(target_arch = "aarch64", target_arch = "riscv64")) {
    Some(235)
} else {
    None
};

// What neither rustix nor memmap2 has.
// SAFETY: these are the C library's own declarations (unistd.h, sys/mman.h).
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn madvise(start: *mut c_void, bytes: usize, advice: c_int) -> c_int;
}

/// How strictly memory is bound to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// A page comes from there or not at all. For huge pages: without one there is an error, nobody is killed for it.
    Only,
    /// A page comes from elsewhere when the node is full: plain pages that may not would have a process killed.
    Rather,
}

/// Mapped addresses.
#[derive(Debug)]
pub(super) struct Range {
    /// Owns all addresses, those around the range too.
    region: MmapRaw,
    /// Where the range begins in the region.
    offset: usize,
    bytes: usize,
}

impl Range {
    /// Maps a file that has pages of its own; the kernel chooses an address that suits them. `bytes` are whole pages.
    pub(super) fn of_own_pages(file: &File, bytes: usize) -> io::Result<Range> {
        let region = MmapOptions::new().len(bytes).map_raw(file)?;
        Ok(Range { region, offset: 0, bytes })
    }

    /// Maps a memfd or file of small pages at a multiple of 2 MiB, so that transparent huge pages fit. `bytes` are
    /// whole pages.
    pub(super) fn of_small_pages(file: &File, bytes: usize) -> Result<Range, MappingError> {
        let failed = |source: io::Error| MappingError::kernel(bytes, "mmap", source);
        let region = MmapOptions::new().len(bytes).map_raw(file).map_err(failed)?;
        if bytes < TWO_MIB || region.as_ptr().addr().is_multiple_of(TWO_MIB) {
            return Ok(Range { region, offset: 0, bytes });
        }
        drop(region);
        let region_bytes = bytes.checked_add(TWO_MIB).ok_or(MappingError::TooLarge { bytes })?;
        // Only to have the addresses: nobody touches what is left of it around the range.
        let region = MmapOptions::new().len(region_bytes).map_raw_read_only(file).map_err(failed)?;
        let offset = region.as_ptr().addr().next_multiple_of(TWO_MIB) - region.as_ptr().addr();
        let start = region.as_mut_ptr().wrapping_add(offset);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED);
        // SAFETY: MAP_FIXED replaces `start..start + bytes`, which lies within `region` (offset < 2 MiB, and the region
        // is 2 MiB longer); the region is ours alone, nothing refers to it yet, and its drop unmaps the new part too.
        unsafe { rustix::mm::mmap(start.cast(), bytes, protection, flags, file, 0) }
            .map_err(|errno| failed(errno.into()))?;
        Ok(Range { region, offset, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.region.as_mut_ptr().wrapping_add(self.offset)
    }

    /// Where pages come from that are not there yet.
    pub(super) fn bind(&self, node: u32, binding: Binding) -> io::Result<()> {
        let mode = match binding {
            Binding::Only => MPOL_BIND,
            Binding::Rather => MPOL_PREFERRED,
        };
        let Some(mbind) = MBIND else { return Err(io::ErrorKind::Unsupported.into()) };
        let bits = c_ulong::BITS as usize;
        let mut nodes: Vec<c_ulong> = vec![0; node as usize / bits + 1];
        nodes[node as usize / bits] = 1 << (node as usize % bits);
        // The kernel takes one off.
        let count = nodes.len() * bits + 1;
        // SAFETY: mbind reads `count - 1` bits at `nodes`, which has them, and changes no byte of the range: only
        // where its future pages come from.
        let answer =
            unsafe { syscall(mbind, self.start(), self.bytes, mode, nodes.as_ptr(), count, 0 as c_long) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Touches every page of a part, writing nothing. An error if one cannot be had.
    pub(super) fn populate(&self, offset: usize, bytes: usize) -> io::Result<()> {
        loop {
            match self.region.advise_range(Advice::PopulateWrite, self.offset + offset, bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Has the kernel gather a part, at least a page of it touched in each 2 MiB, in huge pages (Linux 6.1). It does so
    /// whatever `shmem_enabled` says.
    pub(super) fn gather(&self, offset: usize, bytes: usize) -> io::Result<()> {
        assert!(offset + bytes <= self.bytes, "{bytes} from {offset} of {}", self.bytes);
        let start = self.start().wrapping_add(offset);
        // SAFETY: the part lies within the range; gathering moves bytes to other physical pages and changes none.
        let answer = unsafe { madvise(start.cast(), bytes, MADV_COLLAPSE) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Plain pages even where the kernel would give others unasked.
    pub(super) fn forbid_huge_pages(&self) {
        // A kernel without transparent huge pages refuses, and is right.
        let _ = self.region.advise_range(Advice::NoHugePage, self.offset, self.bytes);
    }

    /// Asks for transparent huge pages and looks whether the first 2 MiB are one: because it was touched, or because
    /// the kernel was told to gather it. `None`: neither.
    pub(super) fn find_transparent_way(&self) -> Option<Fill> {
        if self.bytes < TWO_MIB {
            return None;
        }
        // A kernel without them refuses; then the look below says so.
        let _ = self.region.advise_range(Advice::HugePage, self.offset, self.bytes);
        self.populate(0, 1).ok()?;
        if self.huge_bytes() > 0 {
            return Some(Fill::Populate);
        }
        self.gather(0, TWO_MIB).ok()?;
        (self.huge_bytes() > 0).then_some(Fill::Gather)
    }

    /// Bytes that are mapped in huge pages now, whoever gave them.
    pub(super) fn huge_bytes(&self) -> usize {
        let Ok(file) = File::open("/proc/self/smaps") else { return 0 };
        huge_bytes_in(BufReader::new(file), self.start().addr(), self.bytes)
    }

    /// Bytes that are there and not on `node`; `None` if the kernel does not say, or has one node only.
    pub(super) fn bytes_off_node(&self, node: u32) -> Option<usize> {
        let nodes = fs::read_to_string("/sys/devices/system/node/online").ok()?;
        nodes.contains(['-', ',']).then_some(())?;
        let file = File::open("/proc/self/numa_maps").ok()?;
        bytes_off_node_in(BufReader::new(file), self.start().addr(), node)
    }
}

/// The sum of what is mapped in huge pages between `start` and `start + bytes`.
fn huge_bytes_in(smaps: impl BufRead, start: usize, bytes: usize) -> usize {
    let mut inside = false;
    let mut kib = 0;
    for line in smaps.lines().map_while(Result::ok) {
        if let Some(begin) = area_start(&line) {
            if begin >= start + bytes {
                break;
            }
            inside = begin >= start;
        } else if inside
            && let Some((name, value)) = line.split_once(':')
            && matches!(name, "ShmemPmdMapped" | "FilePmdMapped")
        {
            kib += value.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
        }
    }
    kib << 10
}

/// `7f0443d85000-7f0453d85000 rw-s …`: the first address.
fn area_start(line: &str) -> Option<usize> {
    let (begin, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    usize::from_str_radix(end, 16).ok()?;
    usize::from_str_radix(begin, 16).ok()
}

/// `7f0443d85000 prefer:0 file=… N0=512 N1=3 kernelpagesize_kB=4`, for the area that begins at `start`.
fn bytes_off_node_in(numa_maps: impl BufRead, start: usize, node: u32) -> Option<usize> {
    let ours = |line: &String| {
        line.split(' ').next().and_then(|begin| usize::from_str_radix(begin, 16).ok()) == Some(start)
    };
    let line = numa_maps.lines().map_while(Result::ok).find(ours)?;
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
    let page_kib: usize = field("kernelpagesize_kB=")?.parse().ok()?;
    let counts = line.split(' ').filter_map(|field| field.strip_prefix('N')?.split_once('='));
    let counts =
        counts.filter_map(|(at, pages)| Some((at.parse::<u32>().ok()?, pages.parse::<usize>().ok()?)));
    let pages: usize = counts.filter(|(at, _)| *at != node).map(|(_, pages)| pages).sum();
    Some((pages * page_kib) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "7f0000200000-7f0000600000 rw-s 00000000 00:01 9 /memfd:x (deleted)\nRss: 4096 kB\n\
        ShmemPmdMapped:     2048 kB\nFilePmdMapped:        0 kB\nVmFlags: rd wr sh\n\
        7f0000600000-7f0000800000 rw-s 00000000 00:01 9 /memfd:y (deleted)\nShmemPmdMapped:     2048 kB\n";

    #[test]
    fn huge_bytes_are_those_of_the_range_only() {
        assert_eq!(huge_bytes_in(SMAPS.as_bytes(), 0x7f00_0020_0000, 4 << 20), 2 << 20);
        assert_eq!(huge_bytes_in(SMAPS.as_bytes(), 0x7f00_0060_0000, 2 << 20), 2 << 20);
        assert_eq!(huge_bytes_in(SMAPS.as_bytes(), 0x7f00_0090_0000, 2 << 20), 0);
    }

    #[test]
    fn pages_of_other_nodes_are_counted() {
        let maps = "7f0000200000 prefer:1 file=/memfd:x dirty=5 N0=3 N1=2 kernelpagesize_kB=4\n\
                    7f0000600000 bind:1 file=/memfd:y huge N1=2 kernelpagesize_kB=2048\n";
        assert_eq!(bytes_off_node_in(maps.as_bytes(), 0x7f00_0020_0000, 1), Some(3 * 4096));
        assert_eq!(bytes_off_node_in(maps.as_bytes(), 0x7f00_0060_0000, 1), Some(0));
        assert_eq!(bytes_off_node_in(maps.as_bytes(), 0x7f00_0060_0000, 0), Some(4 << 20));
        assert_eq!(bytes_off_node_in(maps.as_bytes(), 0x1000, 0), None);
    }
}
