//! Names, times, sizes and tables for people.
//!
//! A key is any bytes but NUL. It is shown as it is where it is printable UTF-8; a backslash becomes `\\`, and every other byte `\xNN`. A key
//! that a command is given is read the same way, so what was shown can be given back.

use snowskin_protocol::NameRef;
use std::fmt::Write;

/// Milliseconds of a day.
pub(crate) const MS_PER_DAY: u64 = 86_400_000;

/// A name as it is shown.
pub(crate) fn label(name: NameRef<'_>) -> String {
    format!("{}:{}", shown(name.tenant()), shown(name.key()))
}

/// A key or tenant as it is shown.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                letter if letter.is_control() => {
                    let mut room = [0; 4];
                    letter.encode_utf8(&mut room).bytes().for_each(|byte| escape(&mut text, byte));
                }
                letter => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|&byte| escape(&mut text, byte));
    }
    text
}

fn escape(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("a string takes all");
}

/// The bytes of a key that was shown.
pub(crate) fn unshown(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('\\');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    while let Some(part) = parts.next() {
        if part.is_empty() {
            // Two backslashes: what follows is as it is.
            bytes.push(b'\\');
            bytes.extend_from_slice(parts.next().ok_or_else(|| bad_escape(text))?.as_bytes());
            continue;
        }
        let digits = part.strip_prefix('x').and_then(|rest| rest.get(..2)).ok_or_else(|| bad_escape(text))?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or_else(|| bad_escape(text))?);
        bytes.extend_from_slice(&part.as_bytes()[3..]);
    }
    Ok(bytes)
}

fn bad_escape(text: &str) -> String {
    format!("{text} is no key: write \\\\ for a backslash and \\xNN for any byte, as `records` shows keys")
}

/// Text cut to a width.
pub(crate) fn cut(text: &str, letters_max: usize) -> String {
    match text.char_indices().nth(letters_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(letters_max - 1).chain(['…']).collect(),
    }
}

/// Milliseconds of Unix time as a date.
pub(crate) fn date(unix_ms: u64) -> String {
    if unix_ms > 253_402_300_799_999 {
        return format!("{unix_ms} ms");
    }
    let (days, ms) = (unix_ms / MS_PER_DAY, unix_ms % MS_PER_DAY);
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days; years begin in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (year, seconds) = (year + era * 400 + next_year, ms / 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// How long ago, in words.
pub(crate) fn age(unix_ms: u64, now_unix_ms: u64) -> String {
    let Some(ms) = now_unix_ms.checked_sub(unix_ms) else { return "in the future".to_owned() };
    let seconds = ms / 1_000;
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..31_536_000 => (seconds / 86_400, "day"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Milliseconds of Unix time.
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_millis() as u64
}

/// A whole number with commas.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A part of a whole as `36.6 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A part of a whole as a bar of so many letters; something is never nothing.
pub(crate) fn bar(part: u64, whole: u64, letters: u64) -> String {
    let eighths = (u128::from(part) * u128::from(letters) * 8).div_ceil(u128::from(whole.max(1))) as usize;
    let mut text = "█".repeat(eighths / 8);
    text.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    text
}

/// Columns of text: those that are said to be words to the left, the others to the right.
pub(crate) struct Table {
    words: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads, of which `words` are to the left.
    pub(crate) fn new(heads: &[&str], words: &'static [&'static str]) -> Self {
        Table { words, rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// One row more.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, indented by two.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows[0].len();
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| self.line(row, &widths)).collect();
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        lines.insert(1, self.line(&rule, &widths));
        lines
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).zip(&self.rows[0]).map(|((cell, &width), head)| {
            match self.words.contains(&&**head) {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("   ")).trim_end().to_owned()
    }
}
