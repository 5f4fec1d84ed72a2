//! A client's end of a lane: requests go out, replies come in order, and segments of the core are mapped as they are shown.
//!
//! Plain code that never waits. Who uses it waits in its own way: a session's task at the runtime's bell
//! (`session/lane.rs`), a blocking call on its own thread (`local/`).

mod body;
mod view;

pub(crate) use body::BodyWriter;
pub use view::View;
use view::{PinDesk, Shown};
pub(crate) use view::{Pinned, Returns};

use snowskin_io::lane::{Access, Caller, Heard, LaneRegion, PinReturns, SegmentNews};
use snowskin_io::memory::SharedSegment;
use snowskin_protocol::Epoch;
use snowskin_protocol::wire::WireError;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::wire::lane::{
    LaneOpcode, LaneRecord, LaneReply, LaneRequest, RECORD_BYTES, SharedPlace,
};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The client's end.
pub(crate) struct LaneEnd {
    caller: Caller<LaneRegion>,
    returns: Returns,
    /// Those that have been shown; few.
    segments: Vec<(u32, Arc<Shown>)>,
    atlas: Arc<Atlas>,
    /// Room for the records of a reply.
    bytes: Vec<u8>,
}

/// The segments of one core that this process has mapped, for all its lanes: each once.
#[derive(Debug, Default)]
pub(crate) struct Atlas(Mutex<HashMap<u32, Weak<SharedSegment>>>);

impl Atlas {
    /// The mapping of a segment that has been shown.
    fn map(&self, news: &SegmentNews, memory: OwnedFd) -> io::Result<Arc<SharedSegment>> {
        // Whoever panicked here had changed nothing, or all.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = known.get(&news.segment).and_then(Weak::upgrade) {
            return Ok(segment);
        }
        let is_writable = news.access == Access::ReadWrite;
        let segment = Arc::new(SharedSegment::map(memory, news.bytes, is_writable)?);
        known.insert(news.segment, Arc::downgrade(&segment));
        known.retain(|_, segment| segment.strong_count() > 0);
        Ok(segment)
    }
}

/// A reply.
#[derive(Debug, Default)]
pub(crate) struct LaneAnswer {
    pub(crate) epoch: Epoch,
    pub(crate) has_news: bool,
    pub(crate) records: Vec<LaneRecord>,
}

impl LaneEnd {
    /// Of a fresh memory, to the core whose segments are in `atlas`.
    pub(crate) fn new(memory: LaneRegion, life: Option<Arc<OwnedFd>>, atlas: Arc<Atlas>) -> Self {
        LaneEnd {
            caller: Caller::new(memory.clone()),
            returns: PinDesk::new(PinReturns::new(memory), life),
            segments: Vec::new(),
            atlas,
            bytes: Vec::new(),
        }
    }

    /// No more requests come, and those under way are not to be served any more.
    pub(crate) fn retire(&self) {
        self.caller.retire();
    }

    /// Whether views are in use.
    pub(crate) fn has_views(&self) -> bool {
        // Beside us each segment that was shown has one, and views have those; also of segments that are gone.
        Arc::strong_count(&self.returns) > 1 + self.segments.len()
            || self.segments.iter().any(|(_, shown)| Arc::strong_count(shown) > 1)
    }

    /// Whether there is room for another request.
    pub(crate) fn has_room(&self) -> bool {
        self.caller.has_room()
    }

    /// Sends a request, for which there is room. Whether the core is to be woken.
    pub(crate) fn submit(&mut self, opcode: LaneOpcode, items: usize, epoch: Epoch, body: &[u8]) -> bool {
        let body_bytes = body.len() as u32;
        self.caller.submit(&LaneRequest { opcode, items: items as u16, body_bytes, epoch }.encode(), body);
        self.caller.wakes_server()
    }

    /// The processor on which the core runs, as far as it says.
    pub(crate) fn server_cpu(&self) -> Option<u32> {
        self.caller.server_cpu()
    }

    /// Whether the next reply has come.
    #[inline]
    pub(crate) fn has_reply(&self) -> bool {
        self.caller.has_reply()
    }

    /// The next reply into `answer`; whether it has come. An error if it makes no sense.
    pub(crate) fn take(&mut self, answer: &mut LaneAnswer) -> Result<bool, WireError> {
        let Some(completion) = self.caller.take() else { return Ok(false) };
        let LaneReply { items, has_news, epoch } = LaneReply::decode(completion.head())?;
        (answer.epoch, answer.has_news) = (epoch, has_news);
        answer.records.clear();
        if items == 1 {
            answer.records.push(LaneRecord::decode(completion.record())?);
            return Ok(true);
        }
        self.bytes.resize(usize::from(items) * RECORD_BYTES, 0);
        self.caller.read_records(&completion, &mut self.bytes);
        for record in self.bytes.as_chunks::<RECORD_BYTES>().0 {
            answer.records.push(LaneRecord::decode(record)?);
        }
        Ok(true)
    }

    /// Says that we will sleep, and whether we may.
    pub(crate) fn doze(&self) -> bool {
        self.caller.doze()
    }

    /// We are awake: nobody need ring.
    pub(crate) fn rise(&self) {
        self.caller.rise();
    }

    /// Takes note of what was heard; `false`: the lane is over.
    pub(crate) fn note(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::End => return false,
            Heard::Silence | Heard::Ring => {}
            Heard::News(SegmentNews { segment, access: Access::Gone, .. }, _) => {
                self.segments.retain(|(known, _)| *known != segment);
            }
            Heard::News(_, None) => return false,
            Heard::News(news, Some(memory)) => match self.atlas.map(&news, memory) {
                Ok(segment) => {
                    let shown = Shown { segment, returns: self.returns.clone() };
                    self.segments.push((news.segment, Arc::new(shown)));
                }
                Err(error) => {
                    log::warn!("a segment of the engine cannot be mapped: {error}");
                    return false;
                }
            },
        }
        true
    }

    /// The mapping of a segment, if it has been shown.
    #[inline]
    pub(crate) fn segment(&self, segment: u32) -> Option<&SharedSegment> {
        self.shown(segment).map(|shown| &*shown.segment)
    }

    #[inline]
    fn shown(&self, segment: u32) -> Option<&Arc<Shown>> {
        self.segments.iter().find(|(known, _)| *known == segment).map(|(_, shown)| shown)
    }

    /// Whether all segments are known to which these records refer.
    pub(crate) fn knows_all(&self, records: &[LaneRecord]) -> bool {
        records.iter().filter_map(place_of).all(|place| self.segment(place.segment).is_some())
    }

    /// Gives a pin back that was got here.
    #[inline]
    pub(crate) fn give_back(&self, pin: u32) {
        view::give_back(&self.returns, pin);
    }

    /// A pin that gives itself back. `None`: the core said something that cannot be.
    pub(crate) fn pinned(&self, record: &LaneRecord) -> Option<Pinned> {
        let shown = self.shown(record.place.segment)?;
        Pinned::new(shown, record.place, record.reply.value_bytes)
    }
}

/// Where a record says that something is.
pub(crate) fn place_of(record: &LaneRecord) -> Option<&SharedPlace> {
    (record.reply.status == ItemStatus::Ok && record.place.segment != 0).then_some(&record.place)
}
