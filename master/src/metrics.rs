//! A snapshot in the text format that Prometheus reads.
//!
//! The registry is made anew for every scrape: the figures live in the master's state, and a second copy of them could
//! only be wrong.

use crate::membership::MemberState;
use crate::view::{LoadView, Snapshot};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;

/// A gauge of bytes: signed ones would turn over at half of what a peer may claim.
type Bytes = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOpcode {
    opcode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCore {
    engine: String,
    core: u16,
}

/// The text of a scrape.
pub(crate) fn render(snapshot: &Snapshot) -> String {
    let mut registry = Registry::with_prefix("snowskin");
    register_master(&mut registry, snapshot);
    register_frames(&mut registry, snapshot);
    register_cores(&mut registry, snapshot);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    text
}

fn register_master(registry: &mut Registry, snapshot: &Snapshot) {
    let settings = snapshot.settings;
    gauge(registry, "master_epoch", "Epoch of the routing table", snapshot.table.epoch);
    gauge(registry, "master_uptime_seconds", "Since the master started", snapshot.uptime_s as u64);
    gauge(registry, "master_connections", "Connections now open", snapshot.frames.connections);
    let moving = u64::from(snapshot.table.moving_slots);
    gauge(registry, "master_moving_slots", "Slots taken over from a core that is there", moving);
    let lost = u64::from(snapshot.table.lost_slots);
    gauge(
        registry,
        "master_lost_slots",
        "Slots whose entries went with a core that died, but for what its heir found",
        lost,
    );
    let homeless = u64::from(snapshot.table.homeless_slots);
    gauge(registry, "master_homeless_slots", "Slots without a home", homeless);
    let high = settings.high_watermark_permille.unwrap_or(0).into();
    gauge(registry, "master_high_watermark_permille", "Fill level that starts eviction", high);
    let low = settings.low_watermark_permille.unwrap_or(0).into();
    gauge(registry, "master_low_watermark_permille", "Fill level that stops eviction", low);
    let lease = settings.lease_ms.unwrap_or(0).into();
    gauge(registry, "master_lease_milliseconds", "Protection after a read", lease);
    let members = Family::<ByState, Bytes>::default();
    for state in MemberState::ALL {
        let count = snapshot.members_in(state) as u64;
        members.get_or_create(&ByState { state: state.name() }).set(count);
    }
    registry.register("master_members", "Cores by state", members);
    counter(registry, "master_ledger_writes", "Writes of the ledger", snapshot.ledger_writes);
    counter(registry, "master_ledger_errors", "Failed writes of the ledger", snapshot.ledger_errors);
}

fn register_frames(registry: &mut Registry, snapshot: &Snapshot) {
    let counts = &snapshot.frames;
    let frames = Family::<ByOpcode, Counter>::default();
    for (opcode, &count) in &counts.by_opcode {
        frames.get_or_create(&ByOpcode { opcode: opcode.clone() }).inc_by(count);
    }
    registry.register("master_frames", "Frames by operation, answered or refused", frames);
    let refused = counts.data_frames_refused;
    counter(registry, "master_data_frames_refused", "Frames about data, all of them refused", refused);
    counter(registry, "master_bad_frames", "Frames that made no sense", counts.bad_frames);
    let refused = counts.connections_refused;
    counter(registry, "master_connections_refused", "Connections beyond the limit", refused);
}

fn register_cores(registry: &mut Registry, snapshot: &Snapshot) {
    type Figure = (&'static str, &'static str, fn(&LoadView) -> u64);
    const FIGURES: [Figure; 6] = [
        ("core_capacity_bytes", "Bytes of its segments", |load| load.capacity_bytes),
        ("core_free_bytes", "Bytes not allocated", |load| load.free_bytes),
        ("core_free_range_bytes_max", "Largest value without eviction", |load| load.free_range_bytes_max),
        ("core_objects", "Objects it holds", |load| load.objects),
        ("core_service_nanoseconds_p50", "Median service time", |load| load.service_ns_p50),
        ("core_service_nanoseconds_p99", "99th percentile of it", |load| load.service_ns_p99),
    ];
    let alive = || snapshot.members.iter().filter(|member| member.state != MemberState::Dead.name());
    let labels = |engine: &String, core| ByCore { engine: engine.clone(), core };
    for (name, help, figure) in FIGURES {
        let family = Family::<ByCore, Bytes>::default();
        for member in alive() {
            family.get_or_create(&labels(&member.engine, member.core)).set(figure(&member.load));
        }
        registry.register(name, help, family);
    }
    let slots = Family::<ByCore, Bytes>::default();
    for member in alive() {
        slots.get_or_create(&labels(&member.engine, member.core)).set(member.slots.into());
    }
    registry.register("core_slots", "Slots whose home it is", slots);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Bytes::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}
