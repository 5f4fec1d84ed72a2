//! Which keys are held.

use crate::Failure;
use argh::FromArgs;
use snowskin_client::BlockingClient;
use std::io::{self, Write};

/// Keys that are asked for at a time: each page has a deadline of its own.
const PAGE_KEYS: u64 = 1_000;

/// list keys of the tenant that are held, with the bytes of their values; grants no leases
#[derive(FromArgs)]
#[argh(subcommand, name = "keys")]
pub(crate) struct KeysVerb {
    /// only keys that this regular expression is found in
    #[argh(option, long = "match", default = "String::new()")]
    pattern: String,
    /// keys to list at most (default: 1000)
    #[argh(option, default = "1_000")]
    limit: u64,
}

/// Writes a line for each key, as they come.
pub(crate) fn keys(
    client: &BlockingClient,
    verb: &KeysVerb,
    out: &mut impl Write,
) -> io::Result<Result<(), Failure>> {
    let (mut left, mut after) = (verb.limit, None);
    while left > 0 {
        let page = match client.list_keys(&verb.pattern, left.min(PAGE_KEYS) as usize, after) {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.into())),
        };
        left -= page.keys.len() as u64;
        for listed in page.keys {
            writeln!(out, "{}: {} bytes", printable(&listed.key), listed.value_bytes)?;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    out.flush()?;
    if left == 0 && after.is_some() {
        // Not among the keys: whoever reads those reads no more than keys.
        eprintln!("snowskin-ctl: there may be more: --limit says how many are listed");
    }
    Ok(Ok(()))
}

/// A key as it is, if that is text for one line.
fn printable(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => key.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_line() {
        assert_eq!(printable("llama/17/\u{e9}".as_bytes()), "llama/17/\u{e9}");
        assert_eq!(printable(b"two\nlines\xff"), "two\\nlines\\xff");
    }
}
