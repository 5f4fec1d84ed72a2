//! Passing an operator's requests on to the cores that they are for, and their answers back.

use futures_util::future::join_all;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::{CoreId, Epoch, Member};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a core may take: huge pages of a large segment are filled at a few GiB a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// Which cores a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them.
    All,
    /// All of an engine, as it is shown.
    Engine(String),
    /// One, as it is shown.
    Core(String),
}

impl Which {
    fn is(&self, core: CoreId) -> bool {
        match self {
            Which::All => true,
            Which::Engine(engine) => core.engine.to_string() == *engine,
            Which::Core(id) => core.to_string() == *id,
        }
    }
}

/// What each core that was asked has answered, by its id. Those that could not be asked have a refusal that says why.
pub(crate) async fn ask<P: Platform>(
    platform: P,
    members: Vec<Member>,
    which: Which,
    request: AdminRequest,
) -> BTreeMap<String, AdminReply> {
    let body = request.encode();
    let of_member = async |member: &Member| {
        let asked = ask_one(&platform, member.address, &body);
        let reply = match with_deadline(&platform, platform.now() + ANSWER_WITHIN, asked).await {
            Some(Ok(reply)) => reply,
            Some(Err(error)) => AdminReply::Refused(format!("the core could not be asked: {error}")),
            None => AdminReply::Refused(format!("the core has not answered within {ANSWER_WITHIN:?}")),
        };
        (member.id.to_string(), reply)
    };
    let meant = members.iter().filter(|member| which.is(member.id));
    join_all(meant.map(of_member)).await.into_iter().collect()
}

async fn ask_one<P: Platform>(
    platform: &P,
    address: SocketAddr,
    body: &[u8],
) -> Result<AdminReply, FrameError> {
    let mut channel = Channel::<P>::open(platform, address).await?;
    let mut reply = Vec::new();
    channel.call(Opcode::Admin, Epoch(0), body, &mut reply).await?;
    Ok(AdminReply::decode(&reply)?)
}
