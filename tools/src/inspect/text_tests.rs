//! What people read, and give back.

use super::text::{MS_PER_DAY, Table, age, bar, counted, cut, date, number, percent, shown, unshown};
use quickcheck::quickcheck;

#[test]
fn dates_and_ages() {
    assert_eq!(date(0), "1970-01-01 00:00:00");
    assert_eq!(date(1_700_000_000_000), "2023-11-14 22:13:20");
    assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00");
    assert_eq!(date(1_709_164_799_999), "2024-02-28 23:59:59");
    assert_eq!(date(u64::MAX), "18446744073709551615 ms");
    let ages = [500, 1_000, 61_000, 7_200_000, 3 * MS_PER_DAY, 800 * MS_PER_DAY].map(|ms| age(0, ms));
    let words = ["0 seconds ago", "1 second ago", "1 minute ago", "2 hours ago", "3 days ago", "2 years ago"];
    assert_eq!(ages, words);
    assert_eq!(age(2, 1), "in the future");
}

#[test]
fn keys_are_shown_and_read() {
    assert_eq!(shown(b"plain \xc3\xbc"), "plain ü");
    assert_eq!(shown(b"a\\b\n\xff"), "a\\\\b\\x0a\\xff");
    for bad in ["\\", "a\\q", "\\x4", "\\x4ü", "\\xzz", "\\x+1", "a\\\\\\"] {
        assert!(unshown(bad).is_err(), "{bad}");
    }
}

#[test]
fn bars_and_numbers() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([bar(0, 8, 2), bar(1, 800, 2), bar(8, 16, 2), bar(8, 8, 2)], ["", "▏", "█", "██"]);
    assert_eq!((percent(1, 3), counted(1, "record"), counted(0, "record")), {
        ("33.3 %".to_owned(), "1 record".to_owned(), "0 records".to_owned())
    });
    assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
}

#[test]
fn columns_line_up() {
    let mut table = Table::new(&["region", "state", "bytes"], &["state"]);
    table.row(["1", "free", "0"].map(String::from));
    table.row(["12", "complete", "1,000"].map(String::from));
    assert_eq!(
        table.lines(),
        [
            "  region   state      bytes",
            "  ──────   ────────   ─────",
            "       1   free           0",
            "      12   complete   1,000"
        ]
    );
}

quickcheck! {
    fn what_was_shown_can_be_given_back(bytes: Vec<u8>) -> bool {
        unshown(&shown(&bytes)) == Ok(bytes)
    }

    fn of_text_too(text: String) -> bool {
        unshown(&shown(text.as_bytes())) == Ok(text.into_bytes())
    }
}
