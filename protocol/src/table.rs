//! The routing table: which core is the home of each slot, and from whom it took the slot over.
//!
//! ```text
//!   slot        0      1      2     …   65535
//!   home      [ 0 ]  [ 2 ]  [ 1 ]   …   [ 2 ]     index into members
//!   origin    [ - ]  [ 0 ]  [ - ]   …   [ 3 ]     who holds the entries if the home does not have them yet; members first,
//!                                                 and behind them those who were (here there are three members)
//! ```
//!
//! A core that becomes home of a slot asks the origin for its entries before it answers for the slot. The origin
//! may have to wait for its own origin: chains end at a core that serves the slot, at [`NOBODY`] (the slot is new
//! and empty), at [`LOST`] (it died with its entries), or at a *former* life, which is no member any more: its entries are on its
//! volume, for whoever has that (`docs/notes/2026-11-28-lineage.md`), and lost for everybody else.
//!
//! Tables are made by the master alone ([`crate::ids::Epoch`] counts them) and copied by everybody else.

use crate::ids::{CoreId, EngineId, Epoch, Incarnation, Life};
use crate::key::{SLOT_COUNT, Slot};
use crate::limits::{FORMER_MAX, MEMBERS_MAX};
use crate::wire::WireError;
use bytemuck::{Pod, Zeroable};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An origin: no core has entries of this slot, nor ever had.
pub const NOBODY: u16 = u16::MAX;
/// An origin: the core that had the entries of this slot is dead.
pub const LOST: u16 = u16::MAX - 1;

/// A core that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which core.
    pub id: CoreId,
    /// Which life of its engine.
    pub incarnation: Incarnation,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of the slots, proportional to its memory (MiB). 0: it leaves; it is no home, and is asked for what
    /// it still has.
    pub weight: u32,
}

impl Member {
    /// The core in this life.
    pub fn life(&self) -> Life {
        (self.id, self.incarnation)
    }
}

/// Who has the entries of a slot if its home has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No core, nor ever any.
    Nobody,
    /// A core that is gone, and its entries with it.
    Lost,
    /// The member with this index.
    Member(u16),
    /// A life that is gone, and has left them on its volume.
    Former(Life),
}

/// A member's bytes on the wire.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct WireMember {
    engine: u64,
    incarnation: u64,
    ip: [u8; 16],
    weight: u32,
    core: u16,
    port: u16,
    /// 4 or 6.
    family: u8,
    reserved: [u8; 15],
}

impl From<&Member> for WireMember {
    fn from(member: &Member) -> Self {
        let (family, ip) = match member.address.ip() {
            IpAddr::V4(v4) => (4, v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => (6, v6.octets()),
        };
        WireMember {
            engine: member.id.engine.0,
            incarnation: member.incarnation.0,
            ip,
            weight: member.weight,
            core: member.id.core,
            port: member.address.port(),
            family,
            reserved: [0; 15],
        }
    }
}

impl TryFrom<WireMember> for Member {
    type Error = WireError;

    fn try_from(wire: WireMember) -> Result<Self, WireError> {
        if wire.reserved != [0; 15] {
            return Err(WireError::Value("reserved part of the member"));
        }
        let v6 = Ipv6Addr::from(wire.ip);
        let ip = match (wire.family, v6.to_ipv4_mapped()) {
            (4, Some(v4)) => IpAddr::V4(v4),
            (6, _) => IpAddr::V6(v6),
            _ => return Err(WireError::Value("address family")),
        };
        Ok(Member {
            id: CoreId { engine: EngineId(wire.engine), core: wire.core },
            incarnation: Incarnation(wire.incarnation),
            address: SocketAddr::new(ip, wire.port),
            weight: wire.weight,
        })
    }
}

/// A former life's bytes on the wire.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireLife {
    engine: u64,
    incarnation: u64,
    core: u16,
    reserved: [u8; 6],
}

impl From<&Life> for WireLife {
    fn from((id, incarnation): &Life) -> Self {
        WireLife { engine: id.engine.0, incarnation: incarnation.0, core: id.core, reserved: [0; 6] }
    }
}

impl TryFrom<WireLife> for Life {
    type Error = WireError;

    fn try_from(wire: WireLife) -> Result<Self, WireError> {
        if wire.reserved != [0; 6] {
            return Err(WireError::Value("reserved part of the former life"));
        }
        let id = CoreId { engine: EngineId(wire.engine), core: wire.core };
        Ok((id, Incarnation(wire.incarnation)))
    }
}

/// The table of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingTable {
    /// Its version.
    pub epoch: Epoch,
    /// The cores, in the order that `homes` and `origins` count in.
    pub members: Vec<Member>,
    /// Lives that are no members any more and have left entries on their volumes; `origins` counts them behind the members.
    pub former: Vec<Life>,
    /// Per slot: the home's index, or [`NOBODY`] in a cluster without members.
    pub homes: Vec<u16>,
    /// Per slot: who has the entries if the home has not, a member or a former life, or [`NOBODY`], or [`LOST`].
    pub origins: Vec<u16>,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireTableHead {
    epoch: u64,
    member_count: u32,
    former_count: u32,
}

impl RoutingTable {
    /// The table before there is one: epoch 0, no members.
    pub fn empty() -> Self {
        RoutingTable {
            epoch: Epoch(0),
            members: Vec::new(),
            former: Vec::new(),
            homes: vec![NOBODY; SLOT_COUNT],
            origins: vec![NOBODY; SLOT_COUNT],
        }
    }

    /// The home of a slot, if the cluster has any member.
    pub fn home(&self, slot: Slot) -> Option<&Member> {
        self.members.get(usize::from(self.homes[slot.index()]))
    }

    /// Who has the entries of a slot if its home has not.
    pub fn origin(&self, slot: Slot) -> Origin {
        match self.origins[slot.index()] {
            NOBODY => Origin::Nobody,
            LOST => Origin::Lost,
            index => match usize::from(index).checked_sub(self.members.len()) {
                None => Origin::Member(index),
                Some(behind) => Origin::Former(self.former[behind]),
            },
        }
    }

    /// The index of a core in `members`, in whatever life.
    pub fn index_of(&self, id: CoreId) -> Option<u16> {
        self.members.iter().position(|member| member.id == id).map(|index| index as u16)
    }

    /// Appends the table's bytes: head, members, former lives, homes, origins.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let head = WireTableHead {
            epoch: self.epoch.0,
            member_count: self.members.len() as u32,
            former_count: self.former.len() as u32,
        };
        out.extend_from_slice(bytemuck::bytes_of(&head));
        for member in &self.members {
            out.extend_from_slice(bytemuck::bytes_of(&WireMember::from(member)));
        }
        for life in &self.former {
            out.extend_from_slice(bytemuck::bytes_of(&WireLife::from(life)));
        }
        out.extend_from_slice(bytemuck::cast_slice(&self.homes));
        out.extend_from_slice(bytemuck::cast_slice(&self.origins));
    }

    /// Reads what [`RoutingTable::encode`] wrote; nothing may be left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut rest = crate::wire::Cursor::new(bytes);
        let head: WireTableHead = rest.pod()?;
        let member_count = head.member_count as usize;
        if member_count > MEMBERS_MAX {
            return Err(WireError::TooMany { what: "members", count: member_count, limit: MEMBERS_MAX });
        }
        let former_count = head.former_count as usize;
        if former_count > FORMER_MAX {
            return Err(WireError::TooMany { what: "former lives", count: former_count, limit: FORMER_MAX });
        }
        let members =
            (0..member_count).map(|_| rest.pod::<WireMember>()?.try_into()).collect::<Result<_, _>>()?;
        let former =
            (0..former_count).map(|_| rest.pod::<WireLife>()?.try_into()).collect::<Result<_, _>>()?;
        let homes = column(&mut rest, member_count, &[NOBODY])?;
        let origins = column(&mut rest, member_count + former_count, &[NOBODY, LOST])?;
        rest.end()?;
        Ok(RoutingTable { epoch: Epoch(head.epoch), members, former, homes, origins })
    }
}

/// A number for each slot: the index of a member (or former life), or one of those that mean something else.
fn column(
    rest: &mut crate::wire::Cursor<'_>,
    index_count: usize,
    others: &[u16],
) -> Result<Vec<u16>, WireError> {
    let bytes = rest.take(SLOT_COUNT * 2)?;
    let column: Vec<u16> = bytes.chunks_exact(2).map(bytemuck::pod_read_unaligned).collect();
    let known = |&index: &u16| usize::from(index) < index_count || others.contains(&index);
    if column.iter().all(known) { Ok(column) } else { Err(WireError::Value("member index")) }
}

const _: () = assert!(size_of::<WireMember>() == 56);
const _: () = assert!(size_of::<WireLife>() == 24);
const _: () = assert!(size_of::<WireTableHead>() == 16);
// What means something else is no index.
const _: () = assert!(MEMBERS_MAX + FORMER_MAX <= LOST as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    pub(crate) fn sample(members: u16) -> RoutingTable {
        let mut table = RoutingTable::empty();
        table.epoch = Epoch(7);
        table.members = (0..members)
            .map(|core| Member {
                id: CoreId { engine: EngineId(99), core },
                incarnation: Incarnation(3),
                address: format!("127.0.0.1:{}", 7400 + core).parse().unwrap(),
                weight: 64,
            })
            .collect();
        if members > 0 {
            table.homes = (0..=u16::MAX).map(|slot| slot % members).collect();
        }
        table
    }

    #[test]
    fn round_trip() {
        let mut table = sample(3);
        table.members[1].address = "[::1]:7401".parse().unwrap();
        table.origins[5] = LOST;
        table.former = vec![(CoreId { engine: EngineId(98), core: 1 }, Incarnation(2))];
        (table.origins[6], table.origins[7]) = (3, 2);
        assert_eq!(table.origin(Slot(6)), Origin::Former(table.former[0]));
        assert_eq!(
            [4, 5, 7].map(|slot| table.origin(Slot(slot))),
            [Origin::Nobody, Origin::Lost, Origin::Member(2)]
        );
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(RoutingTable::decode(&bytes), Ok(table));
    }

    #[test]
    fn an_index_beyond_the_members_is_refused() {
        let mut table = sample(3);
        table.homes[100] = 3;
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(RoutingTable::decode(&bytes), Err(WireError::Value("member index")));
        table.former = vec![(CoreId::default(), Incarnation(1))];
        bytes.clear();
        table.encode(&mut bytes);
        assert_eq!(RoutingTable::decode(&bytes), Err(WireError::Value("member index")), "no home is gone");
        table.homes[100] = 0;
        table.origins[100] = 4;
        bytes.clear();
        table.encode(&mut bytes);
        assert_eq!(RoutingTable::decode(&bytes), Err(WireError::Value("member index")));
        table.origins[100] = NOBODY;
        table.homes[100] = LOST;
        bytes.clear();
        table.encode(&mut bytes);
        assert_eq!(RoutingTable::decode(&bytes), Err(WireError::Value("member index")));
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(RoutingTable::decode(&bytes), Err(WireError::TooMany { what: "former lives", .. })));
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(RoutingTable::decode(&bytes), Err(WireError::TooMany { .. })));
    }

    quickcheck! {
        fn cut_anywhere_is_refused(cut: usize) -> bool {
            let mut bytes = Vec::new();
            sample(2).encode(&mut bytes);
            RoutingTable::decode(&bytes[..cut % bytes.len()]).is_err()
        }
    }
}
