//! A client process on its engine's machine, to be killed at any moment: puts, upserts, gets, views that it keeps for a while,
//! lookups, from two threads. Ends by itself after a time, or at the first wrong byte, with an error.
//!
//! `local_client MASTER FOLDER SEED SECONDS`; prints `ready` when its first call has been answered, and at the end how many
//! lanes it had and how many values it used in place.

use snowskin_client::{BlockingClient, ClientConfig, Error, Found, View};
use snowskin_io::SplitMix;
use snowskin_tests::values::{generation_of, value_of};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const THREADS: u64 = 2;
const KEYS: u64 = 40;
/// Views that a thread keeps, at most.
const VIEWS_MAX: usize = 30;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let [master, folder, seed, seconds] = args else { return Err("MASTER FOLDER SEED SECONDS".to_owned()) };
    let number = |text: &String| text.parse::<u64>().map_err(|error| error.to_string());
    let master = master.parse().map_err(|error| format!("{master}: {error}"))?;
    let config = ClientConfig { local_sockets: folder.into(), ..ClientConfig::new([master]) };
    let client = BlockingClient::connect(config).map_err(|error| error.to_string())?;
    let (seed, until) = (number(seed)?, Instant::now() + Duration::from_secs(number(seconds)?));
    client.lookup(&[b"nothing"]).remove(0).map_err(|error| error.to_string())?;
    println!("ready");
    let (is_wrong, in_place) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let worker = Worker { client: &client, in_place: &in_place, is_wrong: &is_wrong, until };
                scope.spawn(move || worker.work(seed ^ thread << 60))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    let counters = client.counters();
    println!(
        "lanes {}, local {}, in place {}",
        counters.lanes_opened,
        counters.connects_local,
        in_place.into_inner()
    );
    Ok(())
}

struct Worker<'a> {
    client: &'a BlockingClient,
    in_place: &'a AtomicU64,
    is_wrong: &'a AtomicBool,
    until: Instant,
}

impl Worker<'_> {
    fn work(&self, seed: u64) -> Result<(), String> {
        let random = SplitMix::new(seed);
        let mut views: Vec<(Vec<u8>, View)> = Vec::new();
        while Instant::now() < self.until && !self.is_wrong.load(Ordering::Relaxed) {
            if let Err(reason) = self.step(&random, &mut views) {
                self.is_wrong.store(true, Ordering::Relaxed);
                return Err(reason);
            }
        }
        Ok(())
    }

    fn step(&self, random: &SplitMix, views: &mut Vec<(Vec<u8>, View)>) -> Result<(), String> {
        let key = format!("key-{}", random.draw() % KEYS).into_bytes();
        match random.draw() % 8 {
            kind @ 0..3 => {
                let bytes = 16 + (random.draw() % [90, 9_000, 900_000][kind as usize]) as usize;
                let value = value_of(&key, random.draw() % 1_000, bytes);
                let items = [(&key[..], &value[..])];
                let answer = if kind == 0 { self.client.put(&items) } else { self.client.upsert(&items) };
                tolerable(answer.into_iter().next().ok_or("no answer")?.map(drop))
            }
            3 => {
                let keys: Vec<Vec<u8>> = (0..20).map(|number| format!("key-{number}").into_bytes()).collect();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                for (key, found) in keys.iter().zip(self.client.get(&keys)) {
                    self.check(key, found.map(|found| found.hit()))?;
                }
                Ok(())
            }
            4 => {
                views.truncate((random.draw() % VIEWS_MAX as u64) as usize);
                views.iter().try_for_each(|(key, view)| right(key, view))
            }
            _ => match self.client.view_one(&key) {
                Ok(Found::Hit(view)) => {
                    self.in_place.fetch_add(u64::from(view.is_in_place()), Ordering::Relaxed);
                    right(&key, &view)?;
                    views.push((key, view));
                    views.truncate(VIEWS_MAX);
                    Ok(())
                }
                other => tolerable(other.map(drop)),
            },
        }
    }

    fn check(&self, key: &[u8], found: Result<Option<Vec<u8>>, Error>) -> Result<(), String> {
        match found {
            Ok(Some(value)) => right(key, &value),
            other => tolerable(other.map(drop)),
        }
    }
}

fn right(key: &[u8], value: &[u8]) -> Result<(), String> {
    let is_right = generation_of(key, value).is_some();
    is_right.then_some(()).ok_or_else(|| format!("WRONG BYTES under {}", key.escape_ascii()))
}

/// An engine that is full, or gone, is no fault of ours.
fn tolerable(answer: Result<(), Error>) -> Result<(), String> {
    match answer {
        Ok(()) | Err(Error::NoSpace | Error::Deadline | Error::Unreachable { .. } | Error::Broken { .. }) => {
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
