//! Where objects are: who holds them, copies, moves.

use super::Failure;
use super::segments::one_core;
use argh::FromArgs;
use snowskin_client::admin::TaskState;
use snowskin_client::{BlockingClient, Found, TaskId, TaskStart};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How often it is asked how far a task is.
const TASK_CHECK: Duration = Duration::from_millis(20);

/// say which cores have objects; the first one is the one that readers are sent to
#[derive(FromArgs)]
#[argh(subcommand, name = "holders")]
pub(crate) struct HoldersVerb {
    /// the keys, one at least
    #[argh(positional)]
    pub(crate) keys: Vec<String>,
}

/// copy an object to other engines, and wait until that is done
#[derive(FromArgs)]
#[argh(subcommand, name = "copy", example = "{command_name} some/key --to 1b2c3d4e/0 --to 5f60718a/0")]
pub(crate) struct CopyVerb {
    /// the key
    #[argh(positional)]
    key: String,
    /// a core that is to have it, as status shows it; any core of an engine stands for the engine
    #[argh(option)]
    to: Vec<String>,
}

/// move an object from one engine to another, and wait until that is done
#[derive(FromArgs)]
#[argh(subcommand, name = "move", example = "{command_name} some/key --from 1b2c3d4e/0 --to 5f60718a/0")]
pub(crate) struct MoveVerb {
    /// the key
    #[argh(positional)]
    key: String,
    /// a core of the engine that is to give it up, as status shows it
    #[argh(option)]
    from: String,
    /// a core of the engine that is to have it
    #[argh(option)]
    to: String,
}

/// A line a key.
pub(crate) fn holders(client: &BlockingClient, verb: &HoldersVerb) -> Result<String, Failure> {
    let keys: Vec<&[u8]> = verb.keys.iter().map(String::as_bytes).collect();
    let mut text = String::new();
    for (key, found) in verb.keys.iter().zip(client.holders(&keys)) {
        let said = match found? {
            Found::Hit(held) => {
                let cores: Vec<String> = held.cores.iter().map(ToString::to_string).collect();
                format!("{} bytes at {}", held.value_bytes, cores.join(", "))
            }
            Found::Miss(reason) => reason.words().to_owned(),
        };
        writeln!(text, "{key}: {said}").expect("a string takes all");
    }
    Ok(text)
}

/// Answers when it is done, or has taken so long.
pub(crate) fn copy(client: &BlockingClient, verb: &CopyVerb, patience: Duration) -> Result<(), Failure> {
    let targets = verb.to.iter().map(|core| one_core(client, core)).collect::<Result<Vec<_>, _>>()?;
    let start = client.copy(verb.key.as_bytes(), &targets)?;
    await_end(client, &verb.key, start, patience)
}

/// Answers when it is done, or has taken so long.
pub(crate) fn move_to(client: &BlockingClient, verb: &MoveVerb, patience: Duration) -> Result<(), Failure> {
    let (source, target) = (one_core(client, &verb.from)?, one_core(client, &verb.to)?);
    let start = client.move_to(verb.key.as_bytes(), source, target)?;
    await_end(client, &verb.key, start, patience)
}

fn await_end(
    client: &BlockingClient,
    key: &str,
    start: TaskStart,
    patience: Duration,
) -> Result<(), Failure> {
    let negative = |sentence: String| Err(Failure::Negative(sentence));
    let task: TaskId = match start {
        TaskStart::Begun(task) => task,
        TaskStart::NotHeld => return negative(format!("{key} is not held")),
        TaskStart::TooMany => {
            return negative("its home has too many tasks under way: try again later".to_owned());
        }
        TaskStart::Refused(sentence) => return negative(sentence),
    };
    let deadline = Instant::now() + patience;
    loop {
        match client.task(task)? {
            Some(info) if info.state == TaskState::Running && Instant::now() < deadline => {}
            Some(info) if info.state == TaskState::Running => {
                return negative("it goes on; --deadline says for how long its end is waited for".to_owned());
            }
            Some(info) if info.state == TaskState::Done => return Ok(()),
            Some(info) => return negative(info.message),
            None => return negative(format!("core {}, which was doing it, has gone", task.core)),
        }
        std::thread::sleep(TASK_CHECK);
    }
}
