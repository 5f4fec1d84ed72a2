//! Sizes in bytes, as people write them and as programs need them.

use std::fmt;
use std::str::FromStr;

/// 1,024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1,024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1,024 MiB.
pub const GIB: u64 = 1 << 30;
/// 1,024 GiB.
pub const TIB: u64 = 1 << 40;

/// A number of bytes. Reads `"4GB"`, `"4 GiB"`, `"512m"`, `"65536"`; all units are powers of 1,024, as engines'
/// users mean them. Writes the largest unit that is exact, else one decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is not a [`ByteSize`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteSizeError(String);

impl fmt::Display for ByteSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a size: write a number and a unit, such as 512MB, 4GB or 65536", self.0)
    }
}

impl std::error::Error for ByteSizeError {}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ByteSizeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => KIB,
            "m" | "mb" | "mib" => MIB,
            "g" | "gb" | "gib" => GIB,
            "t" | "tb" | "tib" => TIB,
            _ => return Err(refuse()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(ByteSize).ok_or_else(refuse);
        }
        let fraction: f64 = number.parse().map_err(|_| refuse())?;
        let bytes = fraction * factor as f64;
        if !bytes.is_finite() || bytes < 0.0 || bytes >= u64::MAX as f64 {
            return Err(refuse());
        }
        Ok(ByteSize(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let (factor, unit) = match bytes {
            _ if bytes >= TIB => (TIB, "TiB"),
            _ if bytes >= GIB => (GIB, "GiB"),
            _ if bytes >= MIB => (MIB, "MiB"),
            _ if bytes >= KIB => (KIB, "KiB"),
            _ => (1, "B"),
        };
        if bytes.is_multiple_of(factor) {
            write!(f, "{} {unit}", bytes / factor)
        } else {
            write!(f, "{:.1} {unit}", bytes as f64 / factor as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("4GB", 4 * GIB),
            ("4 GiB", 4 * GIB),
            ("512m", 512 * MIB),
            ("1.5k", 1536),
            ("65536", 65_536),
            ("0", 0),
            (" 2 TB ", 2 * TIB),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_advice() {
        for text in ["", "GB", "50%", "-1", "1.2.3GB", "99999999999999999999", "20000000TB", "4 XB"] {
            let error = text.parse::<ByteSize>().expect_err(text).to_string();
            assert!(error.contains("such as 512MB"), "{error}");
        }
    }

    #[test]
    fn written_with_the_largest_exact_unit() {
        assert_eq!(ByteSize(4 * GIB).to_string(), "4 GiB");
        assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteSize(7).to_string(), "7 B");
    }
}
