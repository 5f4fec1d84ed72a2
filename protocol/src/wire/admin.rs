//! Bodies of [`super::Opcode::Admin`]: what an operator asks of a core, and its answer, as JSON. They are rare, and read
//! and written by people's tools as well.
//!
//! ```text
//!   {"mount": {"bytes": 4294967296}}      →  {"mounted": {"segment": 1}}
//!   {"unmount": {"segment": 0, "grace_ms": 30000}}  →  "unmounting"
//! ```

use super::WireError;
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
    /// It was not done; a sentence says why.
    Refused(String),
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

    #[test]
    fn what_is_written_is_read() {
        let mount = Mount { bytes: 7, path: Some("/dev/dax0.0".into()), huge_pages: None };
        for request in [
            AdminRequest::Segments,
            AdminRequest::Mount(mount),
            AdminRequest::Unmount(Unmount { segment: 3, grace_ms: 5 }),
            AdminRequest::Evict(Evict { permille: 500 }),
        ] {
            assert_eq!(AdminRequest::decode(&request.encode()), Ok(request));
        }
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
