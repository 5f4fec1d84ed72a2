//! What the tests of several modules need.

use snowskin_io::Moment;
use snowskin_protocol::wire::control::{Load, Report};
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member};

/// A core of an engine in its first life.
pub(crate) fn member(engine: u64, core: u16, weight: u32) -> Member {
    let port = 10_000 + (engine as u16 % 100) * 100 + core % 100;
    Member {
        id: CoreId { engine: EngineId(engine), core },
        incarnation: Incarnation(1),
        address: format!("127.0.0.1:{port}").parse().expect("an address"),
        weight,
    }
}

/// What that core says of itself, if its engine has `engine_cores`.
pub(crate) fn report(engine: u64, core: u16, engine_cores: u16) -> Report {
    let load = Load { capacity_bytes: 1 << 20, free_bytes: 1 << 19, ..Load::default() };
    Report {
        member: member(engine, core, 64),
        engine_cores,
        epoch: Epoch(0),
        slots_moving: 0,
        keeps: false,
        load,
    }
}

/// The same core in another life.
pub(crate) fn in_life(mut report: Report, incarnation: u64) -> Report {
    report.member.incarnation = Incarnation(incarnation);
    report
}

/// The same report of a core that has a table.
pub(crate) fn at_epoch(mut report: Report, epoch: Epoch) -> Report {
    report.epoch = epoch;
    report
}

/// Milliseconds after the tests' clock began.
pub(crate) fn at(ms: u64) -> Moment {
    Moment(1_000_000_000 + ms * 1_000_000)
}
