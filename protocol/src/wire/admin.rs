//! Bodies of [`super::Opcode::Admin`]: what an operator asks of a core, and its answer, as JSON. They are rare, and read
//! and written by people's tools as well.
//!
//! ```text
//!   {"mount": {"bytes": 4294967296}}      →  {"mounted": {"segment": 1}}
//!   {"unmount": {"segment": 0, "grace_ms": 30000}}  →  "unmounting"
//! ```

use super::WireError;
use crate::ids::{CoreId, EngineId};
use crate::key::{NameRef, ObjectName};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Bytes of a request: room for a path, and no more.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// What is asked of a core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRequest {
    /// List the segments.
    Segments,
    /// Add a segment. The answer comes when it is there.
    Mount(Mount),
    /// Let a segment go: it takes no values from now on, and what it holds moves to others.
    Unmount(Unmount),
    /// Evict until a share of the memory is in use at most.
    Evict(Evict),
    /// Who has these objects, whose home the core is.
    Holders(Vec<HexName>),
    /// Have an object, whose home the core is, held by others. The answer comes at once, with the number of the task.
    Copy(CopyObject),
    /// Have a holder give up an object, whose home the core is.
    Leave(LeaveObject),
    /// How far a task of this core is.
    Task(u64),
}

/// An object's full name, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexName(pub ObjectName);

impl From<HexName> for String {
    fn from(name: HexName) -> String {
        name.0.as_ref().bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for HexName {
    type Error = String;

    fn try_from(digits: String) -> Result<Self, String> {
        let pairs = digits.as_bytes().chunks(2);
        let byte =
            |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = pairs.map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect();
        let bytes = bytes.ok_or("a name has two hexadecimal digits for each byte")?;
        NameRef::parse(&bytes).map(|name| HexName(name.to_owned())).map_err(|error| error.to_string())
    }
}

/// A core, as JSON has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreName {
    /// Its engine's id.
    pub engine: u64,
    /// Its number there.
    pub core: u16,
}

impl From<CoreId> for CoreName {
    fn from(id: CoreId) -> Self {
        CoreName { engine: id.engine.0, core: id.core }
    }
}

impl From<CoreName> for CoreId {
    fn from(name: CoreName) -> Self {
        CoreId { engine: EngineId(name.engine), core: name.core }
    }
}

/// An object to copy, or to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyObject {
    /// Which.
    pub name: HexName,
    /// Who is to have it; where any core of the engine has it already, or is its home, that one counts.
    pub targets: Vec<CoreName>,
    /// Who is to give it up then: any core of that engine.
    #[serde(default)]
    pub source: Option<CoreName>,
}

/// An object to give up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveObject {
    /// Which.
    pub name: HexName,
    /// Who is to give it up: any core of that engine.
    pub holder: CoreName,
}

/// A segment to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Its size; 0: all of the file or device.
    #[serde(default)]
    pub bytes: u64,
    /// The file or device-dax device that it is made of; none: memory.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Which pages: auto, 1GiB, 2MiB, transparent or off; none: as the engine was started.
    #[serde(default)]
    pub huge_pages: Option<String>,
}

/// A segment to let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmount {
    /// Its number.
    pub segment: u16,
    /// Milliseconds after which what is still there is dropped.
    #[serde(default = "grace_default")]
    pub grace_ms: u64,
}

fn grace_default() -> u64 {
    30_000
}

/// Down to where to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evict {
    /// Thousandths of the memory that may be in use afterwards, 0 to 1,000.
    pub permille: u16,
}

/// A core's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminReply {
    /// Its segments.
    Segments(Vec<SegmentInfo>),
    /// The segment is there.
    Mounted {
        /// Its number.
        segment: u16,
        /// Its size.
        bytes: u64,
        /// What its pages are, and why they are not larger.
        pages: String,
    },
    /// The segment is being emptied.
    Unmounting,
    /// So much was evicted.
    Evicted {
        /// Objects.
        objects: u64,
        /// Bytes of their values.
        bytes: u64,
        /// Whether the level was reached; if not, leases and pins protect what is left.
        reached: bool,
    },
    /// Who has the objects that were asked for, one by one; nothing for those that are not held.
    Holders(Vec<Option<ObjectHolders>>),
    /// The task of this number has begun.
    TaskBegun(u64),
    /// How far the task is; nothing if it is not known, or not any more.
    Task(Option<TaskInfo>),
    /// The holder has given up the object, or not: it did not have it, or is the only one.
    Left(bool),
    /// The object is not held.
    NotHeld,
    /// The core is not the object's home, or not yet: fetch a newer table, ask again.
    NotHome,
    /// So many tasks are under way that this one did not begin: ask again later.
    TooManyTasks,
    /// It was not done; a sentence says why.
    Refused(String),
}

/// Who has an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectHolders {
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Who has it, as far as the home knows; first who is named to readers.
    pub cores: Vec<CoreName>,
}

/// What a core does for an operator beside requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskInfo {
    /// Whether the object is moved; else it is copied.
    pub is_move: bool,
    /// How far it is.
    pub state: TaskState,
    /// When it was asked for: milliseconds of the Unix epoch.
    pub created_ms: u64,
    /// When that has changed last.
    pub updated_ms: u64,
    /// What came of it, for people.
    pub message: String,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It is under way.
    Running,
    /// All of it was done.
    Done,
    /// Not all of it could be.
    Failed,
}

/// A segment, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentInfo {
    /// Its number in its core.
    pub segment: u16,
    /// All its bytes.
    pub capacity_bytes: u64,
    /// Not given out.
    pub free_bytes: u64,
    /// The longest run of those.
    pub free_range_bytes_max: u64,
    /// What its pages are.
    pub pages: String,
    /// Whether it is being emptied.
    pub is_leaving: bool,
}

impl AdminRequest {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data has a JSON form")
    }

    /// Reads the body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        // What is refused is told in words that repeat it.
        let body = Some(body).filter(|body| body.len() <= REQUEST_BYTES_MAX);
        let request = body.and_then(|body| serde_json::from_slice(body).ok());
        request.ok_or(WireError::Value("admin request"))
    }
}

impl AdminReply {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data has a JSON form")
    }

    /// Reads the body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        serde_json::from_slice(body).map_err(|_| WireError::Value("admin reply"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: CoreName = CoreName { engine: u64::MAX, core: 7 };

    fn name() -> HexName {
        HexName(ObjectName::new("t", b"key \xff\x01").unwrap())
    }

    #[test]
    fn names_are_hexadecimal() {
        assert_eq!(String::from(name()), "74006b657920ff01");
        for digits in ["7", "7400", "xx006b", "74006b6", "é"] {
            assert!(HexName::try_from(digits.to_owned()).is_err(), "{digits}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mount = Mount { bytes: 7, path: Some("/dev/dax0.0".into()), huge_pages: None };
        for request in [
            AdminRequest::Segments,
            AdminRequest::Mount(mount),
            AdminRequest::Unmount(Unmount { segment: 3, grace_ms: 5 }),
            AdminRequest::Evict(Evict { permille: 500 }),
            AdminRequest::Holders(vec![name(), name()]),
            AdminRequest::Copy(CopyObject { name: name(), targets: vec![CORE], source: Some(CORE) }),
            AdminRequest::Leave(LeaveObject { name: name(), holder: CORE }),
            AdminRequest::Task(u64::MAX),
        ] {
            assert_eq!(AdminRequest::decode(&request.encode()), Ok(request));
        }
        let message = "no room at 1/2".to_owned();
        let state = TaskState::Failed;
        let task = TaskInfo { is_move: true, state, created_ms: 5, updated_ms: 6, message };
        let info = SegmentInfo {
            segment: 1,
            capacity_bytes: 2,
            free_bytes: 3,
            free_range_bytes_max: 4,
            pages: "plain pages".to_owned(),
            is_leaving: true,
        };
        for reply in [
            AdminReply::Segments(vec![info]),
            AdminReply::Mounted { segment: 1, bytes: 2, pages: String::new() },
            AdminReply::Unmounting,
            AdminReply::Evicted { objects: 1, bytes: 2, reached: false },
            AdminReply::Refused("no".to_owned()),
            AdminReply::Holders(vec![None, Some(ObjectHolders { value_bytes: 3, cores: vec![CORE] })]),
            AdminReply::TaskBegun(4),
            AdminReply::Task(None),
            AdminReply::Task(Some(task)),
            AdminReply::Left(true),
            AdminReply::NotHeld,
            AdminReply::NotHome,
            AdminReply::TooManyTasks,
        ] {
            assert_eq!(AdminReply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let unmount = AdminRequest::decode(br#"{"unmount": {"segment": 4}}"#);
        assert_eq!(unmount, Ok(AdminRequest::Unmount(Unmount { segment: 4, grace_ms: 30_000 })));
        for body in [&b""[..], b"{}", b"\"mounts\"", br#"{"mount": {"size": 3}}"#, br#"{"evict": {}}"#] {
            assert!(AdminRequest::decode(body).is_err(), "{}", body.escape_ascii());
        }
        let long = AdminRequest::Mount(Mount {
            path: Some("x".repeat(REQUEST_BYTES_MAX).into()),
            ..Mount::default()
        });
        assert!(AdminRequest::decode(&long.encode()).is_err());
        assert!(AdminReply::decode(b"[]").is_err());
    }
}
