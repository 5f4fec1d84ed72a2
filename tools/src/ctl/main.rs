//! `snowskin-ctl`: looks into a running cluster and changes what is stored in it.
//!
//! It is a client like any other: what it shows it has asked the cores themselves.

mod keys;
mod objects;
mod segments;
mod status;

use argh::FromArgs;
use keys::KeysVerb;
use objects::{CopyVerb, HoldersVerb, MoveVerb};
use segments::{EvictVerb, MountVerb, SegmentsVerb, UnmountVerb};
use snowskin_client::{BlockingClient, ClientConfig, Error, Found, PutOptions, PutOutcome, RemoveOutcome};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Look into a Snowskin cluster, and change what is stored in it.
#[derive(FromArgs)]
#[argh(example = "{command_name} status\n{command_name} --at 127.0.0.1:7400 put some/key value.bin\n\
               {command_name} get some/key > value.bin\n{command_name} keys --match '^llama/' --limit 20\n\
               {command_name} remove-matching '^llama/'")]
struct Args {
    /// any core or the master (default: 127.0.0.1:7400, then 127.0.0.1:7300)
    #[argh(option)]
    at: Option<String>,
    /// the tenant whose keys are meant (default: default)
    #[argh(option, default = "\"default\".to_owned()")]
    tenant: String,
    /// seconds after which a call gives up (default: 5)
    #[argh(option, default = "5.0")]
    deadline: f64,
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Status(StatusVerb),
    Counters(CountersVerb),
    Put(PutVerb),
    Get(GetVerb),
    Lookup(LookupVerb),
    Keys(KeysVerb),
    Holders(HoldersVerb),
    Copy(CopyVerb),
    Move(MoveVerb),
    Remove(RemoveVerb),
    RemoveMatching(RemoveMatchingVerb),
    Segments(SegmentsVerb),
    Mount(MountVerb),
    Unmount(UnmountVerb),
    Evict(EvictVerb),
}

/// who is there, how full, which slots
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
struct StatusVerb {}

/// all counters of all cores, summed up
#[derive(FromArgs)]
#[argh(subcommand, name = "counters")]
struct CountersVerb {}

/// store a value
#[derive(FromArgs)]
#[argh(subcommand, name = "put")]
struct PutVerb {
    /// replace the value if the key is held
    #[argh(switch)]
    replace: bool,
    /// how many engines are to have it, as far as there are so many (default: 1)
    #[argh(option, default = "1")]
    replicas: usize,
    /// the key
    #[argh(positional)]
    key: String,
    /// the file with the value (default: standard input)
    #[argh(positional)]
    file: Option<PathBuf>,
}

/// write a value to standard output
#[derive(FromArgs)]
#[argh(subcommand, name = "get")]
struct GetVerb {
    /// the key
    #[argh(positional)]
    key: String,
}

/// say whether keys are held, and how long their values are
#[derive(FromArgs)]
#[argh(subcommand, name = "lookup")]
struct LookupVerb {
    /// the keys, one at least
    #[argh(positional)]
    keys: Vec<String>,
}

/// remove keys
#[derive(FromArgs)]
#[argh(subcommand, name = "remove")]
struct RemoveVerb {
    /// remove although leases hold
    #[argh(switch)]
    force: bool,
    /// the keys, one at least
    #[argh(positional)]
    keys: Vec<String>,
}

/// remove all keys of the tenant that a regular expression is found in
#[derive(FromArgs)]
#[argh(subcommand, name = "remove-matching")]
struct RemoveMatchingVerb {
    /// remove although leases hold
    #[argh(switch)]
    force: bool,
    /// the regular expression
    #[argh(positional)]
    pattern: String,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{0} is no address: write host:port, such as 127.0.0.1:7400")]
    Address(String),
    #[error("the deadline must be more than 0 seconds, and less than a day")]
    Deadline,
    #[error("which keys? Name one at least")]
    NoKeys,
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("{0}")]
    Negative(String),
}

fn main() -> ExitCode {
    match run(&argh::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("snowskin-ctl: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if let Verb::Lookup(LookupVerb { keys })
    | Verb::Holders(HoldersVerb { keys })
    | Verb::Remove(RemoveVerb { keys, .. }) = &args.verb
        && keys.is_empty()
    {
        return Err(Failure::NoKeys);
    }
    let client = connect(args)?;
    let patience = Duration::from_secs_f64(args.deadline);
    let mut out = io::stdout().lock();
    let written = |error| Failure::File("standard output".to_owned(), error);
    match &args.verb {
        Verb::Status(_) => write!(out, "{}", status::status(&client)?).map_err(written),
        Verb::Counters(_) => write!(out, "{}", status::counters(&client)?).map_err(written),
        Verb::Segments(_) => write!(out, "{}", segments::segments(&client)?).map_err(written),
        Verb::Mount(verb) => write!(out, "{}", segments::mount(&client, verb)?).map_err(written),
        Verb::Unmount(verb) => write!(out, "{}", segments::unmount(&client, verb)?).map_err(written),
        Verb::Evict(verb) => write!(out, "{}", segments::evict(&client, verb)?).map_err(written),
        Verb::Holders(verb) => write!(out, "{}", objects::holders(&client, verb)?).map_err(written),
        Verb::Copy(verb) => objects::copy(&client, verb, patience),
        Verb::Move(verb) => objects::move_to(&client, verb, patience),
        Verb::Put(verb) => put(&client, verb),
        Verb::Get(verb) => match client.get(&[verb.key.as_bytes()]).remove(0)? {
            Found::Hit(value) => out.write_all(&value).map_err(written),
            Found::Miss(reason) => Err(Failure::Negative(format!("{}: {}", verb.key, reason.words()))),
        },
        Verb::Lookup(verb) => lookup(&client, &verb.keys, &mut out).map_err(written)?,
        Verb::Keys(verb) => keys::keys(&client, verb, &mut out).map_err(written)?,
        Verb::Remove(verb) => remove(&client, verb),
        Verb::RemoveMatching(verb) => {
            let count = client.remove_by_regex(&verb.pattern, verb.force)?;
            writeln!(out, "{} removed, {} protected by leases", count.removed, count.leased).map_err(written)
        }
    }
}

fn connect(args: &Args) -> Result<BlockingClient, Failure> {
    let seeds = match &args.at {
        Some(text) => {
            let refused = || Failure::Address(text.clone());
            text.to_socket_addrs().map_err(|_| refused())?.collect()
        }
        None => vec![SocketAddr::from(([127, 0, 0, 1], 7400)), SocketAddr::from(([127, 0, 0, 1], 7300))],
    };
    if !(args.deadline > 0.0 && args.deadline < 86_400.0) {
        return Err(Failure::Deadline);
    }
    let deadline = Duration::from_secs_f64(args.deadline);
    let config = ClientConfig { tenant: args.tenant.clone(), deadline, ..ClientConfig::new(seeds) };
    Ok(BlockingClient::connect(config)?)
}

fn put(client: &BlockingClient, verb: &PutVerb) -> Result<(), Failure> {
    let value = match &verb.file {
        Some(path) => {
            std::fs::read(path).map_err(|error| Failure::File(path.display().to_string(), error))?
        }
        None => {
            let mut value = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut value);
            read.map_err(|error| Failure::File("standard input".to_owned(), error))?;
            value
        }
    };
    let options = PutOptions { more_replicas: verb.replicas.saturating_sub(1), ..PutOptions::default() };
    let items = [(verb.key.as_bytes(), &value[..], options)];
    let mut outcomes = if verb.replace { client.upsert_with(&items) } else { client.put_with(&items) };
    match outcomes.remove(0)? {
        PutOutcome::Stored => Ok(()),
        PutOutcome::Existed => {
            Err(Failure::Negative(format!("{} is held already: --replace replaces it", verb.key)))
        }
    }
}

fn lookup(client: &BlockingClient, keys: &[String], out: &mut impl Write) -> io::Result<Result<(), Failure>> {
    let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    for (key, found) in keys.iter().zip(client.lookup(&names)) {
        match found {
            Ok(Found::Hit(bytes)) => writeln!(out, "{key}: {bytes} bytes")?,
            Ok(Found::Miss(reason)) => writeln!(out, "{key}: {}", reason.words())?,
            Err(error) => return Ok(Err(error.into())),
        }
    }
    Ok(Ok(()))
}

fn remove(client: &BlockingClient, verb: &RemoveVerb) -> Result<(), Failure> {
    let names: Vec<&[u8]> = verb.keys.iter().map(String::as_bytes).collect();
    let mut refused = Vec::new();
    for (key, outcome) in verb.keys.iter().zip(client.remove(&names, verb.force)) {
        match outcome? {
            RemoveOutcome::Removed => {}
            RemoveOutcome::Missing(reason) => refused.push(format!("{key}: {}", reason.words())),
            RemoveOutcome::Leased => {
                refused.push(format!("{key}: protected by a lease; --force removes it all the same"))
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::Negative(refused.join("\n"))) }
}
