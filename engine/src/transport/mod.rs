//! How requests reach a core and answers leave it: frames, by TCP or shared memory, and lanes ([`lanes`]).
//!
//! ```text
//!   listener ──► connection ──► header, body ──┬─► answer ──► outbox ──► socket     get, lookup, remove, control
//!                     │                        └─► put: payload ──► extent ──► answer ──► outbox
//!                     └── one task reads; a second one writes what did not fit into the socket at once
//! ```
//!
//! A connection's requests are decided one after the other, in the order of arrival; their answers may overtake each
//! other only where an operation has to wait. Values go from the socket into their extent and from the extent into the
//! socket, with no buffer between.

mod answer;
mod connection;
pub(crate) mod lanes;
mod outbox;
mod put;

use crate::percore::{PerCore, count};
use snowskin_io::framing::{self, FrameReader, write_refusal};
use snowskin_io::{Accept, ByteWriter, Platform, Stream, with_deadline};
use snowskin_protocol::wire::Refusal;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of buffers that an idle connection keeps, at most: its reader's, a body's, and heads of replies.
pub const CONNECTION_BYTES: usize = framing::BUFFER_BYTES
    + connection::BODY_BYTES_KEPT_MAX
    + outbox::SPARE_HEADS_MAX * outbox::SPARE_HEAD_BYTES_MAX;
/// Time for a new connection to say hello.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Connections that are told at the same time that there are too many; more are closed without a word.
const TURNED_AWAY_MAX: u64 = 64;
/// Pause after a failed accept (no descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for as long as the core runs.
pub async fn accept<P: Platform>(core: Rc<PerCore<P>>, mut listener: impl Accept<Stream = P::Stream>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("core {}: cannot accept a connection: {error}", core.identity.id);
                core.platform.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if core.traffic.connections.get() < core.connections_max {
            let counted = connection::Counted::new(core.clone());
            core.platform.spawn(connection::serve(counted, stream, peer));
        } else {
            turn_away(&core, stream);
        }
    }
}

/// Says to one connection too many that it is one too many; when many of them come at once, to some of them.
fn turn_away<P: Platform>(core: &Rc<PerCore<P>>, stream: P::Stream) {
    count(&core.traffic.frames_refused);
    let turned_away = core.traffic.turned_away.get();
    if turned_away < TURNED_AWAY_MAX {
        core.traffic.turned_away.set(turned_away + 1);
        core.platform.spawn(say_overloaded(core.clone(), stream));
    }
}

async fn say_overloaded<P: Platform>(core: Rc<PerCore<P>>, stream: P::Stream) {
    let (reader, mut writer) = stream.split();
    let mut reader = FrameReader::new(reader);
    let refuse = async {
        if let Ok(Some((hello, _))) = reader.header().await {
            let sentence =
                format!("this core serves {} connections already: try again later", core.connections_max);
            // The peer may be gone already, which is all the same.
            let _ = write_refusal(&mut writer, &hello, core.epoch(), Refusal::Overloaded, &sentence).await;
        }
    };
    with_deadline(&core.platform, core.platform.now() + HELLO_TIME, refuse).await;
    writer.shutdown();
    core.traffic.turned_away.set(core.traffic.turned_away.get() - 1);
}
