//! A core's part of the store with so many objects, and frames that ask for them.

use snowskin_engine::eviction::PolicyKind;
use snowskin_engine::segment::{Mapping, Segments};
use snowskin_engine::shard::{Options, PutStart, Shard, some_at_a_time};
use snowskin_io::Moment;
use snowskin_protocol::limits::EXTENT_ALIGNMENT;
use snowskin_protocol::table::NOBODY;
use snowskin_protocol::wire::data::{Batch, BatchWriter, ItemStatus, KeyItem, PutItem};
use snowskin_protocol::{
    Checksum, CoreId, Epoch, HashedName, Incarnation, Member, ObjectName, RoutingTable, Settings,
};
use std::ops::ControlFlow;

/// Batches that one round asks for, over and over: as many names as no cache holds the rows of.
const BATCHES: usize = 8_192;
const VALUE: [u8; 1] = [7];
const NOW: Moment = Moment(1_000_000_000);

/// A filled shard.
pub(super) struct Filled {
    shard: Shard,
    objects: u64,
    reply: Vec<u8>,
    hashed: Vec<u64>,
}

/// Batches to ask for: bodies of frames, and the same names.
pub(super) struct Frames {
    bodies: Vec<Vec<u8>>,
    names: Vec<Vec<ObjectName>>,
    held: bool,
    batch: u32,
}

/// Keys as inference engines make them: a model, a rank, a hash.
fn name(number: u64) -> ObjectName {
    let low = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let key = format!("llama-70b@8@3@{:016x}{low:016x}", low.rotate_left(32) ^ number);
    ObjectName::new("default", key.as_bytes()).expect("a short key without NUL")
}

impl Filled {
    /// A shard that is the home of all slots, with objects of one byte.
    pub(super) fn new(objects: u64) -> Result<Self, String> {
        let bytes = (objects as usize + 1) * EXTENT_ALIGNMENT;
        let mapping = Mapping::plain(bytes).map_err(|error| error.to_string())?;
        let me = CoreId::default();
        let settings =
            Settings { high_watermark_permille: 1000, low_watermark_permille: 1000, ..Settings::default() };
        let options = Options { settings, policy: PolicyKind::default() };
        let mut shard = Shard::new((me, Incarnation(1)), Segments::of(mapping, 1), options);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut table = RoutingTable::empty();
        table.epoch = Epoch(1);
        table.members = vec![Member { id: me, incarnation: Incarnation(1), address, weight: 1 }];
        table.homes.fill(0);
        table.origins.fill(NOBODY);
        shard.apply_table(&table);
        let mut filled = Filled { shard, objects, reply: Vec::new(), hashed: Vec::new() };
        (0..objects).try_for_each(|number| filled.put(number))?;
        Ok(filled)
    }

    /// Of its row, and of its range.
    pub(super) fn bytes_per_object(&self) -> [f64; 2] {
        let (rows, ranges) = self.shard.account_bytes();
        [rows, ranges].map(|bytes| bytes as f64 / self.objects as f64)
    }

    fn put(&mut self, number: u64) -> Result<(), String> {
        let name = name(number);
        let name = name.as_ref().hashed();
        let item = PutItem::new(name.name, VALUE.len() as u64, Checksum::of(&VALUE));
        let PutStart::Reserved(mut ticket) = self.shard.begin_put(name, &item, false, NOW) else {
            return Err(format!("object {number} of {} was refused", self.objects));
        };
        ticket.unfilled().copy_from_slice(&VALUE);
        ticket.advance(VALUE.len());
        match self.shard.finish_put(name, ticket, false, NOW) {
            (ItemStatus::Ok, _) => Ok(()),
            (status, _) => Err(format!("object {number} was not stored: {status:?}")),
        }
    }

    /// Batches of names that are held, or of names that are not, in no order.
    pub(super) fn frames(&self, held: bool, batch: usize) -> Frames {
        let mut state = 0x5DEE_CE66_D153_2A11_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 24) % self.objects;
            if held { number } else { number + self.objects }
        };
        let (mut bodies, mut names) = (Vec::new(), Vec::new());
        for _ in 0..BATCHES {
            let asked: Vec<ObjectName> = (0..batch).map(|_| name(draw())).collect();
            let mut writer = BatchWriter::default();
            asked.iter().for_each(|name| writer.push(KeyItem::at_home(name.as_ref()), name.as_ref()));
            bodies.push(writer.finish());
            names.push(asked);
        }
        Frames { bodies, names, held, batch: batch as u32 }
    }

    /// Hashes names and says whether there are rows: nothing else. Answers for how many names.
    pub(super) fn probe(&mut self, frames: &Frames) -> usize {
        let (mut found, mut asked) = (0, 0);
        for names in &frames.names {
            self.hashed.clear();
            self.hashed.extend(names.iter().map(|name| name.hash()));
            self.shard.prefetch_rows(self.hashed.iter().copied());
            for (name, &hash) in names.iter().zip(&self.hashed) {
                found += usize::from(self.shard.knows(HashedName { name: name.as_ref(), hash }));
            }
            asked += names.len();
        }
        assert_eq!(found, if frames.held { asked } else { 0 }, "every name is held, or none");
        asked
    }

    /// The same names, as a core answers a frame. Answers for how many names.
    pub(super) fn look_up(&mut self, frames: &Frames) -> usize {
        let (mut found, mut asked) = (0, 0);
        for body in &frames.bodies {
            self.reply.clear();
            let batch = Batch::<KeyItem>::decode(frames.batch, body).expect("written a moment ago");
            let shard = &mut self.shard;
            some_at_a_time(&batch, |asked| {
                shard.prefetch(asked.iter().map(|(_, name)| name.hash));
                for (item, name) in asked {
                    let answer = shard.lookup(*name, item, NOW);
                    found += usize::from(answer.status == ItemStatus::Ok);
                    answer.encode(&mut self.reply);
                }
                ControlFlow::Continue(())
            });
            shard.note_uses();
            asked += batch.len();
        }
        assert_eq!(found, if frames.held { asked } else { 0 }, "every name is held, or none");
        asked
    }
}
