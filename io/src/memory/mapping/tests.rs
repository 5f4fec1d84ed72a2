//! On the kernel that runs the tests: what it does not have is said in a line that begins with `skipped:`.

use super::*;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

const MIB: usize = 1 << 20;
const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Whoever takes or sets aside huge pages, or may be given some unasked, holds this.
static HUGE_PAGES: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    HUGE_PAGES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A directory that goes with its test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("snowskin-mapping-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sets `pages` more huge pages of 2 MiB aside, and no more when dropped. `None`, said in a line: it cannot be done.
struct SetAside {
    before: String,
    _alone: MutexGuard<'static, ()>,
}

impl SetAside {
    fn pages(pages: u64) -> Option<SetAside> {
        let alone = alone();
        let facts = PageFacts::read();
        let before = fs::read_to_string(NR_HUGEPAGES).unwrap_or_default();
        let Ok(total) = before.trim().parse::<u64>() else {
            eprintln!("skipped: this kernel has no huge pages");
            return None;
        };
        if facts.default_page_bytes != Some(TWO_MIB) {
            eprintln!("skipped: vm.nr_hugepages is not about pages of 2 MiB here");
            return None;
        }
        let wanted = total + pages.saturating_sub(facts.free_pages(TWO_MIB, None));
        if fs::write(NR_HUGEPAGES, wanted.to_string()).is_err() {
            eprintln!("skipped: only root can set huge pages aside");
            return None;
        }
        let aside = SetAside { before, _alone: alone };
        if PageFacts::read().free_pages(TWO_MIB, None) < pages {
            eprintln!("skipped: this machine cannot set {pages} huge pages aside now");
            return None;
        }
        Some(aside)
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        fs::write(NR_HUGEPAGES, self.before.trim()).expect("it could be written before");
    }
}

fn memory(bytes: usize, pages: PageChoice) -> MappingRequest {
    MappingRequest { bytes, backing: Backing::Anonymous, pages, node: None, prefault: None }
}

fn of_file(bytes: usize, path: &Path) -> MappingRequest {
    let backing = Backing::File { path: path.to_owned() };
    MappingRequest { backing, ..memory(bytes, PageChoice::Plain) }
}

fn prefaulted(request: MappingRequest, processors: &[usize]) -> MappingRequest {
    MappingRequest { prefault: Some(Prefault { processors: processors.to_vec() }), ..request }
}

fn create(request: &MappingRequest) -> Result<Mapping, MappingError> {
    Mapping::create(request, &mut |_, _| ControlFlow::Continue(()))
}

fn bytes_of(mapping: &mut Mapping) -> &mut [u8] {
    // SAFETY: the range is mapped as long as `mapping` lives, and `&mut` makes the slice its only one here.
    unsafe { std::slice::from_raw_parts_mut(mapping.start(), mapping.bytes()) }
}

fn resident_bytes(mapping: &Mapping) -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("smaps");
    let begin = format!("{:x}-", mapping.start().addr());
    let area = smaps.lines().skip_while(|line| !line.starts_with(&begin));
    let rss = area.filter_map(|line| line.strip_prefix("Rss:")).next().expect("an area");
    rss.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[test]
fn impossible_sizes_are_errors() {
    assert!(matches!(create(&memory(0, PageChoice::Plain)), Err(MappingError::Empty)));
    assert!(matches!(create(&memory(usize::MAX, PageChoice::Plain)), Err(MappingError::TooLarge { .. })));
    let error = create(&memory(1 << 60, PageChoice::Auto)).expect_err("an exabyte").to_string();
    assert!(error.starts_with("cannot get 1048576 TiB of memory"), "{error}");
}

#[test]
fn choices_are_read_as_they_are_written() {
    let all = [
        PageChoice::Auto,
        PageChoice::OneGiB,
        PageChoice::TwoMiB,
        PageChoice::Transparent,
        PageChoice::Plain,
    ];
    for choice in all {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
    for (text, choice) in
        [("1g", PageChoice::OneGiB), ("2MB", PageChoice::TwoMiB), (" auto ", PageChoice::Auto)]
    {
        assert_eq!(text.parse(), Ok(choice));
    }
    for text in ["4KiB", "", "on", "Auto"] {
        let error = text.parse::<PageChoice>().expect_err(text);
        assert!(error.ends_with("write auto, 1GiB, 2MiB, transparent or off"), "{error}");
    }
}

#[test]
fn fresh_memory_is_zero_whole_pages_and_of_fixed_size() {
    let mut mapping = create(&memory(3 * 4096 + 1, PageChoice::Plain)).expect("memory");
    assert!(mapping.bytes() >= 4 * 4096 && mapping.bytes().is_multiple_of(rustix::param::page_size()));
    assert!(bytes_of(&mut mapping).iter().all(|&byte| byte == 0));
    assert_eq!(mapping.pages().kind, PageKind::Plain);
    let words = mapping.pages().to_string();
    assert!(words.contains("12289 bytes rounded up to 16384 bytes: whole pages"), "{words}");
    // Who maps the same file sees the same bytes, and cannot make it smaller.
    bytes_of(&mut mapping)[4096] = 7;
    let other = File::from(mapping.file().try_clone_to_owned().expect("a descriptor"));
    let mut seen = [0];
    other.read_exact_at(&mut seen, 4096).expect("bytes");
    assert_eq!(seen, [7]);
    assert!(other.set_len(0).is_err());
}

#[test]
fn progress_grows_to_the_total_and_then_all_is_there() {
    for processors in [&[][..], &[0], &[0, 1]] {
        let request = prefaulted(memory(150 * MIB, PageChoice::Plain), processors);
        let mut told = Vec::new();
        let mut mapping = Mapping::create(&request, &mut |done, total| {
            told.push((done, total));
            ControlFlow::Continue(())
        })
        .expect("memory");
        assert_eq!(told.len(), 3);
        assert!(told.is_sorted() && told.iter().all(|&(_, total)| total == 150 * MIB), "{told:?}");
        assert_eq!(told[2].0, 150 * MIB);
        assert_eq!(resident_bytes(&mapping), 150 * MIB);
        assert!(bytes_of(&mut mapping).iter().step_by(4096).all(|&byte| byte == 0));
    }
    let lazy = create(&memory(150 * MIB, PageChoice::Plain)).expect("memory");
    assert_eq!(resident_bytes(&lazy), 0);
}

#[test]
fn memory_is_bound_to_its_node() {
    let on = |node| create(&MappingRequest { node: Some(node), ..memory(MIB, PageChoice::Plain) });
    let nowhere = on(999).expect("memory all the same").pages().to_string();
    assert!(nowhere.contains("cannot be bound to NUMA node 999"), "{nowhere}");
    let mapping = on(0).expect("memory");
    let Ok(maps) = fs::read_to_string("/proc/self/numa_maps") else {
        eprintln!("skipped: this kernel knows no NUMA nodes");
        return;
    };
    if !mapping.pages().notes.is_empty() {
        eprintln!("skipped: {}", mapping.pages());
        return;
    }
    let begin = format!("{:x} prefer", mapping.start().addr());
    assert!(
        maps.lines().any(|line| line.starts_with(&begin) && line.contains(":0 ")),
        "{begin} is not in {maps}"
    );
}

#[test]
fn filling_can_be_stopped() {
    let request = prefaulted(memory(400 * MIB, PageChoice::Plain), &[0]);
    let mut filled = 0;
    let stopped = Mapping::create(&request, &mut |done, _| {
        filled = done;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(MappingError::Stopped)), "{stopped:?}");
    // The thread may have been in the next steps when it was told.
    assert!(0 < filled && filled < 400 * MIB, "{filled}");
    // Stopping at the end stops nothing.
    let request = prefaulted(memory(MIB, PageChoice::Plain), &[]);
    assert!(Mapping::create(&request, &mut |_, _| ControlFlow::Break(())).is_ok());
}

#[test]
fn transparent_pages_are_told_as_they_are() {
    let _alone = alone();
    let lazy = create(&memory(8 * MIB, PageChoice::Transparent));
    let eager = create(&prefaulted(memory(8 * MIB, PageChoice::Transparent), &[]));
    let trial = try_transparent_pages();
    match (trial, lazy, eager) {
        (TransparentTrial::WhenTouched, Ok(lazy), Ok(eager)) => {
            assert_eq!(lazy.pages().kind, PageKind::Transparent { huge_bytes: 2 * MIB });
            assert!(matches!(eager.pages().kind, PageKind::Transparent { huge_bytes } if huge_bytes > 0));
        }
        (TransparentTrial::WhenPrefaulted, Err(lazy), Ok(mut eager)) => {
            assert!(lazy.to_string().contains("only memory that is pre-faulted"), "{lazy}");
            let PageKind::Transparent { huge_bytes } = eager.pages().kind else {
                panic!("{}", eager.pages())
            };
            assert!(0 < huge_bytes && huge_bytes <= 8 * MIB, "{huge_bytes}");
            assert_eq!(huge_bytes, eager.range.huge_bytes());
            assert!(bytes_of(&mut eager).iter().all(|&byte| byte == 0));
        }
        (TransparentTrial::Never, Err(lazy), Err(eager)) => {
            for error in [lazy, eager] {
                assert!(error.to_string().contains("as root: echo advise > /sys/kernel/mm"), "{error}");
            }
        }
        (trial, lazy, eager) => panic!("{trial:?}: {lazy:?} {eager:?}"),
    }
    let small = create(&prefaulted(memory(MIB, PageChoice::Transparent), &[])).expect_err("too small");
    assert!(small.to_string().contains("the memory is smaller than one"), "{small}");
    let plain = create(&prefaulted(memory(8 * MIB, PageChoice::Plain), &[])).expect("memory");
    assert_eq!((plain.pages().kind, plain.range.huge_bytes()), (PageKind::Plain, 0));
}

#[test]
fn without_huge_pages_auto_goes_down_and_says_why() {
    let _alone = alone();
    if PageFacts::read().free_bytes(PageChoice::Auto) > 0 {
        eprintln!("skipped: this machine has huge pages set aside");
        return;
    }
    let mapping = create(&memory(2 * MIB, PageChoice::Auto)).expect("memory");
    let words = mapping.pages().to_string();
    assert!(words.contains("1 GiB huge pages: the size is not a whole number of them"), "{words}");
    assert!(words.contains("2 MiB huge pages: "), "{words}");
    assert!(!matches!(mapping.pages().kind, PageKind::Huge(_)));
    let gib = create(&memory(ONE_GIB, PageChoice::OneGiB)).expect_err("no such pages").to_string();
    assert!(gib.starts_with("no huge pages of 1 GiB: "), "{gib}");
    assert!(gib.contains("nr_hugepages") || gib.contains("or auto"), "{gib}");
    let two = create(&memory(5 * MIB, PageChoice::TwoMiB)).expect_err("no such pages").to_string();
    assert!(two.starts_with("no huge pages of 2 MiB: "), "{two}");
    assert!(two.contains("as root: sysctl vm.nr_hugepages=") || two.contains("or auto"), "{two}");
}

#[test]
fn huge_pages_are_reserved_filled_and_given_back() {
    let Some(_aside) = SetAside::pages(40) else { return };
    let free = || PageFacts::read().free_pages(TWO_MIB, None);
    let before = free();
    let mut mapping = create(&memory(9 * MIB, PageChoice::TwoMiB)).expect("huge pages");
    assert_eq!((mapping.bytes(), mapping.pages().kind), (10 * MIB, PageKind::Huge(TWO_MIB)));
    assert_eq!(mapping.pages().notes, ["9 MiB rounded up to 10 MiB: whole pages"]);
    assert_eq!(free(), before - 5);
    bytes_of(&mut mapping).fill(1);
    drop(mapping);
    assert_eq!(free(), before);
    let mut auto =
        create(&MappingRequest { node: Some(0), ..memory(64 * MIB, PageChoice::Auto) }).expect("memory");
    assert_eq!(auto.pages().kind, PageKind::Huge(TWO_MIB), "{}", auto.pages());
    let error = create(&memory(64 * MIB, PageChoice::TwoMiB)).expect_err("too few").to_string();
    assert!(error.contains(&format!("{} free, 32 needed", before - 32)), "{error}");
    let total: u64 = fs::read_to_string(NR_HUGEPAGES).expect("a number").trim().parse().expect("a number");
    assert!(error.ends_with(&format!("as root: sysctl vm.nr_hugepages={}", total + 64 - before)), "{error}");
    let less = create(&memory(64 * MIB, PageChoice::Auto)).expect("memory all the same");
    assert!(less.pages().to_string().contains("2 MiB huge pages: "), "{}", less.pages());
    // No address of it can fail later, and no shared byte is lost.
    assert!(bytes_of(&mut auto).iter().all(|&byte| byte == 0));
}

#[test]
fn a_file_is_made_used_again_and_never_read() {
    let directory = Directory::new("made");
    let path = directory.file("segment");
    let mut mapping = create(&prefaulted(of_file(3 * MIB + 5, &path), &[])).expect("a file");
    let size = mapping.bytes();
    assert!(size > 3 * MIB && size.is_multiple_of(4096), "{size}");
    let found = fs::metadata(&path).expect("a file");
    assert!(found.len() == size as u64 && found.blocks() * 512 >= size as u64, "{found:?}");
    assert_eq!(found.mode() & 0o777, 0o600);
    bytes_of(&mut mapping).fill(9);
    let unmarked = mapping.pages().to_string().contains("cannot be marked");
    let client = mapping.file().try_clone_to_owned().expect("a descriptor");
    drop(mapping);
    if unmarked {
        eprintln!("skipped: the file system of {} has no user attributes", path.display());
        return;
    }
    // A client that still has it is no reason to wait; what it was stays at least as long; all of it is zero.
    for bytes in [MIB, 5 * MIB, 0] {
        let mut again = create(&of_file(bytes, &path)).expect("our own file");
        assert_eq!(again.bytes(), if bytes == 0 { 5 * MIB } else { bytes });
        assert!(bytes_of(&mut again).iter().all(|&byte| byte == 0));
        bytes_of(&mut again).fill(8);
        assert!(fs::metadata(&path).expect("a file").len() >= size as u64);
    }
    drop(client);
    // Somebody writes it anew: then it is not ours any more.
    fs::write(&path, b"a letter").expect("a file");
    assert!(matches!(create(&of_file(MIB, &path)), Err(MappingError::NotEmpty { bytes: 8, .. })));
    assert_eq!(fs::read(&path).expect("a file"), b"a letter");
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let directory = Directory::new("foreign");
    let path = directory.file("letter");
    fs::write(&path, b"dear reader").expect("a file");
    let error = create(&of_file(MIB, &path)).expect_err("not ours").to_string();
    assert!(
        error.contains("has 11 B in it") && error.contains("remove it or choose another name"),
        "{error}"
    );
    assert_eq!(fs::read(&path).expect("a file"), b"dear reader");
    // An empty one is as good as none.
    let empty = directory.file("empty");
    fs::write(&empty, b"").expect("a file");
    assert!(matches!(create(&of_file(0, &empty)), Err(MappingError::Empty)));
    assert!(create(&of_file(MIB, &empty)).is_ok());
}

#[test]
fn a_file_has_one_user() {
    let directory = Directory::new("used");
    let path = directory.file("segment");
    let mut first = create(&of_file(MIB, &path)).expect("a file");
    bytes_of(&mut first).fill(5);
    let error = create(&of_file(MIB, &path)).expect_err("in use");
    assert!(matches!(error, MappingError::InUse { .. }), "{error}");
    assert!(bytes_of(&mut first).iter().all(|&byte| byte == 5));
}

#[test]
fn what_cannot_be_a_file_is_an_error_and_leaves_nothing() {
    let directory = Directory::new("wrong");
    let missing = directory.file("no/such/place");
    let error = create(&of_file(MIB, &missing)).expect_err("no directory").to_string();
    assert!(error.starts_with("cannot open or make ") && error.contains("No such file"), "{error}");
    assert!(matches!(create(&of_file(MIB, &directory.0)), Err(MappingError::Open { .. })));
    let device = create(&of_file(MIB, Path::new("/dev/null"))).expect_err("no dax").to_string();
    assert!(device.contains("neither a regular file nor a device-dax device"), "{device}");
    let missing = Path::new("/dev/no-such-dax0.0");
    let error = create(&of_file(MIB, missing)).expect_err("no device").to_string();
    assert!(error.ends_with("there is no such device") && !missing.exists(), "{error}");
    let path = directory.file("huge");
    let error = create(&of_file(0, &path)).expect_err("no file").to_string();
    assert!(error.contains("say how many bytes") && !path.exists(), "{error}");
    for bytes in [1 << 44, 1 << 60] {
        let error = create(&of_file(bytes, &path)).expect_err("no such disk").to_string();
        assert!(error.contains("cannot set aside") && error.contains("ask for less"), "{error}");
        assert!(!path.exists());
    }
    let pages = MappingRequest { pages: PageChoice::TwoMiB, ..of_file(2 * MIB, &path) };
    let error = create(&pages).expect_err("no hugetlbfs").to_string();
    assert!(error.contains("has no pages of 2MiB") && error.contains("pagesize=2M"), "{error}");
    assert!(!path.exists());
    // Stopped: as if nothing had been asked for.
    let request = prefaulted(of_file(200 * MIB, &path), &[0]);
    let stopped = Mapping::create(&request, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(MappingError::Stopped)) && !path.exists());
}

#[test]
fn bytes_survive_on_the_way_through_the_file() {
    let directory = Directory::new("through");
    let path = directory.file("segment");
    let mut mapping = create(&of_file(MIB, &path)).expect("a file");
    bytes_of(&mut mapping)[17] = 3;
    let mut copy = Vec::new();
    File::open(&path).expect("a file").read_to_end(&mut copy).expect("bytes");
    assert_eq!((copy.len(), copy[17]), (MIB, 3));
    let mut file = File::from(mapping.file().try_clone_to_owned().expect("a descriptor"));
    file.write_all(&[4]).expect("a byte");
    assert_eq!(bytes_of(&mut mapping)[0], 4);
}

#[test]
fn a_file_that_is_lent_keeps_its_length() {
    let directory = Directory::new("lent");
    let path = directory.file("segment");
    let lent = |bytes| MappingRequest {
        backing: Backing::Lent { path: path.clone() },
        ..MappingRequest::plain(bytes)
    };
    assert!(matches!(create(&lent(MIB)), Err(MappingError::Open { .. })) && !path.exists());
    fs::write(&path, vec![7; 3 * MIB]).expect("a file");
    let error = create(&lent(4 * MIB)).expect_err("too long").to_string();
    assert!(error.contains("has 3 MiB, and 4 MiB were asked for"), "{error}");
    assert!(matches!(create(&lent(0)), Err(MappingError::Empty)));
    let mut mapping = create(&lent(2 * MIB)).expect("its beginning");
    assert!(bytes_of(&mut mapping).iter().all(|&byte| byte == 0) && !mapping.is_writable_by_others());
    bytes_of(&mut mapping).fill(9);
    assert!(matches!(create(&lent(MIB)), Err(MappingError::InUse { .. })));
    drop(mapping);
    let left = fs::read(&path).expect("a file");
    assert!(left.len() == 3 * MIB && left[..2 * MIB].iter().all(|&byte| byte == 9));
    assert!(left[2 * MIB..].iter().all(|&byte| byte == 7), "what was not lent is as it was");
    let device = MappingRequest { backing: Backing::Lent { path: "/dev/null".into() }, ..lent(MIB) };
    assert!(matches!(create(&device), Err(MappingError::NotLent { .. })));
}
