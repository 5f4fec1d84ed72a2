//! What a cluster looks like, in a table.

use snowskin_client::{BlockingClient, CoreStats, Error, Member};
use snowskin_protocol::ByteSize;
use std::fmt::Write;

/// A line a core, and the sum.
pub(crate) fn status(client: &BlockingClient) -> Result<String, Error> {
    let cores = client.stats()?;
    let epoch = client.table()?.epoch;
    let mut text = format!("epoch {epoch}, {} cores\n", cores.len());
    let mut sum = CoreStats::default();
    row(
        &mut text,
        ["core", "address", "slots", "objects", "elsewhere", "used", "of", "hit rate"].map(String::from),
    );
    for (member, stats) in &cores {
        match stats {
            Ok(stats) => {
                sum.add(stats);
                row(&mut text, cells(member.id.to_string(), member.address.to_string(), stats));
            }
            Err(error) => row(&mut text, unreachable_cells(member, error)),
        }
    }
    row(&mut text, cells("all".to_owned(), String::new(), &sum));
    let moving = sum.slots_awaited + sum.slots_frozen;
    if moving > 0 {
        writeln!(text, "{moving} slots are changing hands").expect("a string takes all");
    }
    Ok(text)
}

/// A line a counter.
pub(crate) fn counters(client: &BlockingClient) -> Result<String, Error> {
    let mut sum = CoreStats::default();
    for (_, stats) in client.stats()? {
        sum.add(&stats?);
    }
    let lines = sum.named().into_iter().map(|(name, value)| format!("{name:<20} {value:>16}\n"));
    Ok(lines.collect())
}

fn cells(core: String, address: String, stats: &CoreStats) -> [String; 8] {
    let reads = stats.get_hits + stats.get_misses;
    let hit_rate = match reads {
        0 => "-".to_owned(),
        _ => format!("{:.1}%", stats.get_hits as f64 * 100.0 / reads as f64),
    };
    [
        core,
        address,
        stats.slots_served.to_string(),
        stats.objects.to_string(),
        stats.objects_elsewhere.to_string(),
        ByteSize(stats.capacity_bytes - stats.free_bytes).to_string(),
        ByteSize(stats.capacity_bytes).to_string(),
        hit_rate,
    ]
}

fn unreachable_cells(member: &Member, error: &Error) -> [String; 8] {
    let mut cells = [const { String::new() }; 8];
    (cells[0], cells[1], cells[2]) = (member.id.to_string(), member.address.to_string(), error.to_string());
    cells
}

fn row(text: &mut String, cells: [String; 8]) {
    let [core, address, slots, objects, elsewhere, used, of, hit_rate] = cells;
    let left = format!("{core:<12} {address:<21}");
    let right = format!("{slots:>6} {objects:>9} {elsewhere:>9} {used:>11} {of:>10} {hit_rate:>9}");
    writeln!(text, "{left} {right}").expect("a string takes all");
}
