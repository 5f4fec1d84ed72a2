//! Receiving values: item by item, each from the socket straight into its extent.

use super::answer::finish;
use super::connection::Served;
use super::outbox::Reply;
use crate::control::replicas;
use crate::percore::PerCore;
use crate::shard::{PutStart, PutTicket};
use crate::tiering::Copying;
use futures_util::future::join;
use snowskin_io::framing::{FrameError, FrameReader};
use snowskin_io::seeded_bug;
use snowskin_io::{ByteReader, Platform};
use snowskin_protocol::limits::HEADER_BYTES;
use snowskin_protocol::wire::data::{Batch, ITEM_REPLY_BYTES, ItemReply, ItemStatus, PutHints, PutItem};
use snowskin_protocol::wire::{Header, Opcode};
use snowskin_protocol::{HashedName, ObjectName};
use std::future::poll_fn;
use std::rc::Rc;

/// Values of a request that are to be durable, and are not yet, or to have replicas that are not made yet.
pub(super) struct Undecided {
    reply: Reply,
    /// Which items are to be durable, and what waits for each.
    items: Vec<usize>,
    copying: Vec<Copying>,
    /// What is to have replicas, and how many besides the first.
    replicated: Vec<(ObjectName, usize)>,
}

impl Undecided {
    /// Waits for the SSD, and for other cores: the reply then. Replicas are made as far as they can be; that there are fewer is no error.
    pub(super) async fn decide<P: Platform>(self, core: &Rc<PerCore<P>>, header: &Header) -> Reply {
        let Undecided { mut reply, items, copying, replicated } = self;
        let ((), durable) = join(replicas::make_some(core, replicated), core.end_durable(copying)).await;
        for (item, durable) in items.into_iter().zip(durable) {
            if let Err(why) = durable {
                let at = HEADER_BYTES + item * ITEM_REPLY_BYTES;
                let mut status = Vec::with_capacity(ITEM_REPLY_BYTES);
                ItemReply::status(why.status()).encode(&mut status);
                reply.head[at..at + ITEM_REPLY_BYTES].copy_from_slice(&status);
            }
        }
        finish(header, core.epoch(), header.items, 0, &mut reply);
        reply
    }
}

/// Reads the payload of a put or upsert and stores its values. A value that is not wanted is read and thrown away. What is to be durable is
/// on its way to the SSD then, and without that the reply is not complete.
pub(super) async fn receive<P: Platform, R: ByteReader>(
    core: &Rc<PerCore<P>>,
    reader: &mut FrameReader<R>,
    header: &Header,
    body: &[u8],
    mut reply: Reply,
) -> Result<Served, FrameError> {
    let batch = Batch::<PutItem>::decode(header.items, body)?;
    batch.check_payload(header.payload_bytes)?;
    let replace = header.opcode == Opcode::Upsert;
    reply.head.resize(HEADER_BYTES, 0);
    let (mut items, mut copying, mut replicated) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (item, name)) in batch.iter().enumerate() {
        let name = name.hashed();
        let start = core.begin_put(name, &item, replace, core.platform.now());
        let status = match start {
            PutStart::Answered(status) => {
                reader.discard(item.value_bytes).await?;
                status
            }
            PutStart::Reserved(ticket) => {
                let arriving = Arriving { core, ticket: Some(ticket) };
                arriving.receive(reader, name, replace).await?
            }
        };
        ItemReply::status(status).encode(&mut reply.head);
        if item.hints.has(PutHints::DURABLE) && matches!(status, ItemStatus::Ok | ItemStatus::Exists) {
            items.push(number);
            copying.push(core.begin_durable(&name.name.to_owned()));
        }
        if item.hints.more_replicas() > 0 && status == ItemStatus::Ok {
            replicated.push((name.name.to_owned(), item.hints.more_replicas()));
        }
    }
    if !items.is_empty() || !replicated.is_empty() {
        return Ok(Served::Undecided(Undecided { reply, items, copying, replicated }));
    }
    finish(header, core.epoch(), header.items, 0, &mut reply);
    Ok(Served::Reply(reply))
}

/// A value on its way. Dropped before it is complete (the connection broke, the core goes down), it is counted and
/// its memory is free again.
struct Arriving<'a, P: Platform> {
    core: &'a Rc<PerCore<P>>,
    ticket: Option<PutTicket>,
}

impl<P: Platform> Arriving<'_, P> {
    async fn receive<R: ByteReader>(
        mut self,
        reader: &mut FrameReader<R>,
        name: HashedName<'_>,
        replace: bool,
    ) -> Result<ItemStatus, FrameError> {
        let ticket = self.ticket.as_mut().expect("present until finished");
        while !ticket.is_full() {
            match poll_fn(|context| reader.poll_payload(context, ticket.unfilled())).await? {
                0 => return Err(FrameError::Cut),
                count => ticket.advance(count),
            }
        }
        let ticket = self.ticket.take().expect("present until finished");
        if seeded_bug!("acknowledged and not published") && name.hash.is_multiple_of(4) {
            return Ok(ItemStatus::Ok);
        }
        let now = self.core.platform.now();
        let (status, dropped) = self.core.shard.borrow_mut().finish_put(name, ticket, replace, now);
        if let Some(dropped) = dropped {
            self.core.drop_later(dropped);
        }
        Ok(status)
    }
}

impl<P: Platform> Drop for Arriving<'_, P> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.core.shard.borrow_mut().abandon_put(ticket);
        }
    }
}
