//! Reads a trace file, plain or gzip, line by line and strictly: what is not a request is refused with its line.

use super::Request;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line that is read: a prompt of 40 million tokens. A file without line ends is refused at this size
/// instead of being held in memory.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The first bytes of every gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a file is not a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened or read.
    #[error("cannot read the trace {}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A line is no request.
    #[error("{}:{line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no line.
    #[error("the trace {} is empty: it needs one JSON object a line", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// Reads the first `limit` requests of a file. Compression is recognised by the content, not by the name.
pub fn read_trace(path: &Path, limit: usize) -> Result<Vec<Request>, TraceError> {
    let io = |reason| TraceError::Io { path: path.to_owned(), reason };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    if file.fill_buf().map_err(io)?.starts_with(&GZIP_MAGIC) {
        read_trace_from(BufReader::new(MultiGzDecoder::new(file)), path, limit)
    } else {
        read_trace_from(file, path, limit)
    }
}

/// Reads the first `limit` requests of lines from anywhere; errors call the source `path`.
pub fn read_trace_from(
    mut lines: impl BufRead,
    path: &Path,
    limit: usize,
) -> Result<Vec<Request>, TraceError> {
    let mut requests: Vec<Request> = Vec::new();
    let mut text = Vec::new();
    let mut line = 0;
    while requests.len() < limit {
        text.clear();
        let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        if read.map_err(|reason| TraceError::Io { path: path.to_owned(), reason })? == 0 {
            break;
        }
        line += 1;
        let refuse = |reason| TraceError::Line { path: path.to_owned(), line, reason };
        if text.len() as u64 == LINE_BYTES_MAX {
            return Err(refuse(format!("the line has {LINE_BYTES_MAX} bytes or more: is this a trace?")));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let before = requests.last().map_or(0, |request| request.timestamp_ms);
        requests.push(parse(&text, before).map_err(refuse)?);
    }
    if requests.is_empty() && limit > 0 {
        return Err(TraceError::Empty { path: path.to_owned() });
    }
    Ok(requests)
}

fn parse(text: &[u8], timestamp_ms_before: u64) -> Result<Request, String> {
    let line: Line = serde_json::from_slice(text).map_err(|error| format!("not a request: {error}"))?;
    if line.timestamp < timestamp_ms_before {
        return Err(format!(
            "timestamp {} is before the {timestamp_ms_before} of an earlier line",
            line.timestamp
        ));
    }
    if line.hash_ids.is_empty() {
        return Err("hash_ids is empty: a prompt has at least one block".to_owned());
    }
    Ok(Request {
        timestamp_ms: line.timestamp,
        input_tokens: line.input_length,
        output_tokens: line.output_length,
        blocks: line.hash_ids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use quickcheck::quickcheck;
    use std::io::Write;

    const GOOD: &str =
        "{\"timestamp\": 5, \"input_length\": 700, \"output_length\": 9, \"hash_ids\": [0, 1]}\n";

    fn read(text: &[u8]) -> Result<Vec<Request>, TraceError> {
        read_trace_from(text, Path::new("t.jsonl"), usize::MAX)
    }

    #[test]
    fn requests_in_order_and_no_more_than_the_limit() {
        let text = format!("{GOOD}\n{GOOD}{GOOD}");
        let requests = read(text.as_bytes()).unwrap();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0].blocks, [0, 1]);
        assert_eq!(read_trace_from(text.as_bytes(), Path::new("t"), 2).unwrap().len(), 2);
    }

    #[test]
    fn bad_lines_are_named() {
        let early = GOOD.replace("\"timestamp\": 5", "\"timestamp\": 4");
        for (bad, words) in [
            ("nonsense\n", "not a request"),
            ("{\"timestamp\": 5}\n", "missing field"),
            (&GOOD.replace("[0, 1]", "[]"), "hash_ids is empty"),
            (&GOOD.replace("[0, 1]", "[-1]"), "invalid value"),
            (&GOOD.replace("5,", "5, \"extra\": 1,"), "unknown field"),
            (early.as_str(), "before the 5"),
        ] {
            let error = read(format!("{GOOD}{bad}").as_bytes()).expect_err(bad).to_string();
            assert!(error.starts_with("t.jsonl:2: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn empty_and_absent_files_are_errors() {
        assert!(matches!(read(b""), Err(TraceError::Empty { .. })));
        assert!(matches!(read(b" \n\n"), Err(TraceError::Empty { .. })));
        assert!(matches!(read_trace(Path::new("/no/such/trace"), 1), Err(TraceError::Io { .. })));
        let endless = vec![b'x'; LINE_BYTES_MAX as usize + 10];
        assert!(read(&endless).expect_err("no line end").to_string().contains("is this a trace?"));
    }

    #[test]
    fn compressed_files_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no-suffix");
        let mut file = GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        file.write_all(GOOD.as_bytes()).unwrap();
        file.finish().unwrap();
        assert_eq!(read_trace(&path, 10).unwrap().len(), 1);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(matches!(read_trace(&path, 10), Err(TraceError::Io { .. })), "cut short");
    }

    quickcheck! {
        fn garbage_is_refused_and_never_panics(bytes: Vec<u8>, cut: usize) -> bool {
            let mut broken = GOOD.as_bytes().to_vec();
            let at = cut % broken.len();
            broken.splice(at.., bytes.iter().copied());
            // A whole line may survive the splice at its very end; everything else is an error.
            let survived = read(&broken).is_ok_and(|requests| !requests.is_empty());
            (read(&bytes).is_err() || bytes.is_empty()) && (!survived || at + 1 >= GOOD.len() - 1)
        }
    }
}
