//! How a source file reads: length, `unsafe`, leftovers, globs.

use crate::scan::{Source, words_of};
use crate::{File, Violation};

/// Lines of a file, at most.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, at most, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// The only places for `unsafe`: the door to the kernel, and the edge to the interpreter.
const UNSAFE_UNDER: [&str; 2] = ["io/src/", "python/src/ffi/"];
/// The reason for an `unsafe` stands at most so many lines above it.
const REASON_LINES_ABOVE: usize = 12;
/// Macros that say that something is not done.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// Words that say so in a comment.
const MARKERS: [&str; 3] = ["FIXME", "XXX", "HACK"];

pub(crate) fn violations(file: &File) -> Vec<Violation> {
    let source = Source::scan(&file.text);
    let mut found = length_violations(file, &source);
    found.extend(unsafe_violations(file, &source));
    found.extend(leftover_violations(file, &source));
    found.extend(glob_violations(file, &source));
    found
}

/// Of a source file in any language.
pub(crate) fn file_length_violations(file: &File) -> Vec<Violation> {
    let lines = file.text.lines().count();
    let words = format!("{lines} lines, at most {FILE_LINES_MAX}: split it by ideas");
    (lines > FILE_LINES_MAX).then(|| Violation::new(&file.path, 0, words)).into_iter().collect()
}

fn length_violations(file: &File, source: &Source) -> Vec<Violation> {
    let mut found = file_length_violations(file);
    for (name, line, lines) in source.functions() {
        if lines > FUNCTION_LINES_MAX {
            let words =
                format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}: give its steps names");
            found.push(Violation::new(&file.path, line, words));
        }
    }
    found
}

fn unsafe_violations(file: &File, source: &Source) -> Vec<Violation> {
    let comments: Vec<&str> = source.comments.lines().collect();
    let mut found = Vec::new();
    for (range, _) in source.words().into_iter().filter(|(_, word)| *word == "unsafe") {
        let line = source.line_at(range.start);
        let nearby = &comments[line.saturating_sub(REASON_LINES_ABOVE + 1)..line.min(comments.len())];
        let reason = |comment: &&str| comment.contains("SAFETY:") || comment.contains("# Safety");
        if !UNSAFE_UNDER.iter().any(|place| file.path.starts_with(place)) {
            let places = UNSAFE_UNDER.join(" and ");
            let words = format!("unsafe is for {places} only: move it there, behind a safe function");
            found.push(Violation::new(&file.path, line, words));
        } else if !nearby.iter().any(reason) {
            let words = "unsafe without a reason: say above it, after SAFETY:, which invariant holds and who keeps it";
            found.push(Violation::new(&file.path, line, words));
        }
    }
    found
}

fn leftover_violations(file: &File, source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let in_code = source.words();
    for (range, word) in &in_code {
        if MACROS.contains(word) && source.code[range.end..].starts_with('!') {
            let words = format!("{word}! is left over: do what it stands for");
            found.push(Violation::new(&file.path, source.line_at(range.start), words));
        }
    }
    for (range, word) in words_of(&source.comments) {
        if MARKERS.contains(&word) {
            let line = source.comments[..range.start].matches('\n').count() + 1;
            let words = format!("{word} is left over: do it, or write a dated note under docs/notes");
            found.push(Violation::new(&file.path, line, words));
        }
    }
    found
}

fn glob_violations(file: &File, source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (range, _) in source.words().into_iter().filter(|(_, word)| *word == "use") {
        let statement = source.code[range.end..].split(';').next().unwrap_or("").trim();
        // `+ use<'a>` is a capture.
        if statement.starts_with('<') || !statement.contains('*') {
            continue;
        }
        let before = &source.code[..range.start];
        let name_is_tests = file.path.ends_with("tests.rs") || file.path.contains("/tests/");
        if statement == "super::*" && (name_is_tests || before.contains("#[cfg(test)]")) {
            continue;
        }
        let words = "names come from nowhere: import each by its name (tests may use super::*)";
        found.push(Violation::new(&file.path, source.line_at(range.start), words));
    }
    found
}

#[cfg(test)]
fn seeded(path: &str, text: &str) -> Vec<String> {
    violations(&File::new(path, text)).iter().map(Violation::to_string).collect()
}

#[test]
fn long_files_and_functions_are_refused() {
    let long = "//\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(seeded("a/src/x.rs", &long), ["a/src/x.rs: 601 lines, at most 600: split it by ideas"]);
    let body = "    step();\n".repeat(FUNCTION_LINES_MAX - 1);
    let text = format!("\nfn long() {{\n{body}}}\n");
    assert!(seeded("a/src/x.rs", &text)[0].starts_with("a/src/x.rs:2: fn long has 71 lines, at most 70"));
    assert!(seeded("a/src/x.rs", &text.replacen("    step();\n", "", 1)).is_empty());
}

#[test]
fn unsafe_has_its_place_and_its_reason() {
    let bare = "fn f() {\n    unsafe { g() }\n}\n";
    assert!(
        seeded("engine/src/x.rs", bare)[0]
            .starts_with("engine/src/x.rs:2: unsafe is for io/src/ and python/src/ffi/ only")
    );
    assert!(seeded("io/src/x.rs", bare)[0].starts_with("io/src/x.rs:2: unsafe without a reason"));
    let reasoned = bare.replace("    unsafe", "    // SAFETY: the owner keeps it alive.\n    unsafe");
    assert!(seeded("io/src/x.rs", &reasoned).is_empty());
    assert!(!seeded("client/src/x.rs", &reasoned).is_empty());
    assert!(seeded("client/src/x.rs", "// unsafe\n#![forbid(unsafe_code)]\nlet a = \"unsafe\";").is_empty());
    assert!(seeded("io/src/x.rs", "/// # Safety\n///\n/// Keep it.\npub unsafe fn f() {}").is_empty());
}

#[test]
fn leftovers_are_refused() {
    for name in MACROS {
        let found = seeded("a/src/x.rs", &format!("fn f() {{\n    {name}!();\n}}"));
        assert_eq!(found, [format!("a/src/x.rs:2: {name}! is left over: do what it stands for")]);
    }
    for marker in MARKERS {
        assert_eq!(seeded("a/src/x.rs", &format!("\n// {marker}: later")).len(), 1);
    }
    assert!(seeded("a/src/x.rs", "let todo = 1; let x = \"todo!() FIXME\"; // TODOS of xxx").is_empty());
}

#[test]
fn globs_are_refused_outside_of_tests() {
    for text in ["use a::*;", "pub use a::{\n    b,\n    c::*,\n};", "use super::*;"] {
        assert_eq!(seeded("a/src/x.rs", text).len(), 1, "{text}");
    }
    let in_tests = "#[cfg(test)]\nmod tests {\n    use super::*;\n}";
    assert!(seeded("a/src/x.rs", in_tests).is_empty());
    assert!(seeded("a/src/x_tests.rs", "use super::*;").is_empty());
    assert!(seeded("a/src/x.rs", "use a::b;\nfn f<'a>() -> impl Sized + use<'a> { *x }").is_empty());
}
