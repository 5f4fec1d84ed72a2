//! A client that may be killed at any time: puts and gets keys of a range of its own, and checks every byte itself.
//!
//! It goes on until it is killed, and ends by itself only when a promise is broken: with a sentence, and not well.

use argh::FromArgs;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{BlockingClient, ClientConfig, Error, Found};
use snowskin_tests::chaos::{FIRE_DEADLINE, SLACK, is_explained};
use snowskin_tests::values::{generation_of, value_of};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Keys of a range.
const KEYS: u64 = 16;
/// Lengths of values.
const BYTES: [usize; 4] = [100, 20_000, 120_000, 500_000];
/// Pause after an operation, and before another attempt to connect.
const PAUSE: Duration = Duration::from_millis(4);
/// It was forgotten if it still lives after this.
const LIFE_MAX: Duration = Duration::from_secs(3_600);

/// Loads a cluster until it is killed.
#[derive(FromArgs)]
struct Arguments {
    /// master or engine to ask first
    #[argh(option)]
    at: SocketAddr,
    /// number of the range of keys
    #[argh(option)]
    range: u64,
    /// what the choices follow from
    #[argh(option)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    println!("chaos_client is ready");
    match work(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("chaos_client {}: {sentence}", arguments.range);
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &Arguments) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let config = ClientConfig { deadline: FIRE_DEADLINE, ..ClientConfig::new([arguments.at]) };
    let started = Instant::now();
    let mut client = None;
    while started.elapsed() < LIFE_MAX {
        std::thread::sleep(PAUSE);
        let asked = Instant::now();
        client = match client {
            None => match BlockingClient::connect(config.clone()) {
                Ok(client) => Some(client),
                Err(error) => {
                    check_error(&error)?;
                    None
                }
            },
            Some(client) => {
                step(&client, arguments.range, &mut random)?;
                Some(client)
            }
        };
        if asked.elapsed() > FIRE_DEADLINE + SLACK {
            return Err(format!("a call took {:?}, its deadline was {FIRE_DEADLINE:?}", asked.elapsed()));
        }
    }
    Ok(())
}

fn step(client: &BlockingClient, range: u64, random: &mut StdRng) -> Result<(), String> {
    let keys: Vec<Vec<u8>> = (0..random.random_range(1..4))
        .map(|_| format!("process-{range}-{}", random.random_range(0..KEYS)).into_bytes())
        .collect();
    let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    if random.random_range(0..3) == 0 {
        let bytes = BYTES[random.random_range(0..BYTES.len())];
        let values: Vec<Vec<u8>> = keys.iter().map(|key| value_of(key, random.random(), bytes)).collect();
        let items: Vec<(&[u8], &[u8])> =
            names.iter().copied().zip(values.iter().map(Vec::as_slice)).collect();
        let results = if random.random() { client.put(&items) } else { client.upsert(&items) };
        return results.iter().filter_map(|result| result.as_ref().err()).try_for_each(check_error);
    }
    for (key, result) in keys.iter().zip(client.get(&names)) {
        match result {
            Ok(Found::Hit(value)) if generation_of(key, &value).is_none() => {
                let (key, start) = (String::from_utf8_lossy(key), &value[..value.len().min(24)]);
                return Err(format!("wrong bytes under {key}: {} of them, {start:02x?} …", value.len()));
            }
            Ok(_) => {}
            Err(error) => check_error(&error)?,
        }
    }
    Ok(())
}

fn check_error(error: &Error) -> Result<(), String> {
    if is_explained(error, false) { Ok(()) } else { Err(format!("an error that no fault explains: {error}")) }
}
