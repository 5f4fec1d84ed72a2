//! The first exchange on a connection. Its layout never changes, so that any two releases can at least agree to
//! part.
//!
//! The asker sends the range of versions it speaks; the answerer picks the highest common one, or refuses with
//! [`super::Refusal::Version`] and closes. No other frame is honoured before.

use super::{Cursor, WireError};
use crate::ids::{CoreId, EngineId, Epoch, Incarnation};
use bytemuck::{Pod, Zeroable};

/// The version this release speaks.
pub const VERSION: u16 = 1;
/// The oldest version this release still speaks.
pub const VERSION_OLDEST: u16 = 1;

/// What the asker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Hello {
    /// Oldest version it speaks.
    pub version_min: u16,
    /// Newest version it speaks.
    pub version_max: u16,
    /// 0.
    pub reserved: u32,
}

impl Hello {
    /// What this release says.
    pub fn ours() -> Self {
        Hello { version_min: VERSION_OLDEST, version_max: VERSION, reserved: 0 }
    }

    /// The newest version that both speak.
    pub fn agree(self) -> Option<u16> {
        let version = self.version_max.min(VERSION);
        (version >= self.version_min && version >= VERSION_OLDEST).then_some(version)
    }

    /// Reads a hello's body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let hello = rest.pod()?;
        rest.end()?;
        Ok(hello)
    }
}

/// What the answerer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Welcome {
    /// The version of all frames that follow.
    pub version: u16,
    /// The answerer's core number; 0 for a master.
    pub core: u16,
    /// 1: an engine's core. 2: a master.
    pub role: u32,
    /// The answerer's engine; 0 for a master.
    pub engine: EngineId,
    /// The answerer's life.
    pub incarnation: Incarnation,
    /// The answerer's table.
    pub epoch: Epoch,
}

/// The answerer is a core of an engine.
pub const ROLE_CORE: u32 = 1;
/// The answerer is a master.
pub const ROLE_MASTER: u32 = 2;

impl Welcome {
    /// What a core says.
    pub fn of_core(version: u16, id: CoreId, incarnation: Incarnation, epoch: Epoch) -> Self {
        Welcome { version, core: id.core, role: ROLE_CORE, engine: id.engine, incarnation, epoch }
    }

    /// What a master says.
    pub fn of_master(version: u16, incarnation: Incarnation, epoch: Epoch) -> Self {
        Welcome { version, core: 0, role: ROLE_MASTER, engine: EngineId(0), incarnation, epoch }
    }

    /// Who answers, if it is a core.
    pub fn core_id(self) -> CoreId {
        CoreId { engine: self.engine, core: self.core }
    }

    /// Reads a welcome's body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let welcome: Welcome = rest.pod()?;
        rest.end()?;
        if welcome.role != ROLE_CORE && welcome.role != ROLE_MASTER {
            return Err(WireError::Value("role"));
        }
        Ok(welcome)
    }
}

const _: () = assert!(size_of::<Hello>() == 8);
const _: () = assert!(size_of::<Welcome>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version() {
        assert_eq!(Hello::ours().agree(), Some(VERSION));
        let newer = Hello { version_min: 1, version_max: 9, reserved: 0 };
        assert_eq!(newer.agree(), Some(VERSION));
        let only_newer = Hello { version_min: VERSION + 1, version_max: 9, reserved: 0 };
        assert_eq!(only_newer.agree(), None);
        let ancient = Hello { version_min: 0, version_max: 0, reserved: 0 };
        assert_eq!(ancient.agree(), None);
    }

    #[test]
    fn round_trip() {
        let id = CoreId { engine: EngineId(5), core: 2 };
        let welcome = Welcome::of_core(1, id, Incarnation(8), Epoch(3));
        assert_eq!(Welcome::decode(bytemuck::bytes_of(&welcome)), Ok(welcome));
        assert_eq!(welcome.core_id(), id);
        assert!(Welcome::decode(&[0; 31]).is_err());
        assert_eq!(Welcome::decode(&[0; 32]), Err(WireError::Value("role")));
        assert_eq!(Hello::decode(bytemuck::bytes_of(&Hello::ours())), Ok(Hello::ours()));
        assert_eq!(Hello::decode(&[0; 9]), Err(WireError::Long(1)));
    }
}
