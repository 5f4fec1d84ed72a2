//! Making replicas, and letting go of them: what a home asks of holders, and what a holder does.
//!
//! ```text
//!   home                         holder                       source (the home, or who has the bytes)
//!    │ Take ─────────────────────► │ Get ──────────────────────► │
//!    │ ◄───────────────────── Done │ ◄──────────────────── value │
//!    │ Keep ─────────────────────► │        from here on the next home is told of it, should this one be lost
//!    │ ◄───────────────────── Done │
//!    │ Release ──────────────────► │        from here on it is not, and the object may change
//! ```

use super::peers::{self, ask};
use crate::percore::PerCore;
use crate::segment::{Figures, Places, Request};
use crate::shard::{Holders, PutTicket, ReplicaEnd, ReplicaNews, TakeStart};
use futures_util::stream::{self, StreamExt};
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::data::{BatchWriter, ItemStatus, KeyItem, decode_replies};
use snowskin_protocol::wire::replica::{ReplicaOrder, ReplicaReply, ReplicaStatus, ReplicaVerb};
use snowskin_protocol::{CoreId, Member, ObjectName, Version};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

/// How long a put waits for its replicas.
const MAKE_TIME: Duration = Duration::from_secs(3);
/// Time for a holder to get the bytes.
const TAKE_TIME: Duration = Duration::from_secs(5);
/// Time for any other answer of a holder.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Pause before a holder is asked again that has not said that it has let go.
const RELEASE_PAUSE: Duration = Duration::from_millis(20);
/// Objects of one request that get their replicas at the same time.
const TOGETHER: usize = 8;
/// By how much the lease of a replica that an object leaves for is longer than its own.
const LEASE_MORE: Duration = Duration::from_secs(1);
/// How often somebody is asked that puts it off.
const ASKED_MAX: usize = 5;

// -- at the home --

/// Tells others what changes at this home, for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    let news = core.shard.borrow().replica_news();
    loop {
        match news.receive().await {
            ReplicaNews::Drop(dropped) => core.drop_later(dropped),
            ReplicaNews::Release(name, version) => {
                let core = core.clone();
                core.clone().platform.spawn(async move {
                    release(&core, &name, version).await;
                    core.shard.borrow_mut().end_release(name.as_ref().hashed(), version);
                });
            }
        }
    }
}

/// Makes replicas of objects: so many of each besides the first, or as many as there can be in so much time.
pub(crate) async fn make_some<P: Platform>(core: &Rc<PerCore<P>>, objects: Vec<(ObjectName, usize)>) {
    if objects.is_empty() {
        return;
    }
    let each = |(name, more)| async move {
        make(core, &name, more).await;
    };
    let all = stream::iter(objects).for_each_concurrent(TOGETHER, each);
    // Somebody waits, and the objects are held.
    with_deadline(&core.platform, core.platform.now() + MAKE_TIME, all).await;
}

/// Makes replicas of an object at other engines, each on a host of its own as far as there are any.
async fn make<P: Platform>(core: &Rc<PerCore<P>>, name: &ObjectName, more: usize) {
    let Some(holders) = core.shard.borrow_mut().holders(name.as_ref().hashed()) else { return };
    let mut made = 0;
    for target in candidates(core, &holders) {
        if made >= more {
            return;
        }
        made += usize::from(make_one(core, name, holders.version, &target).await);
    }
}

/// Where replicas of an object may be made, best first: at engines that have none of it.
fn candidates<P: Platform>(core: &PerCore<P>, holders: &Holders) -> Vec<Member> {
    let routing = core.routing.borrow();
    let has_it = |member: &Member| {
        let engines = holders.cores.iter().map(|holder| holder.engine);
        engines.chain([core.identity.id.engine]).any(|engine| engine == member.id.engine)
    };
    let members: Vec<Member> =
        routing.table.members.iter().filter(|member| member.weight > 0 && !has_it(member)).copied().collect();
    let is_local = |member: &Member| member.address.ip() == core.identity.address.ip();
    let places = Candidates { core, members: &members };
    let strategy = core.shard.borrow().strategy();
    let request = Request { strategy, bytes: holders.value_bytes, preferred: &[] };
    let mut order = Vec::new();
    request.place_one(
        &places,
        || core.platform.entropy(),
        |place| {
            order.push(members[place]);
            false
        },
    );
    // Other hosts first; of each engine one core. What is equal stays as it was.
    order.sort_by_key(|member| is_local(member));
    let mut engines = Vec::new();
    order.retain(|member| {
        let is_first = !engines.contains(&member.id.engine);
        engines.push(member.id.engine);
        is_first
    });
    order
}

/// Cores of a cluster, with what they have said of themselves last.
struct Candidates<'a, P: Platform> {
    core: &'a PerCore<P>,
    members: &'a [Member],
}

impl<P: Platform> Places for Candidates<'_, P> {
    fn count(&self) -> usize {
        self.members.len()
    }

    fn figures(&self, place: usize) -> Figures {
        let member = &self.members[place];
        let capacity_bytes = u64::from(member.weight) << 20;
        let is_local = member.address.ip() == self.core.identity.address.ip();
        // Of whom nothing is known all memory is free.
        let empty = Figures {
            capacity_bytes,
            free_bytes: capacity_bytes,
            free_range_bytes_max: capacity_bytes,
            host: 0,
            is_local,
        };
        match self.core.peer_figures.borrow().get(&member.id) {
            Some(figures) => Figures { is_local, ..*figures },
            None => empty,
        }
    }
}

/// Has a replica made at one core; whether it is there, and kept. Without an answer it counts as asked for: it is let go of before the
/// object changes, and nobody asks that core again.
pub(crate) async fn make_one<P: Platform>(
    core: &Rc<PerCore<P>>,
    name: &ObjectName,
    version: Version,
    target: &Member,
) -> bool {
    let hashed = name.as_ref().hashed();
    let Some(holders) = core.shard.borrow_mut().holders(hashed) else { return false };
    // Who is no member any more would stay on the list.
    let is_member = core.routing.borrow().table.members.contains(target);
    if holders.version != version
        || !is_member
        || !core.shard.borrow_mut().begin_replica(hashed, version, target.id)
    {
        return false;
    }
    let taken = order(core, name, &holders, (ReplicaVerb::Take, 0), target).await;
    let kept = match taken {
        Ok(ReplicaStatus::Done) if core.shard.borrow_mut().may_keep(hashed, version, target.id) => {
            order(core, name, &holders, (ReplicaVerb::Keep, 0), target).await
        }
        // It has the bytes, and does not keep them.
        Ok(ReplicaStatus::Done) => return false,
        Ok(ReplicaStatus::Absent | ReplicaStatus::NotYet) => Ok(ReplicaStatus::Absent),
        Err(error) => Err(error),
    };
    let end = match kept {
        Ok(ReplicaStatus::Done) => ReplicaEnd::Kept,
        Ok(ReplicaStatus::Absent) => ReplicaEnd::Absent,
        Ok(ReplicaStatus::NotYet) => return false,
        Err(error) => {
            log::debug!("core {}: a replica at {}: {error}", core.identity.id, target.id);
            return false;
        }
    };
    core.shard.borrow_mut().end_replica(hashed, version, target.id, end);
    end == ReplicaEnd::Kept
}

/// Has all holders of an object let go of it, until they have, are gone, or it is another home's business.
async fn release<P: Platform>(core: &Rc<PerCore<P>>, name: &ObjectName, version: Version) {
    let hashed = name.as_ref().hashed();
    loop {
        let binding = core.shard.borrow_mut().binding(hashed, version);
        let Some(holders) = core.shard.borrow_mut().holders(hashed).filter(|_| !binding.is_empty()) else {
            return;
        };
        for holder in binding {
            // Who is no member any more has let go of everything.
            let Some(member) = peers::member(core, holder) else {
                core.shard.borrow_mut().replica_released(hashed, version, holder);
                continue;
            };
            match order(core, name, &holders, (ReplicaVerb::Release, 0), &member).await {
                Ok(_) => core.shard.borrow_mut().replica_released(hashed, version, holder),
                Err(error) => log::debug!("core {}: {holder} does not let go: {error}", core.identity.id),
            }
        }
        if core.shard.borrow_mut().binding(hashed, version).is_empty() {
            return;
        }
        core.platform.sleep(RELEASE_PAUSE).await;
    }
}

/// What this home says of an object, as it lies in the first of its holders.
fn order_of<'n, P: Platform>(
    core: &PerCore<P>,
    name: &'n ObjectName,
    holders: &Holders,
    (verb, lease_ms): (ReplicaVerb, u32),
) -> ReplicaOrder<'n> {
    ReplicaOrder {
        verb,
        home: core.identity.member().life(),
        source: holders.cores[0],
        name: name.as_ref(),
        version: holders.version,
        value_bytes: holders.value_bytes,
        checksum: holders.checksum,
        lease_ms,
    }
}

/// Gives one order, and hears how full the holder is.
async fn order<P: Platform>(
    core: &PerCore<P>,
    name: &ObjectName,
    holders: &Holders,
    (verb, lease_ms): (ReplicaVerb, u32),
    to: &Member,
) -> Result<ReplicaStatus, FrameError> {
    let order = order_of(core, name, holders, (verb, lease_ms));
    let time = if verb == ReplicaVerb::Take { TAKE_TIME } else { ANSWER_TIME };
    let reply = ask(core, to, time, async |channel: &mut Channel<P>| {
        let mut reply = Vec::new();
        channel.call(Opcode::Replica, core.epoch(), &order.encode(), &mut reply).await?;
        Ok(ReplicaReply::decode(&reply)?)
    });
    let reply = reply.await?;
    let ReplicaReply { status, capacity_bytes, free_bytes, free_range_bytes_max } = reply;
    let figures = Figures { capacity_bytes, free_bytes, free_range_bytes_max, host: 0, is_local: false };
    core.peer_figures.borrow_mut().insert(to.id, figures);
    Ok(status)
}

/// Has one holder let go of an object, and sends readers of it to another one. Whether that holder had it, and others do.
pub(crate) async fn leave<P: Platform>(
    core: &Rc<PerCore<P>>,
    name: &ObjectName,
    version: Version,
    holder: CoreId,
) -> bool {
    let hashed = name.as_ref().hashed();
    if holder == core.identity.id {
        return leave_home(core, name, version).await;
    }
    let holders = core.shard.borrow_mut().holders(hashed);
    let is_binding = core.shard.borrow_mut().binding(hashed, version).contains(&holder);
    if is_binding && let Some(holders) = holders {
        let Some(member) = peers::member(core, holder) else { return false };
        if order(core, name, &holders, (ReplicaVerb::Release, 0), &member).await.is_err() {
            return false;
        }
        core.shard.borrow_mut().replica_released(hashed, version, holder);
    }
    core.shard.borrow_mut().leave_holder(hashed, version, holder)
}

/// The bytes of an object whose home is here go, as soon as a replica is leased as long as they are.
async fn leave_home<P: Platform>(core: &Rc<PerCore<P>>, name: &ObjectName, version: Version) -> bool {
    let hashed = name.as_ref().hashed();
    for _ in 0..ASKED_MAX {
        let now = core.platform.now();
        let next = core.shard.borrow_mut().next_holder(hashed, version, now);
        let holders = core.shard.borrow_mut().holders(hashed);
        let (Some((lease_ms, next)), Some(holders)) = (next, holders) else { return false };
        // It may be read once more meanwhile.
        let lease_ms = lease_ms.saturating_add(LEASE_MORE.as_millis() as u32);
        let Some(member) = peers::member(core, next) else { return false };
        let leased_until = now + Duration::from_millis(u64::from(lease_ms));
        let kept = order(core, name, &holders, (ReplicaVerb::Keep, lease_ms), &member).await;
        if matches!(kept, Ok(ReplicaStatus::Done))
            && core.shard.borrow_mut().leave_home(hashed, version, leased_until)
        {
            return true;
        }
    }
    false
}

/// Gets the bytes of an object whose home is here, and that others hold. Whether they are here.
pub(crate) async fn bring_home<P: Platform>(
    core: &Rc<PerCore<P>>,
    name: &ObjectName,
    version: Version,
) -> bool {
    let hashed = name.as_ref().hashed();
    let Some(holders) = core.shard.borrow_mut().holders(hashed) else { return false };
    if holders.version != version {
        return false;
    }
    let order = order_of(core, name, &holders, (ReplicaVerb::Take, 0));
    if order.source == core.identity.id {
        return true;
    }
    let room = core.shard.borrow_mut().room_at_home(&order, core.platform.now());
    let Some(mut ticket) = room else { return false };
    match fetch_from(core, &order, &mut ticket).await {
        true => core.shard.borrow_mut().come_home(hashed, version, ticket),
        false => false,
    }
}

// -- at a holder --

/// Does what a home says.
pub(crate) async fn obey<P: Platform>(core: &Rc<PerCore<P>>, order: &ReplicaOrder<'_>) -> ReplicaReply {
    let name = order.name.hashed();
    let status = match order.verb {
        // Whoever says so: what is not kept is no danger.
        ReplicaVerb::Release => {
            core.shard.borrow_mut().release(name, order.version);
            ReplicaStatus::Done
        }
        _ if !is_home(core, order) => ReplicaStatus::NotYet,
        ReplicaVerb::Keep => core.shard.borrow_mut().keep(order, core.platform.now()),
        ReplicaVerb::Take => match take(core, order).await {
            true => ReplicaStatus::Done,
            false => ReplicaStatus::Absent,
        },
    };
    let usage = core.shard.borrow().segments().usage();
    ReplicaReply {
        status,
        capacity_bytes: usage.capacity_bytes,
        free_bytes: usage.free_bytes,
        free_range_bytes_max: usage.free_range_bytes_max,
    }
}

fn is_home<P: Platform>(core: &PerCore<P>, order: &ReplicaOrder<'_>) -> bool {
    let routing = core.routing.borrow();
    routing.table.home(order.name.slot()).is_some_and(|home| home.life() == order.home)
}

/// Gets the bytes from the source. Whether they are here.
async fn take<P: Platform>(core: &Rc<PerCore<P>>, order: &ReplicaOrder<'_>) -> bool {
    let begin = || core.shard.borrow_mut().begin_take(order, core.platform.now());
    let start = match begin() {
        // Clients may have given pins back that we have not seen.
        TakeStart::NoRoom if core.take_back() => begin(),
        start => start,
    };
    let mut ticket = match start {
        TakeStart::Here => return true,
        TakeStart::NoRoom => return false,
        TakeStart::Reserved(ticket) => ticket,
    };
    fetch_from(core, order, &mut ticket).await && core.shard.borrow_mut().finish_take(order, ticket)
}

/// Gets the bytes from the source into the ticket's memory; whether it had them.
async fn fetch_from<P: Platform>(
    core: &Rc<PerCore<P>>,
    order: &ReplicaOrder<'_>,
    ticket: &mut PutTicket,
) -> bool {
    let Some(source) = peers::member(core, order.source) else { return false };
    let fetched = ask(core, &source, TAKE_TIME, async |channel: &mut Channel<P>| {
        fetch(core, channel, order, ticket).await
    });
    match fetched.await {
        Ok(had_it) => had_it,
        Err(error) => {
            log::debug!("core {}: a replica from {}: {error}", core.identity.id, order.source);
            false
        }
    }
}

/// Reads the value into the ticket's memory; whether the source had it.
async fn fetch<P: Platform>(
    core: &PerCore<P>,
    channel: &mut Channel<P>,
    order: &ReplicaOrder<'_>,
    ticket: &mut PutTicket,
) -> Result<bool, FrameError> {
    let mut body = Vec::new();
    for _ in 0..ASKED_MAX {
        let mut batch = BatchWriter::default();
        let item = KeyItem::at_holder(order.name, order.version);
        batch.push(KeyItem { flags: KeyItem::FOR_REPLICA, ..item }, order.name);
        let header = channel.call_items(Opcode::Get, core.epoch(), 1, &batch.finish(), &mut body).await?;
        let replies = decode_replies(header.items, &body)?;
        let status = replies.first().ok_or(FrameError::Unexpected)?.status;
        if status == ItemStatus::Deferred {
            core.platform.sleep(RELEASE_PAUSE).await;
            continue;
        }
        if status != ItemStatus::Ok || header.payload_bytes != order.value_bytes {
            // What comes behind it is not read: the connection is of no more use.
            return if header.payload_bytes == 0 { Ok(false) } else { Err(FrameError::Unexpected) };
        }
        while !ticket.is_full() {
            match poll_fn(|context| channel.poll_payload(context, ticket.unfilled())).await? {
                0 => return Err(FrameError::Cut),
                count => ticket.advance(count),
            }
        }
        return Ok(true);
    }
    Ok(false)
}
