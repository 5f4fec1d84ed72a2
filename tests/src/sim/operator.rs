//! An operator who mounts and unmounts segments, evicts, and has objects copied and moved, while everything else goes on.
//!
//! Nothing that it does may break a promise: what it evicts is a miss that says so, what it moves keeps its bytes. It
//! leaves each core's first segment alone, so that every value has room somewhere.

use super::book::SharedBook;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::admin::{AdminReply, AdminRequest, Evict, Mount, TaskState, Unmount};
use snowskin_client::{ClientConfig, CoreId, Session, TaskStart};
use snowskin_io::Platform;
use snowskin_io::sim::SimPlatform;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Segments that it knows of in a core, besides the first.
const SEGMENTS: u16 = 3;

/// Whether there is one in the run of this seed.
pub(super) fn is_there(seed: u64) -> bool {
    seed % 3 == 1
}

/// Starts it; it goes on until `is_over`.
pub(super) fn start(
    seed: u64,
    platform: &SimPlatform,
    config: ClientConfig,
    book: &SharedBook,
    is_over: &Rc<Cell<bool>>,
) {
    let session = Session::open(platform.clone(), config);
    let random = StdRng::seed_from_u64(seed.rotate_left(43) ^ 0x0be2_a702);
    let (book, is_over) = (book.clone(), is_over.clone());
    platform.spawn(work(session, random, book, is_over));
}

async fn work(
    session: Rc<Session<SimPlatform>>,
    mut random: StdRng,
    book: SharedBook,
    is_over: Rc<Cell<bool>>,
) {
    let platform = session.platform().clone();
    while !is_over.get() {
        platform.sleep(Duration::from_millis(random.random_range(20..1_000))).await;
        let deadline = platform.now() + Duration::from_secs(2);
        let Ok(table) = session.table(deadline).await else { continue };
        if table.members.is_empty() {
            continue;
        }
        let mut any = || table.members[random.random_range(0..table.members.len())].id;
        let (core, other) = (any(), any());
        if random.random_bool(0.5) {
            let what = place(&session, &mut random, &book, core, other).await;
            book.borrow_mut().coverage.count(format!("operator {what}"), 1);
            continue;
        }
        let request = request(&mut random);
        let what = match &request {
            AdminRequest::Segments => "segments",
            AdminRequest::Mount(_) => "mount",
            AdminRequest::Unmount(_) => "unmount",
            AdminRequest::Evict(_) => "evict",
            _ => unreachable!("it is not asked for here"),
        };
        let outcome = match session.admin(core, &request, deadline).await {
            Ok(AdminReply::Refused(_)) => "refused",
            Ok(_) => "done",
            Err(_) => "without an answer",
        };
        book.borrow_mut().coverage.count(format!("operator {what} {outcome}"), 1);
    }
}

/// Has an object copied, moved, or given up; what that came to.
async fn place(
    session: &Rc<Session<SimPlatform>>,
    random: &mut StdRng,
    book: &SharedBook,
    core: CoreId,
    other: CoreId,
) -> String {
    let deadline = session.platform().now() + Duration::from_secs(2);
    let keys = book.borrow().keys.clone();
    let name = keys.name(random.random_range(0..keys.count())).clone();
    let (what, outcome) = match random.random_range(0..4) {
        0 => {
            let given_up = session.give_up(name, core, deadline).await;
            return format!(
                "gives up {}",
                given_up.map_or("without an answer".into(), |held| format!("{held:?}"))
            );
        }
        1 => ("copy", session.copy_object(name, vec![core, other], None, deadline).await),
        _ => ("move", session.copy_object(name, vec![core], Some(other), deadline).await),
    };
    let task = match outcome {
        Ok(TaskStart::Begun(task)) => task,
        Ok(TaskStart::Refused(_)) => return format!("{what} refused"),
        Ok(outcome) => return format!("{what} {outcome:?}"),
        Err(_) => return format!("{what} without an answer"),
    };
    loop {
        match session.task(task, deadline).await {
            Ok(Some(info)) if info.state == TaskState::Running => {}
            Ok(Some(info)) => return format!("{what} {:?}", info.state),
            Ok(None) => return format!("{what} forgotten"),
            Err(_) => return format!("{what} begun, and nothing heard"),
        }
        session.platform().sleep(Duration::from_millis(5)).await;
    }
}

fn request(random: &mut StdRng) -> AdminRequest {
    match random.random_range(0..8) {
        0 => AdminRequest::Segments,
        1..4 => {
            let (bytes, huge_pages) = (random.random_range(1..=64) * 1024, Some("off".to_owned()));
            AdminRequest::Mount(Mount { bytes, path: None, huge_pages })
        }
        4..7 => {
            let segment = random.random_range(1..=SEGMENTS);
            AdminRequest::Unmount(Unmount { segment, grace_ms: random.random_range(0..3_000) })
        }
        _ => AdminRequest::Evict(Evict { permille: random.random_range(0..=1000) }),
    }
}
