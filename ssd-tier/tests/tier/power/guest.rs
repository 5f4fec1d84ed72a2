//! In the guest: random histories on a block device, and a journal of what may be found after a power loss at which time.
//!
//! After each commit a *marker* is written to the disk, where a volume has nothing: what the log of writes has behind the marker happened after
//! the commit was acknowledged. The journal has a line for each commit, as it is acknowledged:
//!
//! ```text
//!   number of the commit │ marker that had been written last when the one before it was acknowledged │ what was allowed between both
//! ```

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use snowskin_io::uring::{UringDisk, UringPlatform, spawn_core};
use snowskin_io::{Disk, DiskPlace, Platform};

use super::{GuestPlan, MARKER_MAGIC, MARKER_SECTOR};
use crate::keeper::{Core, Witness};
use crate::model::{Model, Window};
use crate::options;
use crate::paper::SECTOR;
use crate::steps::Steps;

/// Does what the plan says, on a core of its own.
pub(super) fn run(plan: GuestPlan) {
    let main = move |platform: UringPlatform| lives(platform, plan);
    spawn_core("guest", 0, Duration::ZERO, main).expect("a core").join().expect("it ends");
}

async fn lives(platform: UringPlatform, plan: GuestPlan) {
    let model: Rc<RefCell<Model>> = Rc::default();
    let options = options(plan.region_sectors);
    let place = DiskPlace::existing(&plan.disk);
    let disk = platform.open_disk(&place).expect("it is a disk");
    println!("direct: {}, aligned to {}, {} bytes", disk.is_direct(), disk.memory_alignment(), disk.bytes());
    assert!(disk.is_direct(), "this is for what reaches the device");
    let journal = Journal::new(&plan, disk.clone());
    let first =
        Core::format(platform.clone(), disk.clone(), options, model.clone()).await.expect("no faults");
    model.borrow_mut().next_window();
    journal.mark(Window::new()).await;
    drop(first);
    // Where a volume has nothing either.
    let at = (MARKER_SECTOR + 1) * SECTOR as u64;
    disk.write_all_at(at, vec![7; SECTOR]).await.0.expect("no faults");
    let discarded = disk.discard(at, SECTOR as u64).await;
    let (read, sector) = disk.read_exact_at(at, vec![1; SECTOR]).await;
    read.expect("no faults");
    println!("discarded: {discarded:?}, and then there is {}", sector[0]);
    assert!(sector == [0; SECTOR] || sector == [7; SECTOR], "zeros or what was there");
    for life in 0..plan.lives {
        let opened = Core::open(platform.clone(), disk.clone(), options, model.clone()).await;
        let (core, _) = opened.expect("it opens");
        let told = journal.clone();
        let witness: Witness = Rc::new(move |window| {
            let told = told.clone();
            Box::pin(async move { told.mark(window).await })
        });
        core.witness.replace(Some(witness));
        core.read_all().await.expect("whole");
        let seed = plan.seed << 8 | life;
        let mut steps = Steps::new(core.clone(), platform.clone(), seed, options.region_bytes, true);
        steps.run(plan.steps).await.expect("no faults");
        steps.rest().await;
        core.commit_by_force().await.expect("no faults");
        while core.volume.writes_under_way() > 0 {
            platform.sleep(Duration::from_millis(1)).await;
        }
        core.read_all().await.expect("whole");
        let counters = core.volume.counters();
        println!("life {life}: {counters:?}");
    }
    // What was allowed since the last commit.
    let last = model.borrow_mut().next_window();
    journal.line(last);
}

/// Who writes the journal and the markers.
#[derive(Clone)]
struct Journal(Rc<Inner>);

struct Inner {
    file: RefCell<File>,
    disk: UringDisk,
    /// Commits so far, the first one being that the volume was made.
    commits: Cell<u64>,
    /// The highest marker that has been written.
    written: Cell<u64>,
    /// That, when the last commit was acknowledged.
    written_then: Cell<u64>,
}

impl Journal {
    fn new(plan: &GuestPlan, disk: UringDisk) -> Self {
        let file = RefCell::new(File::create(&plan.journal).expect("a folder"));
        let (commits, written, written_then) = Default::default();
        Journal(Rc::new(Inner { file, disk, commits, written, written_then }))
    }

    /// A line of the journal, for what was allowed until now.
    fn line(&self, window: Window) -> u64 {
        let Inner { file, commits, written, written_then, .. } = &*self.0;
        let number = commits.get() + 1;
        commits.set(number);
        let then = written_then.replace(written.get());
        let line = super::journal_line(number, then, &window);
        writeln!(file.borrow_mut(), "{line}").expect("room");
        number
    }

    /// A commit has been acknowledged.
    async fn mark(&self, window: Window) {
        let number = self.line(window);
        let mut sector = vec![0; SECTOR];
        sector[..8].copy_from_slice(&MARKER_MAGIC);
        sector[8..16].copy_from_slice(&number.to_le_bytes());
        self.0.disk.write_all_at(MARKER_SECTOR * SECTOR as u64, sector).await.0.expect("no faults");
        self.0.written.set(self.0.written.get().max(number));
    }
}
