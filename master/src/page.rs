//! The page at `/`: a snapshot for a person. Complete in itself, no script, nothing fetched from elsewhere; the browser
//! asks for it again every two seconds.
//!
//! Everything shown is a number, an address, an id or one of our own words, so nothing needs to be escaped.

use crate::view::{LoadView, Snapshot};
use snowskin_protocol::ByteSize;
use std::fmt::Write;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>Snowskin master</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color-scheme: light dark; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, td.word { text-align: left; }
.active { color: #2a8f3c; } .suspect, .joining, .leaving { color: #b8860b; } .dead { color: #c0392b; }
</style></head><body>
"#;

/// The page's HTML.
pub(crate) fn render(snapshot: &Snapshot) -> String {
    let mut html = String::from(HEAD);
    head(&mut html, snapshot).expect("a string takes everything");
    engines(&mut html, snapshot).expect("a string takes everything");
    members(&mut html, snapshot).expect("a string takes everything");
    frames(&mut html, snapshot).expect("a string takes everything");
    html.push_str("</body></html>\n");
    html
}

fn head(html: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let (table, settings) = (&snapshot.table, snapshot.settings);
    let percent = |permille: Option<u16>| f64::from(permille.unwrap_or(0)) / 10.0;
    writeln!(html, "<h1>Snowskin master</h1>")?;
    writeln!(
        html,
        "<p>Epoch <b>{}</b>, {} cores, up for {:.0} s. Slots: {} moving, {} rebuilt, {} without a home.<br>",
        table.epoch,
        table.members.len(),
        snapshot.uptime_s,
        table.moving_slots,
        table.lost_slots,
        table.homeless_slots
    )?;
    writeln!(
        html,
        "Eviction from {:.1} % down to {:.1} %, leases of {} ms.</p>",
        percent(settings.high_watermark_permille),
        percent(settings.low_watermark_permille),
        settings.lease_ms.unwrap_or(0)
    )
}

fn engines(html: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    writeln!(html, "<h2>Engines</h2><table><tr><th>engine<th>cores<th>slots{LOAD_HEAD}</tr>")?;
    for engine in &snapshot.engines {
        let (alive, cores) = (engine.cores_alive, engine.cores);
        write!(html, "<tr><td>{}<td>{alive} of {cores}<td>{}", engine.engine, engine.slots)?;
        load(html, &engine.load)?;
        writeln!(html, "</tr>")?;
    }
    writeln!(html, "</table>")
}

fn members(html: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    writeln!(
        html,
        "<h2>Cores</h2><table><tr><th>core<th>address<th>state<th>heard of<th>epoch<th>slots{LOAD_HEAD}</tr>"
    )?;
    for member in &snapshot.members {
        write!(
            html,
            "<tr><td>{}/{}<td class=word>{}<td class={state}>{state}<td>{:.1} s ago<td>{}<td>{}",
            member.engine,
            member.core,
            member.address,
            member.silence_s,
            member.epoch,
            member.slots,
            state = member.state
        )?;
        load(html, &member.load)?;
        writeln!(html, "</tr>")?;
    }
    writeln!(html, "</table>")
}

const LOAD_HEAD: &str = "<th>capacity<th>free<th>largest free<th>objects<th>p50<th>p99";

fn load(html: &mut String, load: &LoadView) -> std::fmt::Result {
    write!(
        html,
        "<td>{}<td>{}<td>{}<td>{}<td>{:.1} µs<td>{:.1} µs",
        ByteSize(load.capacity_bytes),
        ByteSize(load.free_bytes),
        ByteSize(load.free_range_bytes_max),
        load.objects,
        load.service_ns_p50 as f64 / 1000.0,
        load.service_ns_p99 as f64 / 1000.0
    )
}

fn frames(html: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let frames = &snapshot.frames;
    writeln!(html, "<h2>Frames</h2><table><tr><th>operation<th>count</tr>")?;
    for (opcode, count) in frames.by_opcode.iter().filter(|(_, count)| **count > 0) {
        writeln!(html, "<tr><td>{opcode}<td>{count}</tr>")?;
    }
    writeln!(html, "<tr><td>about data: refused<td>{}</tr>", frames.data_frames_refused)?;
    writeln!(html, "<tr><td>without sense<td>{}</tr></table>", frames.bad_frames)?;
    writeln!(html, "<p>{} connections.</p>", frames.connections)
}
