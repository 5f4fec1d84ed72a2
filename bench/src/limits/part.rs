//! What can be measured alone.

use std::str::FromStr;

/// See the tables of the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    // through shared memory
    Copies,
    Views,
    Batches,
    Cores,
    // the SSD tier
    Reads,
    Demotion,
    Latency,
    Mount,
}

const NAMES: [(&str, Part); 8] = [
    ("copies", Part::Copies),
    ("views", Part::Views),
    ("batches", Part::Batches),
    ("cores", Part::Cores),
    ("reads", Part::Reads),
    ("demotion", Part::Demotion),
    ("latency", Part::Latency),
    ("mount", Part::Mount),
];

impl Part {
    /// Whether it is one of the SSD tier.
    pub(crate) fn is_of_ssd(self) -> bool {
        matches!(self, Part::Reads | Part::Demotion | Part::Latency | Part::Mount)
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, part)| *part).ok_or_else(|| {
            format!(
                "\"{text}\" is no part: use copies, views, batches or cores, and with --ssd reads, demotion, latency or \
                 mount"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_by_their_names() {
        for (name, part) in NAMES {
            assert_eq!(name.parse(), Ok(part));
        }
        assert!("all".parse::<Part>().unwrap_err().contains("use copies"));
        assert!(Part::Mount.is_of_ssd() && !Part::Cores.is_of_ssd());
    }
}
