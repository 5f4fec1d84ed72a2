//! Calls with one key: the same as a batch, without what only batches need.

use super::Local;
use super::batch::Manner;
use super::lane::LocalLane;
use super::reads::{STRANGE_PLACE, found_of, miss_of, pinned_bytes};
use super::seat::Seat;
use crate::error::Error;
use crate::lane::{View, place_of};
use crate::outcome::Found;
use crate::room::Room;
use snowskin_protocol::NameRef;
use snowskin_protocol::wire::data::KeyItem;
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord};
use std::time::Duration;

/// Bytes of a request that is made without a heap. Longer names are for the batch.
const REQUEST_BYTES: usize = 192;
const ITEM_BYTES: usize = size_of::<KeyItem>();

/// The answer, if there is one here, and how long it has slept.
type One<T> = (Option<Result<T, Error>>, Duration);

/// A request.
struct Asked<'a> {
    opcode: LaneOpcode,
    /// Of the name.
    hash: u64,
    body: &'a [u8],
    manner: Manner<'a>,
}

impl Local {
    /// Reads a value where it lies.
    #[inline]
    pub(crate) fn view_one(&self, manner: Manner<'_>, key: &[u8]) -> One<Found<View>> {
        self.ask_one(manner, LaneOpcode::Get, key, |lane, record| {
            if place_of(record).is_none() {
                return Ok(miss_of(record));
            }
            let pinned = lane.end.pinned(record).ok_or(STRANGE_PLACE)?;
            Ok(Some(Ok(Found::Hit(View::pinned(pinned, record.reply.checksum)))))
        })
    }

    /// Reads a value into buffers, or ranges of it.
    #[inline]
    pub(crate) fn get_one_into<R: Room + ?Sized>(
        &self,
        manner: Manner<'_>,
        key: &[u8],
        room: &mut R,
    ) -> One<Found<usize>> {
        self.ask_one(manner, LaneOpcode::Get, key, |lane, record| {
            let Some(place) = place_of(record) else { return Ok(miss_of(record)) };
            let value = pinned_bytes(lane, record).ok_or(STRANGE_PLACE)?;
            let answer = match room.job(value) {
                Err(error) => Some(Err(error)),
                Ok(job) => {
                    let is_right = match self.verify {
                        true => job.make_checked() == record.reply.checksum,
                        false => {
                            job.make();
                            true
                        }
                    };
                    // Wrong bytes are the session's business: it asks again, and tells.
                    is_right.then_some(Ok(Found::Hit(value.len())))
                }
            };
            lane.end.give_back(place.handle);
            Ok(answer)
        })
    }

    /// Is this key held, and how many bytes has its value?
    #[inline]
    pub(crate) fn lookup_one(&self, manner: Manner<'_>, key: &[u8]) -> One<Found<u64>> {
        self.ask_one(manner, LaneOpcode::Lookup, key, |_, record| Ok(found_of(record)))
    }

    #[inline]
    fn ask_one<T>(
        &self,
        manner: Manner<'_>,
        opcode: LaneOpcode,
        key: &[u8],
        take: impl FnOnce(&LocalLane, &LaneRecord) -> Result<Option<Result<T, Error>>, &'static str>,
    ) -> One<T> {
        let unasked = (None, Duration::ZERO);
        let tenant = manner.tenant.as_bytes();
        let end = ITEM_BYTES + tenant.len() + 1 + key.len();
        // What is no key, the session says; and a forked process has no lane.
        if end > REQUEST_BYTES || NameRef::check_key(key).is_err() || !self.birth.is_here() {
            return unasked;
        }
        let mut request = [0; REQUEST_BYTES];
        request[ITEM_BYTES..][..tenant.len()].copy_from_slice(tenant);
        request[end - key.len()..end].copy_from_slice(key);
        let name = NameRef::known(&request[ITEM_BYTES..end]);
        let (hash, item) = (name.hash(), KeyItem::at_home(name));
        request[..ITEM_BYTES].copy_from_slice(bytemuck::bytes_of(&item));
        let asked = Asked { opcode, hash, body: &request[..end], manner };
        self.seats.mine().try_with(|seat| self.ask_from(seat, asked, take)).flatten().unwrap_or(unasked)
    }

    /// Asks from a seat. `None`: there is no lane.
    #[inline]
    fn ask_from<T>(
        &self,
        seat: &mut Seat,
        asked: Asked<'_>,
        take: impl FnOnce(&LocalLane, &LaneRecord) -> Result<Option<Result<T, Error>>, &'static str>,
    ) -> Option<One<T>> {
        let Asked { opcode, hash, body, manner } = asked;
        let (directory, place) = seat.way_to(self, hash)?;
        // Whoever panics leaves no lane behind with a reply that is somebody else's.
        let (home, mut lane) = place.take()?;
        let found = if opcode == LaneOpcode::Get { lane.find(hash, &body[ITEM_BYTES..]) } else { None };
        let answer = match found {
            Some(record) => take_from(&mut lane, opcode, &record, take),
            None => {
                lane.send_one(opcode, directory.table.epoch, body);
                let mut has_come = lane.wait(manner.patience).is_ok();
                while has_come && lane.is_one_loading() {
                    let has_arrived = lane.await_arrival(manner.patience_for_arrival(lane.waited()));
                    // The session waits on, if there is time left.
                    has_come = has_arrived && {
                        lane.send_one(opcode, directory.table.epoch, body);
                        lane.wait(manner.patience).is_ok()
                    };
                }
                match lane.answer.records[..] {
                    _ if !has_come => None,
                    [record] => take_from(&mut lane, opcode, &record, take),
                    _ => {
                        lane.break_down("a reply has the wrong number of answers");
                        None
                    }
                }
            }
        };
        let slept = lane.take_slept();
        match lane.is_broken() {
            false => *place = Some((home, lane)),
            true => directory.cores[usize::from(home)].put_back(lane, &self.counters),
        }
        Some((answer, slept))
    }
}

/// What is made of a record, wherever it comes from; nothing, and the lane is broken, if it makes no sense.
#[inline]
fn take_from<T>(
    lane: &mut LocalLane,
    opcode: LaneOpcode,
    record: &LaneRecord,
    take: impl FnOnce(&LocalLane, &LaneRecord) -> Result<Option<Result<T, Error>>, &'static str>,
) -> Option<Result<T, Error>> {
    match take(lane, record) {
        Ok(taken) => {
            let has_come = taken.is_some() && opcode == LaneOpcode::Get;
            lane.counts.value_bytes_received += if has_come { record.reply.value_bytes } else { 0 };
            taken
        }
        Err(reason) => {
            lane.break_down(reason);
            None
        }
    }
}
