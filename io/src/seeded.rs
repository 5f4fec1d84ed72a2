//! Bugs on purpose, to see whether the simulator finds them.
//!
//! A test that cannot fail proves nothing. So the sources hold a number of bugs, each a condition of one line at the place
//! where somebody might make that mistake, and none of them is there in a normal build: without `--cfg
//! snowskin_seeded_bugs` (which only `make watch` and `make canary` set) the condition is the constant `false`. With it, one
//! of them is switched on by name: [`choose`], or the environment variable `SNOWSKIN_SEEDED_BUG`.
//! `docs/SEEDED-BUGS.md` lists them with what finds each.

#[cfg(snowskin_seeded_bugs)]
static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Switches one bug on for the rest of the process. False: this build has none, or one was chosen already.
pub fn choose(name: &str) -> bool {
    #[cfg(snowskin_seeded_bugs)]
    return CHOSEN.set(name.to_owned()).is_ok();
    #[cfg(not(snowskin_seeded_bugs))]
    {
        let _ = name;
        false
    }
}

/// Whether this bug is switched on. See [`crate::seeded_bug`].
#[inline(always)]
pub fn is_chosen(name: &str) -> bool {
    #[cfg(snowskin_seeded_bugs)]
    return CHOSEN.get_or_init(|| std::env::var("SNOWSKIN_SEEDED_BUG").unwrap_or_default()) == name;
    #[cfg(not(snowskin_seeded_bugs))]
    {
        let _ = name;
        false
    }
}

/// Whether the bug of this name is switched on: never, in a normal build.
#[macro_export]
macro_rules! seeded_bug {
    ($name:literal) => {
        $crate::seeded::is_chosen($name)
    };
}
