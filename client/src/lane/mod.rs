//! A client's end of a lane: requests go out, replies come in order, and segments of the core are mapped as they are shown.
//!
//! Plain code that never waits. Who uses it waits in its own way: a session's task at the runtime's bell
//! (`session/lane.rs`), a blocking call on its own thread (`local/`).

mod body;
mod view;

pub(crate) use body::BodyWriter;
pub use view::View;
use view::{ON_SHELF, PinDesk, Shown};
pub(crate) use view::{Pinned, Returns};

use snowskin_io::lane::{Access, Caller, Heard, HoldRegion, Holder, LaneRegion, SegmentNews, SharedShelf};
use snowskin_io::memory::SharedSegment;
use snowskin_protocol::wire::WireError;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus};
use snowskin_protocol::wire::lane::{
    LaneOpcode, LaneRecord, LaneReply, LaneRequest, RECORD_BYTES, SharedPlace,
};
use snowskin_protocol::{Checksum, Epoch, Version};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The client's end.
pub(crate) struct LaneEnd {
    caller: Caller<LaneRegion>,
    returns: Returns,
    /// What is found without asking, if it has been shown.
    shelf: Option<Arc<SharedShelf>>,
    holder: Holder<HoldRegion>,
    /// Those that have been shown; few.
    segments: Vec<(u32, Arc<Shown>)>,
    atlas: Arc<Atlas>,
    /// Room for the records of a reply.
    bytes: Vec<u8>,
}

/// What this process has mapped of one core, for all its lanes: each segment once, and the shelf.
#[derive(Debug, Default)]
pub(crate) struct Atlas {
    segments: Mutex<HashMap<u32, Weak<SharedSegment>>>,
    shelf: Mutex<Weak<SharedShelf>>,
}

impl Atlas {
    /// The mapping of a segment that has been shown.
    fn map(&self, news: &SegmentNews, memory: OwnedFd) -> io::Result<Arc<SharedSegment>> {
        // Whoever panicked here had changed nothing, or all.
        let mut known = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = known.get(&news.segment).and_then(Weak::upgrade) {
            return Ok(segment);
        }
        let is_writable = news.access == Access::ReadWrite;
        let segment = Arc::new(SharedSegment::map(memory, news.bytes, is_writable)?);
        known.insert(news.segment, Arc::downgrade(&segment));
        known.retain(|_, segment| segment.strong_count() > 0);
        Ok(segment)
    }

    /// The mapping of the shelf, which has been shown.
    fn map_shelf(&self, news: &SegmentNews, memory: OwnedFd) -> io::Result<Arc<SharedShelf>> {
        let mut known = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shelf) = known.upgrade() {
            return Ok(shelf);
        }
        let shelf = Arc::new(SharedShelf::map(memory, news.bytes)?);
        *known = Arc::downgrade(&shelf);
        Ok(shelf)
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
            shelf: None,
            holder: Holder::new(HoldRegion::of(&memory)),
            returns: PinDesk::new(memory, life),
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

    /// Counts up when it is worth while to ask again for what is loading.
    pub(crate) fn arrivals(&self) -> u32 {
        self.caller.arrivals()
    }

    /// Says that we will sleep, and whether we may, having seen so many arrivals.
    pub(crate) fn doze_until_arrival(&self, seen: u32) -> bool {
        self.caller.doze_until_arrival(seen)
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
            Heard::News(news @ SegmentNews { access: Access::Shelf, .. }, Some(memory)) => {
                match self.atlas.map_shelf(&news, memory) {
                    Ok(shelf) => self.shelf = Some(shelf),
                    Err(error) => {
                        log::warn!("the engine's shelf cannot be mapped, it is asked for all: {error}")
                    }
                }
            }
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

    /// Where the value of a name lies, found without asking the core, as if it had answered; it is held until the handle is given back.
    /// `None`: it is to be asked. The time is that of the host's clock: [`snowskin_io::Platform::host_ms`]. Who uses it says so:
    /// [`LaneEnd::note_use`].
    ///
    /// Of a lease it says nothing (0 ms): that begins when the core hears of the use, and is as long as the core's settings say then. Until it has
    /// heard, the value is held.
    #[inline]
    pub(crate) fn find(&mut self, hash: u64, name: &[u8], now_ms: u64) -> Option<LaneRecord> {
        let LaneEnd { shelf, holder, returns, segments, .. } = self;
        let shelf = shelf.as_ref()?;
        let at = holder.free_place()?;
        let mut is_held = false;
        let found = shelf.find(hash, name, now_ms, |card| {
            is_held = true;
            holder.hold(at, card);
        });
        // What the card names may be new to this lane: then the core shows it with its answer.
        let found = found.filter(|(_, card)| segments.iter().any(|(known, _)| *known == card.segment));
        let handle = ON_SHELF | at as u32;
        let Some((_, card)) = found else {
            if is_held {
                view::give_back(returns, handle);
            }
            return None;
        };
        let reply = ItemReply {
            value_bytes: card.value_bytes,
            checksum: Checksum(card.checksum),
            version: Version(card.version),
            ..ItemReply::status(ItemStatus::Ok)
        };
        Some(LaneRecord { reply, place: SharedPlace { segment: card.segment, handle, offset: card.offset } })
    }

    /// What was found is used. Whether the core is to be woken to look what was.
    #[inline]
    pub(crate) fn note_use(&mut self, found: &LaneRecord) -> bool {
        self.holder.note_use((found.place.handle ^ ON_SHELF) as usize) && self.caller.wakes_server()
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
