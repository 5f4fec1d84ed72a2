//! What may be seen of a key that one caller at a time changes, and what must be: for stores that end and begin again.
//!
//! Each value has a generation. A write or removal that was answered ends all before it; one that was not may have happened or not, and
//! until nothing is under way any more it may still happen. A miss is always allowed, but for what was acknowledged as durable.

use crate::values::generation_of;
use snowskin_client::Found;

/// A key's history.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// The least generation that may be seen.
    least: u64,
    /// The last that was written, or may have been.
    last: u64,
    /// A call has begun that changes it and was not answered, now or before.
    is_open: bool,
    is_in_doubt: bool,
    /// When what is held was stored, on the caller's own scale, if that is known. Its record is no older.
    stored_at: Option<u64>,
    /// The same, if it was acknowledged as durable.
    durable_at: Option<u64>,
}

impl Kept {
    /// A write begins, which replaces what is held, or not. Answers its generation.
    pub fn begin_write(&mut self, replace: bool) -> u64 {
        self.begin();
        if replace {
            (self.stored_at, self.durable_at) = (None, None);
        }
        self.last += 1;
        self.last
    }

    /// A removal begins.
    pub fn begin_removal(&mut self) {
        self.begin();
        (self.stored_at, self.durable_at) = (None, None);
    }

    fn begin(&mut self) {
        self.is_in_doubt |= self.is_open;
        self.is_open = true;
    }

    /// The write was answered: its value is held since then, and durable or not.
    pub fn stored(&mut self, at: u64, is_durable: bool) {
        (self.is_open, self.least) = (false, self.last);
        (self.stored_at, self.durable_at) = (Some(at), Some(at).filter(|_| is_durable));
    }

    /// The write was answered: another value was held before, and is durable if that was asked for. Its record may be as old as itself.
    pub fn existed(&mut self, is_durable: bool) {
        self.is_open = false;
        if is_durable {
            self.durable_at = self.stored_at;
        }
    }

    /// The write was answered: its value is held, or another one, and not known to be durable.
    pub fn held(&mut self) {
        (self.is_open, self.durable_at) = (false, None);
    }

    /// The removal was answered.
    pub fn removed(&mut self) {
        (self.is_open, self.least) = (false, self.last + 1);
    }

    /// Nothing that was asked for before is under way any more.
    pub fn rest(&mut self) {
        if self.is_open || self.is_in_doubt {
            (self.stored_at, self.durable_at) = (None, None);
        }
        (self.is_open, self.is_in_doubt) = (false, false);
    }

    /// Whether what is held is durable, for all that is known.
    pub fn is_durable(&self) -> bool {
        self.durable_at.is_some() && !self.is_open && !self.is_in_doubt
    }

    /// Whether a read has hit; or what is wrong with it. `is_kept` says whether what was durable at some time must still be there.
    pub fn look_at(
        &self,
        key: &[u8],
        found: &Found<Vec<u8>>,
        is_kept: impl Fn(u64) -> bool,
    ) -> Result<bool, String> {
        let name = String::from_utf8_lossy(key);
        let Kept { least, last, durable_at, .. } = *self;
        match found {
            Found::Hit(value) => {
                let generation = generation_of(key, value);
                let is_allowed = generation.is_some_and(|found| (least..=last).contains(&found) && found > 0);
                is_allowed
                    .then_some(true)
                    .ok_or_else(|| format!("{name}: generation {generation:?} of {least} to {last}"))
            }
            Found::Miss(reason) => {
                let must_be_there = self.is_durable() && durable_at.is_some_and(is_kept);
                (!must_be_there)
                    .then_some(false)
                    .ok_or_else(|| format!("{name}: {reason:?}, and generation {least} or later was durable"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::value_of;
    use snowskin_protocol::MissReason;

    const KEY: &[u8] = b"key";

    fn hit(generation: u64) -> Found<Vec<u8>> {
        Found::Hit(value_of(KEY, generation, 100))
    }

    fn look(kept: &Kept, found: &Found<Vec<u8>>) -> bool {
        kept.look_at(KEY, found, |at| at > 10).is_ok()
    }

    #[test]
    fn what_was_durable_must_be_there_until_it_is_ended_or_may_have_been() {
        let miss = Found::Miss(MissReason::NotHeld);
        let mut kept = Kept::default();
        assert!(look(&kept, &miss) && !look(&kept, &hit(1)), "nobody has written it");
        assert_eq!(kept.begin_write(true), 1);
        assert!(look(&kept, &miss) && look(&kept, &hit(1)));
        kept.stored(11, true);
        assert!(!look(&kept, &miss) && look(&kept, &hit(1)) && kept.is_durable());
        assert!(kept.look_at(KEY, &miss, |at| at > 11).is_ok(), "it is too long ago");
        // A put of what exists changes nothing, whether it is answered or not.
        kept.begin_write(false);
        kept.existed(false);
        assert!(!look(&kept, &miss) && look(&kept, &hit(1)));
        // An upsert without an answer may have ended it.
        kept.begin_write(true);
        assert!(look(&kept, &miss) && look(&kept, &hit(1)) && look(&kept, &hit(3)));
        kept.begin_write(true);
        kept.stored(12, true);
        assert!(look(&kept, &miss), "the one before may still happen");
        assert!(!look(&kept, &hit(3)) && look(&kept, &hit(4)));
        kept.rest();
        assert!(look(&kept, &miss) && !kept.is_durable(), "and may have happened");
        kept.begin_removal();
        kept.removed();
        assert!(look(&kept, &miss) && !look(&kept, &hit(4)));
    }
}
