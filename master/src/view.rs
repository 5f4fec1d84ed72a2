//! What a master knows, copied out for people and programs that look at it. The shapes here are the admin API's.

use crate::master::Master;
use crate::membership::{MemberRow, MemberState};
use crate::settings::SettingsChange;
use serde::Serialize;
use snowskin_io::Moment;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::control::Load;
use snowskin_protocol::{CoreId, EngineId, RoutingTable, SLOT_COUNT};
use std::collections::BTreeMap;

/// Everything, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The master's life, drawn at random when it started.
    pub incarnation: String,
    /// Seconds since then.
    pub uptime_s: f64,
    /// The table in force.
    pub table: TableView,
    /// All cores, the dead of the last minutes among them.
    pub members: Vec<MemberView>,
    /// The same by engine.
    pub engines: Vec<EngineView>,
    /// The settings in force.
    pub settings: SettingsChange,
    /// What was asked.
    pub frames: FramesView,
    /// Times that the ledger was written.
    pub ledger_writes: u64,
    /// Attempts to write the ledger that failed.
    pub ledger_errors: u64,
}

/// The routing table, counted.
#[derive(Clone, Debug, Serialize)]
pub struct TableView {
    /// Its epoch; 0: no table yet.
    pub epoch: u64,
    /// Its members, in its order.
    pub members: Vec<TableMemberView>,
    /// Slots without a home: all, while there is no member with a weight.
    pub homeless_slots: u32,
    /// Slots whose home takes (or took: the master is not told when it is done) the entries over from a core that is
    /// still there.
    pub moving_slots: u32,
    /// Slots whose entries went with a core that died, but for what it has left on its volume to an heir.
    pub lost_slots: u32,
}

/// A member of the table.
#[derive(Clone, Debug, Serialize)]
pub struct TableMemberView {
    /// Engine and number, as in the log.
    pub core: String,
    /// Where it listens.
    pub address: String,
    /// Its share, in MiB; 0: it leaves, or only lends memory.
    pub weight: u32,
    /// Slots whose home it is.
    pub slots: u32,
    /// Slots whose entries are taken over from it.
    pub slots_moving_away: u32,
}

/// A core.
#[derive(Clone, Debug, Serialize)]
pub struct MemberView {
    /// Its engine.
    pub engine: String,
    /// Its number in the engine.
    pub core: u16,
    /// Its engine's life.
    pub incarnation: String,
    /// Where it listens.
    pub address: String,
    /// joining, active, suspect, leaving or dead.
    pub state: &'static str,
    /// The share it asks for, in MiB.
    pub weight: u32,
    /// Slots whose home it is.
    pub slots: u32,
    /// Whether what it answers from is on its volume: then its next life may find it there.
    pub keeps: bool,
    /// The newest table it said it has.
    pub epoch: u64,
    /// Seconds since it was last heard of.
    pub silence_s: f64,
    /// How full it is.
    #[serde(flatten)]
    pub load: LoadView,
}

/// How full a core or an engine is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LoadView {
    /// Bytes of its segments.
    pub capacity_bytes: u64,
    /// Bytes not allocated.
    pub free_bytes: u64,
    /// The largest value it could take without evicting anything.
    pub free_range_bytes_max: u64,
    /// Objects it holds.
    pub objects: u64,
    /// Median service time; of an engine: the highest of its cores'.
    pub service_ns_p50: u64,
    /// 99th percentile of it; of an engine: the highest of its cores'.
    pub service_ns_p99: u64,
}

/// An engine: the sum of its cores.
#[derive(Clone, Debug, Serialize)]
pub struct EngineView {
    /// Which engine.
    pub engine: String,
    /// Cores it said it has.
    pub cores: u16,
    /// Cores that are known and not dead.
    pub cores_alive: u16,
    /// Slots whose homes they are.
    pub slots: u32,
    /// How full they are; the dead do not count.
    #[serde(flatten)]
    pub load: LoadView,
}

/// Frames and connections.
#[derive(Clone, Debug, Serialize)]
pub struct FramesView {
    /// Frames of each operation, answered or refused.
    pub by_opcode: BTreeMap<String, u64>,
    /// Frames about data: all of them refused.
    pub data_frames_refused: u64,
    /// Frames that made no sense.
    pub bad_frames: u64,
    /// Connections now open.
    pub connections: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
}

impl Snapshot {
    /// What `master` knows at `now`.
    pub fn of(master: &Master, now: Moment) -> Self {
        let table = master.state.table();
        let slots = slots_of(table, &table.homes);
        let rows = || master.state.membership().rows();
        let slots_of_row = |row: &MemberRow| slots.get(&row.member.id).copied().unwrap_or(0);
        let keeps = |row: &MemberRow| master.state.kept().contains(&row.member.life());
        let mut engines: BTreeMap<EngineId, EngineView> = BTreeMap::new();
        for row in rows() {
            let engine = row.member.id.engine;
            let view = engines.entry(engine).or_insert_with(|| EngineView::empty(engine));
            view.add(row, slots_of_row(row));
        }
        Snapshot {
            incarnation: format!("{:016x}", master.incarnation().0),
            uptime_s: (now - master.started()).as_secs_f64(),
            table: TableView::of(table, &slots),
            members: rows().map(|row| MemberView::of(row, slots_of_row(row), keeps(row), now)).collect(),
            engines: engines.into_values().collect(),
            settings: master.state.settings().into(),
            frames: FramesView::of(master),
            ledger_writes: master.ledger_writes,
            ledger_errors: master.ledger_errors,
        }
    }

    /// Members in a state.
    pub fn members_in(&self, state: MemberState) -> usize {
        self.members.iter().filter(|member| member.state == state.name()).count()
    }
}

impl TableView {
    fn of(table: &RoutingTable, slots: &BTreeMap<CoreId, u32>) -> Self {
        let moving_away = slots_of(table, &table.origins);
        let of = |counts: &BTreeMap<CoreId, u32>, id| counts.get(&id).copied().unwrap_or(0);
        let members = table.members.iter().map(|member| TableMemberView {
            core: member.id.to_string(),
            address: member.address.to_string(),
            weight: member.weight,
            slots: of(slots, member.id),
            slots_moving_away: of(&moving_away, member.id),
        });
        let count = |column: &[u16], value| column.iter().filter(|&&entry| entry == value).count() as u32;
        let is_former = |entry: &&u16| **entry < LOST && usize::from(**entry) >= table.members.len();
        let former_slots = table.origins.iter().filter(is_former).count() as u32;
        let (new, lost_slots) = (count(&table.origins, NOBODY), count(&table.origins, LOST) + former_slots);
        TableView {
            epoch: table.epoch.0,
            members: members.collect(),
            homeless_slots: count(&table.homes, NOBODY),
            moving_slots: SLOT_COUNT as u32 - new - lost_slots,
            lost_slots,
        }
    }
}

impl MemberView {
    fn of(row: &MemberRow, slots: u32, keeps: bool, now: Moment) -> Self {
        MemberView {
            engine: row.member.id.engine.to_string(),
            core: row.member.id.core,
            incarnation: format!("{:016x}", row.member.incarnation.0),
            address: row.member.address.to_string(),
            state: row.state.name(),
            weight: row.member.weight,
            slots,
            keeps,
            epoch: row.epoch.0,
            silence_s: (now - row.last_seen).as_secs_f64(),
            load: LoadView::from(row.load),
        }
    }
}

impl From<Load> for LoadView {
    fn from(load: Load) -> Self {
        LoadView {
            capacity_bytes: load.capacity_bytes,
            free_bytes: load.free_bytes,
            free_range_bytes_max: load.free_range_bytes_max,
            objects: load.objects,
            service_ns_p50: load.service_ns_p50,
            service_ns_p99: load.service_ns_p99,
        }
    }
}

impl EngineView {
    fn empty(engine: EngineId) -> Self {
        EngineView {
            engine: engine.to_string(),
            cores: 0,
            cores_alive: 0,
            slots: 0,
            load: LoadView::default(),
        }
    }

    fn add(&mut self, row: &MemberRow, slots: u32) {
        self.cores = self.cores.max(row.engine_cores);
        self.slots += slots;
        if row.state == MemberState::Dead {
            return;
        }
        self.cores_alive += 1;
        let (sum, load) = (&mut self.load, row.load);
        // A core may claim anything, and must not be able to stop us with an overflow.
        sum.capacity_bytes = sum.capacity_bytes.saturating_add(load.capacity_bytes);
        sum.free_bytes = sum.free_bytes.saturating_add(load.free_bytes);
        sum.free_range_bytes_max = sum.free_range_bytes_max.max(load.free_range_bytes_max);
        sum.objects = sum.objects.saturating_add(load.objects);
        sum.service_ns_p50 = sum.service_ns_p50.max(load.service_ns_p50);
        sum.service_ns_p99 = sum.service_ns_p99.max(load.service_ns_p99);
    }
}

impl FramesView {
    fn of(master: &Master) -> Self {
        let frames = &master.frames;
        FramesView {
            by_opcode: frames.by_opcode().map(|(opcode, count)| (name(opcode), count)).collect(),
            data_frames_refused: frames.data_frames_refused,
            bad_frames: frames.bad_frames,
            connections: frames.connections,
            connections_refused: frames.connections_refused,
        }
    }
}

/// How often each member stands in a column of the table.
fn slots_of(table: &RoutingTable, column: &[u16]) -> BTreeMap<CoreId, u32> {
    let mut counts = vec![0; table.members.len()];
    for &index in column {
        if let Some(count) = counts.get_mut(usize::from(index)) {
            *count += 1;
        }
    }
    table.members.iter().map(|member| member.id).zip(counts).collect()
}

/// `OfferTable` → `offer_table`.
fn name(opcode: Opcode) -> String {
    let mut name = String::new();
    for letter in format!("{opcode:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, report};
    use crate::{MasterConfig, Timing};
    use snowskin_protocol::Incarnation;

    #[test]
    fn engines_are_the_sums_of_their_cores() {
        let timing = Timing { quiet: std::time::Duration::ZERO, ..Timing::default() };
        let config = MasterConfig { timing, ..MasterConfig::default() };
        let mut master = Master::open(at(0), Incarnation(1), &config).unwrap();
        for (engine, core) in [(1, 0), (1, 1), (2, 0)] {
            master.state.register(at(10), &report(engine, core, 3 - engine as u16)).unwrap();
        }
        assert!(master.tick(at(20)));
        let snapshot = Snapshot::of(&master, at(1_010));
        assert_eq!(snapshot.uptime_s, 1.01);
        let cores: Vec<_> = snapshot.engines.iter().map(|e| (e.cores, e.cores_alive)).collect();
        assert_eq!(cores, [(2, 2), (1, 1)]);
        assert_eq!(snapshot.engines.iter().map(|e| e.slots).sum::<u32>(), SLOT_COUNT as u32);
        assert_eq!(snapshot.engines[0].load.capacity_bytes, 2 << 20);
        assert_eq!(snapshot.members_in(MemberState::Active), 3);
        assert!(snapshot.members.iter().all(|member| member.silence_s == 1.0));
        assert_eq!((snapshot.table.moving_slots, snapshot.table.lost_slots), (0, 0));
    }

    #[test]
    fn operations_are_named_like_metrics() {
        assert_eq!(name(Opcode::OfferTable), "offer_table");
        assert_eq!(name(Opcode::Put), "put");
    }
}
