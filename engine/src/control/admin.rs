//! What an operator asks of a core: list, mount and unmount segments, evict down to a level.

use super::tasks;
use crate::config::room_for;
use crate::panics;
use crate::percore::PerCore;
use crate::segment::{Backing, Mapping, MappingRequest, SEGMENT_BYTES_END, SegmentError};
use crate::shard::{EvictStep, UnmountStep};
use snowskin_io::Platform;
use snowskin_io::memory::PageChoice;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest, Evict, Mount, SegmentInfo, Unmount};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

/// Memory that is not larger is mapped and unmapped by the core itself: that takes no longer than a request.
const BYTES_AT_ONCE_MAX: u64 = 16 << 20;
/// How often a core looks whether memory that is being mapped is there.
const MAPPED_CHECK: Duration = Duration::from_millis(20);
/// Between two steps of slow work, requests have their turn.
const TURN: Duration = Duration::from_micros(20);
/// Objects that the policy looks at, at least, before it says that it has no victim.
const OBJECTS_PER_LOOK: u64 = 4;
/// How often a segment is looked at that cannot be emptied yet.
const UNMOUNT_CHECK: Duration = Duration::from_millis(50);

/// Carries a request out.
pub(crate) async fn serve<P: Platform>(core: &Rc<PerCore<P>>, request: AdminRequest) -> AdminReply {
    match request {
        AdminRequest::Segments => AdminReply::Segments(segments(core)),
        AdminRequest::Mount(request) => mount(core, request).await,
        AdminRequest::Unmount(request) => unmount(core, request),
        AdminRequest::Evict(request) => evict(core, request).await,
        AdminRequest::Holders(names) => tasks::holders(core, &names),
        AdminRequest::Copy(request) => tasks::begin(core, request),
        AdminRequest::Leave(request) => tasks::give_up(core, request).await,
        AdminRequest::Task(number) => AdminReply::Task(core.tasks.borrow().get(number).cloned()),
    }
}

fn segments<P: Platform>(core: &PerCore<P>) -> Vec<SegmentInfo> {
    let shard = core.shard.borrow();
    let info = |(segment, is_leaving): (&crate::segment::Segment, bool)| {
        let usage = segment.usage();
        SegmentInfo {
            segment: segment.number(),
            capacity_bytes: usage.capacity_bytes,
            free_bytes: usage.free_bytes,
            free_range_bytes_max: usage.free_range_bytes_max,
            pages: segment.mapping().pages().to_string(),
            is_leaving,
        }
    };
    shard.segments().iter().map(info).collect()
}

async fn mount<P: Platform>(core: &Rc<PerCore<P>>, request: Mount) -> AdminReply {
    let request = match mapping_request(core, request) {
        Ok(request) => request,
        Err(sentence) => return AdminReply::Refused(sentence),
    };
    if core.is_mounting.replace(true) {
        return AdminReply::Refused(
            "another segment is being mounted at this core: wait until it is there".to_owned(),
        );
    }
    let mapped = map(core, request).await;
    core.is_mounting.set(false);
    let mapping = match mapped {
        Ok(mapping) => mapping,
        Err(sentence) => return AdminReply::Refused(sentence),
    };
    let (bytes, pages) = (mapping.bytes() as u64, mapping.pages().to_string());
    match core.shard.borrow_mut().segments_mut().mount(mapping) {
        Ok(segment) => {
            log::info!("core {}: segment {segment} of {bytes} bytes is mounted: {pages}", core.identity.id);
            AdminReply::Mounted { segment, bytes, pages }
        }
        Err(error) => AdminReply::Refused(error.to_string()),
    }
}

fn mapping_request<P: Platform>(core: &PerCore<P>, request: Mount) -> Result<MappingRequest, String> {
    let Mount { bytes, path, huge_pages } = request;
    let pages = match huge_pages {
        Some(pages) => pages.parse()?,
        None => core.mounting.pages,
    };
    if bytes >= SEGMENT_BYTES_END {
        return Err(SegmentError::TooLarge.to_string());
    }
    if bytes == 0 && path.is_none() {
        return Err("say how many bytes the segment is to have, or of which file it is to be made".to_owned());
    }
    let bytes = usize::try_from(bytes).map_err(|_| format!("{bytes} bytes are more than a machine has"))?;
    let backing = path.map_or(Backing::Anonymous, |path| Backing::File { path });
    Ok(MappingRequest { bytes, backing, pages, ..core.mounting.clone() })
}

/// Gets the memory, beside the core if that may take long.
async fn map<P: Platform>(core: &PerCore<P>, request: MappingRequest) -> Result<Mapping, String> {
    let mut quiet = |_, _| ControlFlow::Continue(());
    let is_plain = request.pages == PageChoice::Plain && request.backing == Backing::Anonymous;
    if is_plain && request.bytes as u64 <= BYTES_AT_ONCE_MAX {
        return Mapping::create(&request, &mut quiet).map_err(|error| error.to_string());
    }
    let (sender, receiver) = channel();
    let what = format!("core {}", core.identity.id);
    let thread = std::thread::Builder::new().name("snowskin-mount".to_owned()).spawn(move || {
        panics::this_thread_is_an_engines();
        let mut progress = crate::launch::MemoryProgress::of(what);
        let mut tell = |done, all| {
            progress.tell(done, all);
            ControlFlow::Continue(())
        };
        let there = room_for(&request);
        let mapped =
            there.and_then(|()| Mapping::create(&request, &mut tell).map_err(|error| error.to_string()));
        // Nobody waits any more only when the core has ended.
        let _ = sender.send(mapped);
    });
    thread.map_err(|error| format!("no thread can be started that gets the memory: {error}"))?;
    loop {
        match receiver.try_recv() {
            Ok(result) => return result,
            Err(TryRecvError::Empty) => core.platform.sleep(MAPPED_CHECK).await,
            Err(TryRecvError::Disconnected) => {
                return Err("the thread that gets the memory has ended".to_owned());
            }
        }
    }
}

fn unmount<P: Platform>(core: &Rc<PerCore<P>>, request: Unmount) -> AdminReply {
    let deadline = core.platform.now() + Duration::from_millis(request.grace_ms);
    let was_unmounting = core.shard.borrow().is_unmounting();
    let begun = core.shard.borrow_mut().begin_unmount(request.segment, deadline);
    if let Err(error) = begun {
        return AdminReply::Refused(error.to_string());
    }
    if !was_unmounting {
        core.platform.spawn(empty_segments(core.clone()));
    }
    AdminReply::Unmounting
}

/// Empties segments until none is left that is to be unmounted.
async fn empty_segments<P: Platform>(core: Rc<PerCore<P>>) {
    while core.shard.borrow().is_unmounting() {
        let step = core.shard.borrow_mut().unmount_step(core.platform.now());
        let pause = match step {
            UnmountStep::More => TURN,
            UnmountStep::Waits => UNMOUNT_CHECK,
            UnmountStep::Gone { segment, serial, mapping } => {
                log::info!("core {}: segment {segment} is unmounted", core.identity.id);
                core.lanes.tell_gone(serial);
                unmap(mapping);
                TURN
            }
        };
        core.platform.sleep(pause).await;
    }
}

/// Clients may have it mapped for a while: its memory goes all the same.
fn unmap(mapping: Mapping) {
    let bytes = mapping.bytes() as u64;
    let unmap = move || {
        if let Err(error) = mapping.empty() {
            log::info!("an unmounted segment's memory goes when no client has it mapped any more: {error}");
        }
        drop(mapping);
    };
    if bytes > BYTES_AT_ONCE_MAX {
        let run = move || {
            panics::this_thread_is_an_engines();
            unmap();
        };
        // Without a thread, it is dropped here: late is better than never.
        let _ = std::thread::Builder::new().name("snowskin-unmap".to_owned()).spawn(run);
    } else {
        unmap();
    }
}

async fn evict<P: Platform>(core: &PerCore<P>, request: Evict) -> AdminReply {
    let permille = u64::from(request.permille);
    if permille > 1000 {
        return AdminReply::Refused(format!("{permille} is no share in thousandths: use 0 to 1000"));
    }
    let before = core.stats();
    // So often all objects may have been looked at, some at a time.
    let fruitless_max = before.objects / OBJECTS_PER_LOOK + 1;
    let mut fruitless = 0;
    let reached = loop {
        let step = core.shard.borrow_mut().evict_towards(permille, core.platform.now());
        match step {
            EvictStep::More => fruitless = 0,
            EvictStep::Reached => break true,
            EvictStep::Stuck if fruitless == fruitless_max => break false,
            EvictStep::Stuck => fruitless += 1,
        }
        core.platform.sleep(TURN).await;
    };
    let after = core.stats();
    AdminReply::Evicted {
        objects: after.evicted - before.evicted,
        bytes: after.evicted_bytes - before.evicted_bytes,
        reached,
    }
}
