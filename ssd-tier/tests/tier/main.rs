//! The tier as its users see it, against a model: on disks that are calm, that break, and that stop at any moment.
//!
//! | module | what |
//! |---|---|
//! | `paper` | a disk that can be stopped anywhere |
//! | `model` | what may be found under a name |
//! | `inspect` | the tool, beside a mount |
//! | `keeper` | a core that uses a volume |
//! | `owners` | whose records count, whenever the disk stops |
//! | `power` | the same on the disk of a virtual machine, whose power fails |
//! | `scrub` | what is damaged and nobody asks for |
//! | `stories` | one sequence of events each, that once went wrong or well could |

mod crashes;
mod damage;
mod failures;
mod inspect;
mod keeper;
mod limits;
mod lives;
mod model;
mod owners;
mod paper;
mod planted;
mod power;
mod scrub;
mod steps;
mod stories;
#[allow(unreachable_pub, dead_code, reason = "shared with the tests of whole engines")]
#[path = "../../../tests/src/vm.rs"]
mod vm;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use snowskin_io::sim::{Limit, Simulation, Unfinished};
use snowskin_ssd_tier::VolumeOptions;

use keeper::Core;
use model::Model;
use paper::{Image, PaperDisk, PaperPlatform, Plan, SECTOR};

/// A volume begins with so many bytes that are no region.
const BEFORE_REGIONS: u64 = 1 << 20;

fn options(region_sectors: u64) -> VolumeOptions {
    VolumeOptions {
        region_bytes: region_sectors * SECTOR as u64,
        buffers_bytes: 2 << 20,
        ..VolumeOptions::default()
    }
}

fn disk_bytes(region_sectors: u64, regions: u64) -> u64 {
    BEFORE_REGIONS + region_sectors * regions * SECTOR as u64
}

/// Runs something with a disk on paper, until it ends or the disk does.
fn on_paper<T: 'static, F: Future<Output = T> + 'static>(
    disk: &PaperDisk,
    work: impl FnOnce(PaperPlatform, PaperDisk) -> F,
) -> Option<T> {
    let sim = Simulation::new(1);
    let node = sim.node("core");
    let limit = Limit { time: Duration::from_secs(60), steps: 1_000_000 };
    match sim.run(&node, limit, work(PaperPlatform(node.clone()), disk.clone())) {
        Ok(result) => Some(result),
        Err(Unfinished::Idle) if disk.is_over() => None,
        Err(error) => panic!("it does not end: {error}"),
    }
}

type PaperCore = Rc<Core<PaperPlatform>>;

/// A volume on paper that goes through lives.
struct Lives {
    region_sectors: u64,
    regions: u64,
    image: Image,
    model: Rc<RefCell<Model>>,
}

impl Lives {
    fn new(region_sectors: u64, regions: u64) -> Self {
        let lives = Lives { region_sectors, regions, image: Image::new(), model: Rc::default() };
        let (mut lives, options) = (lives, options(region_sectors));
        let (disk, model) = (lives.disk(Plan::Calm), lives.model.clone());
        on_paper(&disk, |platform, disk| async move {
            Core::format(platform, disk, options, model).await.expect("no faults").volume.id()
        });
        lives.image = disk.image();
        lives
    }

    fn disk(&self, plan: Plan) -> PaperDisk {
        PaperDisk::new(disk_bytes(self.region_sectors, self.regions), self.image.clone(), plan)
    }

    /// One life, that is found as the last one left it. What it leaves in turn is in the disk.
    fn live<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        plan: Plan,
        life: impl FnOnce(PaperCore) -> F + 'static,
    ) -> (PaperDisk, Option<T>) {
        let (disk, model, options) = (self.disk(plan), self.model.clone(), options(self.region_sectors));
        let result = on_paper(&disk, |platform, disk| async move {
            let (core, _) = Core::open(platform, disk, options, model).await.expect("it opens");
            life(core).await
        });
        (disk, result)
    }

    /// The same, whatever is found.
    fn live_calmly_any<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        life: impl FnOnce(PaperCore) -> F + 'static,
    ) -> T {
        let (disk, options) = (self.disk(Plan::Calm), options(self.region_sectors));
        let result = on_paper(&disk, |platform, disk| async move {
            let (core, _) = Core::open_any(platform, disk, options, Rc::default()).await.expect("it opens");
            life(core).await
        });
        self.image = disk.image();
        result.expect("nothing stops it")
    }

    /// A life that ends with everything on the disk.
    fn live_calmly<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        life: impl FnOnce(PaperCore) -> F + 'static,
    ) -> T {
        let (disk, result) = self.live(Plan::Calm, life);
        self.image = disk.image();
        result.expect("nothing stops it")
    }
}
