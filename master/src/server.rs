//! The frame server: answers cores about membership and everybody about the table, and nothing else.
//!
//! | request | answer |
//! |---|---|
//! | `Register`, `Heartbeat`, `Leave` (a report) | orders |
//! | `OfferTable` (a table) | orders, with the epoch that is in force then |
//! | `Table` | the table |
//! | anything about data or slots | refused: `WrongRole` |
//!
//! Whoever sends something that makes no sense is told so where that is possible, and its connection is closed; the
//! state does not change. Limits: connections, the time for a hello, for the rest of a begun frame, for taking an
//! answer, and for saying nothing at all.

use crate::config::MasterConfig;
use crate::master::{Master, MasterError};
use crate::membership::RegisterError;
use snowskin_io::framing::{FrameError, FrameReader, accept_hello, write_frame, write_refusal};
use snowskin_io::{Accept, ByteWriter, Listener, Peer, Platform, Stream, with_deadline};
use snowskin_protocol::limits::MEMBERS_MAX;
use snowskin_protocol::wire::control::{Orders, Report};
use snowskin_protocol::wire::hello::Welcome;
use snowskin_protocol::wire::{Header, Opcode, Refusal, WireError};
use snowskin_protocol::{CoreId, Epoch, Incarnation, RoutingTable};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Connections open at once: every core, and as many clients that ask for the table.
const CONNECTIONS_MAX: u64 = 2 * MEMBERS_MAX as u64;
/// Time for the hello, for the rest of a frame, and for the peer to take an answer.
const PROGRESS_WITHIN: Duration = Duration::from_secs(5);
/// Time without a frame after which a connection is given up.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Cores of an engine come to keep their slots at about the same moment: a report that is to be written down waits so long for others, and they share
/// one write of the ledger.
const SHARED_WITHIN: Duration = Duration::from_millis(2);
/// How long a master that ends with its engine waits for the others: they are heard of every second.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// How often it looks whether they know.
const FAREWELL_CHECK: Duration = Duration::from_millis(10);
/// Bytes of values that are read and thrown away behind a refused put, so that the connection stays of use.
const DISCARD_BYTES_MAX: u64 = 1 << 20;

/// A running master.
#[derive(Clone, Debug)]
pub struct MasterHandle {
    /// Where it answers frames, with the real port.
    pub address: SocketAddr,
    /// What it knows. Do not keep it borrowed while waiting for anything.
    pub master: Rc<RefCell<Master>>,
}

/// Starts a master on a platform. Its tasks run until the platform ends. `config.http` is not looked at here.
pub async fn start<P: Platform>(platform: &P, config: MasterConfig) -> Result<MasterHandle, MasterError> {
    let incarnation = Incarnation(platform.entropy());
    let master = Rc::new(RefCell::new(Master::open(platform.now(), incarnation, &config)?));
    let address = config.listen;
    let listener = platform.listen(address).await.map_err(|error| MasterError::Listen { address, error })?;
    let address = listener.local_address();
    log::info!("answering frames on {address}");
    platform.spawn(tick(platform.clone(), master.clone(), config.timing.tick));
    platform.spawn(serve(platform.clone(), listener, master.clone()));
    Ok(MasterHandle { address, master })
}

/// Answers frames on all connections that come in, for ever.
pub async fn serve<P: Platform>(platform: P, mut listener: P::Listener, master: Rc<RefCell<Master>>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let mut counters = master.borrow_mut();
                if counters.frames.connections == CONNECTIONS_MAX {
                    counters.frames.connections_refused += 1;
                    continue;
                }
                counters.frames.connections += 1;
                drop(counters);
                platform.spawn(attend(platform.clone(), stream, peer, master.clone()));
            }
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                platform.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits until all members have a table without those that have gone, for [`FAREWELL_TIME`] at most: nobody tells them later.
pub(crate) async fn see_off<P: Platform>(platform: &P, master: &Rc<RefCell<Master>>) {
    let deadline = platform.now() + FAREWELL_TIME;
    while platform.now() < deadline && !master.borrow().state.do_all_know() {
        platform.sleep(FAREWELL_CHECK).await;
    }
}

async fn tick<P: Platform>(platform: P, master: Rc<RefCell<Master>>, interval: Duration) {
    loop {
        platform.sleep(interval).await;
        master.borrow_mut().tick(platform.now());
    }
}

/// One connection, from its hello to its end.
async fn attend<P: Platform>(platform: P, stream: P::Stream, peer: Peer, master: Rc<RefCell<Master>>) {
    let (reader, writer) = stream.split();
    let (reader, body) = (FrameReader::new(reader), Vec::new());
    let mut connection = Connection::<P> { platform, reader, writer, body, master, introduced: None };
    match connection.converse().await {
        Ok(()) => {}
        Err(error @ (FrameError::Wire(_) | FrameError::Unexpected)) => {
            log::warn!("closing the connection of {peer}: {error}");
            connection.master.borrow_mut().frames.bad_frames += 1;
        }
        Err(error) => log::debug!("the connection of {peer} ends: {error}"),
    }
    connection.writer.shutdown();
    connection.master.borrow_mut().frames.connections -= 1;
}

struct Connection<P: Platform> {
    platform: P,
    reader: FrameReader<<P::Stream as Stream>::Reader>,
    writer: <P::Stream as Stream>::Writer,
    body: Vec<u8>,
    master: Rc<RefCell<Master>>,
    /// Who has introduced itself on this connection, and was answered.
    introduced: Option<(CoreId, Incarnation)>,
}

/// What a request is answered with.
enum Answer {
    Orders(Orders),
    /// The same, once it is known whether what the core keeps is remembered.
    Reported(Orders, Report),
    Table(Epoch, Rc<[u8]>),
    Refused(Refusal, String),
    /// Refused, and then the connection is closed.
    Broken(WireError),
}

impl<P: Platform> Connection<P> {
    async fn converse(&mut self) -> Result<(), FrameError> {
        let (incarnation, epoch) = {
            let master = self.master.borrow();
            (master.incarnation(), master.state.table().epoch)
        };
        let welcome = |version| Welcome::of_master(version, incarnation, epoch);
        let deadline = self.platform.now() + PROGRESS_WITHIN;
        let hello = accept_hello(&mut self.reader, &mut self.writer, welcome);
        with_deadline(&self.platform, deadline, hello).await.ok_or_else(too_slow)??;
        self.master.borrow_mut().frames.count(Opcode::Hello);
        loop {
            let deadline = self.platform.now() + IDLE_MAX;
            let next = with_deadline(&self.platform, deadline, self.reader.header());
            let Some((header, checksum)) = next.await.ok_or_else(too_slow)?? else { return Ok(()) };
            let deadline = self.platform.now() + PROGRESS_WITHIN;
            let body = self.reader.body(&header, checksum, &mut self.body);
            with_deadline(&self.platform, deadline, body).await.ok_or_else(too_slow)??;
            let answer = match self.decide(&header) {
                Answer::Reported(orders, report) => Answer::Orders(self.remember(orders, &report).await),
                decided => decided,
            };
            let given = if let Answer::Table(epoch, _) = &answer { Some(*epoch) } else { None };
            self.answer(&header, answer).await?;
            if let Some((life, epoch)) = self.introduced.zip(given) {
                self.master.borrow_mut().state.note_told(life, epoch);
            }
        }
    }

    /// Has written down what a core keeps, if that is to be, together with what others do that report just now.
    async fn remember(&self, orders: Orders, report: &Report) -> Orders {
        if self.master.borrow().is_to_be_written(report) {
            self.platform.sleep(SHARED_WITHIN).await;
        }
        self.master.borrow_mut().remember(self.platform.now(), report, orders)
    }

    /// What to answer. All that the master does happens here, at one moment, but for the writing down of what cores keep.
    fn decide(&mut self, header: &Header) -> Answer {
        let now = self.platform.now();
        let mut master = self.master.borrow_mut();
        master.frames.count(header.opcode);
        if header.is_reply {
            return Answer::Broken(WireError::Value("reply flag of a request"));
        }
        match header.opcode {
            Opcode::Register => match Report::decode(&self.body) {
                Ok(report) => {
                    let life = (report.member.id, report.member.incarnation);
                    let result = match self.introduced.replace(life) {
                        Some(introduced) if introduced == life => master.state.register(now, &report),
                        _ => master.state.introduce(now, &report),
                    };
                    match result {
                        Ok(orders) => Answer::Reported(orders, report),
                        Err(error) => Answer::Refused(refusal_of(error), error.to_string()),
                    }
                }
                Err(error) => Answer::Broken(error),
            },
            Opcode::Heartbeat | Opcode::Leave => match Report::decode(&self.body) {
                Ok(report) if header.opcode == Opcode::Leave => {
                    Answer::Orders(master.state.leave(now, &report))
                }
                Ok(report) => Answer::Reported(master.state.heartbeat(now, &report), report),
                Err(error) => Answer::Broken(error),
            },
            Opcode::OfferTable => match RoutingTable::decode(&self.body) {
                Ok(table) => match master.offer_table(now, table) {
                    Ok(_) => Answer::Orders(master.state.orders_of_offer()),
                    Err(error) => Answer::Refused(Refusal::BadFrame, error.to_string()),
                },
                Err(error) => Answer::Broken(error),
            },
            Opcode::Table => Answer::Table(master.state.table().epoch, master.state.table_bytes()),
            Opcode::Hello => Answer::Broken(WireError::Value("second hello")),
            _ => {
                master.frames.data_frames_refused += 1;
                let sentence = "the master does not hold data: ask the home core of the key".to_owned();
                Answer::Refused(Refusal::WrongRole, sentence)
            }
        }
    }

    async fn answer(&mut self, header: &Header, answer: Answer) -> Result<(), FrameError> {
        let epoch = self.master.borrow().state.table().epoch;
        let deadline = self.platform.now() + PROGRESS_WITHIN;
        let writer = &mut self.writer;
        let mut broken = None;
        let writing = async {
            match answer {
                Answer::Orders(orders) | Answer::Reported(orders, _) => {
                    write_frame(writer, header.reply(epoch), bytemuck::bytes_of(&orders)).await
                }
                Answer::Table(epoch, bytes) => write_frame(writer, header.reply(epoch), &bytes).await,
                Answer::Refused(refusal, sentence) => {
                    write_refusal(writer, header, epoch, refusal, &sentence).await
                }
                Answer::Broken(error) => {
                    let sentence = error.to_string();
                    broken = Some(error);
                    write_refusal(writer, header, epoch, Refusal::BadFrame, &sentence).await
                }
            }
        };
        with_deadline(&self.platform, deadline, writing).await.ok_or_else(too_slow)??;
        if let Some(error) = broken {
            return Err(error.into());
        }
        self.skip_payload(header, deadline).await
    }

    /// Reads over the values of a refused put. A peer that sends more than a little is cut off.
    async fn skip_payload(
        &mut self,
        header: &Header,
        deadline: snowskin_io::Moment,
    ) -> Result<(), FrameError> {
        match header.payload_bytes {
            0 => Ok(()),
            count if count <= DISCARD_BYTES_MAX => {
                let skipped = with_deadline(&self.platform, deadline, self.reader.discard(count));
                skipped.await.ok_or_else(too_slow)?
            }
            _ => Err(FrameError::Cut),
        }
    }
}

fn refusal_of(error: RegisterError) -> Refusal {
    match error {
        RegisterError::Replaced(_) => Refusal::Stale,
        RegisterError::Full => Refusal::Overloaded,
        RegisterError::Address(_) | RegisterError::Core { .. } => Refusal::BadFrame,
    }
}

fn too_slow() -> FrameError {
    FrameError::Io(std::io::ErrorKind::TimedOut.into())
}
