//! What nobody asks for is read in time, so that damage is found while there is another copy somewhere to be had.
//!
//! ```text
//!   budget:   a step of b bytes is followed by a pause of b / rate
//!   yielding: no step begins while anybody reads or writes there
//! ```
//!
//! So a request that comes meanwhile finds one read of 140 KiB before it, at most. But a region begins with its index, in reads of a MiB at most, one
//! after the other; and where that is damaged all of the region is read so, to the end, whoever comes: then each of these is beside theirs. The pause is as
//! long as all of it was. On a device that is never idle nothing is scrubbed: then it is the requests that find damage. Nothing is made up for later.

use super::Tier;
use crate::percore::PerCore;
use snowskin_io::Platform;
use snowskin_protocol::ByteSize;
use snowskin_ssd_tier::{Found, Scrub, TierError};
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

/// How long until the next look, when the device is in use.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long until the next look, when there is nothing to look at, or it cannot be read.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// In this time all of a volume is read, unless told otherwise. A sector that goes bad is found some weeks later at most, and that costs a
/// device of 1 TB no more than 400 KB/s: a ten-thousandth of what it can read.
const ROUND: Duration = Duration::from_secs(28 * 24 * 3600);

/// How fast a core's volume is scrubbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScrubRate {
    /// All of it in four weeks.
    #[default]
    Auto,
    /// So many bytes a second, 1 at least.
    Bytes(u64),
    /// Never.
    Off,
}

impl FromStr for ScrubRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text.trim(), text.trim().parse::<ByteSize>()) {
            ("auto", _) => Ok(ScrubRate::Auto),
            ("off", _) => Ok(ScrubRate::Off),
            (_, Ok(ByteSize(bytes))) if bytes > 0 => Ok(ScrubRate::Bytes(bytes)),
            _ => Err(format!(
                "\"{text}\" is no rate of scrubbing: write bytes a second such as 1MB, auto or off"
            )),
        }
    }
}

impl fmt::Display for ScrubRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScrubRate::Auto => f.write_str("auto"),
            ScrubRate::Off => f.write_str("off"),
            ScrubRate::Bytes(bytes) => write!(f, "{}", ByteSize(*bytes)),
        }
    }
}

impl ScrubRate {
    /// What of the rate of all cores one of so many has.
    pub fn of_core(self, cores: u16) -> ScrubRate {
        match self {
            ScrubRate::Bytes(bytes) => ScrubRate::Bytes((bytes / u64::from(cores)).max(1)),
            other => other,
        }
    }

    /// Bytes a second, of a volume of so many bytes; `None`: it is not scrubbed.
    fn bytes_per_second(self, capacity_bytes: u64) -> Option<u64> {
        match self {
            ScrubRate::Auto => Some((capacity_bytes / ROUND.as_secs()).max(1)),
            ScrubRate::Bytes(bytes) => Some(bytes.max(1)),
            ScrubRate::Off => None,
        }
    }
}

/// Scrubs for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    let Some(tier) = core.tier.get() else { return };
    let Some(rate) = tier.scrub_rate.bytes_per_second(tier.volume.usage().capacity_bytes) else { return };
    let mut scrub = tier.volume.scrub();
    loop {
        let pause = tier.scrub_once(&core, &mut scrub, rate).await;
        core.platform.sleep(pause).await;
    }
}

impl<P: Platform> Tier<P> {
    /// One step, if nobody is in the way. Answers how long to wait for the next.
    async fn scrub_once(&self, core: &PerCore<P>, scrub: &mut Scrub<P>, rate: u64) -> Duration {
        if !self.volume.is_idle() {
            return BUSY_PAUSE;
        }
        match scrub.step().await {
            Ok(Some(step)) => {
                if let Some(found) = step.damaged {
                    self.lose(core, &found);
                }
                pause_after(step.bytes, rate)
            }
            Ok(None) => IDLE_PAUSE,
            Err(TierError::Busy) => BUSY_PAUSE,
            Err(error) => {
                log::warn!("core {}: the SSD cannot be scrubbed: {error}", core.identity.id);
                IDLE_PAUSE
            }
        }
    }

    /// A record is damaged. Its name is buried as soon as the core comes to it.
    fn lose(&self, core: &PerCore<P>, Found { name, facts, address }: &Found) {
        let record = self.id_of(*address);
        if core.shard.borrow_mut().lose_record(name.as_ref(), facts.version, record) {
            log::warn!("core {}: the record of {name:?} on the SSD is damaged; dropped", core.identity.id);
        }
    }
}

fn pause_after(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_in_four_weeks() {
        let terabyte = 1_000_000_000_000;
        let rate = ScrubRate::Auto.bytes_per_second(terabyte).expect("it is scrubbed");
        assert!((400_000..420_000).contains(&rate), "{rate}");
        let round = pause_after(terabyte, rate);
        assert!(round >= ROUND && round < ROUND + Duration::from_secs(3_600), "{round:?}");
        assert_eq!(ScrubRate::Auto.bytes_per_second(1), Some(1));
        assert_eq!(ScrubRate::Off.bytes_per_second(terabyte), None);
        assert_eq!(ScrubRate::Bytes(5).bytes_per_second(terabyte), Some(5));
        assert_eq!(pause_after(1_000, 2_000), Duration::from_millis(500));
    }

    #[test]
    fn a_rate_is_said_in_words() {
        for (words, rate) in
            [("auto", ScrubRate::Auto), ("off", ScrubRate::Off), ("3 MiB", ScrubRate::Bytes(3 << 20))]
        {
            assert_eq!((words.parse(), &*rate.to_string()), (Ok(rate), words));
        }
        for words in ["", "0", "on", "-1"] {
            let refused = words.parse::<ScrubRate>().expect_err("no rate");
            assert!(refused.contains("write bytes a second"), "{refused}");
        }
        assert_eq!(ScrubRate::Bytes(10).of_core(4), ScrubRate::Bytes(2));
        assert_eq!(ScrubRate::Bytes(1).of_core(4), ScrubRate::Bytes(1));
        assert_eq!(ScrubRate::Auto.of_core(4), ScrubRate::Auto);
    }
}
