//! What a client's answers mean in a history.

use super::history::Outcome;
use snowskin_client::{Found, PutOutcome, RemoveOutcome};

impl From<PutOutcome> for Outcome {
    fn from(outcome: PutOutcome) -> Outcome {
        match outcome {
            PutOutcome::Stored => Outcome::Stored,
            PutOutcome::Existed => Outcome::Existed,
        }
    }
}

impl From<RemoveOutcome> for Outcome {
    fn from(outcome: RemoveOutcome) -> Outcome {
        match outcome {
            RemoveOutcome::Removed => Outcome::Removed,
            RemoveOutcome::Missing(reason) => Outcome::Missing(reason),
            RemoveOutcome::Leased => Outcome::Leased,
        }
    }
}

impl Outcome {
    /// That of a lookup, which says how long a value is; or of a get, once its bytes are `told` apart.
    pub fn of_found<T>(found: Found<T>, told: impl FnOnce(T) -> Outcome) -> Outcome {
        match found {
            Found::Hit(what) => told(what),
            Found::Miss(reason) => Outcome::Miss(reason),
        }
    }

    /// Those of a match of `count` keys, of which the first `held` are held.
    pub fn of_match(count: usize, held: usize) -> Vec<Outcome> {
        let outcome = |at: usize| match at.cmp(&held) {
            std::cmp::Ordering::Less => Outcome::HitBytes(0),
            std::cmp::Ordering::Equal => Outcome::MissUntold,
            // Nothing is said of those behind the first one that is not held.
            std::cmp::Ordering::Greater => Outcome::Unknown,
        };
        (0..count).map(outcome).collect()
    }

    /// A word or two, to count by.
    pub fn words(&self) -> String {
        match self {
            Outcome::Hit(_) | Outcome::HitBytes(_) => "hit".to_owned(),
            Outcome::Miss(reason) => format!("miss {reason:?}"),
            Outcome::MissUntold => "miss".to_owned(),
            Outcome::Garbage(_) => "garbage".to_owned(),
            Outcome::Missing(_) => "missing".to_owned(),
            Outcome::Unknown => "without an answer".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}
