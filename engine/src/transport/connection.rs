//! One client (or peer core) of a core.

use super::answer::OnSsd;
use super::outbox::{Outbox, Reply};
use super::{HELLO_TIME, answer, lanes, put};
use crate::control::{admin, replicas};
use crate::percore::{PerCore, count};
use snowskin_io::framing::{FrameError, FrameReader, accept_hello};
use snowskin_io::{ByteReader, ByteWriter, Moment, Peer, Platform, Stream, with_deadline};
use snowskin_protocol::limits::HEADER_BYTES;
use snowskin_protocol::wire::admin::AdminRequest;
use snowskin_protocol::wire::hello::Welcome;
use snowskin_protocol::wire::replica::ReplicaOrder;
use snowskin_protocol::wire::{Header, Opcode, Refusal, WireError};
use std::cell::Cell;
use std::rc::Rc;

/// Bytes of a body's buffer that a connection keeps for its next request.
pub(super) const BODY_BYTES_KEPT_MAX: usize = 16 * 1024;

/// Requests of a core that wait for the SSD; beyond that connections wait themselves.
const COLD_REQUESTS_MAX: u64 = 256;
/// Requests of a core that wait until what they have put is durable.
const DURABLE_REQUESTS_MAX: u64 = 256;
/// How often it is tried to load a request's objects: they may move while it waits, and memory may be short.
const LOADS_MAX: usize = 20;

/// Serves one connection to its end. Whatever the peer does, the core lives on: memory it had reserved or pinned is
/// given back when the tasks end.
pub(super) async fn serve<P: Platform>(counted: Counted<P>, mut stream: P::Stream, peer: Peer) {
    let core = counted.0.clone();
    let lane = stream.take_lane();
    let (reader, mut writer) = stream.split();
    let mut reader = FrameReader::new(reader);
    let identity = core.identity;
    let epoch = core.epoch();
    let welcome = |version| Welcome::of_core(version, identity.id, identity.incarnation, epoch);
    let hello = accept_hello(&mut reader, &mut writer, welcome);
    match with_deadline(&core.platform, core.platform.now() + HELLO_TIME, hello).await {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            count(&core.traffic.frames_refused);
            log::info!("core {}: {peer} did not say hello: {error}", core.identity.id);
            return writer.shutdown();
        }
        None => return writer.shutdown(),
    }
    lane.into_iter().for_each(|lane| lanes::open(&core, lane, peer));
    let outbox = Outbox::new(writer);
    let drain = outbox.clone().drain();
    core.platform.spawn(async move {
        if let Err(error) = drain.await {
            log::debug!("{peer} went away: {error}");
        }
    });
    if let Err(error) = serve_requests(&core, &mut reader, &outbox).await {
        let id = core.identity.id;
        match error {
            FrameError::Io(_) | FrameError::Cut => log::debug!("core {id}: {peer} went away: {error}"),
            _ => log::warn!("core {id}: closing the connection of {peer}: {error}"),
        }
    }
    outbox.close();
}

async fn serve_requests<P: Platform, R: ByteReader, W: ByteWriter>(
    core: &Rc<PerCore<P>>,
    reader: &mut FrameReader<R>,
    outbox: &Outbox<W>,
) -> Result<(), FrameError> {
    let mut body = Vec::new();
    loop {
        let (header, checksum) = match reader.header().await {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(()),
            Err(error) => return refuse_garbage(core, outbox, error).await,
        };
        let since = core.platform.now();
        if let Err(error) = reader.body(&header, checksum, &mut body).await {
            return refuse_garbage(core, outbox, error).await;
        }
        count(&core.traffic.frames_in);
        core.hear_epoch(header.epoch);
        match serve_request(core, reader, outbox, &header, &body).await {
            Ok(Served::Reply(reply)) => {
                send(core, outbox, reply, since).await;
            }
            Ok(Served::Cold(cold)) if core.cold_requests.get() < COLD_REQUESTS_MAX => {
                let (core, outbox, body) = (core.clone(), outbox.clone(), std::mem::take(&mut body));
                core.clone().platform.spawn(async move {
                    let reply = warm_up(&core, &outbox, &header, &body, cold).await;
                    send(&core, &outbox, reply, since).await;
                });
            }
            // Too much is waiting for the SSD: this connection waits as well.
            Ok(Served::Cold(cold)) => {
                let reply = warm_up(core, outbox, &header, &body, cold).await;
                send(core, outbox, reply, since).await;
            }
            Ok(Served::Undecided(undecided)) if core.durable_requests.get() < DURABLE_REQUESTS_MAX => {
                let (core, outbox) = (core.clone(), outbox.clone());
                core.clone().platform.spawn(async move {
                    let _waiting = Waiting::new(&core, |core| &core.durable_requests);
                    let reply = undecided.decide(&core, &header).await;
                    send(&core, &outbox, reply, since).await;
                });
            }
            Ok(Served::Undecided(undecided)) => {
                let reply = undecided.decide(core, &header).await;
                send(core, outbox, reply, since).await;
            }
            Err(error) => return refuse_garbage(core, outbox, error).await,
        }
        if body.capacity() > BODY_BYTES_KEPT_MAX {
            body = Vec::new();
        }
        outbox.room().await;
    }
}

/// What became of a request.
pub(super) enum Served {
    Reply(Reply),
    /// Some of what it stores is to be durable first.
    Undecided(put::Undecided),
    /// Some of what it asks for is on the SSD.
    Cold(OnSsd),
}

/// Sends a reply, as soon as what it says may be told.
async fn send<P: Platform, W: ByteWriter>(
    core: &PerCore<P>,
    outbox: &Outbox<W>,
    reply: Reply,
    since: Moment,
) {
    core.settle().await;
    count(&core.traffic.frames_out);
    core.note_service(since);
    outbox.send(reply);
}

/// Loads what a request found on the SSD, and answers it then. What is gone meanwhile is a miss; what finds no memory is asked for again.
async fn warm_up<P: Platform, W: ByteWriter>(
    core: &Rc<PerCore<P>>,
    outbox: &Outbox<W>,
    header: &Header,
    body: &[u8],
    mut on_ssd: OnSsd,
) -> Reply {
    let tier = core.tier.get().expect("something is on it");
    let _waiting = Waiting::new(core, |core| &core.cold_requests);
    for _ in 0..LOADS_MAX {
        let loaded = tier.load(core, &on_ssd.cold).await;
        let is_stuck = loaded.is_empty() && !on_ssd.cold.is_empty();
        on_ssd.loaded.add(loaded);
        on_ssd.cold.clear();
        let mut reply = outbox.blank();
        answer::answer(core, header, body, &mut reply, &mut on_ssd).expect("it could be decoded before");
        if on_ssd.cold.is_empty() {
            return reply;
        }
        if is_stuck {
            tier.starve(core).await;
        }
    }
    let mut reply = outbox.blank();
    answer::answer(core, header, body, &mut reply, &mut on_ssd).expect("it could be decoded before");
    reply
}

/// Counts a request that waits for the SSD.
struct Waiting<P: Platform> {
    core: Rc<PerCore<P>>,
    counter: fn(&PerCore<P>) -> &Cell<u64>,
}

impl<P: Platform> Waiting<P> {
    fn new(core: &Rc<PerCore<P>>, counter: fn(&PerCore<P>) -> &Cell<u64>) -> Self {
        count(counter(core));
        Waiting { core: core.clone(), counter }
    }
}

impl<P: Platform> Drop for Waiting<P> {
    fn drop(&mut self) {
        let waiting = (self.counter)(&self.core);
        waiting.set(waiting.get() - 1);
    }
}

async fn serve_request<P: Platform, R: ByteReader, W: ByteWriter>(
    core: &Rc<PerCore<P>>,
    reader: &mut FrameReader<R>,
    outbox: &Outbox<W>,
    header: &Header,
    body: &[u8],
) -> Result<Served, FrameError> {
    if header.is_reply {
        return Err(FrameError::Unexpected);
    }
    let mut reply = outbox.blank();
    match header.opcode {
        Opcode::Put | Opcode::Upsert => {
            count(&core.traffic.data_frames_in);
            return put::receive(core, reader, header, body, reply).await;
        }
        Opcode::Admin => {
            let asked = AdminRequest::decode(body)?;
            reply.head.resize(HEADER_BYTES, 0);
            reply.head.extend_from_slice(&admin::serve(core, asked).await.encode());
            answer::finish(header, core.epoch(), 0, 0, &mut reply);
        }
        Opcode::Replica => {
            let order = ReplicaOrder::decode(body)?;
            reply.head.resize(HEADER_BYTES, 0);
            replicas::obey(core, &order).await.encode(&mut reply.head);
            answer::finish(header, core.epoch(), 0, 0, &mut reply);
        }
        _ => {
            let mut on_ssd = OnSsd::default();
            answer::answer(core, header, body, &mut reply, &mut on_ssd)?;
            if !on_ssd.cold.is_empty() {
                return Ok(Served::Cold(on_ssd));
            }
        }
    }
    Ok(Served::Reply(reply))
}

/// Says what is wrong with the peer's bytes, lets the sentence leave, and gives up the connection: after garbage
/// nobody knows where the next frame begins.
async fn refuse_garbage<P: Platform, W: ByteWriter>(
    core: &Rc<PerCore<P>>,
    outbox: &Outbox<W>,
    error: FrameError,
) -> Result<(), FrameError> {
    let refused = match &error {
        FrameError::Wire(wire @ WireError::Version(..)) => Some((Refusal::Version, wire.to_string())),
        FrameError::Wire(wire) => Some((Refusal::BadFrame, wire.to_string())),
        FrameError::Unexpected => {
            Some((Refusal::BadFrame, "send requests here, and one hello before them".into()))
        }
        FrameError::Io(_) | FrameError::Cut | FrameError::Refused(..) => None,
    };
    if let Some((refusal, sentence)) = refused {
        count(&core.traffic.frames_refused);
        let mut reply = outbox.blank();
        let request = Header::request(Opcode::Hello, 0, core.epoch());
        answer::refuse(&request, core.epoch(), refusal, &sentence, &mut reply);
        outbox.send(reply);
        let deadline = core.platform.now() + HELLO_TIME;
        with_deadline(&core.platform, deadline, outbox.flushed()).await;
    }
    Err(error)
}

/// A connection, counted while it lives: from the moment it is accepted, so that a burst of them is counted too.
pub(super) struct Counted<P: Platform>(Rc<PerCore<P>>);

impl<P: Platform> Counted<P> {
    pub(super) fn new(core: Rc<PerCore<P>>) -> Self {
        count(&core.traffic.connections);
        Counted(core)
    }
}

impl<P: Platform> Drop for Counted<P> {
    fn drop(&mut self) {
        let connections = &self.0.traffic.connections;
        connections.set(connections.get() - 1);
    }
}
