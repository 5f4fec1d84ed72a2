//! Where a setting comes from, and the layers in which it is looked for: flags, then file, then default.

use super::value::ValueError;
use super::{ConfigError, KEYS};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the default, and how it came about if that is not obvious.
    Default(String),
    /// In a configuration file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default(reason) if reason.is_empty() => write!(f, "default"),
            Source::Default(reason) => write!(f, "default: {reason}"),
            Source::File { path, line } => write!(f, "from {}:{line}", path.display()),
            Source::Flag(key) => write!(f, "from --{key}"),
        }
    }
}

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Who said so.
    pub source: Source,
}

impl<T> Setting<T> {
    /// Somebody asked for this value.
    pub fn is_given(&self) -> bool {
        !matches!(self.source, Source::Default(_))
    }
}

/// A default and its reason; an empty reason is no reason.
pub(crate) struct Fallback<T>(pub(crate) T, pub(crate) String);

impl<T> From<T> for Fallback<T> {
    fn from(value: T) -> Self {
        Fallback(value, String::new())
    }
}

/// The texts that were given, each with the place where it was.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    texts: BTreeMap<&'static str, (String, Source)>,
}

impl Layers {
    /// Flags over a file's text. `file` is its path and what is in it.
    pub(crate) fn new(
        flags: &[(&'static str, &str)],
        file: Option<(&Path, &str)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        if let Some((path, text)) = file {
            layers.read_file(path, text)?;
        }
        for &(key, text) in flags {
            layers.texts.insert(key, (text.to_owned(), Source::Flag(key)));
        }
        Ok(layers)
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_at(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        for (written, value) in table.into_inner() {
            let line = line_at(written.span().start);
            let source = Source::File { path: path.to_owned(), line };
            let written = written.into_inner();
            let Some(key) = KEYS.into_iter().find(|key| *key == written) else {
                return Err(ConfigError::Unknown { path: path.to_owned(), line, key: written.into_owned() });
            };
            let kind = value.get_ref().type_str();
            let Some(text) = scalar(value.into_inner()) else {
                return Err(ConfigError::Kind { path: path.to_owned(), line, key, kind });
            };
            self.texts.insert(key, (text, source));
        }
        Ok(())
    }

    /// The value of a setting, read by `parse`, or its default.
    pub(crate) fn setting<T, D: Into<Fallback<T>>>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
        default: impl FnOnce() -> D,
    ) -> Result<Setting<T>, ConfigError> {
        let Some((text, source)) = self.texts.get(key) else {
            let Fallback(value, reason) = default().into();
            return Ok(Setting { value, source: Source::Default(reason) });
        };
        let source = source.clone();
        match parse(text) {
            Ok(value) => Ok(Setting { value, source }),
            Err(error) => Err(ConfigError::Value { key, origin: source, error: Box::new(error) }),
        }
    }
}

/// The text of a value, as a flag would have it; `None` for what no setting takes.
fn scalar(value: DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Integer(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The key that was probably meant: the nearest by letters to change, if it is near.
pub(crate) fn nearest_key(written: &str) -> Option<&'static str> {
    let written = written.replace('_', "-").to_ascii_lowercase();
    let distances = KEYS.into_iter().map(|key| (edit_distance(&written, key), key));
    distances.min().filter(|(distance, key)| *distance <= key.len().div_ceil(3)).map(|(_, key)| key)
}

/// Letters to insert, delete or replace (Levenshtein, row by row).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_keys() {
        assert_eq!(nearest_key("memmory"), Some("memory"));
        assert_eq!(nearest_key("high_watermark"), Some("high-watermark"));
        assert_eq!(nearest_key("core"), Some("cores"));
        assert_eq!(nearest_key("replication-factor"), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn sources_in_words() {
        let file = Source::File { path: PathBuf::from("e.toml"), line: 3 };
        let words =
            [Source::Default(String::new()), Source::Default("why".to_owned()), file, Source::Flag("memory")]
                .map(|source| source.to_string());
        assert_eq!(words, ["default", "default: why", "from e.toml:3", "from --memory"]);
    }
}
