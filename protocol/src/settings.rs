//! What the master tells all engines besides the table: fill levels, how long a lease lasts, how places are chosen.

use crate::strategy::Strategy;
use bytemuck::{Pod, Zeroable};
use std::fmt;

/// Cluster-wide settings. They ride in every heartbeat's answer, so a change arrives within a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// Thousandths of a core's memory in use at which eviction starts, 1 to 1,000.
    pub high_watermark_permille: u16,
    /// Thousandths at which it stops; not above the high one.
    pub low_watermark_permille: u16,
    /// Milliseconds for which a read or a lookup protects an object.
    pub lease_ms: u32,
    /// The number of the [`Strategy`] by which places for values are chosen.
    pub strategy_number: u8,
    /// 0.
    pub reserved: [u8; 7],
}

/// Why [`Settings`] cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The watermarks are not `1 <= low <= high <= 1000`.
    #[error("watermarks are {low} and {high} thousandths: use 1 <= low <= high <= 1000")]
    Watermarks {
        /// What was given for the low one.
        low: u16,
        /// What was given for the high one.
        high: u16,
    },
    /// No strategy has this number.
    #[error("there is no allocation strategy number {0}")]
    Strategy(u8),
    /// What has to be 0 is not.
    #[error("a reserved part of the settings is not 0")]
    Reserved,
}

impl Settings {
    /// The same settings, if they can hold.
    pub fn checked(self) -> Result<Self, SettingsError> {
        let (low, high) = (self.low_watermark_permille, self.high_watermark_permille);
        if low == 0 || low > high || high > 1000 {
            return Err(SettingsError::Watermarks { low, high });
        }
        if Strategy::from_wire(self.strategy_number).is_none() {
            return Err(SettingsError::Strategy(self.strategy_number));
        }
        if self.reserved != [0; 7] {
            return Err(SettingsError::Reserved);
        }
        Ok(self)
    }

    /// How places for values are chosen.
    pub fn strategy(&self) -> Strategy {
        Strategy::from_wire(self.strategy_number).unwrap_or_default()
    }

    /// The same settings with another strategy.
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Settings { strategy_number: strategy as u8, ..self }
    }
}

/// `eviction from 98% down to 97%, leases of 5000 ms, fragmentation_aware`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |permille: u16| f64::from(permille) / 10.0;
        let (high, low) = (percent(self.high_watermark_permille), percent(self.low_watermark_permille));
        let (lease_ms, strategy) = (self.lease_ms, self.strategy());
        write!(f, "eviction from {high}% down to {low}%, leases of {lease_ms} ms, {strategy}")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            high_watermark_permille: 980,
            low_watermark_permille: 970,
            lease_ms: 5_000,
            strategy_number: Strategy::default() as u8,
            reserved: [0; 7],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_are_ordered() {
        assert!(Settings::default().checked().is_ok());
        for (low, high) in [(0, 500), (600, 500), (1, 1001)] {
            let settings = Settings {
                low_watermark_permille: low,
                high_watermark_permille: high,
                ..Settings::default()
            };
            assert_eq!(settings.checked(), Err(SettingsError::Watermarks { low, high }));
        }
    }

    #[test]
    fn people_read_them() {
        let words = "eviction from 98% down to 97%, leases of 5000 ms, fragmentation_aware";
        assert_eq!(Settings::default().to_string(), words);
    }

    #[test]
    fn strategies_have_numbers() {
        for strategy in Strategy::ALL {
            let settings = Settings::default().with_strategy(strategy).checked().unwrap();
            assert_eq!(settings.strategy(), strategy);
        }
        let settings = Settings { strategy_number: 4, ..Settings::default() };
        assert_eq!(settings.checked(), Err(SettingsError::Strategy(4)));
        let settings = Settings { reserved: [1; 7], ..Settings::default() };
        assert_eq!(settings.checked(), Err(SettingsError::Reserved));
    }
}
