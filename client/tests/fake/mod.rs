//! A cluster that does as it is told: real sockets and frames, a map for each core, and tricks for the next replies.
//!
//! It runs on a thread of its own. Tests reach its state by [`Fake::with`].

use snowskin_io::framing::{FrameReader, accept_hello};
use snowskin_io::sockets::{SocketsPlatform, SocketsReader, SocketsRuntime, SocketsWriter};
use snowskin_io::{ByteWriter, Listener, Platform, Stream};
use snowskin_protocol::table::NOBODY;
use snowskin_protocol::wire::data::{
    Batch, ItemReply, ItemStatus, KeyItem, PutHints, PutItem, RemoveMatching, RemovedStep,
};
use snowskin_protocol::wire::hello::Welcome;
use snowskin_protocol::wire::list::{KeyPage, KeyPageWriter, ListKeys, ListedKey};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::wire::{Header, Opcode, Refusal};
use snowskin_protocol::{
    Checksum, CoreId, EngineId, Epoch, Incarnation, Member, MissReason, NameRef, RoutingTable, Version,
};
use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What a core does instead of answering the next data frame properly.
pub(crate) enum Trick {
    /// Answers all items with this status.
    Status(ItemStatus),
    /// Answers the first item, and defers the others.
    DeferRest,
    /// Refuses the frame.
    Refuse(Refusal),
    /// Changes the bytes of the whole reply frame.
    Change(fn(&mut Vec<u8>)),
    /// Sends so many bytes of the reply and closes the connection.
    CutAt(usize),
    /// Sends so many bytes of the reply and then nothing, ever.
    FreezeAt(usize),
    /// Sends so many bytes of the reply, and the rest after a pause.
    PauseAt(usize, Duration),
}

/// A core.
#[derive(Default)]
pub(crate) struct Core {
    /// Values by name, with their versions.
    pub(crate) held: HashMap<Vec<u8>, (Vec<u8>, Version)>,
    /// What was said of values when they were put, by name.
    pub(crate) hints: HashMap<Vec<u8>, PutHints>,
    /// Names whose bytes are at another core.
    pub(crate) elsewhere: HashMap<Vec<u8>, (CoreId, Version)>,
    /// For the next data frames.
    pub(crate) tricks: VecDeque<Trick>,
    /// What it was asked, without hello and table.
    pub(crate) asked: Vec<Opcode>,
    /// Names that it was told to forget.
    pub(crate) forgotten: Vec<(Vec<u8>, Version)>,
    /// Connections accepted.
    pub(crate) accepted: usize,
    /// Tables that it answers with, one after the other, before it has heard of the newest.
    pub(crate) known: VecDeque<RoutingTable>,
}

/// All cores and the table.
pub(crate) struct World {
    /// What the cores answer, and whom they take for a slot's home.
    pub(crate) table: RoutingTable,
    /// By number.
    pub(crate) cores: Vec<Core>,
}

/// A running cluster; it ends with its handle.
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    /// Where the cores listen, whether members or not.
    pub(crate) addresses: Vec<SocketAddr>,
    stop: Option<thread::Stop>,
}

/// The end of the cluster's thread, without naming its runtime.
mod thread {
    use futures_channel::oneshot;
    use std::thread::JoinHandle;

    pub(crate) struct Stop {
        pub(crate) sender: oneshot::Sender<()>,
        pub(crate) thread: JoinHandle<()>,
    }
}

pub(crate) fn core_id(core: u16) -> CoreId {
    CoreId { engine: EngineId(7), core }
}

impl Fake {
    /// So many cores that listen, of which the first `members` are in the table.
    pub(crate) fn start(cores: u16, members: u16) -> Self {
        let (sent, received) = mpsc::channel();
        let (sender, stopped) = futures_channel::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = SocketsRuntime::new(Duration::ZERO).unwrap();
            runtime.run(move |platform| async move {
                let mut listeners = Vec::new();
                for _ in 0..cores {
                    listeners.push(platform.listen("127.0.0.1:0".parse().unwrap()).await.unwrap());
                }
                let addresses: Vec<_> = listeners.iter().map(Listener::local_address).collect();
                let table = table_of(Epoch(1), &addresses[..usize::from(members)]);
                let cores = (0..cores).map(|_| Core::default()).collect();
                let world = Arc::new(Mutex::new(World { table, cores }));
                for (core, listener) in listeners.into_iter().enumerate() {
                    platform.spawn(accept_all(platform.clone(), listener, core as u16, world.clone()));
                }
                sent.send((world, addresses)).unwrap();
                let _ = stopped.await;
            });
        });
        let (world, addresses) = received.recv().unwrap();
        Fake { world, addresses, stop: Some(thread::Stop { sender, thread }) }
    }

    /// Looks at the cluster, or changes it.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        change(&mut self.world.lock().unwrap())
    }

    /// Gives all slots to cores `members` under the next epoch.
    pub(crate) fn move_slots_to(&self, members: &[u16]) {
        self.with(|world| {
            let addresses: Vec<_> = members.iter().map(|core| self.addresses[usize::from(*core)]).collect();
            let mut table = table_of(world.table.epoch.next(), &addresses);
            for (member, core) in table.members.iter_mut().zip(members) {
                member.id = core_id(*core);
            }
            world.table = table;
        });
    }

    /// What a core does next.
    pub(crate) fn trick(&self, core: usize, trick: Trick) {
        self.with(|world| world.cores[core].tricks.push_back(trick));
    }

    /// Data frames that a core was asked.
    pub(crate) fn asked(&self, core: usize) -> Vec<Opcode> {
        self.with(|world| world.cores[core].asked.clone())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            drop(stop.sender);
            stop.thread.join().unwrap();
        }
    }
}

fn table_of(epoch: Epoch, addresses: &[SocketAddr]) -> RoutingTable {
    let mut table = RoutingTable::empty();
    table.epoch = epoch;
    let member = |(core, address): (usize, &SocketAddr)| Member {
        id: core_id(core as u16),
        incarnation: Incarnation(1),
        address: *address,
        weight: 1,
    };
    table.members = addresses.iter().enumerate().map(member).collect();
    let home = |slot: u16| if addresses.is_empty() { NOBODY } else { slot % addresses.len() as u16 };
    table.homes = (0..=u16::MAX).map(home).collect();
    table
}

async fn accept_all<L>(platform: SocketsPlatform, mut listener: L, core: u16, world: Arc<Mutex<World>>)
where
    L: Listener<Stream = snowskin_io::sockets::SocketsStream>,
{
    while let Ok((stream, _)) = listener.accept().await {
        world.lock().unwrap().cores[usize::from(core)].accepted += 1;
        let (reader, writer) = stream.split();
        platform.spawn(serve(platform.clone(), FrameReader::new(reader), writer, core, world.clone()));
    }
}

async fn serve(
    platform: SocketsPlatform,
    mut reader: FrameReader<SocketsReader>,
    mut writer: SocketsWriter,
    core: u16,
    world: Arc<Mutex<World>>,
) {
    let epoch = world.lock().unwrap().table.epoch;
    let welcome = |version| Welcome::of_core(version, core_id(core), Incarnation(1), epoch);
    if accept_hello(&mut reader, &mut writer, welcome).await.is_err() {
        return;
    }
    let mut body = Vec::new();
    while let Ok(Some((header, checksum))) = reader.header().await {
        if reader.body(&header, checksum, &mut body).await.is_err() {
            break;
        }
        let mut payload = vec![0; header.payload_bytes as usize];
        if reader.payload(&mut payload).await.is_err() {
            break;
        }
        let (reply, trick) = world.lock().unwrap().answer(core, &header, &body, &payload);
        match trick {
            Some(Trick::CutAt(bytes)) => {
                write_all(&mut writer, &reply[..bytes]).await;
                break;
            }
            Some(Trick::FreezeAt(bytes)) => {
                write_all(&mut writer, &reply[..bytes]).await;
                std::future::pending::<()>().await;
            }
            Some(Trick::PauseAt(bytes, pause)) => {
                write_all(&mut writer, &reply[..bytes]).await;
                platform.sleep(pause).await;
                write_all(&mut writer, &reply[bytes..]).await;
            }
            _ => write_all(&mut writer, &reply).await,
        }
    }
    writer.shutdown();
}

async fn write_all(writer: &mut SocketsWriter, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match writer.write(&[IoSlice::new(bytes)]).await {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => return,
        }
    }
}

impl World {
    /// The bytes of the reply, and a trick to play with them.
    fn answer(
        &mut self,
        core: u16,
        header: &Header,
        body: &[u8],
        payload: &[u8],
    ) -> (Vec<u8>, Option<Trick>) {
        let mut reply = header.reply(self.table.epoch);
        let (mut reply_body, mut values) = (Vec::new(), Vec::new());
        if header.opcode == Opcode::Table {
            let known = self.cores[usize::from(core)].known.pop_front();
            known.as_ref().unwrap_or(&self.table).encode(&mut reply_body);
            return (frame(reply, &reply_body, &values), None);
        }
        self.cores[usize::from(core)].asked.push(header.opcode);
        let trick = match header.opcode {
            Opcode::Forget => None,
            _ => self.cores[usize::from(core)].tricks.pop_front(),
        };
        match (header.opcode, &trick) {
            (_, Some(Trick::Refuse(refusal))) => {
                reply.refusal = Some(*refusal);
                reply_body.extend_from_slice(b"because");
            }
            (Opcode::Stats, _) => {
                let stats = CoreStats {
                    objects: self.cores[usize::from(core)].held.len() as u64,
                    ..CoreStats::default()
                };
                reply_body.extend_from_slice(bytemuck::bytes_of(&stats));
            }
            (Opcode::RemoveMatching, _) => {
                let request = RemoveMatching::decode(body).unwrap();
                let is_last = request.cursor == 3;
                let cursor = if is_last { RemovedStep::DONE } else { request.cursor + 1 };
                let step = RemovedStep { cursor, leased: 1, removed: 2 };
                reply_body.extend_from_slice(bytemuck::bytes_of(&step));
            }
            (Opcode::ListKeys, _) => reply_body = self.list(core, body),
            _ => {
                for item in self.items(core, header, body, payload, &trick) {
                    item.0.encode(&mut reply_body);
                    values.extend_from_slice(&item.1);
                    reply.items += 1;
                }
            }
        }
        let mut reply = frame(reply, &reply_body, &values);
        if let Some(Trick::Change(change)) = &trick {
            change(&mut reply);
        }
        (reply, trick)
    }

    fn items(
        &mut self,
        core: u16,
        header: &Header,
        body: &[u8],
        payload: &[u8],
        trick: &Option<Trick>,
    ) -> Vec<(ItemReply, Vec<u8>)> {
        let mut answered = Vec::new();
        if header.opcode.request_has_payload() {
            let mut rest = payload;
            for (item, name) in Batch::<PutItem>::decode(header.items, body).unwrap().iter() {
                let (value, behind) = rest.split_at(item.value_bytes as usize);
                rest = behind;
                let reply = match trick {
                    Some(Trick::Status(status)) => ItemReply::status(*status),
                    _ => self.put(core, header.opcode, item, name, value),
                };
                answered.push((reply, Vec::new()));
            }
            return answered;
        }
        for (index, (item, name)) in Batch::<KeyItem>::decode(header.items, body).unwrap().iter().enumerate()
        {
            let (reply, value) = match trick {
                Some(Trick::Status(status)) => (ItemReply::status(*status), Vec::new()),
                Some(Trick::DeferRest) if index > 0 => (ItemReply::status(ItemStatus::Deferred), Vec::new()),
                _ => self.key(core, header.opcode, item, name),
            };
            answered.push((reply, value));
            let is_held = matches!(reply.status, ItemStatus::Ok | ItemStatus::Elsewhere);
            if header.opcode == Opcode::MatchPrefix && !is_held {
                break;
            }
        }
        answered
    }

    /// Keys that contain the pattern, three at a time.
    fn list(&self, core: u16, body: &[u8]) -> Vec<u8> {
        let request = ListKeys::decode(body).unwrap();
        if request.pattern == "garbled" {
            return b"no page".to_vec();
        }
        let held = &self.cores[usize::from(core)].held;
        let mut names: Vec<NameRef<'_>> = held.keys().map(|name| NameRef::known(name)).collect();
        names.sort_by_key(|name| name.bytes());
        let mut page = KeyPageWriter::default();
        let end = names.len().min(request.cursor as usize + 3);
        let mut at = request.cursor as usize;
        let is_greedy = request.pattern == "greedy";
        while at < end && (page.count() < request.keys_max || is_greedy) {
            let (name, pattern) = (names[at], request.pattern.as_bytes());
            let is_found =
                pattern.is_empty() || name.key().windows(pattern.len()).any(|part| part == pattern);
            if (is_found || is_greedy) && name.tenant() == request.tenant {
                page.push(ListedKey { key: name.key(), value_bytes: held[name.bytes()].0.len() as u64 });
            }
            at += 1;
        }
        page.finish(if at == names.len() { KeyPage::DONE } else { at as u32 })
    }

    fn is_home(&self, core: u16, name: NameRef<'_>) -> bool {
        self.table.home(name.slot()).is_some_and(|member| member.id == core_id(core))
    }

    fn put(
        &mut self,
        core: u16,
        opcode: Opcode,
        item: PutItem,
        name: NameRef<'_>,
        value: &[u8],
    ) -> ItemReply {
        if !self.is_home(core, name) {
            return ItemReply::status(ItemStatus::WrongHome);
        }
        if Checksum::of(value) != item.checksum {
            return ItemReply::status(ItemStatus::ChecksumMismatch);
        }
        let Core { held, hints, .. } = &mut self.cores[usize::from(core)];
        if opcode == Opcode::Put && held.contains_key(name.bytes()) {
            return ItemReply::status(ItemStatus::Exists);
        }
        hints.insert(name.bytes().to_vec(), item.hints);
        held.insert(name.bytes().to_vec(), (value.to_vec(), Version(1)));
        ItemReply::status(ItemStatus::Ok)
    }

    fn key(&mut self, core: u16, opcode: Opcode, item: KeyItem, name: NameRef<'_>) -> (ItemReply, Vec<u8>) {
        let is_home = self.is_home(core, name);
        let state = &mut self.cores[usize::from(core)];
        if opcode == Opcode::Forget {
            state.elsewhere.remove(name.bytes());
            state.forgotten.push((name.bytes().to_vec(), item.version));
            return (ItemReply::status(ItemStatus::Ok), Vec::new());
        }
        if item.version == Version::ANY && !is_home {
            return (ItemReply::status(ItemStatus::WrongHome), Vec::new());
        }
        if let Some((holder, version)) = state.elsewhere.get(name.bytes()) {
            let reply =
                ItemReply { holder: *holder, version: *version, ..ItemReply::status(ItemStatus::Elsewhere) };
            return (reply, Vec::new());
        }
        let wanted = |version: Version| item.version == Version::ANY || item.version == version;
        let Some((value, version)) = state.held.get(name.bytes()).filter(|held| wanted(held.1)).cloned()
        else {
            return (ItemReply::miss(MissReason::Evicted), Vec::new());
        };
        let reply = ItemReply {
            value_bytes: value.len() as u64,
            checksum: Checksum::of(&value),
            version,
            ..ItemReply::status(ItemStatus::Ok)
        };
        if opcode == Opcode::Remove {
            if item.flags & KeyItem::FORCE == 0 && value == b"leased" {
                return (ItemReply::status(ItemStatus::Leased), Vec::new());
            }
            state.held.remove(name.bytes());
        }
        (reply, if opcode == Opcode::Get { value } else { Vec::new() })
    }
}

fn frame(mut header: Header, body: &[u8], values: &[u8]) -> Vec<u8> {
    header.payload_bytes = values.len() as u64;
    [&header.encode(body)[..], body, values].concat()
}
