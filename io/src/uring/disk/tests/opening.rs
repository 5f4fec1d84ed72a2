//! How disks are opened, and who may not.

use super::*;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, unshare_unsafe};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// Runs on a core that sees a file system of its own at the path it is given; `false`: that takes root, or a kernel that
/// has it.
fn with_mount<F: Future<Output = ()> + 'static>(
    (kind, options, flags): (&'static str, &'static str, MountFlags),
    main: impl FnOnce(UringPlatform, PathBuf) -> F + Send + 'static,
) {
    let folder = folder();
    let path = folder.path().to_owned();
    let thread = std::thread::spawn(move || {
        // SAFETY: the thread has mounts of its own from now on, and so have those that it starts; no memory is concerned.
        let mounted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
            .and_then(|()| mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC))
            .and_then(|()| {
                let options = std::ffi::CString::new(options).expect("no NUL");
                mount("snowskin-test", &path, kind, flags, options.as_c_str())
            });
        match mounted {
            Ok(()) => on_core(async move |platform| main(platform, path).await),
            Err(errno) => println!("skipped: {kind} cannot be mounted: {errno}"),
        }
    });
    thread.join().expect("no panic");
}

/// A thread without what root may do, and all that it starts.
fn give_up_capabilities() -> bool {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).is_ok()
}

#[test]
fn a_file_is_made_with_its_size_and_keeps_it() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let missing = error_of(platform.open_disk(&DiskPlace::existing(&path)));
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        for bytes in [0, SECTOR_BYTES - 1, SECTOR_BYTES + 512] {
            let odd = error_of(platform.open_disk(&DiskPlace::sized(&path, bytes)));
            assert_eq!(odd.kind(), ErrorKind::InvalidInput);
            assert_eq!(DiskError::of(&odd), Some(&DiskError::OddSize { path: path.clone(), bytes }));
        }
        assert!(!path.exists(), "nothing is made in vain");
        put(&open(&platform, &path), 1, 0, 4).await.expect("no faults");
        let again = platform.open_disk(&DiskPlace::existing(&path)).expect("nobody has it");
        assert_eq!(again.bytes(), BYTES);
        assert_eq!(get(&again, 0, 5).await.expect("no faults"), [1, 1, 1, 1, 0]);
        drop(again);
        let other = error_of(platform.open_disk(&DiskPlace::sized(&path, SECTOR_BYTES)));
        let expected =
            DiskError::OtherSize { path: path.clone(), there_bytes: BYTES, wanted_bytes: SECTOR_BYTES };
        assert_eq!(DiskError::of(&other), Some(&expected));
        assert!(other.to_string().contains("say the size that it has"), "{other}");
        File::options().write(true).open(&path).and_then(|file| file.set_len(1_000)).expect("it is ours");
        let odd = error_of(platform.open_disk(&DiskPlace::existing(&path)));
        assert_eq!(DiskError::of(&odd), Some(&DiskError::OddSize { path: path.clone(), bytes: 1_000 }));
        assert!(path.exists(), "what was there is not removed");
    });
}

#[test]
fn what_is_no_disk_is_refused() {
    let folder = folder();
    let path = folder.path().to_owned();
    on_core(async move |platform| {
        for path in [path.clone(), PathBuf::from("/dev/null")] {
            let refused = error_of(platform.open_disk(&DiskPlace::sized(&path, BYTES)));
            assert_eq!(DiskError::of(&refused), Some(&DiskError::NoDisk { path }));
        }
        let nowhere = error_of(platform.open_disk(&DiskPlace::sized(path.join("no/folder"), BYTES)));
        assert_eq!(nowhere.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_disk_has_one_owner() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        let clone = disk.clone();
        drop(disk);
        let busy = error_of(platform.open_disk(&DiskPlace::existing(&path)));
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        assert_eq!(DiskError::of(&busy), Some(&DiskError::Busy { path: path.clone() }));
        assert!(busy.to_string().contains("stop that"), "{busy}");
        drop(clone);
        let file = File::open(&path).expect("it is there");
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
        assert_eq!(error_of(platform.open_disk(&DiskPlace::existing(&path))).kind(), ErrorKind::ResourceBusy);
        drop(file);
        assert_eq!(open(&platform, &path).bytes(), BYTES);
    });
}

#[test]
fn a_disk_of_another_process_is_busy() {
    let folder = folder();
    let path = folder.path().join("disk");
    std::fs::write(&path, vec![0; BYTES as usize]).expect("room");
    // The child has the lock as long as it has standard input.
    let mut flock = Command::new("flock");
    flock.arg(&path).args(["-c", "echo locked; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match flock.spawn() {
        Ok(child) => child,
        Err(error) => return println!("skipped: flock: {error}"),
    };
    let mut word = [0; 6];
    io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut word).expect("it speaks");
    on_core(async move |platform| {
        let busy = error_of(platform.open_disk(&DiskPlace::existing(&path)));
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert_eq!(open(&platform, &path).bytes(), BYTES);
    });
}

#[test]
fn cores_have_parts_of_a_disk_and_others_have_none() {
    let folder = folder();
    let path = folder.path().join("disk");
    let whole = DiskPlace::sized(&path, 3 * BYTES);
    let (begin, place) = (path.clone(), whole.clone());
    let head = HeldDisk::open(&whole.clone().part(0, BYTES)).expect("nobody has it");
    on_core(async move |platform| {
        let second = platform.open_disk(&place.clone().part(BYTES, BYTES)).expect("it is free");
        assert_eq!(second.bytes(), BYTES);
        for (at, bytes) in
            [(0, BYTES), (BYTES, SECTOR_BYTES), (2 * BYTES - SECTOR_BYTES, BYTES), (0, 3 * BYTES)]
        {
            let busy = error_of(platform.open_disk(&place.clone().part(at, bytes)));
            assert_eq!(DiskError::of(&busy), Some(&DiskError::Busy { path: begin.clone() }));
        }
        let none = error_of(platform.open_disk(&place.clone().part(2 * BYTES, BYTES + SECTOR_BYTES)));
        assert!(matches!(DiskError::of(&none), Some(DiskError::NoPart { at: 8_388_608, .. })), "{none}");
        let other = error_of(platform.open_disk(&DiskPlace::sized(&begin, BYTES).part(2 * BYTES, BYTES)));
        assert!(matches!(DiskError::of(&other), Some(DiskError::OtherSize { .. })), "{other}");
        // Another core, meanwhile.
        let (third, last) = (place.clone().part(2 * BYTES, BYTES), begin.clone());
        let neighbour = spawn_core("neighbour", 0, Duration::ZERO, async move |platform| {
            let third = platform.open_disk(&third).expect("it is free");
            put(&third, 7, 0, SECTORS).await.expect("no faults");
            third.flush().await.expect("no faults");
            let file = File::open(&last).expect("it is there");
            assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(), "it is locked");
        });
        conformance::all(second).await;
        neighbour.expect("a core").join().expect("the core ends");
        // What the core had is free again, and the rest is not.
        drop(platform.open_disk(&place.clone().part(BYTES, 2 * BYTES)).expect("it is free"));
    });
    head.write(SECTOR_BYTES, &bytes_of(8, 1, 2)).expect("no faults");
    head.flush().expect("no faults");
    assert_eq!(
        head.read(0, 3 * SECTOR).expect("no faults"),
        bytes_of(0, 0, 1).into_iter().chain(bytes_of(8, 1, 2)).collect::<Vec<u8>>()
    );
    assert!(head.read(BYTES, SECTOR).is_err() && head.write(1, &[0; SECTOR]).is_err());
    assert_eq!(head.whole_bytes(), 3 * BYTES);
    let file = File::open(&path).expect("it is there");
    assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(), "it is locked");
    drop(head);
    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
    assert_eq!(HeldDisk::open(&whole).err().expect("it is locked").kind(), ErrorKind::ResourceBusy);
    let bytes = std::fs::read(&path).expect("it is there");
    assert!(bytes[2 * BYTES as usize..] == bytes_of(7, 0, SECTORS), "the last part is the neighbour's");
}

#[test]
fn a_file_that_is_removed_goes_on_and_one_that_is_cut_ends() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        std::fs::remove_file(&path).expect("it is there");
        put(&disk, 1, 0, SECTORS).await.expect("no faults");
        assert_eq!(get(&disk, 7, 3).await.expect("no faults"), [1; 3]);
        let other = open(&platform, &path);
        put(&other, 2, 0, SECTORS).await.expect("no faults");
        let half = 10 * SECTOR_BYTES + 512;
        File::options().write(true).open(&path).and_then(|file| file.set_len(half)).expect("it is ours");
        let (read, _) = other.read(8 * SECTOR_BYTES, vec![0; 4 * SECTOR]).await;
        assert_eq!(read.expect("what is there"), 2 * SECTOR, "without the part of a sector");
        let eof = get(&other, 8, 4).await.expect_err("it is gone");
        assert_eq!(DiskError::of(&eof), Some(&DiskError::End { offset: 10 * SECTOR_BYTES }));
        assert_eq!(get(&disk, 7, 3).await.expect("no faults"), [1; 3]);
    });
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error() {
    let folder = folder();
    let path = folder.path().join("disk");
    let mut permissions = std::fs::metadata(folder.path()).expect("it is there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(folder.path(), permissions).expect("it is ours");
    on_core(async move |platform| {
        if !give_up_capabilities() {
            return println!("skipped: capabilities cannot be given up");
        }
        let refused = error_of(platform.open_disk(&DiskPlace::sized(&path, BYTES)));
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_read_only_file_system_is_an_error() {
    with_mount(("tmpfs", "size=1m", MountFlags::RDONLY), async |platform, path| {
        let refused = error_of(platform.open_disk(&DiskPlace::sized(path.join("disk"), BYTES)));
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn a_full_file_system_is_an_error_when_it_is_opened_and_when_it_is_written_again() {
    with_mount(("tmpfs", "size=6m", MountFlags::empty()), async |platform, path| {
        let (disk, stuffing) = (path.join("disk"), path.join("stuffing"));
        let full = error_of(platform.open_disk(&DiskPlace::sized(&disk, 7 << 20)));
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert!(!disk.exists(), "what is of no use is not left");
        std::fs::write(&disk, []).expect("room");
        let full = error_of(platform.open_disk(&DiskPlace::sized(&disk, 7 << 20)));
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert_eq!(std::fs::metadata(&disk).expect("what was there is left").len(), 0);
        let disk = open(&platform, &disk);
        put(&disk, 1, 0, SECTORS).await.expect("no faults");
        disk.discard(0, BYTES).await.expect("tmpfs can");
        std::fs::write(stuffing, vec![1; 5 << 20]).expect("room");
        let full = put(&disk, 2, 0, SECTORS).await.expect_err("no room");
        assert_eq!(full.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()));
        let seen = get(&disk, 0, SECTORS).await.expect("no faults");
        assert!(seen.iter().all(|writing| [0, 2].contains(writing)));
    });
}

#[test]
fn a_file_system_without_direct_transfers_will_do() {
    with_mount(("ramfs", "", MountFlags::empty()), async |platform, path| {
        let path = path.join("disk");
        let disk = open(&platform, &path);
        println!("ramfs: direct: {}, {} bytes", disk.is_direct(), disk.bytes());
        conformance::all(disk).await;
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), BYTES);
    });
}

/// A block device made of a file, as long as this lives.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path) -> Option<Loop> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Loop(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_is_a_disk() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![0; BYTES as usize]).expect("room");
    let Some(device) = Loop::new(&file) else { return println!("skipped: no loop device can be had") };
    let path = device.0.clone();
    on_core(async move |platform| {
        let disk = platform.open_disk(&DiskPlace::existing(&path)).expect("nobody has it");
        println!("{}: direct: {}, aligned to {}", path.display(), disk.is_direct(), disk.memory_alignment());
        let busy = error_of(platform.open_disk(&DiskPlace::existing(&path)));
        assert_eq!(DiskError::of(&busy), Some(&DiskError::Busy { path: path.clone() }));
        conformance::all(disk.clone()).await;
        // What it is told of goes back to whoever lends the space.
        assert!(disk.wants_discards());
        put(&disk, 5_000, 0, SECTORS).await.expect("no faults");
        disk.flush().await.expect("no faults");
        let used_blocks = || std::fs::metadata(&file).expect("it is there").blocks();
        let before = used_blocks();
        match disk.discard(0, BYTES).await {
            Ok(()) => assert!(used_blocks() < before / 2, "{before} blocks, and then {}", used_blocks()),
            Err(error) if error.kind() == ErrorKind::Unsupported => println!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        }
        drop(disk);
        let other = error_of(platform.open_disk(&DiskPlace::sized(&path, 2 * BYTES)));
        assert!(matches!(DiskError::of(&other), Some(DiskError::OtherSize { there_bytes: BYTES, .. })));
        // Two parts of it, and two cores: the device is opened once.
        let half = BYTES / 2;
        let [first, second] = [0, half].map(|at| DiskPlace::existing(&path).part(at, half));
        let first = platform.open_disk(&first).expect("nobody has it");
        let neighbour = spawn_core("neighbour", 0, Duration::ZERO, async move |platform| {
            let second = platform.open_disk(&second).expect("it is free");
            put(&second, 7, 0, SECTORS / 2).await.expect("no faults");
            second.flush().await.expect("no faults");
        });
        neighbour.expect("a core").join().expect("the core ends");
        put(&first, 6, 0, SECTORS / 2).await.expect("no faults");
        assert!(put(&first, 6, SECTORS / 2, 1).await.is_err(), "the part ends there");
        drop(first);
        let whole = platform.open_disk(&DiskPlace::existing(&path)).expect("nobody has it");
        let (read, bytes) = whole.read_exact_at(0, vec![0; BYTES as usize]).await;
        read.expect("no faults");
        let expected = [bytes_of(6, 0, SECTORS / 2), bytes_of(7, 0, SECTORS / 2)].concat();
        assert!(bytes == expected, "each part has what was written to it");
    });
}
