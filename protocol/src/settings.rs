//! What the master tells all engines besides the table: fill levels and how long a lease lasts.

use bytemuck::{Pod, Zeroable};

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
}

impl Settings {
    /// The same settings, if they can hold.
    pub fn checked(self) -> Result<Self, SettingsError> {
        let (low, high) = (self.low_watermark_permille, self.high_watermark_permille);
        if low == 0 || low > high || high > 1000 {
            return Err(SettingsError::Watermarks { low, high });
        }
        Ok(self)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings { high_watermark_permille: 980, low_watermark_permille: 970, lease_ms: 5_000 }
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
}
